"""Compiled kernels over one block: where parts touch, and how much of each part is near.

Voxels carry small codes. A positive code is a part: for corrections a (segment, body) pair, for controls a segment.
A negative code is a gap that may be bridged: ``-1 - 2 * body`` between two segments of that body (number), and
``-2 - 2 * segment`` between two bodies of that segment (number). Everything else is 0 and ends a scan.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from connectomebench.corrections.hash_tables import add_number, add_row, find_slot, new_table

# Two codes share one 64-bit key, so that one table serves pairs of parts too.
_HALF_KEY = np.uint64(32)
# Voxels compared at once in a search for changes of code: enough to fill vector registers, few enough to skip most.
_CHUNK = 32


# compiled code holds codes and positions in 32 bits
_Code = int | np.int32


class _Contacts(NamedTuple):
    """Hash table of contacts, see :func:`contact_table`, and its rows in use; it grows as contacts are added."""

    keys: NDArray[np.uint64]
    values: NDArray[np.int64]
    rows: int


class _Scan(NamedTuple):
    """What stays the same while a block is scanned; the fields are the parameters of :func:`contact_table`.

    Short arrays are tuples here: taking an array out of a tuple costs an atomic count of references.
    """

    segments: NDArray[np.int64]
    bodies: NDArray[np.int64]
    max_gap: int
    lower: tuple[int, int, int]
    origin: tuple[int, int, int]
    cell: int
    cell_strides: tuple[int, int, int]
    point_strides: tuple[int, int, int]


@njit(nogil=True, cache=True)
def pair_codes(automatic, proofread, keys, values, codes):
    """Write the code of each voxel's (segment, body) pair to ``codes``, int32; pairs not in the table get 0."""
    for i in range(automatic.shape[0]):
        for j in range(automatic.shape[1]):
            segments, bodies, row = automatic[i, j], proofread[i, j], codes[i, j]
            k, length = 0, len(row)
            while k < length:
                # One look-up for each run: neighbours along a row mostly belong to the same pair.
                segment, body = segments[k], bodies[k]
                code = np.int32(values[find_slot(keys, values, np.uint64(segment), np.uint64(body)), 0])
                while k < length and segments[k] == segment and bodies[k] == body:
                    row[k] = code
                    k += 1


@njit(nogil=True, cache=True)
def segment_codes(automatic, proofread, codes):
    """Assign numbers to the segments of a block; voxels without a segment or without a body are gaps.

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
                    keys, values, count, code = add_number(keys, values, count, np.uint64(segment), np.uint64(0))
                # The code is per segment, so the run goes on through gaps, which are decided voxel by voxel.
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
                # A run ends at the border of its cell, so that each run falls into one row of the table.
                along = (origin[2] + k) // cell
                stop = min(upper[2], (along + 1) * cell - origin[2])
                code, in_core = row[k], 0
                while k < stop and row[k] == code:
                    in_core += inside[k]
                    k += 1
                if code > 0 and in_core > 0:
                    number = np.uint64(line + along * cell_strides[2])
                    keys, values, rows = add_row(keys, values, rows, np.uint64(code), number, (in_core,))
    return keys, values


@njit(nogil=True, cache=True, inline="always")
def _touch(before: _Code, after: _Code, gap: _Code, segments: NDArray[np.int64], bodies: NDArray[np.int64]) -> bool:
    """Return whether two parts with that gap between them (0: none) are parts of one body or of one segment."""
    # The gap has to lie inside the body (or segment) that both parts share; any other background parts them.
    if bodies[before] == bodies[after] and segments[before] != segments[after]:
        return gap == 0 or gap == -1 - 2 * bodies[before]
    if segments[before] == segments[after] and bodies[before] != bodies[after]:
        return gap == 0 or gap == -2 - 2 * segments[before]
    return False


@njit(nogil=True, cache=True, inline="always")
def _step(
    earlier: _Code,
    code: _Code,
    position: int,
    before: _Code,
    since: _Code,
    gap: _Code,
    max_gap: int,
    segments: NDArray[np.int64],
    bodies: NDArray[np.int64],
) -> tuple[_Code, _Code, _Code, _Code]:
    """Take one change of code along a line, from ``earlier`` to ``code`` at ``position``.

    The state of a line is the last part that ended (0: none that can still touch anything), the position of its last
    voxel, and the code of the gap since then (0: none). A line starts with all three 0.

    Returns
    -------
    before, since, gap
        The new state.
    contact
        The part that touches ``code`` here, or 0.
    """
    contact: _Code = np.int32(0)
    if earlier > 0:
        before, since, gap = earlier, np.int32(position - 1), np.int32(0)
    if code == 0:
        before = np.int32(0)
    elif code < 0:
        # Two different gaps in a row are never bridged: no body (or segment) holds both.
        if gap != 0 and gap != code:
            before = np.int32(0)
        gap = code
    elif before > 0 and position - since - 1 <= max_gap and _touch(before, code, gap, segments, bodies):
        contact = before
    return before, since, gap, contact


@njit(nogil=True, cache=True, inline="always")
def cell_place(i, j, k, cell, cell_strides, point_strides):
    """Return number of the cell of a voxel (index in the volume), number of the voxel in it, and its place there."""
    ci, cj, ck = i // cell, j // cell, k // cell
    pi, pj, pk = i - ci * cell, j - cj * cell, k - ck * cell
    number = np.uint64(ci * cell_strides[0] + cj * cell_strides[1] + ck * cell_strides[2])
    return number, pi * point_strides[0] + pj * point_strides[1] + pk * point_strides[2], (pi, pj, pk)


@njit(nogil=True, cache=True, inline="always")
def pair_key(one, other):
    """Return one key for two codes: ``smaller << 32 | larger``."""
    return np.uint64(min(one, other)) << _HALF_KEY | np.uint64(max(one, other))


@njit(nogil=True, cache=True)
def _count_contact(table: _Contacts, before: _Code, after: _Code, i: int, j: int, k: int, scan: _Scan) -> _Contacts:
    """Add one contact face between two parts at (i, j, k), index in the volume along the axes of the block."""
    cell = scan.cell
    number, place, (pi, pj, pk) = cell_place(i, j, k, cell, scan.cell_strides, scan.point_strides)
    # The centre of a cell with an even edge lies between voxels; in half voxels its distance is a whole number.
    middle = cell - 1
    distance = (2 * pi - middle) ** 2 + (2 * pj - middle) ** 2 + (2 * pk - middle) ** 2
    # Distance and voxel in one number: the smallest is the nearest voxel, and of equally near ones the first along
    # x, y, z. So a tie does not depend on the order of blocks, threads or axes, and tables merge by their minimum.
    nearest = distance * cell**3 + place
    keys, values, rows = table
    keys, values, rows = add_row(keys, values, rows, pair_key(before, after), number, (1, pi, pj, pk), nearest)
    return _Contacts(keys, values, rows)


@njit(nogil=True, cache=True)
def _differ(one: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    # No early exit: without a branch in the loop the compiler uses vector instructions.
    changed = np.int32(0)
    for k in range(len(one)):
        changed |= one[k] ^ other[k]
    return changed != 0


@njit(nogil=True, cache=True)
def _scan_row(
    codes: NDArray[np.int32],
    previous: NDArray[np.int32],
    state: NDArray[np.int32],
    axis: int | np.int64,
    corner: tuple[int, int, int],
    scan: _Scan,
    table: _Contacts,
) -> _Contacts:
    """Take the step from ``previous`` to ``codes`` along ``axis`` at all voxels of a row, and count the contacts.

    Parameters
    ----------
    codes, previous
        Shape (width,): the codes of a row along the last axis, and those one voxel before them along ``axis``.
    state
        Shape (3, lines): state of the lines, see :func:`_step`. Each voxel of the row is on a line of its own, or
        all are on line 0 where ``axis`` is the last one.
    axis
        Axis of the block along which the lines run.
    corner
        Index in the block of the first voxel of ``codes``.
    scan
        Parts, bounds and grid of the block.
    table
        Contacts so far.
    """
    along_row = axis == 2
    last, since, gaps = state[0], state[1], state[2]
    origin, lower = scan.origin, scan.lower[axis]
    segments, bodies, max_gap = scan.segments, scan.bodies, scan.max_gap
    for start in range(0, len(codes), _CHUNK):
        now, then = codes[start : start + _CHUNK], previous[start : start + _CHUNK]
        # Codes seldom change: most chunks are skipped here.
        if not _differ(now, then):
            continue
        for step in range(len(now)):
            if now[step] == then[step]:
                continue
            k = start + step
            line = 0 if along_row else k
            position = corner[axis] + k if along_row else corner[axis]
            last[line], since[line], gaps[line], contact = _step(
                then[step], now[step], position, last[line], since[line], gaps[line], max_gap, segments, bodies
            )
            # Contacts in the halo below belong to the block before this one.
            if contact > 0 and position >= lower:
                middle = (since[line] + position) // 2
                table = _count_contact(
                    table,
                    contact,
                    now[step],
                    origin[0] + (middle if axis == 0 else corner[0]),
                    origin[1] + (middle if axis == 1 else corner[1]),
                    origin[2] + (middle if along_row else corner[2] + k),
                    scan,
                )
    return table


@njit(nogil=True, cache=True)
def _triple(values: NDArray[np.int64]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]


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
    scan = _Scan(
        segments,
        bodies,
        max_gap,
        _triple(lower),
        _triple(origin),
        cell,
        _triple(cell_strides),
        _triple(point_strides),
    )
    keys, values = new_table(1024, 5)
    table = _Contacts(keys, values, 0)
    first = np.maximum(lower - max_gap - 1, 0)
    height, width = upper[1] - lower[1], upper[2] - lower[2]
    # All lines along one axis advance together, row by row, so that memory is read in the order in which it lies.
    # State of the lines: a plane of them along the first axis, a row along the second, and one along the third.
    plane = np.zeros((height, 3, width), np.int32)
    row = np.zeros((3, width), np.int32)
    line = np.zeros((3, 1), np.int32)
    # no literals, for each of which numba would compile the scan of a row
    first_axis, second_axis, last_axis = np.int64(0), np.int64(1), np.int64(2)
    for i in range(first[0], upper[0]):
        row[:] = 0
        for j in range(first[1], upper[1]):
            # Rows in the halo of one axis are needed along that axis alone, corners of the halo not at all.
            codes_here = codes[i, j, lower[2] : upper[2]]
            if j >= lower[1] and i > first[0]:
                previous = codes[i - 1, j, lower[2] : upper[2]]
                table = _scan_row(codes_here, previous, plane[j - lower[1]], first_axis, (i, j, lower[2]), scan, table)
            if i >= lower[0] and j > first[1]:
                previous = codes[i, j - 1, lower[2] : upper[2]]
                table = _scan_row(codes_here, previous, row, second_axis, (i, j, lower[2]), scan, table)
            if i >= lower[0] and j >= lower[1]:
                line[:] = 0
                previous = codes[i, j, first[2] : upper[2] - 1]
                table = _scan_row(
                    codes[i, j, first[2] + 1 : upper[2]], previous, line, last_axis, (i, j, first[2] + 1), scan, table
                )
    return table.keys, table.values
