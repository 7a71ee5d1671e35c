"""Steps of correction extraction: overlaps, parts of errors, their interfaces, and the corrections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from connectomebench.core.correction import (
    CorrectionConfig,
    Corrections,
    MergeCorrection,
    Overlaps,
    SplitCorrection,
)
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Point
from connectomebench.corrections.agreement import Agreement, agreement_of, disagreement
from connectomebench.corrections.background import FaceLabels, background_suspects, labels_on_faces
from connectomebench.corrections.block_walk import BlockWalk, Bounds, LabelBlock, Scratch
from connectomebench.corrections.contact_kernels import contact_table, core_table, pair_codes
from connectomebench.corrections.contact_patches import (
    CellGrid,
    Patches,
    choose_patches,
    contact_points,
    group_patches,
    near_core,
    patch_numbers,
    points_nm,
    substantial_cells,
)
from connectomebench.corrections.hash_tables import RowSum, fill_table, used_rows
from connectomebench.corrections.overlap_kernels import core_mask, overlap_table

_THIN_SHARE = 0.25  # of the voxels in bodies: where more lies in bodies without a core, most errors are missed
_LOW_HALF = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class OverlapCount:
    """Result of the first walk.

    Attributes
    ----------
    table
        Overlaps of segments and bodies, without background.
    segment_sizes
        All voxels of each segment, with those outside any body.
    bodies
        Number of bodies.
    pairs_in_blocks
        For each block a uint32 digest of each pair in it, to find the blocks that hold a pair.
    body_sizes, body_cores
        All voxels, and all core voxels, of each body, with those outside any segment.
    agreement
        How well the two segmentations agree.
    suspects
        Labels that may be background: see :func:`background_suspects`.
    """

    table: Overlaps
    segment_sizes: dict[int, int]
    bodies: int
    pairs_in_blocks: list[tuple[Bounds, NDArray[np.uint32]]]
    body_sizes: NDArray[np.int64]
    body_cores: NDArray[np.int64]
    agreement: Agreement
    suspects: tuple[str, ...]


@dataclass(frozen=True)
class ErrorParts:
    """(Segment, body) pairs that take part in an error; row ``i`` has code ``i + 1`` in the kernels.

    Attributes
    ----------
    segments, bodies
        uint64, shape (n,), sorted by segment then body.
    fused
        bool, shape (n,): the segment has several real bodies.
    broken
        bool, shape (n,): the body has several real segments.
    """

    segments: NDArray[np.uint64]
    bodies: NDArray[np.uint64]
    fused: NDArray[np.bool_]
    broken: NDArray[np.bool_]


@dataclass(frozen=True)
class Interfaces:
    """Patches of contact between parts of one error, with ``pairs`` as row numbers of :class:`ErrorParts`.

    Attributes
    ----------
    patches
        Sorted by pair.
    kept
        Rows of ``patches`` for each localised pair, best first.
    rejected
        The best patch of each pair that only grazes.
    cells_vx
        int64, shape (c, 3): one contact point of each cell of each patch, index along x, y, z.
    cell_patch
        int64, shape (c,): the row of ``patches`` that a cell belongs to. Cells of a patch that is no error of its own,
        since a better one of its pair is near, belong to that one.
    """

    patches: Patches
    kept: list[list[int]]
    rejected: list[int]
    cells_vx: NDArray[np.int64]
    cell_patch: NDArray[np.int64]


def _digest(segments: NDArray[np.uint64], bodies: NDArray[np.uint64]) -> NDArray[np.uint32]:
    mixed = segments * np.uint64(0x9E3779B97F4A7C15) ^ bodies * np.uint64(0xC2B2AE3D27D4EB4F)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def count_overlaps(walk: BlockWalk, rules: CorrectionConfig) -> OverlapCount:
    """Count, in a first walk, the voxels and core voxels of every (segment, body) pair.

    Raises
    ------
    ConnectomeBenchError
        A segmentation is all background, or no voxel has both a segment and a body.
    """
    scratch = Scratch()

    def count(block: LabelBlock) -> tuple[NDArray[np.uint64], NDArray[np.int64], FaceLabels]:
        core = _core_of(block, rules, scratch)
        rows = used_rows(*overlap_table(block.automatic, block.proofread, core, block.lower, block.upper))
        return *rows, labels_on_faces(block, walk.automatic.shape)

    total = RowSum(2, 2)
    pairs_in_blocks = []
    faces: FaceLabels = []
    blocks = walk.blocks
    results = walk.map(count, blocks, halo_below=rules.erosion, halo_above=rules.erosion, title="overlaps")
    for bounds, (keys, values, on_faces) in zip(blocks, results, strict=True):
        total.add(keys, values)
        faces += on_faces
        pairs_in_blocks.append((bounds, _digest(keys[:, 0], keys[:, 1])))
    keys, values = total.rows()
    segments, bodies = keys[:, 0], keys[:, 1]
    for which, ids in (("automatic", segments), ("proofread", bodies)):
        if not ids.any():
            raise ConnectomeBenchError(
                f"the {which} segmentation is empty (all background, 0); check the path and the box"
            )
    both = (segments != 0) & (bodies != 0)
    if not both.any():
        raise ConnectomeBenchError(
            "no voxel has both a segment and a body; check that both segmentations show the same place"
        )
    ids, inverse = np.unique(segments, return_inverse=True)
    sizes = np.bincount(inverse, weights=values[:, 0]).astype(np.int64)
    in_body = bodies != 0
    _, body = np.unique(bodies[in_body], return_inverse=True)
    body_sizes, body_cores = (np.bincount(body, values[in_body, c]).astype(np.int64) for c in (0, 1))
    return OverlapCount(
        table=Overlaps(segments[both], bodies[both], values[both, 0], values[both, 1]),
        segment_sizes={int(i): int(n) for i, n in zip(ids, sizes, strict=True) if i},
        bodies=int(np.count_nonzero(np.unique(bodies))),
        pairs_in_blocks=pairs_in_blocks,
        body_sizes=body_sizes,
        body_cores=body_cores,
        agreement=agreement_of(segments, bodies, values[:, 0]),
        suspects=background_suspects({"automatic": segments, "proofread": bodies}, values[:, 0], faces),
    )


def _core_of(block: LabelBlock, rules: CorrectionConfig, scratch: Scratch) -> NDArray[np.uint8]:
    mask, spare = (scratch.array(name, block.proofread.shape, np.uint8) for name in ("mask", "spare"))
    return core_mask(block.proofread, block.ordered(rules.erosion), mask, spare)


def error_parts(overlaps: OverlapCount, rules: CorrectionConfig) -> ErrorParts:
    """Choose the pairs that are real and part of an error."""
    table = overlaps.table
    real = table.core_voxels >= rules.min_core_voxels
    segments, bodies = table.segments[real], table.bodies[real]
    fused, broken = _repeated(segments), _repeated(bodies)
    wrong = fused | broken
    return ErrorParts(segments[wrong], bodies[wrong], fused[wrong], broken[wrong])


def _repeated(ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return counts[inverse] > 1


def find_interfaces(walk: BlockWalk, rules: CorrectionConfig, overlaps: OverlapCount, parts: ErrorParts) -> Interfaces:
    """Find where the parts of one error touch, in a second walk over the blocks that hold such parts."""
    contact_grid = CellGrid(walk.automatic.shape, rules.patch_cell_vx)
    core_grid = CellGrid(walk.automatic.shape, rules.core_cell_vx)
    _, segment_numbers = np.unique(parts.segments, return_inverse=True)
    _, body_numbers = np.unique(parts.bodies, return_inverse=True)
    part_segments = np.append(-1, segment_numbers).astype(np.int64)
    part_bodies = np.append(-1, body_numbers).astype(np.int64)
    lookup = _code_lookup(parts, segment_numbers, body_numbers)
    scratch = Scratch()

    def scan(block: LabelBlock) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
        codes = scratch.array("codes", block.automatic.shape, np.int32)
        pair_codes(block.automatic, block.proofread, *lookup, codes)
        core = _core_of(block, rules, scratch)
        cores = core_table(
            codes, core, block.lower, block.upper, block.origin, core_grid.edge, block.ordered(core_grid.strides)
        )
        contacts = contact_rows(block, codes, part_segments, part_bodies, rules.max_gap_vx, contact_grid)
        return *contacts, *used_rows(*cores)

    digests = _digest(parts.segments, parts.bodies)
    blocks = [bounds for bounds, pairs in overlaps.pairs_in_blocks if np.isin(pairs, digests).any()]
    below = [max(rounds, rules.max_gap_vx + 1) for rounds in rules.erosion]
    contacts, cores = RowSum(3, 5, minimum_of_last=True), RowSum(2, 1)
    for contact_keys, contact_values, core_keys, core_values in walk.map(
        scan, blocks, halo_below=below, halo_above=rules.erosion, title="interfaces"
    ):
        contacts.add(contact_keys, contact_values)
        cores.add(core_keys, core_values)

    keys, values, core = _substantial_contacts(*contacts.rows(), contact_grid, *cores.rows(), core_grid, rules)
    patches = group_patches(keys, values, contact_grid)
    patch_core = np.zeros(len(patches.areas), np.int64)
    cell_patch = patch_numbers(keys, contact_grid)
    np.maximum.at(patch_core, cell_patch, core)
    kept, rejected = choose_patches(
        patches,
        patch_core,
        min_core=rules.min_local_fraction * rules.min_core_voxels,
        min_distance_vx=rules.local_radius_vx,
    )
    as_rows = Patches(patches.pairs.astype(np.int64) - 1, patches.areas, patches.points_vx)
    error_of = _nearest_kept(patches, kept)[cell_patch]
    return Interfaces(as_rows, kept, rejected, contact_points(keys, values, contact_grid), error_of)


def _nearest_kept(patches: Patches, kept: list[list[int]]) -> NDArray[np.int64]:
    """For each patch the kept one of its pair that is nearest (largest distance along an axis), or itself."""
    nearest = np.arange(len(patches.areas))
    starts = patches.pair_starts
    for rows in kept:
        pair = int(np.searchsorted(starts, rows[0], side="right")) - 1
        own = np.arange(starts[pair], starts[pair + 1])
        apart = np.abs(patches.points_vx[own][:, None] - patches.points_vx[rows][None]).max(axis=2)
        nearest[own] = np.asarray(rows)[np.argmin(apart, axis=1)]
    return nearest


def _substantial_contacts(
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    contact_grid: CellGrid,
    core_keys: NDArray[np.uint64],
    core_values: NDArray[np.int64],
    core_grid: CellGrid,
    rules: CorrectionConfig,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Select contacts in large enough patches with both parts substantial nearby; add the smaller core there.

    The test is made cell by cell, not patch by patch: where two bodies run side by side, one patch of boundary slop may
    stretch along both, and only the stretch where they are really fused is the error.
    """
    patch = patch_numbers(keys, contact_grid)
    large = np.bincount(patch, weights=values[:, 0])[patch] >= rules.min_contact_faces
    keys, values = keys[large], values[large]
    points = contact_points(keys, values, contact_grid)
    first, second = (
        near_core(keys[:, side], points, rules.local_radius_vx, core_keys, core_values, core_grid) for side in (0, 1)
    )
    core = np.minimum(first, second)
    substantial = substantial_cells(keys, core, rules.patch_fraction)
    return keys[substantial], values[substantial], core[substantial]


def _code_lookup(
    parts: ErrorParts, segment_numbers: NDArray[np.integer], body_numbers: NDArray[np.integer]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Make the table (segment, body) -> code; background inside broken bodies and fused segments is a gap."""
    broken, at_body = np.unique(parts.bodies[parts.broken], return_index=True)
    fused, at_segment = np.unique(parts.segments[parts.fused], return_index=True)
    first = np.concatenate([parts.segments, np.zeros_like(broken), fused])
    second = np.concatenate([parts.bodies, broken, np.zeros_like(fused)])
    codes = np.concatenate(
        [
            np.arange(1, len(parts.segments) + 1),
            -1 - 2 * body_numbers[parts.broken][at_body],
            -2 - 2 * segment_numbers[parts.fused][at_segment],
        ]
    )
    return fill_table(first, second, codes.astype(np.int64))


def contact_rows(
    block: LabelBlock,
    codes: NDArray[np.int32],
    part_segments: NDArray[np.int64],
    part_bodies: NDArray[np.int64],
    max_gap_vx: int,
    grid: CellGrid,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the contacts of one block as rows for :func:`group_patches`, in no particular order."""
    keys, values = used_rows(
        *contact_table(
            codes,
            part_segments,
            part_bodies,
            max_gap_vx,
            block.lower,
            block.upper,
            block.origin,
            grid.edge,
            block.ordered(grid.strides),
            block.ordered(grid.point_strides),
        )
    )
    in_xyz = values.copy()
    for position, axis in enumerate(block.axes):
        in_xyz[:, 1 + axis] = values[:, 1 + position]
    return np.stack([keys[:, 0] >> np.uint64(32), keys[:, 0] & _LOW_HALF, keys[:, 1]], axis=1), in_xyz


def assemble(
    overlaps: OverlapCount, parts: ErrorParts, interfaces: Interfaces, walk: BlockWalk, rules: CorrectionConfig
) -> Corrections:
    """Turn localised interfaces into corrections, leave out tangles, and count everything."""
    patches = interfaces.patches
    offset, voxel = walk.automatic.offset_vx, walk.automatic.voxel_size_nm
    places = points_nm(patches.points_vx, offset, voxel)
    cells = _by_patch(interfaces, points_nm(interfaces.cells_vx, offset, voxel))
    merges: list[MergeCorrection] = []
    splits: list[SplitCorrection] = []
    unresolved = list(interfaces.rejected)
    tangles = 0
    for rows in interfaces.kept:
        one, two = patches.pairs[rows[0]].tolist()
        segments = int(parts.segments[one]), int(parts.segments[two])
        bodies = int(parts.bodies[one]), int(parts.bodies[two])
        merging = bodies[0] == bodies[1]
        if merging and (parts.fused[one] or parts.fused[two]):
            tangles += len(rows)
            unresolved.extend(rows)
            continue
        for rank, row in enumerate(rows):
            x, y, z = places[row].tolist()
            area = float(patches.areas[row])
            if merging:
                name = f"merge-{segments[0]}-{segments[1]}-{rank}"
                merges.append(MergeCorrection(name, segments, bodies[0], (x, y, z), area, cells[row]))
            else:
                name = f"split-{segments[0]}-{bodies[0]}-{bodies[1]}-{rank}"
                splits.append(SplitCorrection(name, segments[0], bodies, (x, y, z), area, cells[row]))
    body_of, ambiguous = _bodies_of_segments(overlaps, rules)
    fused = _groups(parts.segments[parts.fused], parts.bodies[parts.fused])
    fragments = _groups(parts.bodies[parts.broken], parts.segments[parts.broken])
    apart_merges, apart_splits = _not_localised(parts, interfaces)
    counts = {
        "segments": len(overlaps.segment_sizes),
        "bodies": overlaps.bodies,
        "merge_errors": len(fused),
        "merge_error_pairs": sum(len(bodies) * (len(bodies) - 1) // 2 for bodies in fused.values()),
        "split_error_bodies": len(fragments),
        "extra_fragments": sum(len(segments) - 1 for segments in fragments.values()),
        "merges": len(merges),
        "splits": len(splits),
        "excluded_tangles": tangles,
        "not_localised": apart_merges + apart_splits,
        "not_localised_merges": apart_merges,
        "not_localised_splits": apart_splits,
        "ambiguous_segments": ambiguous,
        "bodies_without_core": int((overlaps.body_cores == 0).sum()),
        "segments_without_core": _without_core(overlaps.table),
    }
    return Corrections(
        merges=tuple(sorted(merges, key=lambda merge: merge.edit_id)),
        splits=tuple(sorted(splits, key=lambda split: split.edit_id)),
        overlaps=overlaps.table,
        body_of=body_of,
        fused=fused,
        unresolved_nm=np.array([p for row in sorted(unresolved) for p in cells[row]], np.float32).reshape(-1, 3),
        counts=counts,
        warnings=doubts(overlaps, walk, rules),
    )


def doubts(overlaps: OverlapCount, walk: BlockWalk, rules: CorrectionConfig) -> tuple[str, ...]:
    """Word what makes the corrections doubtful: background that counts as an object, bodies too thin, wrong axes."""
    found = [*overlaps.suspects]
    thin = (overlaps.body_cores < rules.min_core_voxels) & (overlaps.body_sizes >= rules.min_core_voxels)
    share = overlaps.body_sizes[thin].sum() / overlaps.body_sizes.sum()
    if share >= _THIN_SHARE:
        found.append(
            f"{int(thin.sum())} of {overlaps.bodies} bodies, {share:.0%} of the voxels in bodies, have fewer than "
            f"min_core_voxels ({rules.min_core_voxels}) voxels left after erosion by erosion_vx ({rules.erosion_vx}): "
            "errors in them are not found; for thin neurites or thick slices set smaller ones, for example "
            "`corrections: {erosion_vx: [1, 1, 0], min_core_voxels: 200}`"
        )
    apart = disagreement(overlaps.agreement, walk.automatic, walk.proofread)
    if apart is not None:
        found.append(apart)
    return tuple(found)


def _without_core(table: Overlaps) -> int:
    """Count segments in bodies that hold no core voxel of any."""
    _, segment = np.unique(table.segments, return_inverse=True)
    return int((np.bincount(segment, table.core_voxels) == 0).sum())


def _by_patch(interfaces: Interfaces, cells_nm: NDArray[np.float64]) -> dict[int, tuple[Point, ...]]:
    """Row of a patch -> points of its cells, nm."""
    found: dict[int, list[Point]] = {}
    for row, (x, y, z) in zip(interfaces.cell_patch.tolist(), cells_nm.tolist(), strict=True):
        found.setdefault(row, []).append((x, y, z))
    return {row: tuple(points) for row, points in found.items()}


def _groups(keys: NDArray[np.uint64], members: NDArray[np.uint64]) -> dict[int, tuple[int, ...]]:
    groups: dict[int, list[int]] = {}
    for key, member in sorted(zip(keys.tolist(), members.tolist(), strict=True)):
        groups.setdefault(key, []).append(member)
    return {key: tuple(group) for key, group in groups.items()}


def _not_localised(parts: ErrorParts, interfaces: Interfaces) -> tuple[int, int]:
    """Count parts that no localised interface joins, directly or through others, to the rest of their body (segment).

    Returns
    -------
    merges, splits
        For bodies in several segments, and for segments over several bodies.
    """
    pairs = interfaces.patches.pairs[[rows[0] for rows in interfaces.kept]].reshape(-1, 2)
    within_body = parts.bodies[pairs[:, 0]] == parts.bodies[pairs[:, 1]]
    apart = []
    for joined, members, owners in (
        (pairs[within_body], parts.broken, parts.bodies),
        (pairs[~within_body], parts.fused, parts.segments),
    ):
        size = len(owners)
        graph = coo_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), shape=(size, size))
        labels = connected_components(graph, directed=False)[1] if size else np.zeros(0, np.int32)
        apart.append(len(np.unique(labels[members])) - len(np.unique(owners[members])))
    return apart[0], apart[1]


def _bodies_of_segments(overlaps: OverlapCount, rules: CorrectionConfig) -> tuple[dict[int, int], int]:
    """Return segment -> body by the rules, and the number of ambiguous segments (:class:`CorrectionConfig`)."""
    table = overlaps.table
    starts = np.flatnonzero(np.append(True, table.segments[1:] != table.segments[:-1]))
    owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(table.segments))))
    real = np.bincount(owner, weights=table.core_voxels >= rules.min_core_voxels)

    by_core = np.lexsort((-table.core_voxels, owner))[starts]
    by_voxels = np.lexsort((-table.voxels, owner))[starts]
    body_row = np.where(real == 1, by_core, by_voxels)
    others = table.core_voxels.copy()
    others[body_row] = 0
    second = np.maximum.reduceat(others, starts)

    sizes = np.array([overlaps.segment_sizes[i] for i in table.segments[starts].tolist()])
    owned = (real == 1) | ((real == 0) & (table.voxels[body_row] >= rules.majority_share * sizes))
    ambiguous = (real < 2) & (second >= max(1.0, rules.ambiguous_fraction * rules.min_core_voxels))
    chosen = body_row[owned & ~ambiguous]
    return dict(zip(table.segments[chosen].tolist(), table.bodies[chosen].tolist(), strict=True)), int(ambiguous.sum())
