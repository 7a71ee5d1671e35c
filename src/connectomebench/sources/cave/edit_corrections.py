"""Derive corrections from surveys: clean segments, fused segments, and what each edit corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import (
    Contacts,
    Corrections,
    MergeCorrection,
    Overlaps,
    Skipped,
    SplitCorrection,
    TakenBackMerge,
)
from connectomebench.core.site import Point
from connectomebench.sources.cave.history import JudgedOperation
from connectomebench.sources.cave.survey import Survey

_AMBIGUOUS = 0.2  # below this share of `min_body_voxels`, voxels of a second body do not matter


def merge_overlaps(surveys: Iterable[Survey]) -> NDArray[np.uint64]:
    """Join the overlaps of all surveys; where cubes overlap, keep the largest count.

    Returns
    -------
    NDArray[np.uint64]
        Shape (n, 3): segment, body, voxels; sorted.
    """
    rows = [s.overlaps for s in surveys]
    table = np.concatenate(rows) if rows else np.zeros((0, 3), np.uint64)
    order = np.lexsort((table[:, 2], table[:, 1], table[:, 0]))
    table = table[order]
    last = np.ones(len(table), np.bool_)
    last[:-1] = (table[1:, :2] != table[:-1, :2]).any(axis=1)
    return table[last]


def classify(overlaps: NDArray[np.uint64], min_body_voxels: int) -> tuple[dict[int, int], dict[int, tuple[int, ...]]]:
    """Separate clean segments from fused ones.

    Parameters
    ----------
    overlaps
        From :func:`merge_overlaps`.
    min_body_voxels
        See :class:`connectomebench.sources.cave.cave_config.SurveyConfig`.

    Returns
    -------
    body_of
        Clean segment -> its body. Segments smaller than ``min_body_voxels`` belong to their largest body if the rest
        does not matter.
    fused
        Fused segment -> its bodies. A segment that is neither clean nor fused is in neither.
    """
    body_of: dict[int, int] = {}
    fused: dict[int, tuple[int, ...]] = {}
    segments, starts = np.unique(overlaps[:, 0], return_index=True)
    for segment, rows in zip(segments.tolist(), np.split(overlaps[:, 1:], starts)[1:], strict=True):
        bodies, voxels = rows[:, 0], rows[:, 1].astype(np.int64)
        real = bodies[(voxels >= min_body_voxels) & (bodies != 0)].tolist()
        largest = int(np.argmax(voxels))
        rest = np.delete(voxels, largest).max(initial=0)
        if len(real) > 1:
            fused[segment] = tuple(sorted(real))
        elif bodies[largest] != 0 and rest < min(_AMBIGUOUS * min_body_voxels, voxels[largest]):
            body_of[segment] = int(bodies[largest])
    return body_of, fused


def find_corrections(
    judged: Sequence[JudgedOperation],
    surveys: Mapping[int, Survey],
    complete: frozenset[int],
    min_body_voxels: int,
    counts: Counter[str],
    skipped: Sequence[Skipped],
) -> Corrections:
    """Build the corrections of a dataset.

    A merge is left out where a segment is itself fused (a tangle), a split where the segment does not hold both bodies
    there. Their locations, and those of edits that cannot be surveyed, are kept as unresolved, so that no control
    is made there.

    Parameters
    ----------
    judged
        Edits, sorted by id.
    surveys
        Operation -> its survey.
    complete
        Proofread bodies. Edits of other segments in the same log are left out.
    min_body_voxels
        See :func:`classify`.
    counts
        Counts so far; new ones are added.
    skipped
        Locations whose data are unavailable.
    """
    overlaps = merge_overlaps(surveys.values())
    body_of, fused = classify(overlaps, min_body_voxels)
    merges: list[MergeCorrection] = []
    splits: list[SplitCorrection] = []
    unresolved: list[Point] = []
    taken_back: list[TakenBackMerge] = []
    for j in judged:
        place, found = j.operation.place_nm, surveys.get(j.operation.operation_id)
        patch = _patch(j, found)
        where = [place, *patch]
        counts[f"{j.operation.kind} operations, {'standing' if j.outcome == 'correction' else 'taken back'}"] += 1
        if j.outcome == "inverted":
            if j.operation.kind == "merge" and found is not None:
                taken_back.append(TakenBackMerge(j.operation.edit_id, found.sides, (place, *patch)))
            continue
        if found is None:
            unresolved += where
        elif not complete.intersection(j.bodies):
            counts["edits of segments that are not proofread"] += 1
            unresolved += where
        elif j.operation.kind == "merge":
            if any(s in fused or body_of.get(s) != j.bodies[0] for s in found.sides):
                counts["excluded_tangles"] += 1
                unresolved += where
                continue
            a, b = found.sides
            area = _area(found.contacts, a, b)
            merges.append(MergeCorrection(j.operation.edit_id, (a, b), j.bodies[0], place, area, patch))
        else:
            segment = found.sides[0]
            if not set(j.bodies) <= set(fused.get(segment, ())):
                counts["splits of a piece too small to count"] += 1
                unresolved += where
                continue
            splits.append(SplitCorrection(j.operation.edit_id, segment, j.bodies, place, 0.0, patch))
    counts["merges"], counts["splits"] = len(merges), len(splits)
    return Corrections(
        merges=tuple(merges),
        splits=tuple(splits),
        overlaps=Overlaps(
            overlaps[:, 0], overlaps[:, 1], overlaps[:, 2].astype(np.int64), overlaps[:, 2].astype(np.int64)
        ),
        body_of=body_of,
        fused=fused,
        unresolved_nm=np.asarray(unresolved, np.float32).reshape(-1, 3),
        counts={name: n for name, n in sorted(counts.items()) if n},
        complete=complete,
        skipped=tuple(skipped),
        times={j.operation.edit_id: j.operation.time for j in judged},
        taken_back=tuple(taken_back),
    )


def _patch(judged: JudgedOperation, survey: Survey | None) -> tuple[Point, ...]:
    """Points of the interface of an edit: those that the proofreader set, and what the survey saw of it."""
    seen = [] if survey is None else [(float(x), float(y), float(z)) for x, y, z in survey.interface_nm.tolist()]
    return (*judged.operation.sources_nm, *judged.operation.sinks_nm, *seen)


def _area(contacts: Contacts, a: int, b: int) -> float:
    pair = np.sort(np.asarray([a, b], np.uint64))
    return float(contacts.areas[(np.sort(contacts.segments, axis=1) == pair).all(axis=1)].sum())
