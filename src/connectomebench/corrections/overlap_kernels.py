"""Compiled kernels over one block: erosion of bodies and the table of overlaps.

Arrays are C-contiguous; their axes are in the order in which the last one is contiguous in memory.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from connectomebench.corrections.hash_tables import add_row, new_table


@njit(nogil=True, cache=True)
def _same_as_neighbours(labels, use, out):
    """Mark in ``out`` the voxels whose face neighbours along the axes in use all have their label."""
    n0, n1, n2 = labels.shape
    for i in range(n0):
        for j in range(n1):
            # Whole rows are compared at once: simple loops over contiguous memory become vector instructions.
            # At the border of the array nothing is known beyond, so a missing neighbour counts as equal.
            row, mark = labels[i, j], out[i, j]
            mark[:] = 1
            if use[0] and i > 0:
                _and_equal(row, labels[i - 1, j], mark)
            if use[0] and i + 1 < n0:
                _and_equal(row, labels[i + 1, j], mark)
            if use[1] and j > 0:
                _and_equal(row, labels[i, j - 1], mark)
            if use[1] and j + 1 < n1:
                _and_equal(row, labels[i, j + 1], mark)
            if use[2]:
                _and_equal(row[1:], row[: n2 - 1], mark[1:])
                _and_equal(row[: n2 - 1], row[1:], mark[: n2 - 1])


@njit(nogil=True, cache=True)
def _and_equal(one: NDArray[np.unsignedinteger], other: NDArray[np.unsignedinteger], mark: NDArray[np.uint8]) -> None:
    for k in range(len(mark)):
        mark[k] &= np.uint8(one[k] == other[k])


@njit(nogil=True, cache=True)
def _erode_once(mask, use, out):
    """Mark in ``out`` the voxels that are marked in ``mask`` with all face neighbours along the axes in use."""
    n0, n1, n2 = mask.shape
    for i in range(n0):
        for j in range(n1):
            row, mark = mask[i, j], out[i, j]
            # number by number: numba compiles an assignment of rows, with its errors, for three seconds
            for k in range(n2):
                mark[k] = row[k]
            if use[0] and i > 0:
                _and(mask[i - 1, j], mark)
            if use[0] and i + 1 < n0:
                _and(mask[i + 1, j], mark)
            if use[1] and j > 0:
                _and(mask[i, j - 1], mark)
            if use[1] and j + 1 < n1:
                _and(mask[i, j + 1], mark)
            if use[2]:
                _and(row[: n2 - 1], mark[1:])
                _and(row[1:], mark[: n2 - 1])


@njit(nogil=True, cache=True)
def _and(other: NDArray[np.uint8], mark: NDArray[np.uint8]) -> None:
    for k in range(len(mark)):
        mark[k] &= other[k]


@njit(nogil=True, cache=True)
def core_mask(labels, erosion, mask, spare):
    """Mark the core of every label at once: each label eroded by a cross, ``erosion`` times per axis.

    An axis takes part in as many of the repetitions as its own number. With equal numbers r the core is where all
    voxels within city-block distance r have the same label. Outside the array nothing is known, so nothing is eroded.

    Parameters
    ----------
    labels
        Shape (n0, n1, n2), unsigned.
    erosion
        int64, shape (3,), in the axis order of ``labels``.

    mask, spare
        uint8, shape of ``labels``: written over. The caller passes the memory, because allocating and clearing it for
        every block would take as long as the work.

    Returns
    -------
    ``mask`` or ``spare``: 1 in the core, 0 elsewhere.
    """
    rounds = max(erosion[0], erosion[1], erosion[2])
    if rounds == 0:
        mask[:] = 1
        return mask
    # The first round compares labels, so that touching labels erode each other; from then on a mask is enough, since
    # two marked neighbours always have the same label.
    _same_as_neighbours(labels, erosion > 0, mask)
    for done in range(1, rounds):
        _erode_once(mask, erosion > done, spare)
        mask, spare = spare, mask
    return mask


@njit(nogil=True, cache=True)
def overlap_table(automatic, proofread, core, lower, upper):
    """Count voxels and core voxels of each (segment, body) pair inside ``lower`` .. ``upper``.

    Returns
    -------
    keys, values
        A table (see :mod:`connectomebench.corrections.hash_tables`): segment and body -> voxels, core voxels.
        Background (0) is counted like any other label.
    """
    keys, values = new_table(1024, 2)
    rows = 0
    for i in range(lower[0], upper[0]):
        for j in range(lower[1], upper[1]):
            segments = automatic[i, j, lower[2] : upper[2]]
            bodies = proofread[i, j, lower[2] : upper[2]]
            inside = core[i, j, lower[2] : upper[2]]
            k, length = 0, len(segments)
            while k < length:
                # One look-up for each run: neighbours along a row mostly belong to the same pair.
                segment, body, start, in_core = segments[k], bodies[k], k, 0
                while k < length and segments[k] == segment and bodies[k] == body:
                    in_core += inside[k]
                    k += 1
                keys, values, rows = add_row(
                    keys, values, rows, np.uint64(segment), np.uint64(body), (k - start, in_core)
                )
    return keys, values
