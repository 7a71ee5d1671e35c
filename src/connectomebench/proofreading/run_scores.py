"""Scores of a run where there is truth: before and after, against the oracle, and against baselines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.correction import Contacts
from connectomebench.execution.runner import Runner
from connectomebench.proofreading.ablation import ablate
from connectomebench.proofreading.deciders import ModelDecider, OracleDecider
from connectomebench.proofreading.edit_log import Edit
from connectomebench.proofreading.edit_scores import edit_gains, edits_by_part, score_edits, score_steps
from connectomebench.proofreading.effort import Curve, touching_pairs, value_against_effort
from connectomebench.proofreading.face_affinities import PairAffinities
from connectomebench.proofreading.finder import BlockFinder
from connectomebench.proofreading.intervals import variation_interval
from connectomebench.proofreading.loop import LoopConfig, LoopResult, best_of_candidates, run_loop
from connectomebench.proofreading.people_records import RatedRow, score_people
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.score_files import changed_state, write_overlaps, write_states
from connectomebench.proofreading.scores import Scorer
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.truth_table import TruthTable

_log = logging.getLogger(__name__)

BACKGROUND = (
    "Voxels without a body and voxels without an object are left out of VI and adapted Rand error. Expected run length "
    "counts background as a gap."
)
# the oracle is sure, so its threshold only separates right from wrong
_ORACLE = LoopConfig(min_confidence=0.5)


def score_run(
    place: Place,
    finder: BlockFinder,
    graph: SegmentationGraph,
    result: LoopResult,
    edits: Sequence[Edit],
    options: ProofreadConfig,
    trusted: Sequence[int],
    decider: ModelDecider,
    runner: Runner,
    out: Path,
    by_people: dict[str, Any] | None,
    affinities: PairAffinities | None,
    rated: Sequence[RatedRow] | None,
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Score before, after and oracle, the steps, and orders of decisions; write what intervals over runs need.

    Parameters
    ----------
    place, finder, runner
        The data, what finds corrections in them, and what runs the work on blocks.
    graph, result, edits
        Objects after the run, its rounds, and what was applied.
    options, trusted
        Of the run.
    decider
        The models, which the ablation asks.
    out
        Output folder, for the overlaps and states that intervals over runs need.
    by_people
        Decisions of people in the review; None where nobody is asked.
    affinities
        Of touching segments before any edit; None where they are not known.
    rated
        What people said of the same corrections elsewhere; None where there are no such records.

    Returns
    -------
    scores, curves
        What ``OUT/scores.json`` holds, and the curves of value against effort.
    """
    assert place.truth is not None, "there is no truth"
    _log.info("scoring against the truth")
    table = TruthTable.of_place(place, runner)
    start = SegmentationGraph(place.supervoxels, trusted, place.anchors)
    perfect = start.copy()
    oracle = run_loop(finder, perfect, OracleDecider(table, decider.end_task), _ORACLE)
    scorer = Scorer(place, table)
    before, after, best = (scorer.score(one.objects) for one in (start, graph, perfect))

    def variation(own: dict[str, float | int]) -> float:
        return own["vi_split"] + own["vi_merge"]

    gain = variation(before) - variation(best)
    contacts = place.blind(start.objects).contacts()
    summary, curves, states = value_against_effort(
        start, result, contacts, place, table, gain, options.rules.calibration, affinities
    )
    oracle_edits = sum(len(one.applied) for one in oracle.rounds)
    write_overlaps(table, out)
    write_states([changed_state("oracle", oracle_edits, start.objects, perfect.objects), *states], out)
    gains = edit_gains(start, edits, table)
    counts = score_edits(edits, gains)
    for operation, name in (("merge", "split_errors"), ("split", "merge_errors")):
        counts[operation]["missed"] = after[name]
    ablation = {}
    if options.ablation:
        ablation = ablate(place, finder, decider, options.rules, table, trusted, _log.info)
        for own in ablation.values():
            own["fall_bits"] = variation(after) - own["vi_split"] - own["vi_merge"]
            fall = variation(before) - own["vi_split"] - own["vi_merge"]
            own["share_of_oracle"] = fall / gain if gain > 0 else None
    merges = sum(edit.operation == "merge" for edit in edits)
    baselines = {
        "nothing": before,
        "largest_contact_first": scorer.score(_merge_largest(start, contacts, place, merges).objects),
        "random_order": scorer.score(_apply_random(start, result, len(edits)).objects),
    }
    scores = {
        "before": before,
        "after": after,
        "oracle": best,
        "share_of_oracle": (variation(before) - variation(after)) / gain if gain > 0 else None,
        "interval": variation_interval(table, start.objects, graph.objects),
        "edits": counts,
        "edits_by_part": edits_by_part(place, edits, gains),
        "oracle_edits": oracle_edits,
        "steps": score_steps(result, oracle, options.rules),
        "ablation": ablation,
        "effort": summary,
        "baselines": baselines,
        "somas": [name for _, name in sorted(place.anchors.items())],
        "blocks": {"number": len(place.spec.grid), "edge_vx": place.spec.grid.edge, "halo_vx": place.spec.grid.halo},
        "max_density_um3": options.max_density,
        "contacts": options.contacts,
        "background": BACKGROUND,
        "rules": asdict(options.rules),
    }
    if rated is not None:
        volumes = place.config.source.volumes
        assert volumes is not None
        names = {volumes.name, f"{volumes.name}/{options.segmentation}"}
        first = result.rounds[0].judged
        scores["people_records"] = score_people(rated, first, start, table, names, volumes.same_place_nm)
    if by_people is not None:
        own = [(edit, gain) for edit, gain in zip(edits, gains, strict=True) if edit.decided_by]
        scores["people"] = {
            **by_people,
            "edits": score_edits([edit for edit, _ in own], [gain for _, gain in own]),
            "decided_by": {edit.edit_id: edit.decided_by for edit, _ in own},
        }
    return scores, curves


def _merge_largest(start: SegmentationGraph, contacts: Contacts, place: Place, wanted: int) -> SegmentationGraph:
    """Merge as many touching pairs as the models did, the largest contacts first, without a look at them."""
    state, made = start.copy(), 0
    least = place.config.sites.min_segment_voxels
    pairs, areas = touching_pairs(contacts)
    for row in np.argsort(-areas, kind="stable").tolist():
        if made == wanted:
            break
        first, second = pairs[row].tolist()
        if min(start.voxels(first), start.voxels(second)) < least:
            continue
        try:
            state.merge(int(start.rows(first)[0]), int(start.rows(second)[0]), 2.0)
            made += 1
        except EditRefused:
            continue
    return state


def _apply_random(start: SegmentationGraph, result: LoopResult, wanted: int) -> SegmentationGraph:
    """Apply as many corrections as the models did, drawn at random from those judged first (seed 0)."""
    state, made = start.copy(), 0
    pool = list(best_of_candidates(result.rounds[0].judged).values())
    for i in np.random.default_rng(0).permutation(len(pool)).tolist():
        if made == wanted:
            break
        p = pool[i].proposal
        try:
            if p.operation == "merge":
                state.merge(p.sources[0], p.sinks[0], 2.0)
            else:
                state.split(p.sources, p.sinks, 2.0)
            made += 1
        except EditRefused:
            continue
    return state
