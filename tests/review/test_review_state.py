"""Accepted edits change the segmentation and the order of what is left; everything can be taken back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from small_review import QUEUE, SEGMENTS, expected_gain, supervoxels, write_small_review

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.decision_log import Entry, Taken, write_taken
from connectomebench.proofreading.edit_log import apply_edit, read_edits, replay
from connectomebench.proofreading.graph_files import read_graph, read_supervoxels
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.review.agreement_with_model import kappa_between_reviewers, kappa_interval, kappa_with_model
from connectomebench.review.edit_list import list_edits
from connectomebench.review.review_files import write_review
from connectomebench.review.review_session import ReviewSession
from connectomebench.review.review_state import OPEN_S, ReviewState

A, B, C, D = (edit.edit_id for edit in QUEUE)


def fresh(trusted: tuple[int, ...] = ()) -> ReviewState:
    return ReviewState(SegmentationGraph(supervoxels(), trusted), QUEUE)


def act(state: ReviewState, action: str, edit_id: str = "", reviewer: str = "ada") -> None:
    state.add(Entry(action, reviewer, edit_id, 1.0, datetime.now(UTC).isoformat()))  # type: ignore[arg-type]


def parts(state: ReviewState) -> set[frozenset[int]]:
    """Return the objects as sets of supervoxels, which do not depend on ids."""
    objects = state.graph.objects
    return {frozenset(np.flatnonzero(objects == one).tolist()) for one in np.unique(objects)}


def test_values_follow_the_objects():
    state = fresh()
    before = {one.edit.edit_id: one.value for one in state.waiting()}
    assert before[A] == pytest.approx(expected_gain(0.7, 240, 600))
    assert before[B] == pytest.approx(expected_gain(0.6, 120, 120))
    assert before[C] == pytest.approx(expected_gain(0.4, 200, 160))
    assert before[D] == pytest.approx(expected_gain(0.3, 160, 240))
    act(state, "accept", A)  # 3 and 4 are one now: a cut through 3 parts other sizes, 2 joins a larger one
    after = {one.edit.edit_id: one for one in state.waiting()}
    assert set(after) == {B, C, D}
    assert after[B].value == pytest.approx(expected_gain(0.6, 120, 720)) and after[B].changed
    assert after[D].value == pytest.approx(expected_gain(0.3, 160, 840)) and after[D].changed
    assert after[C].value == before[C] and not after[C].changed
    assert [one.value for one in state.waiting()] == sorted((one.value for one in after.values()), reverse=True)
    act(state, "accept", B)
    assert frozenset({4, 5}) in parts(state) and frozenset({6, 7, 8, 9}) in parts(state)


def test_values_count_with_the_chance_where_there_is_one():
    queue = [replace(edit, chance=chance) for edit, chance in zip(QUEUE, (0.1, 0.2, None, 0.9), strict=True)]
    state = ReviewState(SegmentationGraph(supervoxels()), queue)
    values = {one.edit.edit_id: one.value for one in state.waiting()}
    assert values[A] == pytest.approx(expected_gain(0.1, 240, 600))
    assert values[C] == pytest.approx(expected_gain(0.4, 200, 160))
    act(state, "accept", A)
    values = {one.edit.edit_id: one.value for one in state.waiting()}
    assert values[D] == pytest.approx(expected_gain(0.9, 160, 840))


def test_undo_takes_back_exactly_the_last_decision_of_its_reviewer():
    state = fresh()
    begun = parts(state)
    act(state, "accept", A)
    act(state, "accept", C, "bob")
    act(state, "undo", A)
    assert state.decided() == {C: "accept"} and frozenset({0, 1, 2, 3}) in parts(state)
    assert {one.edit.edit_id for one in state.waiting()} == {A, B, D}
    act(state, "undo", C)  # not hers: nothing happens
    assert state.decided() == {C: "accept"} and state.undoable("ada") is None
    act(state, "undo", C, "bob")
    assert parts(state) == begun and not state.applied


def test_an_edit_that_can_no_longer_be_made_leaves_the_queue():
    state = fresh(trusted=(3, 4))
    assert A not in {one.edit.edit_id for one in state.waiting()}  # would join two trusted bodies
    act(state, "accept", A)  # decided from a window that was open before
    assert state.reviewed[A].refused == "two trusted bodies would be joined" and not state.applied
    state = fresh()
    act(state, "accept", C)
    act(state, "accept", D)
    act(state, "accept", B)  # cuts 3, whose half is now one with 1 and 2
    assert parts(state) == {frozenset(range(6)), frozenset({6, 7}), frozenset({8, 9})}


def test_the_first_decision_counts_and_later_ones_measure_agreement():
    state = fresh()
    for edit_id, mine, theirs in ((A, "accept", "accept"), (B, "accept", "reject"), (C, "reject", "reject"),
                                  (D, "reject", "accept")):  # fmt: skip
        act(state, mine, edit_id)
        act(state, theirs, edit_id, "bob")
    assert state.decided() == {A: "accept", B: "accept", C: "reject", D: "reject"}
    assert state.decided("bob") == {A: "accept", B: "reject", C: "reject", D: "accept"}
    assert kappa_with_model(state)["kappa"] == pytest.approx(1.0)  # the model: 0.7, 0.6 yes; 0.4, 0.3 no
    assert kappa_with_model(state, "bob")["kappa"] == pytest.approx(cohen_kappa_score([1, 0, 0, 1], [1, 1, 0, 0]))
    between = kappa_between_reviewers(state)[0]
    assert between["reviewers"] == ["ada", "bob"] and (between["n"], between["share"]) == (4, 0.5)
    assert kappa_interval(state)["interval"][1] == pytest.approx(1.0)
    act(state, "undo", D)  # then bob's counts, and it is applied
    assert state.decided()[D] == "accept" and frozenset({2, 3, 4, 5}) in parts(state)


def test_skipped_edits_come_back_when_asked_for():
    state = fresh()
    order = [one.edit.edit_id for one in state.waiting()]
    act(state, "skip", order[0])
    found = state.next_for("ada")
    assert found is not None and found.edit.edit_id == order[1]
    other = state.next_for("bob")
    assert other is not None and other.edit.edit_id == order[0]
    for edit_id in order[1:]:
        act(state, "skip", edit_id)
    assert state.next_for("ada") is None and state.skipped("ada") == order
    act(state, "again")
    assert state.next_for("ada") is not None and state.skipped("ada") == []
    act(state, "undo", order[-1])  # the skip, of which nothing is left


def test_what_another_looks_at_comes_last_for_a_while():
    state = fresh()
    order = [one.edit.edit_id for one in state.waiting()]
    now = datetime.now(UTC)
    state.add(Entry("open", "bob", order[0], at=now.isoformat()))
    for seconds, expected in ((1.0, order[1]), (OPEN_S + 1, order[0])):
        found = state.next_for("ada", now + timedelta(seconds=seconds))
        assert found is not None and found.edit.edit_id == expected
    found = state.next_for("bob", now)
    assert found is not None and found.edit.edit_id == order[0]
    state.add(Entry("open", "bob", order[1], at=now.isoformat()))  # he went on without a decision
    found = state.next_for("ada", now)
    assert found is not None and found.edit.edit_id == order[0]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "reject", "skip", "undo", "again", "open"]),
        st.sampled_from(["ada", "bob"]),
        st.sampled_from([A, B, C, D]),
    ),
    max_size=14,
)


@given(ACTIONS)
@settings(max_examples=60, deadline=None)
def test_the_state_is_that_of_a_replay_whatever_was_done(actions):
    state = fresh()
    for action, reviewer, edit_id in actions:
        if action == "undo":
            last = state.undoable(reviewer)
            edit_id = edit_id if last is None else last.edit_id
        act(state, action, "" if action == "again" else edit_id, reviewer)
    # a second reading of the log gives the same
    other = fresh()
    for entry in state.entries:
        other.add(entry)
    assert parts(other) == parts(state) and other.applied == state.applied and other.decided() == state.decided()
    # the accepted edits alone, applied to the start in their order, give the same segmentation with the same ids
    graph = SegmentationGraph(supervoxels())
    replay(graph, state.applied)
    assert (graph.objects == state.graph.objects).all()
    accepted = {edit_id for edit_id, verdict in state.decided().items() if verdict == "accept"}
    refused = {edit_id for edit_id in accepted if state.reviewed[edit_id].refused is not None}
    assert {edit.edit_id for edit in state.applied} == accepted - refused


def test_the_files_replay_to_the_mapping(tmp_path: Path):
    out = write_small_review(tmp_path, pictures=False)
    session = ReviewSession(out)
    for edit_id, decision in ((A, "accept"), (B, "accept"), (C, "reject")):
        assert session.decide("ada", edit_id, decision, 2.0)  # type: ignore[arg-type]
    summary = write_review(session)
    assert (summary["accepted"], summary["rejected"], summary["waiting"], summary["applied"]) == (2, 1, 1, 2)
    assert json.loads((out / "review/summary.json").read_text()) == json.loads(json.dumps(summary))
    edits = read_edits(out / "review/edits.jsonl")
    assert [edit.edit_id for edit in edits] == [A, B] and {edit.confidence for edit in edits} == {1.0}
    graph = SegmentationGraph(read_supervoxels(out))
    replay(graph, edits)
    mapping = pq.read_table(out / "review/mapping.parquet").to_pandas()
    assert mapping["object"].tolist() == graph.objects.tolist()
    assert mapping["segment"].tolist() == SEGMENTS
    assert [edit.edit_id for edit in read_edits(out / "review/queue.jsonl")] == [D]
    # what the run itself wrote is as it was
    assert read_edits(out / "edits.jsonl") == [] and len(read_edits(out / "queue.jsonl")) == 4
    assert (read_graph(out)[0].objects == np.array(SEGMENTS, np.uint64)).all()


def test_what_the_run_took_stays_and_is_applied_by_the_run(tmp_path: Path):
    out = write_small_review(tmp_path, pictures=False)
    session = ReviewSession(out)
    for edit_id, decision in ((C, "accept"), (B, "reject"), (D, "skip")):
        assert session.decide("ada", edit_id, decision, 2.0)  # type: ignore[arg-type]
    assert session.decide("bob", C, "reject", 2.0)
    # the run goes on: it applies C, which leaves the queue as B does
    write_taken(out, [Taken(2, 4)])
    graph = SegmentationGraph(supervoxels())
    merged = replace(QUEUE[2], confidence=1.0, decided_by="ada")
    (out / "edits.jsonl").write_text(replace(merged, after=apply_edit(graph, merged)).as_line() + "\n")
    (out / "review/earlier.jsonl").write_text("".join(QUEUE[k].as_line() + "\n" for k in (1, 2)))
    (out / "queue.jsonl").write_text("".join(QUEUE[k].as_line() + "\n" for k in (0, 3)))
    again = ReviewSession(out)
    assert again.undo("ada") is None and again.undo("bob") is None
    assert again.read(lambda state: (state.applied, state.decided("bob"))) == ([], {C: "reject"})
    assert {one.edit.edit_id for one in again.read(lambda state: state.waiting())} == {A, D}
    assert again.decide("bob", A, "accept", 2.0)
    fates = again.read(lambda state: {one.edit.edit_id: (one.fate, one.by) for one in list_edits(state, again.edits)})
    assert fates == {A: ("accepted", "bob"), B: ("rejected", "ada"), C: ("accepted", "ada"), D: ("waiting", "")}
    summary = write_review(again)
    assert (summary["queue"], summary["accepted"], summary["rejected"], summary["waiting"]) == (4, 2, 1, 1)
    assert summary["disagreements"] == [C] and summary["kappa_with_model"]["n"] == 3
    assert [(edit.edit_id, edit.decided_by) for edit in read_edits(out / "review/edits.jsonl")] == [
        (C, "ada"),
        (A, "bob"),
    ]
    assert again.undo("bob") is not None  # the run has not taken that one
    assert [edit.edit_id for edit in again.all_edits()] == [C]
    # what was accepted and is in no edit of the run could not be made
    (out / "edits.jsonl").write_text("")
    other = ReviewSession(out)
    fates = other.read(lambda state: {one.edit.edit_id: one.fate for one in list_edits(state, other.edits)})
    assert fates == {A: "waiting", B: "rejected", C: "refused", D: "waiting"}


def test_agreement_is_only_with_a_model_that_was_asked():
    nobody = [replace(edit, correction=None) for edit in QUEUE[:2]]
    state = ReviewState(SegmentationGraph(supervoxels()), [*nobody, *QUEUE[2:]])
    for edit_id, decision in ((A, "reject"), (B, "reject"), (C, "reject"), (D, "accept")):
        act(state, decision, edit_id)
    assert kappa_with_model(state)["n"] == 2 and kappa_with_model(state)["share"] == 0.5


def test_a_folder_without_a_finished_run_is_one_line(tmp_path: Path):
    with pytest.raises(ConnectomeBenchError, match="must be the folder of a finished connectomebench proofread"):
        ReviewSession(tmp_path)
    out = write_small_review(tmp_path / "out", pictures=False)
    (out / "queue.jsonl").write_text("")
    with pytest.raises(ConnectomeBenchError, match=r"the queue of .* is empty"):
        ReviewSession(out)
    (out / "edges.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConnectomeBenchError, match=r"edges\.parquet is damaged"):
        ReviewSession(out)
