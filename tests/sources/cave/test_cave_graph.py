"""Questions in batches: as few requests as allowed, one bad id spoils nothing, previews are the recorded cuts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from graph_truth import FIXTURE, Truth
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_answers import API, INFO, TABLE, Answer, Recording, Request, json_answer
from replay_server import Faults, ReplayServer, replay_server

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.site import Point
from connectomebench.core.species import get_species
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig
from connectomebench.sources.cave.connect import connect
from connectomebench.sources.cave.graph import Graph, utc

FINAL = datetime.fromtimestamp(1795399828, UTC)
UNKNOWN_ROOT = 288230376159999999
UNKNOWN_SUPERVOXEL = 72057594039999999


def graph_with(server: ReplayServer, **rules: int) -> Graph:
    requests = replace(RequestConfig(wait_s=0.001), **rules)
    config = CaveConfig(server=server.url, graph_table=TABLE, image="none", requests=requests)
    return connect(config, get_species("fly")).graph


@pytest.fixture(scope="module")
def graph(server: ReplayServer) -> Graph:
    return graph_with(server)


def counted(server: ReplayServer, ask: Callable[[], Any]) -> tuple[Any, Counter[str]]:
    """The answer, and how many requests it took, by endpoint."""
    before = server.endpoints.copy()
    return ask(), server.endpoints - before


def told_alone(logs: dict[int, dict[str, list[Any]]]) -> dict[int, dict[str, list[Any]]]:
    """Logs without ``after_root_ids``: the server tells those in the history of any root that is asked for."""
    return {
        root: {name: column for name, column in log.items() if name != "after_root_ids"} for root, log in logs.items()
    }


def edited_roots(truth: Truth) -> list[int]:
    final = truth.table["final_root"]
    return np.unique(final[final != truth.table["initial_root"]]).tolist()


# ------------------------------------------------------------------ batches


def test_ids_go_out_in_batches_and_answers_do_not_depend_on_them(server: ReplayServer, truth: Truth) -> None:
    whole = graph_with(server)
    parts = graph_with(server, roots_per_request=4, operations_per_request=10, supervoxels_per_request=1000)
    roots = edited_roots(truth)
    operations = truth.table["operation_ids"].tolist()
    ids = truth.table["supervoxel_id"]
    questions: list[tuple[str, Callable[[Graph], Any], int]] = [
        ("tabular_change_log_many", lambda g: told_alone(g.change_logs(roots)[0]), 7),  # 26 in fours
        ("operation_details", lambda g: g.operation_details(operations), 6),  # 54 in tens
        ("roots_binary", lambda g: g.roots(ids, FINAL).tolist(), 6),  # 5908 in thousands
        ("node/leaves_many", lambda g: {k: v.tolist() for k, v in g.leaves(roots).items()}, 7),
        ("is_latest_roots", lambda g: g.are_latest(ids[:200], FINAL).tolist(), 3),  # twenty times as many a request
    ]
    for endpoint, ask, batches in questions:
        at_once, one = counted(server, lambda ask=ask: ask(whole))
        divided, several = counted(server, lambda ask=ask: ask(parts))
        assert one == {endpoint: 1}
        assert several == {endpoint: batches}
        assert divided == at_once and at_once


def test_ids_that_are_given_twice_are_asked_for_once(server: ReplayServer, truth: Truth) -> None:
    graph = graph_with(server, roots_per_request=2, operations_per_request=2, supervoxels_per_request=2)
    roots, ids = edited_roots(truth)[:2], truth.table["supervoxel_id"][:2]
    (logs, _), asked = counted(server, lambda: graph.change_logs(roots * 3))
    assert (sorted(logs), asked) == (roots, {"tabular_change_log_many": 1})
    (details, _), asked = counted(server, lambda: graph.operation_details([1, 2, 1, 2]))
    assert (sorted(details), asked) == ([1, 2], {"operation_details": 1})
    found, asked = counted(server, lambda: graph.roots(np.tile(ids, 5), FINAL))
    assert asked == {"roots_binary": 1}
    assert np.array_equal(found, np.tile(truth.table["final_root"][:2], 5))


def test_nothing_is_asked_about_nothing(server: ReplayServer, graph: Graph) -> None:
    none = np.zeros(0, np.uint64)

    def ask() -> None:
        assert graph.change_logs([]) == ({}, {})
        assert graph.operation_details([]) == ({}, {})
        assert graph.roots(none, FINAL).shape == graph.are_latest(none, FINAL).shape == (0,)
        assert graph.roots(np.zeros(3, np.uint64), FINAL).tolist() == [0, 0, 0]
        assert graph.leaves([]) == {}

    assert counted(server, ask)[1] == {}


# ------------------------------------------------------------------ unknown ids


@pytest.mark.parametrize("place", [0, 13, 26])
def test_an_unknown_root_spoils_no_other(server: ReplayServer, truth: Truth, place: int) -> None:
    graph = graph_with(server)
    roots = edited_roots(truth)
    unknown = [1, roots[12] + 1, UNKNOWN_ROOT][place // 13]
    alone, _ = graph.change_logs(roots)
    (logs, failed), asked = counted(server, lambda: graph.change_logs([*roots, unknown]))
    assert told_alone(logs) == told_alone(alone)
    assert failed == {unknown: "a change log: the server answered 500"}
    # 27 ids are halved at most five times; a 500 is tried four times
    assert asked["tabular_change_log_many"] <= 6 * 4 + 5


def test_several_unknown_roots_are_all_told(graph: Graph, truth: Truth) -> None:
    roots = edited_roots(truth)[:5]
    unknown = [UNKNOWN_ROOT + i for i in range(3)]
    logs, failed = graph.change_logs([*unknown, *roots])
    assert sorted(logs) == roots
    assert sorted(failed) == unknown


def test_a_root_without_edits_has_an_empty_log(graph: Graph, truth: Truth) -> None:
    final, first = truth.table["final_root"], truth.table["initial_root"]
    untouched, edited = int(final[final == first][0]), edited_roots(truth)[0]
    logs, failed = graph.change_logs([untouched, edited])
    assert not failed
    assert logs[untouched].get("operation_id", []) == []
    assert len(logs[edited]["operation_id"]) > 0
    alone, failed = graph.change_logs([untouched])
    assert alone[untouched].get("operation_id", []) == [] and not failed


def test_unknown_operations_are_absent(graph: Graph, truth: Truth) -> None:
    known = truth.table["operation_ids"].tolist()
    found, failed = graph.operation_details([0, *known, 99999])
    assert sorted(found) == known and not failed
    told = {o["operation_id"]: o for o in truth.told["operations"]}
    for number, detail in found.items():
        assert sorted(detail["roots"]) == sorted(told[number]["new_root_ids"])
    assert graph.operation_details([99999]) == ({}, {})


def test_refused_operations_have_details_with_a_status(graph: Graph, truth: Truth) -> None:
    refused = [o["operation_id"] for o in truth.told["refused"]]
    found, _ = graph.operation_details(refused)
    assert set(found) <= set(refused) and found
    assert all(d["operation_status"] != 0 for d in found.values())


def test_unknown_nodes_have_no_leaves_and_are_not_current(graph: Graph, truth: Truth) -> None:
    root = edited_roots(truth)[0]
    found = graph.leaves([UNKNOWN_ROOT, root])
    ids, final = truth.table["supervoxel_id"], truth.table["final_root"]
    assert list(found) == [UNKNOWN_ROOT, root]
    assert found[UNKNOWN_ROOT].dtype == np.uint64 and not len(found[UNKNOWN_ROOT])
    assert set(found[root].tolist()) == set(ids[final == root].tolist())
    assert graph.are_latest(np.asarray([UNKNOWN_ROOT, root], np.uint64), FINAL).tolist() == [False, True]


def test_an_unknown_root_has_no_descendant(graph: Graph) -> None:
    assert graph.latest_of(UNKNOWN_ROOT, FINAL) is None


@pytest.mark.parametrize("layers", [4, 6, 12])
def test_a_descendant_is_current_however_many_layers_a_graph_has(truth: Truth, layers: int) -> None:
    first, final = truth.table["initial_root"], truth.table["final_root"]
    stale = np.unique(first[first != final])
    with replay_server(FIXTURE) as server:
        answer = server.answer
        info = json.loads(answer(Request("GET", INFO, (), b"")).body)
        info["graph"]["n_layers"] = layers
        server.answer = lambda request: json_answer(info) if request.path == INFO else answer(request)
        graph = graph_with(server)
        found = np.asarray([graph.latest_of(int(root), FINAL) for root in stale], np.uint64)
        assert graph.are_latest(found, FINAL).all()


# ------------------------------------------------------------------ roots at a time


@given(
    rows=st.lists(st.integers(-1, 5907), max_size=40),
    operation=st.integers(0, 53),
    after=st.booleans(),
    unknown=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_roots_are_those_of_the_tables_at_any_time(
    graph: Graph, truth: Truth, rows: list[int], operation: int, after: bool, unknown: bool
) -> None:
    when = truth.table["operation_times"][operation] + (0.002 if after else -0.002)
    zero = np.zeros(1, np.uint64)
    ids, roots = (np.concatenate([zero, part]) for part in (truth.table["supervoxel_id"], truth.roots_at(when)))
    chosen = np.asarray(rows, int) + 1
    asked, wanted = ids[chosen], roots[chosen]
    if unknown:
        asked, wanted = np.append(asked, np.uint64(UNKNOWN_SUPERVOXEL)), np.append(wanted, np.uint64(0))
    found = graph.roots(asked, datetime.fromtimestamp(when, UTC))
    assert found.dtype == np.uint64
    assert np.array_equal(found, wanted)


def test_level2_nodes_lie_in_the_chunk_and_root_of_their_supervoxels(
    server: ReplayServer, graph: Graph, truth: Truth
) -> None:
    ids = truth.table["supervoxel_id"]
    nodes = graph.roots(ids, FINAL, level2=True)
    assert np.array_equal(nodes, server.graph.nodes[-1])
    assert (nodes >> np.uint64(56) == 2).all()
    chunk = np.uint64((1 << 30) - 1) << np.uint64(26)
    assert np.array_equal(nodes & chunk, ids & chunk)
    # supervoxels of one node have one root
    assert len(np.unique(np.stack([nodes, truth.table["final_root"]]), axis=1).T) == len(np.unique(nodes))


def test_leaves_of_past_roots_are_those_they_had(graph: Graph, truth: Truth) -> None:
    ids, first = truth.table["supervoxel_id"], truth.table["initial_root"]
    changed = np.unique(first[first != truth.table["final_root"]])
    found = graph.leaves(changed.tolist())
    for root in changed.tolist():
        assert set(found[root].tolist()) == set(ids[first == root].tolist())


# ------------------------------------------------------------------ changed roots


@given(span=st.tuples(st.integers(0, 54), st.integers(0, 54)).map(sorted))
@settings(max_examples=40, deadline=None)
def test_changed_roots_are_those_made_since_and_still_current(
    graph: Graph, truth: Truth, span: tuple[int, int]
) -> None:
    # a second after an operation its log is closed and the next one has not begun
    moments = [1795399610.0, *(truth.table["operation_times"] + 1)]
    since, until = (moments[i] for i in span)
    then, now = set(truth.roots_at(since).tolist()), set(truth.roots_at(until).tolist())
    found = graph.changed_roots(*(datetime.fromtimestamp(t, UTC) for t in (since, until)))
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(now - then)


def test_changed_roots_leave_out_what_was_replaced_meanwhile(server: ReplayServer, graph: Graph, truth: Truth) -> None:
    since = datetime.fromtimestamp(1795399610, UTC)
    answer = server.graph.delta(since.timestamp(), FINAL.timestamp())["new_roots"]
    found = graph.changed_roots(since, FINAL)
    assert found.tolist() == edited_roots(truth)
    assert len(set(answer) - set(found.tolist())) > 10


def test_every_replaced_root_is_followed_to_where_most_of_it_is(graph: Graph, truth: Truth) -> None:
    first, final = truth.table["initial_root"], truth.table["final_root"]
    stale = np.unique(first[first != final])
    assert not graph.are_latest(stale, FINAL).any()
    divided = 0
    for root in stale.tolist():
        ends, counts = np.unique(final[first == root], return_counts=True)
        assert graph.latest_of(root, FINAL) in ends[counts == counts.max()]
        divided += len(ends) > 1
    assert divided


# ------------------------------------------------------------------ previews


Seeds = list[tuple[int, Point]]


def recorded_previews() -> list[tuple[Seeds, Seeds, dict[str, Any]]]:
    """The twelve cuts that were asked for in the final state."""

    def seeds(side: list[list[Any]]) -> Seeds:
        return [(int(p[0]), (p[1], p[2], p[3])) for p in side]

    recorded: list[tuple[Request, Answer]] = Recording(FIXTURE).requests
    answered = [(r, a) for r, a in recorded if r.path == f"{API}/graph/split_preview" and a.status == 200]
    found = []
    for request, answer in answered[-12:]:
        body = json.loads(request.body)
        found.append((seeds(body["sources"]), seeds(body["sinks"]), json.loads(answer.body)))
    return found


def test_previews_are_the_recorded_cuts(graph: Graph, truth: Truth) -> None:
    ids, final = truth.table["supervoxel_id"], truth.table["final_root"]
    legal = 0
    for sources, sinks, told in recorded_previews():
        root = int(final[np.searchsorted(ids, np.uint64(sources[0][0]))])
        found = graph.preview_split(root, sources, sinks)
        if told["illegal_split"]:
            assert found is None
            continue
        legal += 1
        assert found is not None
        assert found.sources.dtype == found.sinks.dtype == np.uint64
        sides = [set(found.sources.tolist()), set(found.sinks.tolist())]
        assert sides == [set(c) for c in told["supervoxel_connected_components"][:2]]
        assert not sides[0] & sides[1]
        assert {s for s, _ in sources} <= sides[0] and {s for s, _ in sinks} <= sides[1]
        # a cut parts what is one root
        both = np.asarray(sorted(sides[0] | sides[1]), np.uint64)
        assert set(final[np.searchsorted(ids, both)].tolist()) == {root}
    assert legal


def test_an_illegal_cut_is_no_preview(graph: Graph, server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, sinks, told = recorded_previews()[0]
    assert graph.preview_split(0, sources, sinks) is not None
    answer = Answer(200, "application/json", json.dumps(told | {"illegal_split": True}).encode())
    monkeypatch.setattr(server, "answer", lambda request: answer)
    assert graph.preview_split(0, sources, sinks) is None


def test_seeds_in_different_roots_have_no_preview(server: ReplayServer, graph: Graph, truth: Truth) -> None:
    ids, final, points = (truth.table[name] for name in ("supervoxel_id", "final_root", "inner_point_voxel"))
    other = int(np.flatnonzero(final != final[0])[0])
    seeds = []
    for row in (0, other):
        x, y, z = ((points[row] + 0.5) * 10).tolist()
        seeds.append([(int(ids[row]), (x, y, z))])
    found, asked = counted(server, lambda: graph.preview_split(int(final[0]), seeds[0], seeds[1]))
    assert found is None
    assert asked == {"graph/split_preview": 1}


@pytest.mark.parametrize("status", [400, 500, 501])
def test_a_cut_that_the_server_refuses_is_no_preview(status: int) -> None:
    sources, sinks, _ = recorded_previews()[0]
    with replay_server(FIXTURE, faults=Faults(force={"split_preview": status})) as server:
        assert graph_with(server).preview_split(0, sources, sinks) is None


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_cut_that_cannot_be_asked_for_is_a_reason(status: int) -> None:
    sources, sinks, _ = recorded_previews()[0]
    reason = f"a preview of a cut: the server answered {status}"
    with (
        replay_server(FIXTURE, faults=Faults(force={"split_preview": status})) as server,
        pytest.raises(SiteUnavailable, match=reason),
    ):
        graph_with(server, attempts=2).preview_split(0, sources, sinks)


# ------------------------------------------------------------------ the rest


def test_the_graph_tells_its_voxels_and_path(server: ReplayServer, graph: Graph) -> None:
    assert graph.voxel_nm() == (10.0, 10.0, 10.0)
    assert graph.segmentation_path() == f"graphene://{server.url}/segmentation/table/{TABLE}"
    assert graph.info()["graph"]["chunk_size"] == [64, 64, 64]


@pytest.mark.parametrize("body", [b"", b"<html>maintenance</html>", b"[]", b"{}", b"null", b'"text"', b"12"])
def test_an_answer_that_cannot_be_read_is_a_reason(
    server: ReplayServer, truth: Truth, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    graph = graph_with(server)
    roots = edited_roots(truth)[:2]
    supervoxels = truth.table["supervoxel_id"][:2]
    monkeypatch.setattr(server, "answer", lambda request: Answer(200, "application/json", body))
    logs, failed = graph.change_logs(roots)
    assert (logs, sorted(failed)) == ({}, roots)
    for ask in (
        lambda: graph.roots(supervoxels, FINAL),
        lambda: graph.changed_roots(FINAL - timedelta(hours=1), FINAL),
        lambda: graph.are_latest(np.asarray(roots, np.uint64), FINAL),
    ):
        with pytest.raises(SiteUnavailable):
            ask()


@pytest.mark.parametrize("text", ["2024-06-01T02:00:00", "2024-06-01T04:00:00+02:00", "2024-06-01T02:00:00Z"])
def test_times_are_utc(text: str) -> None:
    assert utc(text, "source.cave.until") == datetime(2024, 6, 1, 2, tzinfo=UTC)
    assert utc(text, "source.cave.until").utcoffset() == timedelta(0)


def test_a_text_that_is_no_time_names_the_setting() -> None:
    with pytest.raises(ConnectomeBenchError, match=r"source\.cave\.until: 'yesterday' is not an ISO 8601 time"):
        utc("yesterday", "source.cave.until")
