"""Corrections found through the server's API are those that the tables of the fixture show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from graph_truth import Truth
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_answers import TABLE
from replay_server import ReplayServer

from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.species import get_species
from connectomebench.sources.cave.cave_config import CaveConfig
from connectomebench.sources.cave.connect import connect
from connectomebench.sources.cave.graph import Graph
from connectomebench.sources.cave.history import (
    JudgedOperation,
    Operation,
    differences,
    judge_operations,
    read_operations,
)

FINAL = 1795399828.0
BEFORE_ALL = 1795399618.863
BEFORE_UNDO_OF_REPAIR = 1795399772.019  # 1 ms before operation 51
BETWEEN_WRONG_MERGE_AND_UNDO = 1795399655.0  # operations 11 and 12


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.fixture(scope="module")
def graph(server: ReplayServer) -> Graph:
    return connect(CaveConfig(server=server.url, graph_table=TABLE, image="none"), get_species("fly")).graph


# ------------------------------------------------------------------ what the tables say


def operations_until(truth: Truth, until: float) -> list[dict[str, Any]]:
    return [o for o in truth.told["operations"] if o["timestamp"] <= until]


def edited_roots(truth: Truth, until: float) -> list[int]:
    """Roots at a time that an edit made."""
    now, first = truth.roots_at(until), truth.table["initial_root"]
    return sorted(set(now.tolist()) - set(first.tolist()))


def replaced(truth: Truth, until: float) -> list[tuple[int, set[int], set[int]]]:
    """Each operation in order, the roots that went with it and those that came."""
    found = []
    for operation in operations_until(truth, until):
        before, after = (set(truth.roots_at(operation["timestamp"] + s).tolist()) for s in (-0.001, 0.001))
        found.append((operation["operation_id"], before - after, after - before))
    return found


def history_of(root: int, steps: list[tuple[int, set[int], set[int]]]) -> set[int]:
    """Operations that led to a root: walked back from state to state."""
    ancestors, found = {root}, set()
    for operation, old, new in reversed(steps):
        if new & ancestors:
            found.add(operation)
            ancestors |= old
    return found


def supervoxels_with(truth: Truth, roots: np.ndarray, supervoxel: int) -> set[int]:
    """All supervoxels of the root that holds one."""
    ids = truth.table["supervoxel_id"]
    return set(ids[roots == roots[np.searchsorted(ids, np.uint64(supervoxel))]].tolist())


def outcomes(truth: Truth, until: float) -> dict[int, str]:
    """What became of every edit that changed something, from sets of supervoxels before, after and in the end."""
    found = {}
    for operation in operations_until(truth, until):
        if operation["kind"] not in ("merge", "split"):
            continue
        states = [truth.roots_at(t) for t in (operation["timestamp"] - 0.001, operation["timestamp"] + 0.001, until)]
        old, new = (set(a.tolist()) - set(b.tolist()) for a, b in (states[:2], states[1::-1]))
        if len(old) == len(new) == 1:
            continue  # the server parted nothing
        pairs = [
            (a["supervoxel_id"], b["supervoxel_id"])
            for a, b in zip(operation["sources"], operation["sinks"], strict=False)
        ]
        stands = set()
        for source, sink in pairs:
            before, _, final = (supervoxels_with(truth, state, source) for state in states)
            gained, lost = final - before, before - final
            stands.add(sink in (gained if operation["kind"] == "merge" else lost))
        assert len(stands) == 1, operation
        found[operation["operation_id"]] = "correction" if stands.pop() else "inverted"
    return found


# ------------------------------------------------------------------ corrections


def judged_by_api(graph: Graph, until: float) -> dict[int, JudgedOperation]:
    """All that the survey of a dataset asks: changed roots, their operations, and what became of these."""
    roots = graph.changed_roots(at(BEFORE_ALL - 60), at(until))
    operations, _, failed = read_operations(graph, roots.tolist(), at(until))
    judged, left_out = judge_operations(graph, operations, at(until))
    assert not failed and not left_out
    return {j.operation.operation_id: j for j in judged}


# the server finds an operation among changed roots when its log is closed, half a second later
@pytest.mark.parametrize("until", [FINAL, BEFORE_UNDO_OF_REPAIR, BETWEEN_WRONG_MERGE_AND_UNDO, 1795399706.0])
def test_corrections_of_all_roots_are_those_of_the_tables(graph: Graph, truth: Truth, until: float) -> None:
    judged = judged_by_api(graph, until)
    wanted = outcomes(truth, until)
    assert {number: j.outcome for number, j in judged.items()} == wanted
    now, ids = truth.roots_at(until), truth.table["supervoxel_id"]
    for j in judged.values():
        for body, seeds in zip(j.bodies, (j.operation.sources, j.operation.sinks), strict=True):
            assert body in now[np.searchsorted(ids, np.asarray(seeds, np.uint64))]
    # operation 11 is a wrong merge that was undone; refused ones and those without an effect are not there at all
    undone = until > BETWEEN_WRONG_MERGE_AND_UNDO
    assert (wanted[11], judged[11].operation.undone) == ("inverted" if undone else "correction", undone)
    assert not {4, 7, 9, 12, 13, 18, 33, 51, 52, *(o["operation_id"] for o in truth.told["refused"])} & set(judged)


def test_corrections_of_each_final_root_are_those_of_the_tables(graph: Graph, truth: Truth) -> None:
    roots, wanted = edited_roots(truth, FINAL), outcomes(truth, FINAL)
    steps = replaced(truth, FINAL)
    assert len(roots) == 26
    seen: set[int] = set()
    for root in roots:
        operations, _, failed = read_operations(graph, [root], at(FINAL))
        judged, left_out = judge_operations(graph, operations, at(FINAL))
        assert not failed and not left_out
        history = history_of(root, steps) & set(wanted)
        assert {j.operation.operation_id: j.outcome for j in judged} == {n: wanted[n] for n in history}, root
        seen |= history
    assert seen == set(wanted)
    assert sum(outcome == "correction" for outcome in wanted.values()) == 43


def test_a_wrong_merge_repaired_by_a_split_is_no_correction_and_its_repair_is(graph: Graph) -> None:
    repaired = judged_by_api(graph, BEFORE_UNDO_OF_REPAIR)
    assert (repaired[31].outcome, repaired[38].outcome) == ("inverted", "correction")
    assert not repaired[31].operation.undone and repaired[38].bodies[0] != repaired[38].bodies[1]
    # later the repair is undone, and done again without an effect: its sides are one body in the final state
    in_the_end = judged_by_api(graph, FINAL)
    assert in_the_end[38].outcome == "inverted"
    assert in_the_end[38].bodies[0] == in_the_end[38].bodies[1]


def test_operations_are_as_they_were_made(graph: Graph, truth: Truth) -> None:
    operations, left_out, _ = read_operations(graph, edited_roots(truth, FINAL), at(FINAL))
    told = {o["operation_id"]: o for o in truth.told["operations"]}
    assert [o.operation_id for o in operations] == sorted(outcomes(truth, FINAL))
    for o in operations:
        was = told[o.operation_id]
        assert (o.kind, o.edit_id) == (was["kind"], f"operation-{was['operation_id']}")
        assert o.time == datetime.fromisoformat(was["timestamp_iso"])
        assert set(o.roots_before) == set(was["old_root_ids"])
        assert set(o.roots_after) == set(was["new_root_ids"])
        for points, ids, side in ((o.sources_nm, o.sources, "sources"), (o.sinks_nm, o.sinks, "sinks")):
            assert [list(p) for p in points] == [p["point_nm"] for p in was[side]]
            assert np.allclose(points, (np.asarray([p["point_voxel"] for p in was[side]]) + 0.5) * 10)
            assert list(ids) == [p["supervoxel_id"] for p in was[side]]
        middle = [np.mean([p["point_nm"] for p in was[side]], axis=0) for side in ("sources", "sinks")]
        assert np.allclose(o.place_nm, np.mean(middle, axis=0))
        assert o.undone == (o.operation_id == 11)
        before, after = (set(truth.roots_at(t.timestamp()).tolist()) for t in (o.before, o.after))
        assert set(o.roots_before) <= before - after and set(o.roots_after) <= after - before
    assert Counter(left_out.values()) == {"without an effect": 6, "undo or redo of another operation": 3}


def test_operations_after_the_final_state_are_left_out(graph: Graph, truth: Truth) -> None:
    until = 1795399704.485
    operations, left_out, _ = read_operations(graph, edited_roots(truth, FINAL), at(until))
    assert [o.operation_id for o in operations] == sorted(outcomes(truth, until))
    assert Counter(left_out.values())["after the final state"] == len(outcomes(truth, FINAL)) - len(operations) > 10


# ------------------------------------------------------------------ supervoxel by supervoxel


@pytest.mark.parametrize("until", [FINAL, BEFORE_UNDO_OF_REPAIR])
@pytest.mark.parametrize("since", [BEFORE_ALL, 1795399704.485])
def test_differences_are_those_of_the_tables(graph: Graph, truth: Truth, since: float, until: float) -> None:
    roots = edited_roots(truth, until)
    ids, then, now = truth.table["supervoxel_id"], truth.roots_at(since), truth.roots_at(until)
    found = differences(graph, roots, at(since), at(until))
    assert [d.root for d in found] == roots
    gains = losses = 0
    for d in found:
        mine = now == np.uint64(d.root)
        sizes = {int(r): int((then[mine] == r).sum()) for r in np.unique(then[mine])}
        assert sizes[d.base] == max(sizes.values())
        gained = {a: set(ids[mine & (then == np.uint64(a))].tolist()) for a in sizes if a != d.base}
        of_base = then == np.uint64(d.base)
        lost = {int(b): set(ids[of_base & (now == b)].tolist()) for b in np.unique(now[of_base]) if b != d.root}
        for got, wanted in ((d.gained, gained), (d.lost, lost)):
            assert {k: v.tolist() for k, v in got.items()} == {k: sorted(v) for k, v in wanted.items()}
        gains, losses = gains + len(gained), losses + len(lost)
    assert gains > 10 and losses > 2


def test_differences_of_an_unknown_root_say_so(graph: Graph) -> None:
    unknown = 288230376151712999
    with pytest.raises(SiteUnavailable, match=f"root {unknown} has no supervoxels"):
        differences(graph, [unknown], at(BEFORE_ALL), at(FINAL))
    assert differences(graph, [], at(BEFORE_ALL), at(FINAL)) == []


# ------------------------------------------------------------------ judging any edit


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, bool, list[int], list[int]]]:
    """Kind, whether it was undone, and rows of the supervoxels of either side."""
    # few roots hold many supervoxels, so that both outcomes come up
    rows = st.lists(st.integers(0, 5907), min_size=1, max_size=4)
    return draw(
        st.lists(st.tuples(st.sampled_from(["merge", "split"]), st.booleans(), rows, rows), min_size=1, max_size=5)
    )


@given(drawn=edits(), unknown=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_edit_is_judged_by_where_most_of_its_sides_end(
    graph: Graph, truth: Truth, drawn: list[tuple[str, bool, list[int], list[int]]], unknown: bool
) -> None:
    ids, final = truth.table["supervoxel_id"], truth.table["final_root"]
    operations = [
        edit(i, kind, undone, ids[a].tolist(), ids[b].tolist()) for i, (kind, undone, a, b) in enumerate(drawn)
    ]
    if unknown:
        operations.append(edit(len(drawn), "merge", False, [int(ids[-1]) + 1], [int(ids[0])]))
    judged, left_out = judge_operations(graph, operations, at(FINAL))
    wanted, reasons = {}, []
    for i, (kind, undone, *sides) in enumerate(drawn):
        bodies = []
        for side in sides:
            ends = final[side].tolist()
            # more than half of a side; a single pair in two roots is no majority
            bodies += [r for r in set(ends) if 2 * ends.count(r) > len(ends)]
        if len(bodies) < 2:
            reasons.append("a side in several final roots")
        elif (bodies[0] == bodies[1]) != (kind == "merge"):
            wanted[i] = ("inverted", tuple(bodies))
        elif undone:
            reasons.append("undone, and done again by another operation")
        else:
            wanted[i] = ("correction", tuple(bodies))
    reasons += ["a supervoxel without a final root"] * unknown
    assert {j.operation.operation_id: (j.outcome, j.bodies) for j in judged} == wanted
    assert sorted(left_out.values()) == sorted(reasons)


def edit(number: int, kind: str, undone: bool, sources: Iterable[int], sinks: Iterable[int]) -> Operation:
    place = ((0.0, 0.0, 0.0),)
    ids = tuple(sources), tuple(sinks)
    return Operation(number, cast(Any, kind), at(FINAL - 1), (1, 2), (3,), place, place, *ids, undone)


def test_nothing_to_judge(graph: Graph) -> None:
    assert judge_operations(graph, [], at(FINAL)) == ([], {})


# ------------------------------------------------------------------ undo and redo


class History:
    """A server that carries out edits, undos and redos, and refuses some: answers as ``Graph`` gives them.

    What is true is kept apart from the log: for each edit whether it is in force, changed by every step as it is done.
    """

    def __init__(self, steps: Iterable[tuple[str, int, bool]]) -> None:
        self.in_force: dict[int, bool] = {}
        self.refused: set[int] = set()
        self.details: dict[int, dict[str, Any]] = {}
        does: dict[int, tuple[int, bool]] = {}  # step -> edit, and what it sets it to
        for number, (kind, back, refused) in enumerate(steps, start=1):
            target = [*does][back % len(does)] if does else 0
            status = {"operation_status": 2 if refused else 0}
            if kind == "edit" or not target:
                seeds = {"source_coords": [[1, 2, 3]], "sink_coords": [[4, 5, 6]], "added_edges": [[7, 8]]}
                self.details[number] = status | seeds | {"roots": [number]}
                setting = number, True
            else:
                self.details[number] = status | {f"{kind}_operation_id": target, "roots": [number]}
                subject, value = does[target]
                setting = subject, value != (kind == "undo")
            if refused:
                self.refused.add(number)
            else:
                does[number] = setting
                self.in_force[setting[0]] = setting[1]

    def change_logs(self, roots: Iterable[int]) -> tuple[dict[int, dict[str, list[Any]]], dict[int, str]]:
        numbers = sorted(self.details)
        table = {
            "operation_id": numbers,
            "timestamp": [1000 * n for n in numbers],
            "before_root_ids": [[100 + n, 200 + n] for n in numbers],
            "is_merge": [True] * len(numbers),
        }
        return dict.fromkeys(roots, table), {}

    def operation_details(self, operations: Iterable[int]) -> tuple[Mapping[int, dict[str, Any]], dict[int, str]]:
        # the order of an answer means nothing
        return {number: self.details[number] for number in sorted(operations, reverse=True)}, {}

    def voxel_nm(self) -> tuple[float, float, float]:
        return 4.0, 5.0, 40.0


steps = st.lists(
    st.tuples(
        st.sampled_from(["edit", "undo", "undo", "redo"]), st.integers(0, 30), st.sampled_from([False] * 4 + [True])
    ),
    min_size=1,
    max_size=25,
)


@given(steps=steps)
@settings(max_examples=300, deadline=None)
def test_undone_is_what_is_not_in_force_in_the_end(steps: list[tuple[str, int, bool]]) -> None:
    history = History(steps)
    operations, left_out, failed = read_operations(cast(Graph, history), [1, 2], at(10**6))
    assert {o.operation_id: not o.undone for o in operations} == history.in_force
    counts = Counter(left_out.values())
    assert counts["refused by the server"] == len(history.refused)
    assert counts["undo or redo of another operation"] == len(steps) - len(operations) - len(history.refused)
    assert not failed
    for o in operations:
        assert (o.sources_nm, o.sinks_nm) == (((6.0, 12.5, 140.0),), ((18.0, 27.5, 260.0),))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "no details on the server"),
        ({"operation_status": 1}, "refused by the server"),
        ({"source_coords": []}, "without points"),
        ({"sink_coords": None}, "without points"),
        ({"added_edges": []}, "without supervoxels"),
        # ids that went through a floating-point number are those of other supervoxels
        ({"added_edges": [[7e16, 8]]}, "details that cannot be read"),
        ({"roots": [3.6e17]}, "details that cannot be read"),
        ({"source_coords": [[1, 2]]}, "details that cannot be read"),
    ],
)
def test_what_is_no_edit_of_its_own_is_counted(change: dict[str, Any] | None, reason: str) -> None:
    history = History([("edit", 0, False), ("edit", 0, False)])
    if change is None:
        del history.details[2]
        graph = SimpleNamespace(
            change_logs=History([("edit", 0, False)] * 2).change_logs,
            operation_details=lambda asked: ({n: history.details[n] for n in asked if n in history.details}, {}),
            voxel_nm=history.voxel_nm,
        )
    else:
        history.details[2] |= change
        graph = history
    operations, left_out, _ = read_operations(cast(Graph, graph), [1], at(10**6))
    assert [o.operation_id for o in operations] == [1]
    assert left_out == {2: reason}


def test_just_before_and_just_after_are_a_millisecond_away() -> None:
    made = edit(1, "merge", False, [1], [2])
    assert made.after - made.time == made.time - made.before == timedelta(milliseconds=1)
