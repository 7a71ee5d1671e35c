"""Compiled kernels over one block: where supervoxels of one segment touch, and how deep inside the segment.

A part is what one segment and one supervoxel have in common. Arrays are C-contiguous, with the axes of the block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from connectomebench.corrections.contact_kernels import cell_place, pair_key
from connectomebench.corrections.hash_tables import add_number, add_row, doubled, find_slot, new_table

DEEPEST = 1 << 20
"""Depths are whole numbers below this."""


@njit(nogil=True, cache=True)
def part_codes(segments, supervoxels, wanted_keys, wanted_values, codes):
    """Assign numbers to the parts of a block.

    Parameters
    ----------
    segments, supervoxels
        Unsigned, the block.
    wanted_keys, wanted_values
        A table of :func:`connectomebench.corrections.hash_tables.fill_table`: the segments that take part, under
        (segment, 0).
    codes
        int32, shape of the block, written over: number of the part from 1; 0 in other segments and outside supervoxels.

    Returns
    -------
    uint64, shape (numbers + 1, 2): segment and supervoxel of each part; 0 at 0.
    """
    keys, values = new_table(256, 1)
    count = 0
    for i in range(segments.shape[0]):
        for j in range(segments.shape[1]):
            of_row, cells, row = segments[i, j], supervoxels[i, j], codes[i, j]
            k, length = 0, len(row)
            while k < length:
                # one look-up for each run: neighbours along a row mostly belong to the same part
                segment, cell = np.uint64(of_row[k]), np.uint64(cells[k])
                code = np.int32(0)
                known = segment != 0 and cell != 0
                if known and wanted_values[find_slot(wanted_keys, wanted_values, segment, np.uint64(0)), 0] != 0:
                    keys, values, count, code = add_number(keys, values, count, segment, cell)
                while k < length and of_row[k] == segment and cells[k] == cell:
                    row[k] = code
                    k += 1
    ids = np.zeros((count + 1, 2), np.uint64)
    for slot in range(len(keys)):
        if values[slot, 0] != 0:
            ids[values[slot, 0], 0], ids[values[slot, 0], 1] = keys[slot, 0], keys[slot, 1]
    return ids


@njit(nogil=True, cache=True)
def part_table(codes, depth, gray, lower, upper, origin, cell, cell_strides):
    """Measure each part in each cell of a grid, inside ``lower`` .. ``upper``.

    Parameters
    ----------
    codes
        From :func:`part_codes`.
    depth
        int32, same shape: distance to the surface of the segment, below :data:`DEEPEST`.
    gray
        uint8, same shape, or empty where there are no image data.
    lower, upper
        int64, shape (3,): the block without its halo.
    origin
        int64, shape (3,): index in the volume of the first voxel of the block.
    cell
        Edge of a cell, voxels; the grid starts at index 0 of the volume.
    cell_strides
        int64, shape (3,): what one cell along each axis adds to a cell's number.

    Returns
    -------
    keys, values
        A table: code, cell number -> voxels; sum of the image; ``DEEPEST`` less the largest depth, so that tables of
        blocks merge by the minimum of this column.
    """
    keys, values = new_table(1024, 3)
    rows = 0
    for i in range(lower[0], upper[0]):
        plane = (origin[0] + i) // cell * cell_strides[0]
        for j in range(lower[1], upper[1]):
            line = plane + (origin[1] + j) // cell * cell_strides[1]
            row, deep = codes[i, j], depth[i, j]
            k = lower[2]
            while k < upper[2]:
                # a run ends at the border of its cell, so that each run falls into one row of the table
                along = (origin[2] + k) // cell
                stop = min(upper[2], (along + 1) * cell - origin[2])
                code, start, light, deepest = row[k], k, 0, 0
                while k < stop and row[k] == code:
                    if gray.size:
                        light += gray[i, j, k]
                    deepest = max(deepest, deep[k])
                    k += 1
                if code > 0:
                    number = np.uint64(line + along * cell_strides[2])
                    keys, values, rows = add_row(
                        keys, values, rows, np.uint64(code), number, (k - start, light), DEEPEST - deepest
                    )
    return keys, values


@njit(nogil=True, cache=True)
def interface_table(codes, owners, depth, gray, lower, upper, origin, cell, cell_strides, point_strides):
    """Measure the contacts of parts of one segment, per pair of parts and cell of a grid.

    A contact is a face between two voxels; it belongs to the block that holds the later one, and so does its place. The
    block needs one voxel below ``lower`` where the volume has one.

    Parameters
    ----------
    codes, depth, gray, lower, upper, origin, cell, cell_strides
        As for :func:`part_table`.
    owners
        uint64, shape (parts + 1,): the segment of each part.
    point_strides
        int64, shape (3,): what one voxel along each axis adds to the number of a voxel inside its cell.

    Returns
    -------
    keys, values
        A table: (smaller code << 32 | larger code), cell number -> faces; sum of the image on both sides of them; and
        the deepest place, as ``(DEEPEST - depth) * cell**3 + number of its voxel``. The smallest is the deepest, and of
        equally deep ones the first along x, y, z, whatever the blocks; tables merge by the minimum of this column.
    """
    keys, values = new_table(1024, 3)
    rows = 0
    step = np.zeros(3, np.int64)
    for axis in range(3):
        step[:] = 0
        step[axis] = 1
        for i in range(max(lower[0], step[0]), upper[0]):
            for j in range(max(lower[1], step[1]), upper[1]):
                for k in range(max(lower[2], step[2]), upper[2]):
                    code = codes[i, j, k]
                    other = codes[i - step[0], j - step[1], k - step[2]]
                    if code == other or code == 0 or other == 0 or owners[code] != owners[other]:
                        continue
                    deep = min(depth[i, j, k], depth[i - step[0], j - step[1], k - step[2]])
                    number, place, _ = cell_place(
                        origin[0] + i, origin[1] + j, origin[2] + k, cell, cell_strides, point_strides
                    )
                    best = (DEEPEST - deep) * cell**3 + place
                    pair = pair_key(code, other)
                    # add_row would count references to the table at every voxel, which takes up to five times as long
                    slot = find_slot(keys, values, pair, number)
                    if values[slot, 0] == 0:
                        rows += 1
                        keys[slot, 0] = pair
                        keys[slot, 1] = number
                        values[slot, 2] = best
                    values[slot, 0] += 1
                    if gray.size:
                        values[slot, 1] += gray[i, j, k]
                        values[slot, 1] += gray[i - step[0], j - step[1], k - step[2]]
                    values[slot, 2] = min(values[slot, 2], best)
                    if 2 * rows > len(keys):
                        keys, values = doubled(keys, values)
    return keys, values
