"""Find the contacts between supervoxels inside segments, block by block, with what makes them suspect.

Where an agglomeration fused two neurons, it did so along such a contact: one on a membrane, which is dark, or thin, or
between pieces of unlike calibre.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.volume import IntPoint, Volume

if TYPE_CHECKING:
    from connectomebench.corrections.block_walk import LabelBlock
    from connectomebench.corrections.contact_patches import CellGrid

GrayReader = Callable[[IntPoint, IntPoint], NDArray[np.uint8]]
"""Reads the image at the centres of label voxels, lower to upper (exclusive), axes x, y, z."""

# distances to the surface are known up to so many voxels (of the smallest edge): they are read beyond each block
_HALO_VX = 32
# whole numbers in which distances are counted, per voxel of the smallest edge
_STEPS = 16
# a contact is compared with its supervoxels in the cells of so many voxels round it, 3 along each axis
_NEAR_VX = 32
_LOW_HALF = np.uint64(0xFFFFFFFF)

_Rows = tuple[NDArray[np.uint64], NDArray[np.int64]]


def find_interfaces(
    segments: Volume,
    supervoxels: Volume,
    read_gray: GrayReader | None,
    segment_ids: NDArray[np.uint64],
    rules: CorrectionConfig,
    *,
    block: IntPoint = (256, 256, 256),
    threads: int | None = None,
    progress: bool = False,
) -> SupervoxelInterfaces:
    """Find where supervoxels of one segment share voxel faces.

    Parameters
    ----------
    segments, supervoxels
        Label volumes of the same box, integers; 0 is background, and no supervoxel.
    read_gray
        Reads the image; None where there is none.
    segment_ids
        uint64: segments to look at.
    rules
        Only ``patch_cell_vx`` and ``min_contact_faces`` matter here: faces in touching cells are one contact, and
        smaller ones are left out.
    block, threads, progress
        As for :func:`connectomebench.corrections.find.find_corrections`.

    Returns
    -------
    SupervoxelInterfaces
        Sorted by segment, supervoxels and place. It does not depend on blocks and threads. Memory follows the number
        of contacts, not of voxels.

    Raises
    ------
    ConnectomeBenchError
        The volumes do not cover the same voxels, or labels are not integers.
    """
    from connectomebench.corrections.block_walk import BlockWalk, Scratch
    from connectomebench.corrections.hash_tables import RowSum, fill_table, used_rows
    from connectomebench.sources.interface_kernels import interface_table, part_codes, part_table

    walk = BlockWalk(segments, supervoxels, block, threads, progress)
    fine, coarse = _aligned(segments, rules.patch_cell_vx), _aligned(segments, _NEAR_VX)
    asked = np.unique(np.asarray(segment_ids, np.uint64))
    wanted = fill_table(asked, np.zeros_like(asked), np.ones(len(asked), np.int64))
    edge_nm = float(min(segments.voxel_size_nm))
    scratch = Scratch()

    def measure(found: LabelBlock) -> tuple[_Rows, _Rows]:
        codes = scratch.array("codes", found.automatic.shape, np.int32)
        ids = part_codes(found.automatic, found.proofread, *wanted, codes)
        depth = _depths(found.automatic, [segments.voxel_size_nm[axis] for axis in found.axes], edge_nm)
        gray = np.zeros((0, 0, 0), np.uint8)
        if read_gray is not None:
            gray = np.ascontiguousarray(read_gray(*_box(found)).transpose(found.axes))
        inner = found.lower, found.upper
        keys, own = used_rows(*part_table(codes, depth, gray, *inner, *_cells_of(found, *coarse)))
        of_parts = np.column_stack([ids[keys[:, 0].astype(np.int64)], keys[:, 1]])
        in_cells = *_cells_of(found, *fine), found.ordered(fine[0].point_strides)
        keys, values = used_rows(*interface_table(codes, ids[:, 0].copy(), depth, gray, *inner, *in_cells))
        one, two = ids[(keys[:, 0] >> np.uint64(32)).astype(np.int64)], ids[(keys[:, 0] & _LOW_HALF).astype(np.int64)]
        pairs = np.sort(np.column_stack([one[:, 1], two[:, 1]]), axis=1)
        return (of_parts, own), (np.column_stack([one[:, 0], pairs, keys[:, 1]]), values)

    parts, contacts = RowSum(3, 3, minimum_of_last=True), RowSum(4, 3, minimum_of_last=True)
    halo = [_HALO_VX] * 3
    for of_parts, of_contacts in walk.map(
        measure, walk.blocks if len(asked) else [], halo_below=halo, halo_above=halo, title="supervoxel interfaces"
    ):
        parts.add(*of_parts)
        contacts.add(*of_contacts)
    found = _patches(*contacts.rows(), *fine, rules.min_contact_faces)
    return _compared(found, *parts.rows(), *coarse, segments, read_gray is not None)


def _aligned(volume: Volume, edge: int) -> tuple[CellGrid, NDArray[np.int64]]:
    """Return a grid of cells, and what to add to an index in the volume to get one in the grid (int64, x, y, z).

    Cells start at absolute coordinates, so that a crop of a volume has those of the whole.
    """
    from connectomebench.corrections.contact_patches import CellGrid

    shift = np.asarray(volume.offset_vx, np.int64) % edge
    x, y, z = (int(n + s) for n, s in zip(volume.shape, shift, strict=True))
    return CellGrid((x, y, z), edge), shift


def _cells_of(
    block: LabelBlock, grid: CellGrid, shift: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Return what kernels need to find the cell of a voxel: origin of the block in the grid, edge and strides."""
    return block.origin + block.ordered(shift.tolist()), grid.edge, block.ordered(grid.strides)


def _box(block: LabelBlock) -> tuple[IntPoint, IntPoint]:
    """Return the voxels of a block with its halo, lower and upper along x, y, z."""
    lower, upper = [0, 0, 0], [0, 0, 0]
    for position, axis in enumerate(block.axes):
        lower[axis] = int(block.origin[position])
        upper[axis] = lower[axis] + block.automatic.shape[position]
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def _depths(labels: NDArray[Any], voxel_nm: list[float], edge_nm: float) -> NDArray[np.int32]:
    """Measure how far each voxel lies from the surface of its segment; int32, in sixteenths of ``edge_nm``.

    Segments go on beyond the array; deeper places than the halo count as that deep, so that blocks do not matter.
    """
    import edt

    found: NDArray[np.float32] = edt.edt(labels, anisotropy=tuple(map(float, voxel_nm)), black_border=False, parallel=1)
    np.minimum(found, np.float32(_HALO_VX * edge_nm), out=found)
    found *= np.float32(_STEPS / edge_nm)
    return np.rint(found).astype(np.int32)


@dataclass(frozen=True)
class _Patches:
    """Patches of contact: segment and both supervoxels, faces, sum of the image, depth, and place (index x, y, z)."""

    trios: NDArray[np.uint64]
    faces: NDArray[np.int64]
    light: NDArray[np.int64]
    deep: NDArray[np.int64]
    places: NDArray[np.int64]


def _patches(
    keys: NDArray[np.uint64], values: NDArray[np.int64], grid: CellGrid, shift: NDArray[np.int64], min_faces: int
) -> _Patches:
    """Join cells into patches of contact, and choose the deepest place of each."""
    from connectomebench.corrections.contact_patches import patch_numbers
    from connectomebench.sources.interface_kernels import DEEPEST

    trios = keys[:, :3]
    new = np.append(True, (trios[1:] != trios[:-1]).any(axis=1))[: len(trios)]
    pair = np.cumsum(new).astype(np.uint64)
    patch = patch_numbers(np.column_stack([pair, np.zeros_like(pair), keys[:, 3]]), grid)
    count = int(patch.max(initial=-1)) + 1
    faces, light = (np.bincount(patch, values[:, c], minlength=count).astype(np.int64) for c in (0, 1))
    shallow, local = np.divmod(values[:, 2], grid.edge**3)
    inside = np.stack(np.unravel_index(local, (grid.edge,) * 3), axis=1)
    places = grid.coordinates(keys[:, 3]) * grid.edge + inside - shift
    # of equally deep ones the first along x, y, z
    order = np.lexsort((*places.T[::-1], shallow, patch))
    best = order[np.unique(patch[order], return_index=True)[1]]
    rows = np.flatnonzero(faces >= min_faces)
    rows = rows[np.lexsort((*places[best[rows]].T[::-1], *trios[best[rows]].T[::-1]))]
    best = best[rows]
    return _Patches(trios[best], faces[rows], light[rows], DEEPEST - shallow[best], places[best])


def _compared(
    found: _Patches,
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    near: CellGrid,
    shift: NDArray[np.int64],
    volume: Volume,
    has_image: bool,
) -> SupervoxelInterfaces:
    """Compare each patch with what lies round it in its two supervoxels."""
    from connectomebench.corrections.contact_patches import points_nm
    from connectomebench.sources.interface_kernels import DEEPEST

    n = len(found.faces)
    voxels, light, shallow = np.zeros((n, 2), np.int64), np.zeros(n, np.int64), np.full((n, 2), DEEPEST)
    cells = (found.places + shift) // near.edge
    of_parts = _index(keys)
    for side in (0, 1):
        for step in itertools.product((-1, 0, 1), repeat=3):
            at = cells + step
            inside = np.flatnonzero(((at >= 0) & (at < near.cells)).all(axis=1))
            number = at[inside] @ np.array(near.strides)
            wanted = np.column_stack([found.trios[inside][:, [0, 1 + side]], number.astype(np.uint64)])
            rows, held = of_parts.rows_of(wanted)
            own, rows = inside[held], rows[held]
            voxels[own, side] += values[rows, 0]
            light[own] += values[rows, 1]
            shallow[own, side] = np.minimum(shallow[own, side], values[rows, 2])
    step_nm = min(volume.voxel_size_nm) / _STEPS
    brightness = np.full(n, np.nan)
    if has_image:
        brightness = found.light / (2 * found.faces) / np.maximum(light / np.maximum(voxels.sum(axis=1), 1), 1.0)
    return SupervoxelInterfaces(
        found.trios[:, 0],
        found.trios[:, 1:],
        points_nm(found.places, volume.offset_vx, volume.voxel_size_nm).astype(np.float32),
        found.faces,
        (found.deep * step_nm).astype(np.float32),
        ((DEEPEST - shallow) * step_nm).astype(np.float32),
        voxels,
        brightness.astype(np.float32),
    )


@dataclass(frozen=True)
class _KeyIndex:
    """Finds rows of a sorted table of unique keys: its known values by column, and one number for each key."""

    table: NDArray[np.uint64]
    known: tuple[NDArray[np.uint64], ...]
    numbers: NDArray[np.int64]

    def rows_of(self, wanted: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the row of each wanted key, shape (m, columns), and whether the table holds it."""
        if not len(self.table):
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
        asked = np.zeros(len(wanted), np.int64)
        for column, known in enumerate(self.known):
            # what a column does not hold has the number of its neighbour, which the comparison below rejects
            asked = asked * len(known) + np.minimum(np.searchsorted(known, wanted[:, column]), len(known) - 1)
        rows = np.minimum(np.searchsorted(self.numbers, asked), len(self.table) - 1)
        return rows, (self.table[rows] == wanted).all(axis=1)


def _index(table: NDArray[np.uint64]) -> _KeyIndex:
    numbers = np.zeros(len(table), np.int64)
    every = []
    for column in table.T:
        known, rank = np.unique(column, return_inverse=True)
        numbers = numbers * len(known) + rank.ravel()
        every.append(known)
    return _KeyIndex(table, tuple(every), numbers)
