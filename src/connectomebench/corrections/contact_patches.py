"""Contact faces between parts, grouped into contiguous patches, and the voxels near each patch.

Contacts arrive summed per pair and cell of a grid that starts at index 0 of the volume, so that nothing depends on how
the volume was cut into blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class CellGrid:
    """Cubic cells of edge ``edge`` voxels over a volume of ``shape`` voxels (x, y, z), numbered with z fastest."""

    shape: tuple[int, int, int]
    edge: int

    @property
    def cells(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        x, y, z = (-(-size // self.edge) for size in self.shape)
        return x, y, z

    @property
    def strides(self) -> tuple[int, int, int]:
        """What one cell along x, y, z adds to a cell's number."""
        _, y, z = self.cells
        return y * z, z, 1

    @property
    def point_strides(self) -> tuple[int, int, int]:
        """What one voxel along x, y, z adds to the number of a voxel inside its cell."""
        return self.edge**2, self.edge, 1

    def coordinates(self, numbers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Cell coordinates, int64, shape (n, 3), of cell numbers, shape (n,)."""
        return np.stack(np.unravel_index(np.asarray(numbers, np.int64), self.cells), axis=1)


@dataclass(frozen=True)
class Patches:
    """Contiguous contact patches, one row each, sorted by pair.

    Attributes
    ----------
    pairs
        int64 or uint64, shape (n, 2): the two parts.
    areas
        int64, shape (n,): contact faces.
    points_vx
        int64, shape (n, 3): the contact point nearest to the patch's centroid, index along x, y, z. One point a cell
        is a candidate (the one nearest to the cell's centre), so "nearest" is to within a cell.
    """

    pairs: NDArray[np.integer]
    areas: NDArray[np.int64]
    points_vx: NDArray[np.int64]

    @property
    def pair_starts(self) -> NDArray[np.int64]:
        """First row of each pair, and the number of rows at the end."""
        change = np.any(self.pairs[1:] != self.pairs[:-1], axis=1)
        return np.concatenate([np.flatnonzero(np.append(len(self.pairs) > 0, change)), [len(self.pairs)]])

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Patches:
        """Select the patches at these rows."""
        return Patches(self.pairs[rows], self.areas[rows], self.points_vx[rows])


def contact_points(keys: NDArray[np.uint64], values: NDArray[np.int64], grid: CellGrid) -> NDArray[np.int64]:
    """Return the contact point nearest to the centre of each cell.

    Returns
    -------
    int64, shape (n, 3): index in the volume along x, y, z.
    """
    inside = np.unravel_index(values[:, 4] % grid.edge**3, (grid.edge,) * 3)
    return grid.coordinates(keys[:, 2]) * grid.edge + np.stack(inside, axis=1)


def patch_numbers(keys: NDArray[np.uint64], grid: CellGrid) -> NDArray[np.int64]:
    """Join the contact cells of each pair that touch (faces, edges or corners) into patches.

    Parameters
    ----------
    keys
        uint64, shape (n, 3), unique, in lexicographic order: first part, second part, cell number.

    Returns
    -------
    int64, shape (n,): number of each row's patch, counted from 0 by first row.
    """
    if not len(keys):
        return np.zeros(0, np.int64)
    pair = np.cumsum(np.append(False, np.any(keys[1:, :2] != keys[:-1, :2], axis=1)))
    _, first_row, patch = np.unique(
        _connected_cells(pair, grid.coordinates(keys[:, 2]), grid), return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first_row))[patch]


def group_patches(keys: NDArray[np.uint64], values: NDArray[np.int64], grid: CellGrid) -> Patches:
    """Join contacts into contiguous patches.

    Parameters
    ----------
    keys
        As for :func:`patch_numbers`.
    values
        int64, shape (n, 5): faces; sums of the contact points inside the cell along x, y, z; nearest contact point as
        made by :func:`connectomebench.corrections.contact_kernels.contact_table`.
    grid
        The grid of the cells.
    """
    patch = patch_numbers(keys, grid)
    _, first_row = np.unique(patch, return_index=True)
    areas = np.zeros(len(first_row), np.int64)
    sums = np.zeros((len(first_row), 3), np.int64)
    np.add.at(areas, patch, values[:, 0])
    np.add.at(sums, patch, values[:, 1:4] + values[:, :1] * grid.coordinates(keys[:, 2]) * grid.edge)
    points = contact_points(keys, values, grid)
    # Squared distance to the centroid, times the area and less a constant: exact in integers, so that ties are ties.
    around = points - points[first_row][patch]
    centroid = sums - areas[:, None] * points[first_row]
    distance = areas[patch] * np.sum(around**2, axis=1) - 2 * np.sum(around * centroid[patch], axis=1)
    order = np.lexsort((points[:, 2], points[:, 1], points[:, 0], distance, patch))
    _, best = np.unique(patch[order], return_index=True)
    return Patches(keys[first_row, :2], areas, points[order[best]])


def _connected_cells(pair: NDArray[np.int64], cells: NDArray[np.int64], grid: CellGrid) -> NDArray[np.integer]:
    """Return the component of each row; rows of one pair in neighbouring cells (26) are connected."""
    padded = tuple(size + 2 for size in grid.cells)
    position = (pair * padded[0] + cells[:, 0] + 1) * padded[1] + cells[:, 1] + 1
    position = position * padded[2] + cells[:, 2] + 1  # in ascending order, as the rows are
    sources, targets = [], []
    for step in itertools.product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):
            continue
        wanted = position + (step[0] * padded[1] + step[1]) * padded[2] + step[2]
        at = np.searchsorted(position, wanted)
        at[at == len(position)] = 0
        found = np.flatnonzero(position[at] == wanted)
        sources.append(found)
        targets.append(at[found])
    source, target = np.concatenate(sources), np.concatenate(targets)
    graph = coo_array((np.ones(len(source), np.int8), (source, target)), shape=(len(position), len(position)))
    return connected_components(graph, directed=False)[1]


def near_core(
    codes: NDArray[np.integer],
    points_vx: NDArray[np.int64],
    radius_vx: int,
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    grid: CellGrid,
) -> NDArray[np.int64]:
    """Count the core voxels of a part near a point: all cells within ``radius_vx``, rounded up to whole cells.

    Parameters
    ----------
    codes
        Shape (n,): the part.
    points_vx
        int64, shape (n, 3): index along x, y, z.
    radius_vx
        Distance along each axis, voxels.
    keys, values
        uint64, shape (m, 2), in lexicographic order: code, cell number; int64, shape (m, 1): core voxels.
    grid
        The grid of these cells.

    Returns
    -------
    int64, shape (n,).
    """
    total = int(np.prod(grid.cells))
    cells = points_vx // grid.edge
    wanted, inverse = np.unique(codes.astype(np.int64) * total + cells @ np.array(grid.strides), return_inverse=True)
    base, cells = wanted // total * total, grid.coordinates(wanted % total)
    sums = np.append(0, np.cumsum(values[:, 0]))
    position = keys[:, 0].astype(np.int64) * total + keys[:, 1].astype(np.int64)
    reach = -(-radius_vx // grid.edge)
    low, high = np.maximum(cells[:, 2] - reach, 0), np.minimum(cells[:, 2] + reach, grid.cells[2] - 1)
    found = np.zeros(len(wanted), np.int64)
    for x_step, y_step in itertools.product(range(-reach, reach + 1), repeat=2):
        x, y = cells[:, 0] + x_step, cells[:, 1] + y_step
        inside = (x >= 0) & (x < grid.cells[0]) & (y >= 0) & (y < grid.cells[1])
        line = base + x * grid.strides[0] + y * grid.strides[1]
        start = np.searchsorted(position, line + low, side="left")
        stop = np.searchsorted(position, line + high, side="right")
        found += np.where(inside, sums[stop] - sums[start], 0)
    return found[inverse]


def substantial_cells(keys: NDArray[np.uint64], core: NDArray[np.int64], min_fraction: float) -> NDArray[np.bool_]:
    """Mark contacts where both parts are substantial: ``core`` reaches ``min_fraction`` of the largest of its pair.

    Parameters
    ----------
    keys
        As for :func:`patch_numbers`.
    core
        int64, shape (n,): the smaller of the two parts' core voxels near each contact cell.
    """
    if not len(keys):
        return np.zeros(0, bool)
    starts = np.flatnonzero(np.append(True, np.any(keys[1:, :2] != keys[:-1, :2], axis=1)))
    largest = np.repeat(np.maximum.reduceat(core, starts), np.diff(np.append(starts, len(keys))))
    return core >= min_fraction * largest


def choose_patches(
    patches: Patches, core: NDArray[np.int64], *, min_core: float, min_distance_vx: int
) -> tuple[list[list[int]], list[int]]:
    """Choose the patches of each pair that count as separate errors.

    Best first: the largest area (both parts are substantial near all of them), then the largest core, then the smallest
    point. A patch is left out where a better one of the pair lies within ``min_distance_vx`` along all axes: one error
    may touch in several places.

    Parameters
    ----------
    patches
        Sorted by pair.
    core
        int64, shape (n,): the smaller of the two parts' core voxels near the patch.
    min_core
        Where no patch of a pair has as much, the parts only graze each other.

    Returns
    -------
    kept, rejected
        For each localised pair its rows, best first; and the best row of every other pair.
    """
    kept: list[list[int]] = []
    rejected: list[int] = []
    for start, stop in itertools.pairwise(patches.pair_starts.tolist()):
        points = patches.points_vx[start:stop]
        order = np.lexsort((*points.T[::-1], -core[start:stop], -patches.areas[start:stop])) + start
        if core[start:stop].max() < min_core:
            rejected.append(int(order[0]))
            continue
        rows: list[int] = []
        for row in order.tolist():
            apart = np.abs(patches.points_vx[rows] - patches.points_vx[row]).max(axis=1, initial=0)
            if np.all(apart > min_distance_vx):
                rows.append(row)
        kept.append(rows)
    return kept, rejected


def points_nm(
    points_vx: NDArray[np.int64], offset_vx: Sequence[int], voxel_size_nm: Sequence[float]
) -> NDArray[np.float64]:
    """Return centres of voxels in nm: float64, shape (n, 3), from indices in the volume, shape (n, 3), axes x, y, z."""
    return (np.asarray(offset_vx, np.int64) + points_vx + 0.5) * np.asarray(voxel_size_nm, np.float64)
