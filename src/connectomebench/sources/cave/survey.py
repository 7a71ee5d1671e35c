"""Survey the surroundings of an edit just before it: neighbours, sizes, skeletons, and final bodies.

One cube of supervoxels is read per edit, and its supervoxels are looked up at two times: just before the edit, for the
segments that the proofreader saw, and in the final state, for the bodies. Everything else follows from these three
labellings without further requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, CorrectionConfig
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.site import Point
from connectomebench.core.volume import IntPoint, Volume, voxel_box
from connectomebench.sources.cave.cave_config import SurveyConfig
from connectomebench.sources.cave.cloud_volumes import InMemoryLayer, distinct
from connectomebench.sources.cave.history import JudgedOperation
from connectomebench.sources.label_shapes import SkeletonConfig, int_point, read_mask, skeletonize

Lookup = Callable[[NDArray[np.uint64], datetime], NDArray[np.uint64]]


@dataclass(frozen=True)
class Survey:
    """The surroundings of one edit.

    Attributes
    ----------
    operation_id
        The edit.
    center_nm
        Middle of the cube, nm: the place of the edit.
    supervoxels, before, final
        uint64, shape (n,): supervoxels of the cube, sorted, their segments just before the edit and their bodies.
    sides
        Segments just before the edit under the source and the sink points: two for a merge, twice the same for a split.
    segments
        uint64, shape (s,): edited segments and their neighbours; other segments are not described.
    contacts
        Patches of contact between an edited segment and another one, inside the inner part of the cube.
    overlaps
        uint64, shape (k, 3): segment, body, voxels in the cube, for ``segments``.
    skeletons
        Of ``segments``, inside the cube; those too small are absent.
    interface_nm
        float32, shape (i, 3): points all over the interface of the edit, inside the cube, nm: of the two segments of a
        merge, or of the two bodies inside the segment of a split.
    """

    operation_id: int
    center_nm: Point
    supervoxels: NDArray[np.uint64]
    before: NDArray[np.uint64]
    final: NDArray[np.uint64]
    sides: tuple[int, int]
    segments: NDArray[np.uint64]
    contacts: Contacts
    overlaps: NDArray[np.uint64]
    skeletons: dict[int, Skeleton]
    interface_nm: NDArray[np.float32]

    def light(self) -> Survey:
        """Return a copy without supervoxels and skeletons, so that the surveys of a whole brain fit in memory."""
        none = np.zeros(0, np.uint64)
        return replace(self, supervoxels=none, before=none, final=none, skeletons={})


def supervoxels_around(judged: JudgedOperation, supervoxels: Volume, rules: SurveyConfig) -> NDArray[np.uint64]:
    """Return the supervoxels in the cube around an edit and under its points; uint64, sorted."""
    box = voxel_box(supervoxels, Box.around(judged.operation.place_nm, rules.cutout_nm))
    ids, _ = distinct(supervoxels.read(*box))
    return np.union1d(
        ids.astype(np.uint64), np.asarray((*judged.operation.sources, *judged.operation.sinks), np.uint64)
    )


def survey(
    judged: JudgedOperation,
    supervoxels: Volume,
    roots: Lookup,
    until: datetime,
    rules: SurveyConfig,
    skeleton_rules: SkeletonConfig,
) -> Survey | str:
    """Survey an edit.

    Parameters
    ----------
    judged
        The edit.
    supervoxels
        Labels of layer 1.
    roots
        Root of each supervoxel at a time.
    until
        Time of the final state, UTC.
    rules, skeleton_rules
        Cube, thresholds and skeletons.

    Returns
    -------
    Survey or str
        Or the reason why there is none.

    Raises
    ------
    SiteUnavailable
        If the data are unavailable.
    """
    operation = judged.operation
    center = operation.place_nm
    lower, upper = voxel_box(supervoxels, Box.around(center, rules.cutout_nm))
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        return "the edit lies outside the volume"
    labels = supervoxels.read(lower, upper)
    ids, codes = distinct(labels.astype(np.uint64, copy=False))
    seeds = np.asarray((*operation.sources, *operation.sinks), np.uint64)
    if not all(np.isin(np.asarray(side, np.uint64), ids).any() for side in (operation.sources, operation.sinks)):
        # too small at this level, or chunks are missing: cloud storage answers both with background
        return "the edited supervoxels are not in the labels there"
    asked = np.union1d(ids, seeds)
    before, final = (_looked_up(asked, roots, when) for when in (operation.before, until))
    at = np.searchsorted(asked, seeds)
    sides = [_most(before[at[: len(operation.sources)]]), _most(before[at[len(operation.sources) :]])]
    if 0 in sides:
        return "the edited segments are not known just before the edit"
    if (sides[0] == sides[1]) != (operation.kind == "split"):
        return "the state before the edit does not fit it"
    rows = np.searchsorted(asked, ids)
    segments, bodies = before[rows][codes], final[rows][codes]
    offset = int_point(np.add(supervoxels.offset_vx, lower))
    voxel = supervoxels.voxel_size_nm
    contacts = _contacts(segments, bodies, offset, voxel, sides, center, rules)
    kept = np.unique(np.concatenate([contacts.segments.ravel(), np.asarray(sides, np.uint64)]))
    overlaps = _overlaps(before[rows], final[rows], np.bincount(codes.ravel(), minlength=len(ids)), kept)
    skeletons = _skeletons(segments, kept, offset, voxel, skeleton_rules)
    return Survey(
        operation.operation_id,
        center,
        asked,
        before,
        final,
        (sides[0], sides[1]),
        kept,
        contacts,
        overlaps,
        skeletons,
        _interface(segments, bodies, offset, voxel, judged, sides),
    )


def _looked_up(ids: NDArray[np.uint64], roots: Lookup, when: datetime) -> NDArray[np.uint64]:
    found = roots(ids, when).copy()
    found[ids == 0] = 0
    return found


def _most(roots: NDArray[np.uint64]) -> int:
    ids, counts = np.unique(roots, return_counts=True)
    return int(ids[np.argmax(counts)])


def _contacts(
    segments: NDArray[np.uint64],
    bodies: NDArray[np.uint64],
    offset: IntPoint,
    voxel: tuple[float, float, float],
    sides: Sequence[int],
    center: Point,
    rules: SurveyConfig,
) -> Contacts:
    """Find contacts of the edited segments: with each other, and with the neighbours that touch them most."""
    from connectomebench.core.errors import ConnectomeBenchError
    from connectomebench.corrections.contacts import find_contacts

    scan = CorrectionConfig(min_contact_faces=rules.min_contact_faces, max_gap_vx=1)
    try:
        found = find_contacts(
            InMemoryLayer(segments, voxel, offset), InMemoryLayer(bodies, voxel, offset), scan, threads=1
        )
    except ConnectomeBenchError:  # nothing proofread in the whole cube
        return Contacts(np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    edited = np.isin(found.segments, np.asarray(sides, np.uint64))
    # a view round the contact must lie inside the cube
    inner = Box.around(center, rules.inner_nm).contains(found.points_nm)
    rows = np.flatnonzero(edited.any(axis=1) & inner)
    others = np.where(edited[rows, 0], found.segments[rows, 1], found.segments[rows, 0])
    strangers = ~edited[rows].all(axis=1)
    ids, inverse = np.unique(others[strangers], return_inverse=True)
    areas = np.bincount(inverse, weights=found.areas[rows[strangers]], minlength=len(ids))
    nearest = ids[np.argsort(-areas, kind="stable")[: rules.neighbours]]
    rows = rows[~strangers | np.isin(others, nearest)]
    return Contacts(found.segments[rows], found.points_nm[rows], found.areas[rows])


def _interface(
    segments: NDArray[np.uint64],
    bodies: NDArray[np.uint64],
    offset: IntPoint,
    voxel: tuple[float, float, float],
    judged: JudgedOperation,
    sides: Sequence[int],
) -> NDArray[np.float32]:
    """Find points all over the interface that an edit is about; see :class:`Survey`."""
    from connectomebench.corrections.contacts import interface_points

    split = sides[0] == sides[1]
    a, b = judged.bodies if split else (sides[0], sides[1])
    inside = segments == np.uint64(sides[0])
    parts = np.where(inside, bodies, np.uint64(0)) if split else segments
    mask = np.isin(parts, np.asarray([a, b], np.uint64))
    if a == b or not (parts == np.uint64(a)).any() or not (parts == np.uint64(b)).any():
        return np.zeros((0, 3), np.float32)
    pair = InMemoryLayer(np.where(mask, parts, np.uint64(0)), voxel, offset)
    return interface_points(pair, (a, b), CorrectionConfig(max_gap_vx=1), threads=1)


def _overlaps(
    segments: NDArray[np.uint64], bodies: NDArray[np.uint64], voxels: NDArray[np.int64], kept: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Sum voxels by segment and body; arguments have one row a supervoxel."""
    inside = np.isin(segments, kept) & (segments != 0) & (voxels > 0)
    pairs, inverse = np.unique(np.stack([segments[inside], bodies[inside]], axis=1), axis=0, return_inverse=True)
    totals = np.bincount(inverse.ravel(), weights=voxels[inside], minlength=len(pairs))
    return np.column_stack([pairs, totals.astype(np.uint64)])


def _skeletons(
    segments: NDArray[np.uint64],
    kept: NDArray[np.uint64],
    offset: IntPoint,
    voxel: tuple[float, float, float],
    rules: SkeletonConfig,
) -> dict[int, Skeleton]:
    found = {}
    factor = np.asarray(rules.downsample)
    for segment in kept.tolist():
        mask = segments == np.uint64(segment)
        spans = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
        if not len(spans[0]):
            continue
        # a layer of background around the object, or kimimaro takes the faces of the crop for its inside
        low = np.maximum(np.asarray([s[0] for s in spans]) - factor, 0)
        high = np.minimum(np.asarray([s[-1] + 1 for s in spans]) + factor, mask.shape)
        crop = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        block = InMemoryLayer(crop.astype(np.uint64), voxel, offset)
        filled = read_mask(block, 1, (0, 0, 0), block.shape, rules.downsample)
        made = skeletonize(filled, (low + offset).tolist(), voxel, rules)
        if made is not None:
            found[segment] = made
    return found


def pack_surveys(surveys: Sequence[Survey]) -> dict[str, NDArray[Any]]:
    """Pack surveys into named arrays; the reverse of :func:`unpack_surveys`."""
    arrays: dict[str, NDArray[Any]] = {"count": np.asarray(len(surveys))}
    for i, s in enumerate(surveys):
        arrays |= {
            f"{i}.operation": np.asarray(s.operation_id),
            f"{i}.center": np.asarray(s.center_nm, np.float64),
            f"{i}.supervoxels": s.supervoxels,
            f"{i}.before": s.before,
            f"{i}.final": s.final,
            f"{i}.sides": np.asarray(s.sides, np.uint64),
            f"{i}.segments": s.segments,
            f"{i}.contact_segments": s.contacts.segments,
            f"{i}.contact_points": s.contacts.points_nm,
            f"{i}.contact_areas": s.contacts.areas,
            f"{i}.overlaps": s.overlaps,
            f"{i}.interface": s.interface_nm,
            f"{i}.skeleton_ids": np.asarray(list(s.skeletons), np.uint64),
            f"{i}.nodes": _joined([k.nodes_nm for k in s.skeletons.values()], (0, 3), np.float32),
            f"{i}.edges": _joined([k.edges for k in s.skeletons.values()], (0, 2), np.int32),
            f"{i}.radii": _joined([k.radii_nm for k in s.skeletons.values()], (0,), np.float32),
            f"{i}.lengths": np.asarray(
                [(len(k.nodes_nm), len(k.edges)) for k in s.skeletons.values()], np.int64
            ).reshape(-1, 2),
        }
    return arrays


def _joined(parts: list[NDArray[Any]], empty: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty, dtype)


def unpack_surveys(arrays: dict[str, NDArray[Any]]) -> list[Survey]:
    """Restore surveys from the arrays of :func:`pack_surveys`."""
    found = []
    for i in range(int(arrays["count"])):
        a = {name.partition(".")[2]: values for name, values in arrays.items() if name.startswith(f"{i}.")}
        skeletons: dict[int, Skeleton] = {}
        node = edge = 0
        for segment, (nodes, edges) in zip(a["skeleton_ids"].tolist(), a["lengths"].tolist(), strict=True):
            skeletons[segment] = Skeleton(
                a["nodes"][node : node + nodes], a["edges"][edge : edge + edges], a["radii"][node : node + nodes]
            )
            node, edge = node + nodes, edge + edges
        x, y, z = (float(c) for c in a["center"])
        source, sink = (int(s) for s in a["sides"])
        found.append(
            Survey(
                int(a["operation"]),
                (x, y, z),
                a["supervoxels"],
                a["before"],
                a["final"],
                (source, sink),
                a["segments"],
                Contacts(a["contact_segments"], a["contact_points"], a["contact_areas"]),
                a["overlaps"],
                skeletons,
                a["interface"],
            )
        )
    return found
