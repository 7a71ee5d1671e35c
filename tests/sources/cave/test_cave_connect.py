"""Connecting to a dataset, and which roots count as proofread."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import requests
from graph_truth import FIXTURE, Truth
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from replay_answers import INFO, TABLE, Answer, Request, json_answer
from replay_server import Faults, ReplayServer, replay_server

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import get_species
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig, RootsConfig
from connectomebench.sources.cave.connect import Connection, connect, proofread_roots

FINAL = datetime.fromtimestamp(1795399828, UTC)
HALF = datetime.fromtimestamp(1795399706, UTC)
UNKNOWN_ROOT = 288230376159999999
FLY = replace(get_species("fly"), proofread_table=None)
QUICK = RequestConfig(attempts=2, wait_s=0.001, longest_wait_s=0.01)
HERE = Path()


def config(server: ReplayServer, **settings: Any) -> CaveConfig:
    return CaveConfig(server=server.url, requests=QUICK, **({"graph_table": TABLE, "image": "none"} | settings))


@pytest.fixture(scope="module")
def connection(server: ReplayServer) -> Connection:
    return connect(config(server), FLY)


def edited_roots(truth: Truth, when: datetime = FINAL) -> list[int]:
    return sorted(set(truth.roots_at(when.timestamp()).tolist()) - set(truth.table["initial_root"].tolist()))


def ids_of(*settings: Any) -> tuple[NDArray[np.uint64], dict[int, str]]:
    """The proofread roots, and what is left out."""
    found = proofread_roots(*settings)
    return found.ids, found.failed


# ------------------------------------------------------------------ the dataset


def test_a_graph_alone_tells_its_paths(server: ReplayServer, connection: Connection) -> None:
    assert (connection.name, connection.login) == (TABLE, server.url)
    assert connection.segmentation == f"graphene://{server.url}/segmentation/table/{TABLE}"
    assert connection.image is None and connection.materialize is None
    image = f"precomputed://{server.url}/data/em"
    given = connect(config(server, image=image, segmentation="graphene://elsewhere/x"), FLY)
    assert (given.segmentation, given.image) == ("graphene://elsewhere/x", image)


def test_a_graph_alone_asks_for_its_image(server: ReplayServer) -> None:
    with pytest.raises(ConnectomeBenchError, match=r"graph_table needs source\.cave\.image"):
        connect(config(server, image=None), FLY)


def test_a_species_without_a_server_says_what_to_do() -> None:
    with pytest.raises(ConnectomeBenchError, match=r"mouse_exm has no CAVE server.*`volumes`.*source\.cave\.server"):
        connect(CaveConfig(), get_species("mouse_exm"))


def test_a_species_without_a_datastack_says_what_to_do(server: ReplayServer) -> None:
    with pytest.raises(ConnectomeBenchError, match=r"no datastack; name one with source\.cave\.datastack"):
        connect(CaveConfig(server=server.url), get_species("mouse_exm"))


VOXELS: list[tuple[str, Any]] = [
    ("no scales", {"scales": None}),
    ("empty scales", {"scales": []}),
    ("no resolution", {"scales": [{"key": "10_10_10"}]}),
    ("zero", {"scales": [{"resolution": [10, 10, 0]}]}),
    ("negative", {"scales": [{"resolution": [-10, 10, 10]}]}),
    ("two axes", {"scales": [{"resolution": [10, 10]}]}),
    ("null", {"scales": [{"resolution": None}]}),
    ("text", {"scales": [{"resolution": ["fine", "fine", "fine"]}]}),
]


@pytest.mark.parametrize("change", [c for _, c in VOXELS], ids=[name for name, _ in VOXELS])
def test_a_voxel_size_that_is_not_stated_is_not_assumed(
    server: ReplayServer, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    answer = server.answer

    def forged(request: Request) -> Answer:
        return json_answer(info | change) if request.path == INFO else answer(request)

    graph = connect(config(server), FLY).graph
    info = connect(config(server), FLY).graph.info()
    monkeypatch.setattr(server, "answer", forged)
    with pytest.raises(ConnectomeBenchError) as caught:
        graph.voxel_nm()
    message = str(caught.value)
    assert f"{server.url} does not state the voxel size of {TABLE}" in message
    assert "none is assumed" in message and "\n" not in message


def test_voxels_need_not_be_cubes(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = connect(config(server), FLY).graph
    scales = {"scales": [{"resolution": [4, 4.5, 40]}, {"resolution": [8, 9, 40]}]}
    monkeypatch.setattr(server, "answer", lambda request: json_answer(scales))
    assert graph.voxel_nm() == (4.0, 4.5, 40.0)


# ------------------------------------------------------------------ a datastack


DATASTACK = "medulla"


@contextmanager
def with_services(faults: Faults | None = None) -> Iterator[ReplayServer]:
    """The replayed server with an info service and the version of a materialisation service."""
    with replay_server(FIXTURE, faults=faults) as server:
        answer = server.answer
        volume = {"name": "medulla_volume", "id": 1, "image_source": "precomputed://gs://nowhere"}
        told = {
            "aligned_volume": volume,
            "local_server": server.url,
            "segmentation_source": f"graphene://{server.url}/segmentation/table/{TABLE}",
            "synapse_table": None,
            "viewer_site": None,
        }
        services = {
            f"/info/api/v2/datastack/full/{DATASTACK}": told,
            "/info/api/v2/aligned_volume/id/1": volume,
            "/info/api/v2/aligned_volume/medulla_volume": volume,
            "/info/version": "4.4.0",
            "/materialize/api/versions": [2, 3],
            "/materialize/version": "4.30.0",
        }

        def wider(request: Request) -> Answer:
            return json_answer(services[request.path]) if request.path in services else answer(request)

        server.answer = wider
        yield server


@pytest.fixture
def full_server() -> Iterator[ReplayServer]:
    with with_services() as server:
        yield server


def test_a_datastack_leads_to_its_graph(
    full_server: ReplayServer, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    species = replace(FLY, datastack=DATASTACK, segmentation="graphene://its/own", em="precomputed://its/image")
    found = connect(CaveConfig(server=full_server.url, requests=QUICK), species)
    assert (found.name, found.login, found.token) == (DATASTACK, full_server.url, None)
    assert (found.segmentation, found.image) == ("graphene://its/own", "precomputed://its/image")
    assert found.graph.voxel_nm() == (10, 10, 10)
    ids = truth.table["supervoxel_id"][:100]
    assert np.array_equal(found.graph.roots(ids, FINAL), truth.table["final_root"][:100])
    assert hasattr(found.materialize, "query_table")
    without = connect(CaveConfig(server=full_server.url, image="none", requests=QUICK), species)
    assert without.image is None
    # caveclient would keep the address of the server there
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(2))
def test_requests_of_a_datastack_are_tried_again(truth: Truth, seed: int) -> None:
    ids = truth.table["supervoxel_id"]
    rules = RequestConfig(attempts=50, wait_s=1e-4, longest_wait_s=1e-3, supervoxels_per_request=500)
    with with_services(Faults(rate=0.4, seed=seed, kinds=("429", "truncated"))) as server:
        found = connect(CaveConfig(server=server.url, datastack=DATASTACK, requests=rules), FLY)
        assert sum(server.faulted.values())
        server.reset()
        assert np.array_equal(found.graph.roots(ids, FINAL), truth.table["final_root"])
        assert set(server.faulted) == {"429", "truncated"}


def test_an_unknown_datastack_says_where_to_look(full_server: ReplayServer) -> None:
    with pytest.raises(ConnectomeBenchError, match=re.escape(full_server.url)) as caught:
        connect(CaveConfig(server=full_server.url, datastack="no_such_stack", requests=QUICK), FLY)
    assert "connectomebench doctor" in str(caught.value) and "\n" not in str(caught.value)


# ------------------------------------------------------------------ tokens


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"token": "not a token!"}', "neither hexadecimal nor base64"),
        ('{"token": ""}', "empty"),
        ("no JSON", "not JSON"),
    ],
)
def test_a_stored_token_that_can_be_none_is_told_without_asking_anybody(
    server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, words: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".cloudvolume" / "secrets" / f"{server.url.removeprefix('http://')}-cave-secret.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    asked = server.requests
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        connect(config(server), FLY)
    message = str(caught.value)
    assert str(path) in message and "setup_token" in message and "answered" not in message and "\n" not in message
    assert server.requests == asked


# ------------------------------------------------------------------ roots


@settings(max_examples=30, deadline=None)
@given(chosen=st.lists(st.integers(0, 25), min_size=1, max_size=30), most=st.none() | st.integers(1, 30))
def test_current_ids_are_taken_as_they_are(
    connection: Connection, truth: Truth, chosen: list[int], most: int | None
) -> None:
    current = edited_roots(truth)
    given_ids = tuple(current[i] for i in chosen)
    roots, failed = ids_of(connection, RootsConfig(ids=given_ids, most=most), FLY, FINAL, HERE)
    assert roots.dtype == np.uint64
    assert roots.tolist() == sorted(set(given_ids))[:most]
    assert failed == {}


def merged_since(truth: Truth, when: datetime) -> dict[int, int]:
    """First root -> root at a time, of first roots that are a part of one other root then."""
    first, now = truth.table["initial_root"], truth.roots_at(when.timestamp())
    ends = {int(r): np.unique(now[first == r]) for r in np.unique(first[first != now])}
    return {r: int(e[0]) for r, e in ends.items() if len(e) == 1 and int(e[0]) != r}


@pytest.mark.parametrize("until", [HALF, FINAL])
def test_ids_that_are_out_of_date_are_followed(connection: Connection, truth: Truth, until: datetime) -> None:
    followed = merged_since(truth, until)
    assert len(followed) > 10
    roots, failed = ids_of(connection, RootsConfig(ids=tuple(followed)), FLY, until, HERE)
    assert roots.tolist() == sorted(set(followed.values()))
    assert failed == {}
    found = proofread_roots(connection, RootsConfig(ids=tuple(followed)), FLY, until, HERE)
    assert found.followed == followed
    # where it was parted, to the descendant that has most of it
    first, now = truth.table["initial_root"], truth.roots_at(until.timestamp())
    parted = next(int(r) for r in np.unique(first) if len(np.unique(now[first == r])) > 1)
    ends, counts = np.unique(now[first == parted], return_counts=True)
    (found,), _ = ids_of(connection, RootsConfig(ids=(parted,)), FLY, until, HERE)
    assert found in ends[counts == counts.max()]


def test_unknown_ids_are_told_and_spoil_no_others(connection: Connection, truth: Truth) -> None:
    current = edited_roots(truth)[:3]
    ids = (*current, UNKNOWN_ROOT, UNKNOWN_ROOT + 1)
    roots, failed = ids_of(connection, RootsConfig(ids=ids), FLY, FINAL, HERE)
    assert roots.tolist() == current
    assert sorted(failed) == [UNKNOWN_ROOT, UNKNOWN_ROOT + 1]
    assert all(reason and "\n" not in reason for reason in failed.values())


def test_unknown_ids_alone_are_an_error(connection: Connection) -> None:
    with pytest.raises(ConnectomeBenchError, match=r"no proofread root found; check source\.cave\.roots"):
        proofread_roots(connection, RootsConfig(ids=(UNKNOWN_ROOT,)), FLY, FINAL, HERE)


def test_a_file_of_ids_is_read_from_the_folder_of_the_configuration(
    connection: Connection, truth: Truth, tmp_path: Path
) -> None:
    current = edited_roots(truth)[:4]
    (tmp_path / "roots.txt").write_text("\n".join(map(str, reversed(current))) + "\n\n")
    roots, failed = ids_of(connection, RootsConfig(file="roots.txt"), FLY, FINAL, tmp_path)
    assert (roots.tolist(), failed) == (current, {})


@pytest.mark.parametrize("content", [None, "12\nroot 7\n", "1.5e17\n"])
def test_a_file_that_cannot_be_used_is_named(connection: Connection, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "roots.txt").write_text(content)
    with pytest.raises(ConnectomeBenchError, match=r"roots\.txt"):
        proofread_roots(connection, RootsConfig(file="roots.txt"), FLY, FINAL, tmp_path)


@pytest.mark.parametrize("until", [HALF, FINAL])
def test_roots_changed_since_are_those_of_the_tables(connection: Connection, truth: Truth, until: datetime) -> None:
    rules = RootsConfig(changed_since="2026-11-23T02:06:00")
    roots, failed = ids_of(connection, rules, FLY, until, HERE)
    assert (roots.tolist(), failed) == (edited_roots(truth, until), {})


def test_nothing_changed_is_an_error(connection: Connection) -> None:
    with pytest.raises(ConnectomeBenchError, match="no proofread root"):
        proofread_roots(connection, RootsConfig(changed_since="2026-11-23T02:10:27"), FLY, FINAL, HERE)
    with pytest.raises(ConnectomeBenchError, match=r"source\.cave\.roots\.changed_since: 'lately'"):
        proofread_roots(connection, RootsConfig(changed_since="lately"), FLY, FINAL, HERE)


# ------------------------------------------------------------------ a table


class Tables:
    """What is asked of the materialisation service: tables of supervoxels."""

    def __init__(self, **tables: Sequence[int]) -> None:
        self.tables = tables
        self.asked: list[tuple[str, list[str]]] = []

    def query_table(self, table: str, select_columns: list[str]) -> pd.DataFrame:
        self.asked.append((table, select_columns))
        supervoxels = self.tables[table]
        # root ids of a materialisation are out of date by now
        rows = pd.DataFrame({"pt_supervoxel_id": supervoxels, "pt_root_id": [1] * len(supervoxels)})
        return rows.loc[:, select_columns]


@pytest.mark.parametrize("until", [HALF, FINAL])
def test_supervoxels_of_a_table_are_followed_to_their_roots(
    connection: Connection, truth: Truth, until: datetime
) -> None:
    ids = truth.table["supervoxel_id"]
    # one that the server does not know, and one point outside of all segments
    cells = [*ids[::400].tolist(), int(ids[-1]) + 1, 0, int(ids[0])]
    tables = Tables(cells=cells)
    with_tables = replace(connection, materialize=tables)
    wanted = sorted(set(truth.roots_at(until.timestamp())[::400].tolist()))
    for rules, species in (
        (RootsConfig(table="cells"), FLY),
        (RootsConfig(), replace(FLY, proofread_table="cells")),
        (RootsConfig(table="cells"), replace(FLY, proofread_table="other")),
    ):
        roots, failed = ids_of(with_tables, rules, species, until, HERE)
        assert (roots.tolist(), failed) == (wanted, {})
    assert tables.asked == [("cells", ["pt_supervoxel_id"])] * 3
    few, _ = ids_of(with_tables, RootsConfig(table="cells", most=2), FLY, until, HERE)
    assert few.tolist() == wanted[:2]


class ArrowTables(Tables):
    """As caveclient reads them: an Arrow stream over HTTP, of which it makes a frame of pandas."""

    def __init__(self, column: pa.Array) -> None:
        super().__init__()
        self.session = requests.Session()
        self._table = pa.table({"pt_supervoxel_id": column})

    def query_table(self, table: str, select_columns: list[str]) -> pd.DataFrame:
        self.asked.append((table, select_columns))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._table.schema) as stream:
            stream.write_table(self._table)
        response = requests.Response()
        response.headers["Content-Type"] = "data.arrow"
        response._content = sink.getvalue().to_pybytes()
        for hook in self.session.hooks["response"]:
            hook(response)
        return self._table.to_pandas()


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_a_table_with_a_null_is_read_exactly(connection: Connection, truth: Truth, kind: pa.DataType) -> None:
    ids, final = truth.table["supervoxel_id"][::700].tolist(), truth.table["final_root"][::700].tolist()
    tables = ArrowTables(pa.array([*ids, None, 0], kind))
    assert tables.query_table("cells", [])["pt_supervoxel_id"].dtype == np.float64
    roots, failed = ids_of(replace(connection, materialize=tables), RootsConfig(table="cells"), FLY, FINAL, HERE)
    assert (roots.tolist(), failed) == (sorted(set(final)), {})
    assert tables.session.hooks["response"] == []


def test_a_table_that_the_server_rounded_is_refused(connection: Connection, truth: Truth) -> None:
    tables = ArrowTables(pa.array([float(truth.table["supervoxel_id"][0]), None], pa.float64()))
    with pytest.raises(ConnectomeBenchError, match=r"table cells of .*pt_supervoxel_id: .*floating-point") as caught:
        proofread_roots(replace(connection, materialize=tables), RootsConfig(table="cells"), FLY, FINAL, HERE)
    assert "\n" not in str(caught.value)


def test_a_nullable_column_of_pandas_is_read_exactly(connection: Connection, truth: Truth) -> None:
    ids = truth.table["supervoxel_id"][:3].tolist()
    tables = Tables(cells=pd.array([*ids, None], dtype="UInt64"))  # pyright: ignore[reportArgumentType]
    roots, _ = ids_of(replace(connection, materialize=tables), RootsConfig(table="cells"), FLY, FINAL, HERE)
    assert roots.tolist() == sorted(set(truth.table["final_root"][:3].tolist()))


def test_a_table_that_does_not_exist_is_named(connection: Connection) -> None:
    with pytest.raises(ConnectomeBenchError, match=rf"table cells of {TABLE} cannot be read \(KeyError\)"):
        proofread_roots(replace(connection, materialize=Tables()), RootsConfig(table="cells"), FLY, FINAL, HERE)


def test_an_empty_table_is_an_error(connection: Connection) -> None:
    with pytest.raises(ConnectomeBenchError, match="no proofread root"):
        proofread_roots(replace(connection, materialize=Tables(cells=[])), RootsConfig(table="cells"), FLY, FINAL, HERE)


def test_a_table_needs_the_datastack(connection: Connection) -> None:
    with pytest.raises(ConnectomeBenchError, match="needs the datastack, not graph_table alone"):
        proofread_roots(connection, RootsConfig(table="cells"), FLY, FINAL, HERE)
    with pytest.raises(ConnectomeBenchError, match=r"fly has no table of proofread cells; set .*changed_since"):
        proofread_roots(connection, RootsConfig(), FLY, FINAL, HERE)


def test_a_server_that_fails_is_one_clear_line() -> None:
    with replay_server(FIXTURE, faults=Faults(force={"is_latest_roots": 503, "delta_roots": 500})) as server:
        connection = connect(config(server), FLY)
        for rules, status in ((RootsConfig(ids=(1,)), 503), (RootsConfig(changed_since="2026-11-23"), 500)):
            with pytest.raises(ConnectomeBenchError) as caught:
                proofread_roots(connection, rules, FLY, FINAL, HERE)
            message = str(caught.value)
            assert message.startswith("the proofread roots cannot be read: ") and str(status) in message
            assert "\n" not in message
