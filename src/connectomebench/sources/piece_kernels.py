"""Compiled passes over the pieces of a segment: their voxels and centres, and where they touch."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def measure_pieces(pieces, n):
    """Count the voxels of pieces, sum their indices, and find one voxel of each.

    Parameters
    ----------
    pieces
        uint32, 1 to ``n``, 0 outside; axes x, y, z, C-contiguous.
    n
        Number of pieces.

    Returns
    -------
    int64, shape (n,): voxels; int64, shape (n, 3): sums of their indices along x, y, z; int64, shape (n,): the first
    voxel of each in the flat array.
    """
    counts, sums, first = np.zeros(n, np.int64), np.zeros((n, 3), np.int64), np.full(n, -1, np.int64)
    at = 0
    for i in range(pieces.shape[0]):
        for j in range(pieces.shape[1]):
            for k in range(pieces.shape[2]):
                row = np.int64(pieces[i, j, k]) - 1
                if row >= 0:
                    counts[row] += 1
                    sums[row, 0] += i
                    sums[row, 1] += j
                    sums[row, 2] += k
                    if first[row] < 0:
                        first[row] = at
                at += 1
    return counts, sums, first


@njit(nogil=True, cache=True)
def _write(rows, at, number, one, other, voxel):
    rows[number, 0] = min(one, other) - 1
    rows[number, 1] = max(one, other) - 1
    at[number] = voxel


@njit(nogil=True, cache=True)
def touching_faces(pieces):
    """Find the voxel faces between two pieces.

    Parameters
    ----------
    pieces
        As for :func:`measure_pieces`.

    Returns
    -------
    rows
        int32, shape (faces, 2): the pieces (label - 1), smaller first.
    at
        int64, shape (faces,): the voxel before each face, in the flat array. Faces across x come first, then those
        across y and z, each in the order of their voxels.
    ends
        int64, shape (3,): number of faces across x, across x and y, and of all.
    """
    n0, n1, n2 = pieces.shape
    ends = np.zeros(3, np.int64)
    # counted before they are written: a cutout has few faces, and room for all voxels would cost more than the pass
    for writing in range(2):
        rows, at = np.empty((ends[2] * writing, 2), np.int32), np.empty(ends[2] * writing, np.int64)
        x, y, z = np.int64(0), ends[0], ends[1]
        for i in range(n0):
            for j in range(n1):
                own = pieces[i, j]
                right = pieces[min(i + 1, n0 - 1), j]
                behind = pieces[i, min(j + 1, n1 - 1)]
                for k in range(n2):
                    one = own[k]
                    if one == 0:
                        continue
                    # at the last voxel of an axis the one after it is itself, which is no face
                    if right[k] != one and right[k] != 0:
                        if writing:
                            _write(rows, at, x, one, right[k], (i * n1 + j) * n2 + k)
                        x += 1
                    if behind[k] != one and behind[k] != 0:
                        if writing:
                            _write(rows, at, y, one, behind[k], (i * n1 + j) * n2 + k)
                        y += 1
                    if k + 1 < n2 and own[k + 1] != one and own[k + 1] != 0:
                        if writing:
                            _write(rows, at, z, one, own[k + 1], (i * n1 + j) * n2 + k)
                        z += 1
        if not writing:
            ends[0], ends[1], ends[2] = x, x + y, x + y + z
    return rows, at, ends


@njit(nogil=True, cache=True)
def summed_by_pair(rows, costs, n):
    """Sum costs by pair of rows, one after the other in the order given, so that sums of floats are always the same.

    Parameters
    ----------
    rows
        int32, shape (m, 2), each below ``n``.
    costs
        float64, shape (m,).
    n
        Number of rows.

    Returns
    -------
    int32, shape (k, 2): pairs, sorted; float64, shape (k,): sums.
    """
    order, sorted_once = np.arange(len(rows)), np.empty(len(rows), np.int64)
    for column in (1, 0):  # sorting by counting keeps the order of equal rows
        free = np.zeros(n + 1, np.int64)
        for pair in range(len(rows)):
            free[rows[pair, column] + 1] += 1
        for row in range(n):
            free[row + 1] += free[row]
        for pair in order:
            row = rows[pair, column]
            sorted_once[free[row]] = pair
            free[row] += 1
        order, sorted_once = sorted_once, order
    pairs, sums = np.empty((len(rows), 2), np.int32), np.zeros(len(rows), np.float64)
    k = 0
    for pair in order:
        if k == 0 or pairs[k - 1, 0] != rows[pair, 0] or pairs[k - 1, 1] != rows[pair, 1]:
            pairs[k, 0], pairs[k, 1] = rows[pair, 0], rows[pair, 1]
            k += 1
        sums[k - 1] += costs[pair]
    return pairs[:k].copy(), sums[:k].copy()
