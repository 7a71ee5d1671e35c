"""The replayed server answers as the recorded one did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import fastremap
import numpy as np
import pytest
import replay_server as replay
import requests
from graph_truth import FIXTURE, Truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from read_replayed import darkness_of_borders, read_volumes
from replay_answers import API, INFO, TABLE, Answer, Recording, Request, request_key
from replay_server import ReplayServer
from replay_volumes import CHUNK, OFFSET, supervoxels

FINAL = 1795399828.0


@pytest.fixture(scope="module")
def composing() -> Iterator[ReplayServer]:
    """The server that composes all it can, although the answers were recorded."""
    with replay.replay_server(FIXTURE, verbatim=False) as running:
        yield running


@pytest.fixture(scope="module")
def recorded() -> list[tuple[Request, Answer]]:
    return Recording(FIXTURE).requests


def asked(recorded: list[tuple[Request, Answer]], endpoint: str) -> list[tuple[Request, Answer]]:
    """Recorded requests to an endpoint (ids left out of its path) that worked."""
    found = [(r, a) for r, a in recorded if replay.endpoint_of(r.path) == endpoint and a.status == 200]
    assert found, endpoint
    return found


def send(server: ReplayServer, request: Request) -> requests.Response:
    return requests.request(
        request.method, server.url + request.path, params=list(request.query), data=request.body, timeout=10
    )


def of_level2(request: Request) -> bool:
    """Whether a request is about the level-2 node whose history is not composed."""
    return b"144115188075855920" in request.body


def client(server: ReplayServer, when: float | None = FINAL) -> Any:
    from caveclient.auth import AuthClient
    from caveclient.chunkedgraph import ChunkedGraphClient

    return ChunkedGraphClient(
        server_address=server.url,
        table_name=TABLE,
        auth_client=AuthClient(token="0123456789abcdef", server_address=server.url),
        timestamp=None if when is None else datetime.fromtimestamp(when, UTC),
    )


# ------------------------------------------------------------------ composed answers equal recorded ones


@pytest.mark.parametrize("endpoint", ["operation_details", "tabular_change_log_many", "roots_binary", "node/root"])
def test_composed_answers_are_the_recorded_bytes(
    composing: ReplayServer, recorded: list[tuple[Request, Answer]], endpoint: str
) -> None:
    for request, answer in asked(recorded, endpoint):
        assert send(composing, request).content == answer.body, request


@pytest.mark.parametrize("endpoint", ["is_latest_roots", "root_timestamps"])
def test_composed_lists_are_the_recorded_ones(
    composing: ReplayServer, recorded: list[tuple[Request, Answer]], endpoint: str
) -> None:
    compared = 0
    for request, answer in asked(recorded, endpoint):
        if endpoint == "root_timestamps" and of_level2(request):
            continue
        assert send(composing, request).json() == json.loads(answer.body), request
        compared += 1
    assert compared >= 10


def test_roots_are_composed_at_all_four_recorded_times(
    composing: ReplayServer, recorded: list[tuple[Request, Answer]], truth: Truth
) -> None:
    whole = [(r, a) for r, a in asked(recorded, "roots_binary") if len(r.body) == 8 * 5908]
    assert {r.time() for r, _ in whole} == set(truth.told["read_times"].values())
    for request, answer in whole:
        when = request.time()
        assert when is not None
        assert np.array_equal(np.frombuffer(answer.body, np.uint64), truth.roots_at(when))
        assert send(composing, request).content == answer.body


@pytest.mark.parametrize("endpoint", ["node/leaves", "node/leaves_many"])
def test_composed_leaves_are_the_recorded_ones_in_and_out_of_a_box(
    composing: ReplayServer, recorded: list[tuple[Request, Answer]], endpoint: str
) -> None:
    boxes = 0
    for request, answer in asked(recorded, endpoint):
        got, wanted = send(composing, request).json(), json.loads(answer.body)
        assert got.keys() == wanted.keys()
        for node, ids in wanted.items():
            assert got[node] == sorted(ids), (request, node)
        boxes += request.param("bounds") is not None
    assert boxes >= (10 if endpoint == "node/leaves" else 1)


def test_composed_changed_roots_are_the_recorded_ones(
    composing: ReplayServer, recorded: list[tuple[Request, Answer]]
) -> None:
    for request, answer in asked(recorded, "delta_roots"):
        got, wanted = send(composing, request).json(), json.loads(answer.body)
        assert got.keys() == wanted.keys()
        for side, roots in wanted.items():
            assert sorted(got[side]) == sorted(roots)


def test_composed_lineage_is_the_recorded_one(composing: ReplayServer, recorded: list[tuple[Request, Answer]]) -> None:
    def sets(graph: dict[str, Any]) -> tuple[set[tuple[int, int]], dict[int, dict[str, Any]]]:
        return {(x["source"], x["target"]) for x in graph["links"]}, {x["id"]: x for x in graph["nodes"]}

    compared = 0
    for request, answer in asked(recorded, "lineage_graph_multiple"):
        if not of_level2(request):
            assert sets(send(composing, request).json()) == sets(json.loads(answer.body)), request
            compared += 1
    assert compared > 80


def test_composed_children_of_recorded_level2_nodes(
    composing: ReplayServer, recorded: list[tuple[Request, Answer]]
) -> None:
    compared = 0
    for request, answer in asked(recorded, "node/children"):
        if int(request.path.split("/")[-2]) >> 56 == 2:
            got = send(composing, request).json()["children_ids"]
            assert got == sorted(json.loads(answer.body)["children_ids"])
            compared += 1
    assert compared >= 5


def test_unknown_ids_fail_as_they_did(composing: ReplayServer, recorded: list[tuple[Request, Answer]]) -> None:
    composed = {"tabular_change_log_many", "lineage_graph_multiple", "root_timestamps", "node/root", "roots_binary"}
    refused = [
        (r, a)
        for r, a in recorded
        if a.status == 500 and replay.endpoint_of(r.path) in composed | {"is_latest_roots", "operation_details"}
    ]
    assert len(refused) > 12
    for request, answer in refused:
        assert send(composing, request).status_code == answer.status, request


# ------------------------------------------------------------------ verbatim answers


def test_every_recorded_exchange_comes_back(server: ReplayServer, recorded: list[tuple[Request, Answer]]) -> None:
    last = {request_key(r): (r, a) for r, a in recorded}
    for request, answer in last.values():
        if request.path == INFO:
            continue
        found = server.answer(request)
        assert (found.status, found.body) == (answer.status, answer.body), request


def test_info_differs_in_data_dir_alone(server: ReplayServer, recorded: list[tuple[Request, Answer]]) -> None:
    (_, answer), *_ = [(r, a) for r, a in recorded if r.path == INFO]
    told = json.loads(answer.body)
    assert requests.get(server.url + INFO, timeout=10).json() == told | {
        "data_dir": f"precomputed://{server.url}/data/ws"
    }


def test_preview_of_other_cuts_is_refused(server: ReplayServer, truth: Truth) -> None:
    split = next(o for o in truth.told["operations"] if o["operation_id"] == 20)
    seeds = {
        side: [[p["supervoxel_id"], *(c + 10.0 for c in p["point_nm"])] for p in split[side]]
        for side in ("sources", "sinks")
    }
    path = f"{server.url}{API}/graph/split_preview"
    apart = requests.post(path, data=json.dumps(seeds), timeout=10)
    assert apart.status_code == 400
    assert apart.json()["message"] == "[400]: Supervoxels must belong to the same object."
    seeds["sinks"] = seeds["sources"]
    together = requests.post(path, data=json.dumps(seeds), timeout=10)
    assert (together.status_code, "not recorded" in together.json()["message"]) == (501, True)


def test_unknown_address_is_the_recorded_404(server: ReplayServer) -> None:
    for path in (f"{API}/no_such_endpoint", "/elsewhere", "/data/ws/10_10_10/0-64_0-64_0-64", "/data/../README.md"):
        assert requests.get(server.url + path, timeout=10).status_code == 404, path


# ------------------------------------------------------------------ real clients


def test_caveclient_reads_the_graph(server: ReplayServer, truth: Truth) -> None:
    pcg = client(server)
    ids = truth.table["supervoxel_id"]
    middle = truth.table["operation_times"][30] + 0.001
    roots = pcg.get_roots(ids[::7], timestamp=datetime.fromtimestamp(middle, UTC))
    assert np.array_equal(roots, truth.roots_at(middle)[::7])
    final = int(truth.table["final_root"][0])
    assert set(pcg.get_leaves(final)) == set(ids[truth.table["final_root"] == final].tolist())
    assert len(pcg.get_operation_details([1, 2, 3, 99999])) == 3
    log = pcg.get_tabular_change_log([final], filtered=False)[final]
    assert 2 in log.operation_id.tolist()
    assert pcg.is_latest_roots([final, int(truth.table["initial_root"][0])]).tolist() == [True, False]
    _, new = pcg.get_delta_roots(datetime.fromtimestamp(1795399600, UTC), datetime.fromtimestamp(FINAL, UTC))
    assert final in new.tolist()
    assert pcg.base_resolution == [10, 10, 10]


def test_caveclient_follows_a_root_that_was_replaced(server: ReplayServer, truth: Truth) -> None:
    merge = next(o for o in truth.told["operations"] if o["operation_id"] == 57)
    for old in merge["old_root_ids"]:
        assert client(server).suggest_latest_roots(old) == merge["new_root_ids"][0]


def test_caveclient_previews_the_recorded_cuts(server: ReplayServer, recorded: list[tuple[Request, Answer]]) -> None:
    pcg, compared = client(server), 0
    for request, answer in asked(recorded, "graph/split_preview")[-12:]:
        sides = json.loads(request.body)
        points = [[p[1:] for p in sides[side]] for side in ("sources", "sinks")]
        seeds = [[p[0] for p in sides[side]] for side in ("sources", "sinks")]
        sources, sinks, legal = pcg.preview_split(*points, 0, *seeds)
        told = json.loads(answer.body)
        assert [sorted(sources), sorted(sinks)] == [sorted(c) for c in told["supervoxel_connected_components"][:2]]
        assert legal != told["illegal_split"]
        compared += 1
    assert compared == 12


@pytest.mark.parametrize("name", ["before_first_operation", "after_half", "final"])
def test_cloudvolume_reads_labels_as_they_were(server: ReplayServer, truth: Truth, name: str) -> None:
    from cloudvolume import CloudVolume

    when = truth.told["read_times"][name]
    cloud: Any = CloudVolume(
        f"graphene://{server.url}/segmentation/table/{TABLE}",
        agglomerate=True,
        timestamp=int(when) if name == "final" else when,
        progress=False,
        secrets="0123456789abcdef",
    )
    assert tuple(cloud.voxel_offset) == OFFSET
    low, high = (1060, 2090, 2700), (1110, 2140, 2740)
    labels = np.asarray(cloud[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])[..., 0]
    points = truth.table["inner_point_voxel"].astype(int)
    inside = ((points >= low) & (points < high)).all(axis=1)
    assert inside.sum() > 20
    x, y, z = (points[inside] - low).T
    assert np.array_equal(labels[x, y, z], truth.roots_at(when)[inside])


def test_cloudvolume_reads_supervoxels_and_image(server: ReplayServer, truth: Truth) -> None:
    voxels, gray = read_volumes(server)
    assert np.array_equal(voxels, supervoxels())
    ids = truth.table["supervoxel_id"]
    assert np.array_equal(fastremap.unique(voxels), ids)
    x, y, z = (truth.table["inner_point_voxel"].astype(int) - OFFSET).T
    assert np.array_equal(voxels[x, y, z], ids)
    seeds = [s for o in truth.told["operations"] for s in (*o["sources"], *o["sinks"])]
    x, y, z = (np.asarray([s["point_voxel"] for s in seeds]) - OFFSET).T
    assert voxels[x, y, z].tolist() == [s["supervoxel_id"] for s in seeds]
    # each supervoxel lies in the chunk that its id names
    for chunk in np.ndindex(4, 4, 4):
        here = fastremap.unique(voxels[tuple(slice(c * CHUNK, (c + 1) * CHUNK) for c in chunk)])
        named = here[:, None] >> np.asarray([46, 36, 26], np.uint64) & np.uint64(1023)
        assert (named == np.asarray(chunk, np.uint64)).all()
    # membranes are dark
    assert darkness_of_borders(voxels, gray) > 10


def test_cloudvolume_finds_meshes_that_are_given(truth: Truth) -> None:
    from cloudvolume import CloudVolume, Mesh

    root = int(truth.table["final_root"][0])
    triangle = Mesh(np.eye(3, dtype=np.float32), np.asarray([[0, 1, 2]], np.uint32), None)
    files = {"info": json.dumps({"@type": "neuroglancer_legacy_mesh"}).encode(), "part": triangle.to_precomputed()}
    with replay.replay_server(FIXTURE, mesh_files=files, manifests={root: ["part"]}) as server:
        cloud: Any = CloudVolume(
            f"graphene://{server.url}/segmentation/table/{TABLE}", progress=False, secrets="0123456789abcdef"
        )
        mesh = cloud.mesh.get(root, deduplicate_chunk_boundaries=False)[root]
        assert np.array_equal(mesh.vertices, triangle.vertices)
        with pytest.raises(requests.HTTPError):
            cloud.mesh.get(root + 1)


# ------------------------------------------------------------------ the graph at any time


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(0, 54), data=st.data())
def test_level2_nodes_divide_each_root_by_chunk(
    composing: ReplayServer, truth: Truth, step: int, data: st.DataObject
) -> None:
    graph = composing.graph
    when = 1795399600.0 if step == 0 else float(truth.table["operation_times"][step - 1])
    roots = truth.roots_at(when)
    root = data.draw(st.sampled_from(np.unique(roots).tolist()))
    members = truth.table["supervoxel_id"][roots == root]
    nodes = graph.roots_of(members, when, stop_layer=2)
    parts = [graph.leaves(int(n), None) for n in np.unique(nodes)]
    assert sorted(s for part in parts for s in part) == members.tolist()
    # a node lies in the chunk of its supervoxels
    assert np.array_equal(
        nodes >> np.uint64(26) & np.uint64(2**30 - 1), members >> np.uint64(26) & np.uint64(2**30 - 1)
    )
    assert (graph.roots_of(nodes, when) == root).all()
    assert set(graph.leaves(root, None, stop_layer=2)) == set(graph.roots_of(members, when, 2).tolist())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(1, 54))
def test_level2_ids_change_only_with_their_supervoxels(composing: ReplayServer, step: int) -> None:
    before, after = composing.graph.nodes[step - 1], composing.graph.nodes[step]
    changed = np.flatnonzero(before != after)
    touched = {*before[changed].tolist(), *after[changed].tolist()}
    for node in touched:
        assert set(np.flatnonzero(before == node)) != set(np.flatnonzero(after == node))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(when=st.floats(1795399600.0, 1795399830.0))
def test_roots_at_any_time_are_the_truth(server: ReplayServer, truth: Truth, when: float) -> None:
    when = round(when, 3)
    found = server.graph.roots_of(truth.table["supervoxel_id"], when)
    assert np.array_equal(found, truth.roots_at(when))


def test_an_operation_has_happened_at_its_own_time(composing: ReplayServer, truth: Truth) -> None:
    for row, when in enumerate(truth.table["operation_times"].tolist()):
        assert composing.graph.row(when) == row + 1
        assert composing.graph.row(when - 0.001) == row
