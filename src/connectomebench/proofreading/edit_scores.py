"""Right and wrong edits, and the steps of the models against those of the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from connectomebench.proofreading.edit_log import Edit, apply_edit
from connectomebench.proofreading.judged import Judged
from connectomebench.proofreading.loop import LoopConfig, LoopResult, best_of_candidates
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.proposals import Candidate
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.proofreading.truth_table import TruthTable, part_of

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def edit_gains(graph: SegmentationGraph, edits: Sequence[Edit], table: TruthTable) -> list[float]:
    """Compute by how many bits each edit lowers the variation of information at its moment; one that does is right.

    Parameters
    ----------
    graph
        Before the first of them.
    edits
        Applied edits, in order.
    table
        The truth.
    """
    state = graph.copy()
    values = [sum(table.variation(state.objects))]
    for edit in edits:
        apply_edit(state, edit)
        values.append(sum(table.variation(state.objects)))
    return [before - after for before, after in pairwise(values)]


def edits_by_part(place: Place, edits: Sequence[Edit], gains: Sequence[float]) -> list[dict[str, Any]]:
    """Count right and wrong edits by the part of the place that they lie in, for intervals.

    Returns
    -------
    list
        ``part``, ``operation``, ``corrected`` and ``added``, for each part and operation with an edit.
    """
    points = np.array([edit.location_nm for edit in edits], np.float64).reshape(-1, 3)
    at = np.floor(points / place.voxel_size_nm).astype(np.int64) - place.offset_vx
    parts = part_of(tuple(np.clip(at, 0, np.subtract(place.shape, 1)).T), place.shape)
    counts: Counter[tuple[int, str, bool]] = Counter(
        (part, edit.operation, gain > 0) for part, edit, gain in zip(parts.tolist(), edits, gains, strict=True)
    )
    return [
        {
            "part": part,
            "operation": operation,
            "corrected": counts[part, operation, True],
            "added": counts[part, operation, False],
        }
        for part, operation in sorted({(part, operation) for part, operation, _ in counts})
    ]


def score_edits(edits: Sequence[Edit], gains: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Count right edits (errors corrected) and wrong ones (errors added), by operation.

    Parameters
    ----------
    edits
        Applied edits, in order.
    gains
        Their :func:`edit_gains`.
    """
    counts = {name: {"corrected": 0, "added": 0, "gain_bits": 0.0} for name in ("merge", "split")}
    for edit, gain in zip(edits, gains, strict=True):
        counts[edit.operation]["corrected" if gain > 0 else "added"] += 1
        counts[edit.operation]["gain_bits"] += gain
    for own in counts.values():
        made = own["corrected"] + own["added"]
        own["precision"] = own["corrected"] / made if made else None
    return counts


def score_steps(result: LoopResult, oracle: LoopResult, rules: LoopConfig) -> dict[str, Any]:
    """Score identification and correction of the first round, whose candidates models and oracle share.

    Parameters
    ----------
    result, oracle
        Loops of the models, and of the oracle.
    rules
        When a correction was applied.

    Returns
    -------
    dict
        ``identification`` by error (``ends``: split errors, ``merge_places``: merge errors) with recall, precision and
        false positive rate at P(error) >= 0.5; ``correction`` with counts of right, wrong, none when there should be
        one and none correctly, of the candidates that passed identification; ``thresholds``: precision and number of
        edits at each confidence, a merge seen from both of its sides once.
    """
    right = {one.proposal.edit_id: (one.correction.probability or 0.0) > 0.5 for one in oracle.rounds[0].judged}
    errors = {_where(candidate): False for candidate, _ in oracle.rounds[0].candidates}
    for one in oracle.rounds[0].judged:
        key = _where(one.proposal.candidate)
        errors[key] = errors.get(key, False) or right[one.proposal.edit_id]
    identification = {}
    for name, is_end in (("ends", True), ("merge_places", False)):
        identification[name] = _rates(
            [
                (errors[_where(candidate)], answer.probability >= 0.5)
                for candidate, answer in result.rounds[0].candidates
                if answer.probability is not None
                and (candidate.kind == "end") == is_end
                and _where(candidate) in errors
            ]
        )
    counts = {"right": 0, "wrong": 0, "none_when_should": 0, "none_correct": 0}
    by_candidate: dict[Any, list[Judged]] = {}
    for one in result.rounds[0].judged:
        if one.waits:
            continue  # no model decided it
        by_candidate.setdefault(_where(one.proposal.candidate), []).append(one)
    for key, own in by_candidate.items():
        best = max(own, key=lambda one: one.confidence)
        if rules.accepts(best.proposal.operation, best.confidence):
            counts["right" if right.get(best.proposal.edit_id) else "wrong"] += 1
        else:
            counts["none_when_should" if errors.get(key) else "none_correct"] += 1
    distinct = best_of_candidates(one for own in by_candidate.values() for one in own).values()
    thresholds = []
    for least in THRESHOLDS:
        row: dict[str, float | int | None] = {"min_confidence": least}
        for operation, name in (("", ""), ("merge", "merge_"), ("split", "split_")):
            chosen = {
                one.proposal.edit_id
                for one in distinct
                if one.confidence >= least and operation in ("", one.proposal.operation)
            }
            good = sum(bool(right.get(edit)) for edit in chosen)
            row |= {f"{name}edits": len(chosen), f"{name}precision": good / len(chosen) if chosen else None}
        thresholds.append(row)
    return {"identification": identification, "correction": counts, "thresholds": thresholds}


def _where(candidate: Candidate) -> tuple[Any, ...]:
    """Name a candidate whatever task asks about it; an end and a place of a merge error may share a node."""
    return (candidate.kind == "end", candidate.site.segment_ids, candidate.site.location_nm)


def _rates(pairs: Sequence[tuple[bool, bool]]) -> dict[str, float | int | None]:
    errors, said = sum(e for e, _ in pairs), sum(s for _, s in pairs)
    both = sum(e and s for e, s in pairs)
    clean = len(pairs) - errors
    return {
        "asked": len(pairs),
        "errors": errors,
        "recall": both / errors if errors else None,
        "precision": both / said if said else None,
        "false_positive_rate": (said - both) / clean if clean else None,
    }
