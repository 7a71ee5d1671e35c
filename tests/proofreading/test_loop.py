"""Conflicts of edits by hand, branches of a skeleton, and curves of decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import chain

from connectomebench.core.cut import ProposalConfig
from connectomebench.core.geometry import Skeleton
from connectomebench.core.site import Part, Site
from connectomebench.proofreading.calibration import Calibration
from connectomebench.proofreading.cut_search import find_branches
from connectomebench.proofreading.deciders import Judgement, edit_gain
from connectomebench.proofreading.decision_log import Entry
from connectomebench.proofreading.edit_scores import score_steps
from connectomebench.proofreading.effort import Curve, decide_rightly
from connectomebench.proofreading.judged import Judged
from connectomebench.proofreading.loop import LoopConfig, LoopResult, Round, apply_round, best_of_candidates
from connectomebench.proofreading.proposals import Candidate, Proposal
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.proofreading.truth_table import TruthTable, size_gain
from connectomebench.review.review_state import ReviewState
from connectomebench.sites.candidates import CandidateConfig


class Sure:
    """A decider that keeps to what it said."""

    def stands(self, proposal: Proposal, graph: SegmentationGraph) -> bool:
        return True


def judged(graph: SegmentationGraph, a: int, b: int, confidence: float, gain: float = 0.1, end: float = 0.0) -> Judged:
    first, second = int(graph.objects[a]), int(graph.objects[b])
    operation = "split" if first == second else "merge"
    segments = (first,) if first == second else (first, second)
    parts = tuple(Part(one, "base") for one in segments)
    at = (float(a), float(b), 0.0)
    site = Site(f"{operation}_action", at, 100, parts, "no", segments, (), "control")
    asked = Site(
        "endpoint_error_identification", (end or float(a), 0, 0), 100, parts[:1], "no", (first,), (), "control"
    )
    candidate = Candidate("end" if operation == "merge" else "branch", asked, 10.0)
    proposal = Proposal(operation, candidate, site, (a,), (b,), (at,), (at,), gain)
    return Judged(proposal, Judgement(1.0), Judgement(confidence), confidence, 1, confidence)


def applied(graph: SegmentationGraph, every: list[Judged], limit: int | None = None) -> tuple[list[str], Counter[str]]:
    current = Round(1)
    kept: list = []
    apply_round(graph, Sure(), LoopConfig(0.5), current, every, [], limit, kept.append, lambda edit: "")
    assert kept == current.applied
    rows = [
        f"{edit.operation} {edit.source_supervoxels[0] - 1} {edit.sink_supervoxels[0] - 1}" for edit in current.applied
    ]
    return rows, current.dropped


def test_the_surer_edit_wins_and_the_other_is_put_off():
    graph = SegmentationGraph(chain([1, 1, 2, 3]))
    every = [judged(graph, 1, 2, 0.8), judged(graph, 0, 1, 0.9), judged(graph, 2, 3, 0.7), judged(graph, 1, 3, 0.4)]
    rows, dropped = applied(graph, every)
    assert rows == ["split 0 1", "merge 2 3"]
    assert dropped == {"put off: in conflict with a more confident edit": 1}
    other = SegmentationGraph(chain([1, 1, 2, 3]))
    assert applied(other, [judged(other, 1, 2, 0.95), judged(other, 0, 1, 0.9)])[0] == ["merge 1 2"]


def test_merges_may_follow_each_other_but_none_is_made_twice():
    graph = SegmentationGraph(chain([1, 2, 3]))
    rows, dropped = applied(graph, [judged(graph, a, b, c) for a, b, c in ((0, 1, 0.9), (1, 2, 0.8), (0, 2, 0.7))])
    assert rows == ["merge 0 1", "merge 1 2"] and graph.ids() == [5]
    assert dropped == {"refused: both supervoxels belong to one object already": 1}


def test_a_limit_keeps_the_largest_expected_gains_in_the_order_of_confidence():
    graph = SegmentationGraph(chain([1, 2, 3, 4, 5, 6]))
    every = [
        judged(graph, 0, 1, 0.99, gain=0.001),
        judged(graph, 2, 3, 0.8, gain=0.5),
        judged(graph, 4, 5, 0.95, gain=0.4),
    ]
    assert applied(graph, every, limit=2)[0] == ["merge 4 5", "merge 2 3"]


def test_what_a_person_accepted_needs_no_threshold_and_keeps_its_name():
    graph = SegmentationGraph(chain([1, 1, 2, 3]))
    nothing = LoopConfig(calibration=Calibration(None, None, 0.9))
    shown = judged(graph, 1, 2, 0.2, gain=0.4)
    accepted = replace(shown, confidence=1.0, decided_by="ada", decided_id=shown.edit_id)
    cut = judged(graph, 0, 1, 0.99, gain=0.3)
    by_person = replace(cut, confidence=1.0, decided_by="bob", decided_id="f" * 16)
    current = Round(2)
    made = apply_round(graph, Sure(), nothing, current, [cut, by_person, accepted], [], None, lambda edit: None, str)
    (edit,) = current.applied
    assert (edit.edit_id, edit.decided_by, edit.confidence, edit.correction) == (shown.edit_id, "ada", 1.0, 0.2)
    # the cut of what changed in the round is put off, not refused
    assert made == {4} and current.refused == {} and sum(current.dropped.values()) == 1
    held = replace(by_person, proposal=replace(cut.proposal, site=replace(cut.proposal.site, segment_ids=(4,))))
    apply_round(graph, Sure(), nothing, current, [held], [], None, lambda edit: None, str)
    assert current.applied[1].edit_id == "f" * 16 and graph.ids() == [3, 5, 6]
    apply_round(graph, Sure(), nothing, current, [accepted, by_person], [], None, lambda edit: None, str)
    assert current.refused == {"f" * 16: "the seeds belong to several objects",
                               shown.edit_id: "both supervoxels belong to one object already"}  # fmt: skip


def test_one_candidate_has_one_correction_and_one_pair_one_edit():
    graph = SegmentationGraph(chain([1, 2, 3, 4]))
    current = Round(1)
    first, second = judged(graph, 0, 1, 0.6, end=5.0), judged(graph, 0, 2, 0.7, end=5.0)
    same_pair = judged(graph, 0, 2, 0.9, end=6.0)
    current.judged = [first, second, same_pair, judged(graph, 2, 3, 0.5, end=7.0)]
    assert [one.confidence for one in best_of_candidates(current.judged).values()] == [0.9, 0.5]


def test_branches_that_meet_at_a_place():
    arms = [np.array([[d * x, d * y, 0] for d in range(10, 301, 10)]) for x, y in ((1, 0), (-1, 0), (0, 1))]
    nodes = np.concatenate([[[0, 0, 0]], *arms, [[30, -20, 0]]]).astype(np.float32)
    edges = [[0, 91]]
    for start in (1, 31, 61):
        edges += [[0, start], *([i, i + 1] for i in range(start, start + 29))]
    skeleton = Skeleton(nodes, np.array(edges, np.int32), np.full(len(nodes), 15, np.float32))
    limits = CandidateConfig(min_distance_nm=40, merge_radius_nm=100)
    found = find_branches(skeleton, (0.0, 0.0, 0.0), 15.0, limits, ProposalConfig(reach_nm=600))
    # seeds at 100 nm and at 0.4 of the reach; the twig of 36 nm is no branch
    assert sorted(sorted(map(tuple, seeds.tolist())) for seeds in found) == [
        [(-240, 0, 0), (-100, 0, 0)],
        [(0, 100, 0), (0, 240, 0)],
        [(100, 0, 0), (240, 0, 0)],
    ]


def test_a_person_who_knows_accepts_what_is_right():
    pieces = np.array([1] * 4 + [2] * 4 + [3] * 8)
    truth = np.array([7] * 8 + [9] * 8)
    table = TruthTable.of_arrays(pieces, truth, 3)
    graph = SegmentationGraph(chain([1, 2, 3]))
    proposals = [judged(graph, a, b, 0.9).proposal for a, b in ((1, 2), (0, 1), (0, 1))]
    curve = decide_rightly(graph, proposals, table)
    # only the two halves of body 7 belong together: half of all voxels gain a bit; nobody is asked about them again
    assert curve.gains.tolist() == [0, 0.5] and curve.right == 1
    assert graph.ids() == [1, 2, 3]
    assert curve.at(1.5) == 0.25 and curve.at(10) == 0.5
    assert curve.first(1).tolist() == [0] and curve.first(4).tolist() == [0, 0.5, 0.5, 0.5]
    assert Curve(np.zeros(0), 0).first(2).tolist() == [0, 0] and Curve(np.zeros(0), 0).at(3) == 0
    assert curve.area(2, 0.5) == pytest.approx(1 / 2) and Curve(np.zeros(0), 0).area(3, 0.5) == 0
    before, after = (curve.state("any", n, graph) for n in (1, 2))
    assert not len(before.rows) and after.rows.tolist() == [0, 1] and after.decisions == 2


def test_the_queue_is_ranked_again_after_every_accepted_edit():
    # 0 and 1 are halves of one body, and 2 and 3 of another; 4 is alone
    pieces = np.repeat([1, 2, 3, 4, 5], 4)
    table = TruthTable.of_arrays(pieces, np.repeat([7, 7, 8, 8, 9], 4), 5)
    graph = SegmentationGraph(chain([1, 2, 3, 4, 5]))
    proposals = [judged(graph, a, b, 0.9).proposal for a, b in ((0, 1), (1, 2), (2, 3), (3, 4))]
    curve = decide_rightly(graph, proposals, table, [0.5, 0.3, 0.45, 0.2])
    # the first merge makes a larger object, so that its neighbour, less likely, now comes before the third
    assert size_gain(8, 4, 20) * 0.3 < size_gain(4, 4, 20) * 0.45
    assert [number for number, _ in curve.accepted] == [1, 2]
    later = decide_rightly(graph, proposals, table, [0.5, 0.4, 0.45, 0.2])
    assert size_gain(8, 4, 20) * 0.4 > size_gain(4, 4, 20) * 0.45
    assert [number for number, _ in later.accepted] == [1, 3]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_decisions_come_in_the_order_in_which_a_review_shows_them(seed):
    rng = np.random.default_rng(seed)
    n = 9
    pieces, truth = np.arange(1, n + 1).repeat(4), np.sort(rng.integers(0, 4, n)).repeat(4) + 1
    table = TruthTable.of_arrays(pieces, truth, n)
    graph = SegmentationGraph(chain(list(range(1, n + 1))))
    pairs = [*zip(range(n - 1), range(1, n), strict=True), (2, 5), (0, 7)]
    own = [judged(graph, a, b, float(rng.uniform(0.1, 0.9)), gain=size_gain(1, 1, n)) for a, b in pairs]
    curve = decide_rightly(graph, [one.proposal for one in own], table, [one.chance for one in own])
    state = ReviewState(graph, [one.as_edit(graph) for one in own])
    gains, total = [], 0.0
    while waiting := state.waiting():
        edit = waiting[0].edit
        chosen = next(one.proposal for one in own if one.proposal.edit_id == edit.edit_id)
        gain = edit_gain(state.graph, chosen, table)
        total += max(gain, 0.0)
        gains.append(total)
        state.add(Entry("accept" if gain > 0 else "reject", "ada", edit.edit_id, 1.0, datetime.now(UTC).isoformat()))
    assert curve.gains == pytest.approx(gains)


def test_steps_are_scored_by_what_the_oracle_accepts():
    graph = SegmentationGraph(chain([1, 1, 2, 3]))
    # an end and a place of a merge error at one node
    merge, cut = judged(graph, 0, 2, 0.8), judged(graph, 0, 1, 0.3)
    known, asked = Round(1), Round(1)
    for round_, sure in ((known, (1.0, 0.0)), (asked, (0.8, 0.3))):
        for one, p in zip((merge, cut), sure, strict=True):
            proposal = one.proposal
            round_.candidates.append((proposal.candidate, Judgement(0.9)))
            round_.judged.append(Judged(proposal, Judgement(0.9), Judgement(p), p, 1, p))
    found = score_steps(LoopResult((asked,), (), ""), LoopResult((known,), (), ""), LoopConfig(0.7))
    assert found["identification"]["ends"] == {
        "asked": 1, "errors": 1, "recall": 1.0, "precision": 1.0, "false_positive_rate": None,
    }  # fmt: skip
    assert found["identification"]["merge_places"] == {
        "asked": 1, "errors": 0, "recall": None, "precision": 0.0, "false_positive_rate": 1.0,
    }  # fmt: skip
    assert found["correction"] == {"right": 1, "wrong": 0, "none_when_should": 0, "none_correct": 1}
    assert found["thresholds"][0] == {
        "min_confidence": 0.5, "edits": 1, "precision": 1.0, "merge_edits": 1, "merge_precision": 1.0,
        "split_edits": 0, "split_precision": None,
    }  # fmt: skip
    assert found["thresholds"][-1]["edits"] == 0 and found["thresholds"][-1]["precision"] is None
