"""Compiled kernels over one block: where parts touch, and how much of each part is near.

Voxels carry small codes. A positive code is a part: for corrections a (segment, body) pair, for controls a segment.
A negative code is a gap that may be bridged: ``-1 - 2 * body`` between two segments of that body (number), and
``-2 - 2 * segment`` between two bodies of that segment (number). Everything else is 0 and ends a scan.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from connectomebench.corrections.hash_tables import doubled, find_slot, new_table

_HALF_KEY = np.uint64(32)
_CHUNK = 32


@njit(nogil=True, cache=True)
def pair_codes(automatic, proofread, keys, values, codes):
    """Write the code of each voxel's (segment, body) pair to ``codes``, int32; pairs not in the table get 0."""
    for i in range(automatic.shape[0]):
        for j in range(automatic.shape[1]):
            segments, bodies, row = automatic[i, j], proofread[i, j], codes[i, j]
            k, length = 0, len(row)
            while k < length:
                segment, body = segments[k], bodies[k]
                code = np.int32(values[find_slot(keys, values, np.uint64(segment), np.uint64(body)), 0])
                while k < length and segments[k] == segment and bodies[k] == body:
                    row[k] = code
                    k += 1


@njit(nogil=True, cache=True)
def segment_codes(automatic, proofread, codes):
    """Give numbers to the segments of a block; voxels without a segment or without a body are gaps.

    Parameters
    ----------
    codes
        int32, shape of the block, written over: number of the segment from 1, or -1 (gap).

    Returns
    -------
    ids
        uint64, shape (numbers + 1,): id of the segment with that number; 0 at 0.
    """
    keys, values = new_table(256, 1)
    count = 0
    for i in range(automatic.shape[0]):
        for j in range(automatic.shape[1]):
            segments, bodies, row = automatic[i, j], proofread[i, j], codes[i, j]
            k, length = 0, len(row)
            while k < length:
                segment = segments[k]
                code = np.int32(-1)
                if segment != 0:
                    slot = find_slot(keys, values, np.uint64(segment), np.uint64(0))
                    if values[slot, 0] == 0:
                        count += 1
                        keys[slot, 0] = segment
                        values[slot, 0] = count
                    code = np.int32(values[slot, 0])
                    if 2 * count > len(keys):
                        keys, values = doubled(keys, values)
                while k < length and segments[k] == segment:
                    row[k] = code if bodies[k] != 0 else np.int32(-1)
                    k += 1
    ids = np.zeros(count + 1, np.uint64)
    for slot in range(len(keys)):
        if values[slot, 0] != 0:
            ids[values[slot, 0]] = keys[slot, 0]
    return ids


@njit(nogil=True, cache=True)
def core_table(codes, core, lower, upper, origin, cell, cell_strides):
    """Count the core voxels of each part in each cell of a grid.

    Parameters
    ----------
    codes, core
        The block; counted inside ``lower`` .. ``upper``.
    origin
        int64, shape (3,): index in the volume of the block's first voxel.
    cell
        Edge of a cell, voxels. The grid starts at index 0 of the volume.
    cell_strides
        int64, shape (3,): what one cell along each axis adds to a cell's number.

    Returns
    -------
    keys, values
        A table: code, cell number -> core voxels.
    """
    keys, values = new_table(1024, 1)
    rows = 0
    for i in range(lower[0], upper[0]):
        plane = (origin[0] + i) // cell * cell_strides[0]
        for j in range(lower[1], upper[1]):
            line = plane + (origin[1] + j) // cell * cell_strides[1]
            row, inside = codes[i, j], core[i, j]
            k = lower[2]
            while k < upper[2]:
                along = (origin[2] + k) // cell
                stop = min(upper[2], (along + 1) * cell - origin[2])
                code, in_core = row[k], 0
                while k < stop and row[k] == code:
                    in_core += inside[k]
                    k += 1
                if code > 0 and in_core > 0:
                    number = np.uint64(line + along * cell_strides[2])
                    slot = find_slot(keys, values, np.uint64(code), number)
                    if values[slot, 0] == 0:
                        rows += 1
                        keys[slot, 0] = np.uint64(code)
                        keys[slot, 1] = number
                    values[slot, 0] += in_core
                    if 2 * rows > len(keys):
                        keys, values = doubled(keys, values)
    return keys, values


@njit(nogil=True, cache=True, inline="always")
def _touch(before, after, gap, segments, bodies):
    """Tell whether two parts with that gap between them (0: none) are parts of one body or of one segment."""
    if bodies[before] == bodies[after] and segments[before] != segments[after]:
        return gap == 0 or gap == -1 - 2 * bodies[before]
    if segments[before] == segments[after] and bodies[before] != bodies[after]:
        return gap == 0 or gap == -2 - 2 * segments[before]
    return False


@njit(nogil=True, cache=True, inline="always")
def _step(earlier, code, at, before, since, gap, max_gap, segments, bodies):
    """Take one change of code along a line, from ``earlier`` to ``code`` at position ``at``.

    The state of a line is the last part that ended (0: none that can still touch anything), the position of its last
    voxel, and the code of the gap since then (0: none).

    Returns
    -------
    before, since, gap
        The new state.
    contact
        The part that touches ``code`` here, or 0.
    """
    contact = np.int32(0)
    if earlier > 0:
        before, since, gap = earlier, np.int32(at - 1), np.int32(0)
    if code == 0:
        before = np.int32(0)
    elif code < 0:
        if gap != 0 and gap != code:
            before = np.int32(0)
        gap = code
    elif before > 0 and at - since - 1 <= max_gap and _touch(before, code, gap, segments, bodies):
        contact = before
    return before, since, gap, contact


@njit(nogil=True, cache=True)
def _count_contact(keys, values, rows, before, after, i, j, k, cell, cell_strides, point_strides):
    """Add one contact face at (i, j, k), index in the volume; returns the table (it may have grown) and its rows."""
    ci, cj, ck = i // cell, j // cell, k // cell
    pi, pj, pk = i - ci * cell, j - cj * cell, k - ck * cell
    number = np.uint64(ci * cell_strides[0] + cj * cell_strides[1] + ck * cell_strides[2])
    middle = cell - 1
    distance = (2 * pi - middle) ** 2 + (2 * pj - middle) ** 2 + (2 * pk - middle) ** 2
    nearest = distance * cell**3 + pi * point_strides[0] + pj * point_strides[1] + pk * point_strides[2]
    pair = np.uint64(min(before, after)) << _HALF_KEY | np.uint64(max(before, after))
    slot = find_slot(keys, values, pair, number)
    if values[slot, 0] == 0:
        rows += 1
        keys[slot, 0] = pair
        keys[slot, 1] = number
        values[slot, 4] = nearest
    values[slot, 0] += 1
    values[slot, 1] += pi
    values[slot, 2] += pj
    values[slot, 3] += pk
    values[slot, 4] = min(values[slot, 4], nearest)
    if 2 * rows > len(keys):
        keys, values = doubled(keys, values)
    return keys, values, rows


@njit(nogil=True, cache=True)
def _differ(one, other):
    changed = np.int32(0)
    for k in range(len(one)):
        changed |= one[k] ^ other[k]
    return changed != 0


@njit(nogil=True, cache=True)
def _scan_row(
    row,
    previous,
    state,
    axis,
    at,
    lower,
    origin,
    place,
    max_gap,
    segments,
    bodies,
    table,
    rows,
    cell,
    cell_strides,
    point_strides,
):
    """Take one step along ``axis`` on all lines of a row at once; returns the table of contacts and its rows.

    ``state`` holds the state of each line, int32, shape (3, width), see :func:`_step`. ``place`` is the index in the
    volume of the row's first voxel, but for ``axis``, which is filled in here.
    """
    keys, values = table
    last, since, gaps = state
    for start in range(0, len(row), _CHUNK):
        now, then = row[start : start + _CHUNK], previous[start : start + _CHUNK]
        # Codes seldom change; a chunk without a change is told at once, in vector instructions.
        if not _differ(now, then):
            continue
        for step in range(len(now)):
            if now[step] == then[step]:
                continue
            k = start + step
            last[k], since[k], gaps[k], contact = _step(
                then[step], now[step], at, last[k], since[k], gaps[k], max_gap, segments, bodies
            )
            if contact > 0 and at >= lower:
                place[axis] = origin + (since[k] + at) // 2
                keys, values, rows = _count_contact(
                    keys,
                    values,
                    rows,
                    contact,
                    now[step],
                    place[0],
                    place[1],
                    place[2] + k,
                    cell,
                    cell_strides,
                    point_strides,
                )
    return (keys, values), rows


@njit(nogil=True, cache=True)
def contact_table(codes, segments, bodies, max_gap, lower, upper, origin, cell, cell_strides, point_strides):
    """Count contact faces between parts, per pair of parts and cell of a grid.

    Lines are scanned along each axis; a contact belongs to the block that holds its later voxel, so the block has to
    reach ``max_gap + 1`` voxels below ``lower``. Its place is the voxel half way (rounded down) between the two.

    Parameters
    ----------
    codes
        int32, the block with its halo.
    segments, bodies
        int64, shape (parts + 1,): number of the segment and body of each part.
    max_gap
        Longest gap bridged, voxels.
    lower, upper, origin, cell, cell_strides
        As for :func:`core_table`.
    point_strides
        int64, shape (3,): what one voxel along each axis adds to the number of a voxel inside its cell.

    Returns
    -------
    keys, values
        A table: (smaller code << 32 | larger code), cell number -> faces; the sums of the places inside the cell
        along the three axes of the block; and the place nearest to the centre of the cell, as
        ``distance * cell**3 + number``, where the distance is squared and in half voxels.
    """
    table = new_table(1024, 5)
    rows = 0
    first = np.maximum(lower - max_gap - 1, 0)
    height, width = upper[1] - lower[1], upper[2] - lower[2]
    nothing = np.zeros(width, np.int32)
    # State of the lines along the first axis (a plane of them) and along the second (a row of them), see `_step`.
    plane = np.zeros((height, 3, width), np.int32)
    line = np.zeros((3, width), np.int32)
    place = np.zeros(3, np.int64)
    for i in range(first[0], upper[0]):
        line[:] = 0
        for j in range(first[1], upper[1]):
            row = codes[i, j, lower[2] : upper[2]]
            place[2] = origin[2] + lower[2]
            if j >= lower[1]:
                previous = codes[i - 1, j, lower[2] : upper[2]] if i > first[0] else nothing
                place[1] = origin[1] + j
                table, rows = _scan_row(
                    row,
                    previous,
                    plane[j - lower[1]],
                    0,
                    i,
                    lower[0],
                    origin[0],
                    place,
                    max_gap,
                    segments,
                    bodies,
                    table,
                    rows,
                    cell,
                    cell_strides,
                    point_strides,
                )
            if i >= lower[0]:
                previous = codes[i, j - 1, lower[2] : upper[2]] if j > first[1] else nothing
                place[0] = origin[0] + i
                table, rows = _scan_row(
                    row,
                    previous,
                    line,
                    1,
                    j,
                    lower[1],
                    origin[1],
                    place,
                    max_gap,
                    segments,
                    bodies,
                    table,
                    rows,
                    cell,
                    cell_strides,
                    point_strides,
                )
    keys, values = table
    for i in range(lower[0], upper[0]):
        for j in range(lower[1], upper[1]):
            row = codes[i, j]
            before, since, gap = np.int32(0), np.int32(0), np.int32(0)
            if row[first[2]] != 0:
                before, since, gap, _ = _step(
                    np.int32(0), row[first[2]], first[2], before, since, gap, max_gap, segments, bodies
                )
            for start in range(first[2] + 1, upper[2], _CHUNK):
                stop = min(upper[2], start + _CHUNK)
                now, then = row[start:stop], row[start - 1 : stop - 1]
                if not _differ(now, then):
                    continue
                for step in range(len(now)):
                    if now[step] == then[step]:
                        continue
                    k = start + step
                    before, since, gap, contact = _step(
                        then[step], now[step], k, before, since, gap, max_gap, segments, bodies
                    )
                    if contact > 0 and k >= lower[2]:
                        keys, values, rows = _count_contact(
                            keys,
                            values,
                            rows,
                            contact,
                            now[step],
                            origin[0] + i,
                            origin[1] + j,
                            origin[2] + (since + k) // 2,
                            cell,
                            cell_strides,
                            point_strides,
                        )
    return keys, values
