"""Render slices of image data with the segment outlined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.source import EMSlice
from connectomebench.rendering.colours import EM_OUTLINE, EM_OUTSIDE

_STRIPES = 32  # of the hatch, across an image


def draw_em(em: EMSlice, segment_id: int, pixels: int) -> NDArray[np.uint8]:
    """Render a slice.

    Grey values change only by resizing. Missing data are drawn as a hatch in two warm greys, so that they look
    neither like tissue nor like an empty spot.

    Parameters
    ----------
    em
        Slice of any size.
    segment_id
        The segment to outline; the line is 2 pixels wide on an image of 512.
    pixels
        Edge of the image.

    Returns
    -------
    uint8, shape (pixels, pixels, 3)
        sRGB, rows downwards, columns to the right.
    """
    size = (pixels, pixels)
    gray = np.asarray(Image.fromarray(em.gray).resize(size, Image.Resampling.BICUBIC))
    picture = np.repeat(gray[..., None], 3, axis=2)
    inside = _enlarge(em.inside, pixels)
    # Smoothly enlarged: a mask of large voxels would give a stepped line, unlike image data of the same voxels.
    outline = _outline(_enlarge(em.segments == np.uint64(segment_id), pixels), max(1, round(pixels / 512)))
    picture[~inside] = _hatch(pixels)[~inside]
    picture[outline & inside] = EM_OUTLINE
    return picture


def _enlarge(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize((pixels, pixels), Image.Resampling.BILINEAR)
    return np.asarray(image) >= 128


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Mark ``width`` pixels on either side of the border of a mask, none along the image frame."""
    padded = np.pad(mask, width, mode="edge")
    grown, shrunk = padded, padded
    for _ in range(width):
        grown, shrunk = _spread(grown), ~_spread(~shrunk)
    return (grown & ~shrunk)[width:-width, width:-width]


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by one pixel along rows and columns."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _hatch(pixels: int) -> NDArray[np.uint8]:
    period = max(2, 2 * pixels // _STRIPES)
    rows, columns = np.indices((pixels, pixels))
    return np.array(EM_OUTSIDE, np.uint8)[((rows + columns) % period >= period // 2).astype(int)]
