"""Undo the filters of PNG rows: compiled, and without the lock of the interpreter."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def unfilter(lines: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
    """Undo the filters of RGB rows.

    Parameters
    ----------
    lines
        Filtered rows, uint8, shape (rows, 1 + 3 * columns); the first byte of each names the filter, 0 to 4.
    pixels
        Filled in: uint8, shape (rows, 3 * columns).
    """
    height, width = pixels.shape
    above = np.zeros(width, np.uint8)
    for row in range(height):
        kind = lines[row, 0]
        line = lines[row, 1:]
        out = pixels[row]
        if kind == 0:
            for i in range(width):  # numba compiles an assignment of rows, with its errors, for three seconds
                out[i] = line[i]
        elif kind == 1:
            _sub(line, out)
        elif kind == 2:
            for i in range(width):
                out[i] = line[i] + above[i]
        elif kind == 3:
            for i in range(width):
                left = np.int32(out[i - 3]) if i >= 3 else np.int32(0)
                out[i] = line[i] + np.uint8((left + np.int32(above[i])) >> 1)
        else:
            _paeth(line, above, out)
        above = out


@njit(nogil=True, cache=True)
def _sub(line: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    red = green = blue = np.uint8(0)
    for i in range(0, len(out), 3):
        red = np.uint8(red + line[i])
        green = np.uint8(green + line[i + 1])
        blue = np.uint8(blue + line[i + 2])
        out[i], out[i + 1], out[i + 2] = red, green, blue


@njit(nogil=True, cache=True)
def _nearest(left: np.int32, up: np.int32, corner: np.int32) -> np.int32:
    """Return whichever is nearest to left + up - corner, of equals the first."""
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    other = up if to_up <= to_corner else corner
    return left if to_left <= to_up and to_left <= to_corner else other


@njit(nogil=True, cache=True)
def _paeth(line: NDArray[np.uint8], above: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    # the three colours side by side: each waits for its own left neighbour alone
    a0 = a1 = a2 = c0 = c1 = c2 = np.int32(0)
    for i in range(0, len(out), 3):
        b0, b1, b2 = np.int32(above[i]), np.int32(above[i + 1]), np.int32(above[i + 2])
        a0 = (np.int32(line[i]) + _nearest(a0, b0, c0)) & np.int32(255)
        a1 = (np.int32(line[i + 1]) + _nearest(a1, b1, c1)) & np.int32(255)
        a2 = (np.int32(line[i + 2]) + _nearest(a2, b2, c2)) & np.int32(255)
        out[i], out[i + 1], out[i + 2] = np.uint8(a0), np.uint8(a1), np.uint8(a2)
        c0, c1, c2 = b0, b1, b2
