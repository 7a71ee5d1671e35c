"""Whole segments by materialised tables: caveclient against a local service, over the recorded graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import yaml
from cave_configs import CAVE
from cave_ground import OFFSET, VOXEL_NM, Ground
from graph_truth import FIXTURE, Truth
from materialize_server import DATASTACK, Table, server_with_tables
from replay_answers import TABLE
from replay_server import ReplayServer

from connectomebench.build.config import parse_config
from connectomebench.core.errors import ConnectomeBenchError, TaskLacking
from connectomebench.core.whole_segment import WholeSegment
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import IN_PROCESS
from connectomebench.sites import segment_classes
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.segment_classes import classification_sites, classify
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.tables import read_cell_types, read_nuclei

LARGE_VX = 20_000  # of segments that are given nuclei


def box_vx(ground: Ground, segment: int) -> tuple[list[int], list[int]]:
    """First and last voxel of a final segment, from the volume itself."""
    inside = (ground.final == np.uint64(segment))[ground.rows]
    spans = [np.flatnonzero(inside.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    return [int(s[0]) for s in spans], [int(s[-1]) for s in spans]


@pytest.fixture(scope="module")
def cast(truth: Truth, ground: Ground) -> dict[str, list[int]]:
    """Final segments by the part they play: edited ones (which count as proofread), and others."""
    final = truth.table["final_root"]
    sizes = np.bincount(np.unique(final, return_inverse=True)[1][ground.rows.ravel()])
    by_size = dict(zip(np.unique(final).tolist(), sizes.tolist(), strict=True))
    initial = set(truth.table["initial_root"].tolist())
    several = {r for r in by_size if (final == np.uint64(r)).sum() > 2}
    edited = sorted((r for r in several - initial if by_size[r] > LARGE_VX), key=lambda r: by_size[r])
    others = sorted((r for r in several & initial if by_size[r] > LARGE_VX), key=lambda r: by_size[r])
    # the smallest of these: what is claimed does not need large meshes
    assert len(edited) >= 5 and len(others) >= 3
    return {
        "one": edited[:1],
        "several": edited[1:2],
        "none": edited[2:5],
        "other": others[:1],
        "nucleus": others[1:2],
        "unknown": others[2:3],
    }


@pytest.fixture(scope="module")
def tables(truth: Truth, ground: Ground, cast: dict[str, list[int]]) -> dict[str, Table]:
    """Nuclei of these segments, with a row outside of all segments and one without a supervoxel, and their types."""
    ids, final = truth.table["supervoxel_id"], truth.table["final_root"]

    def supervoxels(part: str, count: int) -> list[int]:
        return ids[final == np.uint64(cast[part][0])][:count].tolist()

    wanted = [("one", 1), ("several", 2), ("other", 1), ("nucleus", 1), ("unknown", 1)]
    points = [(part, sv) for part, count in wanted for sv in supervoxels(part, count)]
    start, end = [], []
    for part, _ in points:
        low, high = box_vx(ground, cast[part][0])
        if part != "nucleus":  # a nucleus is a small part of its cell
            high = [a + (b - a) // 5 for a, b in zip(low, high, strict=True)]
        start.append([a + o for a, o in zip(low, OFFSET, strict=True)])
        end.append([b + 1 + o for b, o in zip(high, OFFSET, strict=True)])
    numbers = list(range(101, 101 + len(points) + 2))
    columns: dict[str, list[object]] = {
        "id": [*numbers],
        "valid": ["t"] * len(numbers),
        "pt_supervoxel_id": [*(sv for _, sv in points), 0, None],
        "pt_root_id": [1] * len(numbers),  # out of date
    }
    for axis, name in enumerate("xyz"):
        columns[f"bb_start_position_{name}"] = [*(p[axis] for p in start), 0, None]
        columns[f"bb_end_position_{name}"] = [*(p[axis] for p in end), 0, None]
    kinds = {"one": ("excitatory_neuron", "23P"), "several": ("inhibitory_neuron", "BC"), "other": ("nonneuron", "OPC")}
    typed = [(number, *kinds[part]) for number, (part, _) in zip(numbers, points, strict=False) if part in kinds]
    types = pa.table(
        {
            "id": pa.array(range(len(typed)), pa.int64()),
            "target_id": pa.array([t[0] for t in typed], pa.int64()),
            "classification_system": [t[1] for t in typed],
            "cell_type": [t[2] for t in typed],
        }
    )
    return {
        "nuclei": Table(pa.table(columns)),
        "types": Table(types, reference="nuclei"),
        "short": Table(pa.table(columns), cut_short=True),
        "rounded": Table(pa.table({"id": [1, 2], "pt_supervoxel_id": [float(points[0][1]), None]})),
        "bare": Table(pa.table({"id": [1], "cell_type": ["23P"]})),
    }


@pytest.fixture(scope="module")
def served(tables: dict[str, Table]) -> Iterator[ReplayServer]:
    with server_with_tables(FIXTURE, tables) as server:
        yield server


def configuration(url: str, proofread: list[int]) -> str:
    text = CAVE.replace("ROOTS", f"ids: {proofread}").replace("graph_table: fib_medulla_ts2", f"datastack: {DATASTACK}")
    tables = "tables: {nuclei: nuclei, cell_types: types, most: 5}"
    return text.replace("requests:", f"{tables}\n    requests:").replace("SERVER", url)


@pytest.fixture(scope="module")
def source(
    served: ReplayServer, cast: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CaveSource]:
    proofread = [*cast["one"], *cast["several"], *cast["none"]]
    config = parse_config(yaml.safe_load(configuration(served.url, proofread)))
    assert config.source.cave is not None
    folder = tmp_path_factory.mktemp("tables")
    with open_runner(IN_PROCESS, 2) as runner:
        yield CaveSource(config.source.cave, config.species, folder, folder, runner)


@pytest.fixture(scope="module")
def found(source: CaveSource) -> dict[int, WholeSegment]:
    return {whole.segment: whole for whole in source.whole_segments().found}


def test_each_segment_gets_its_class(found: dict[int, WholeSegment], cast: dict[str, list[int]]) -> None:
    wanted = {"one": "a", "several": "b", "other": "e", "nucleus": "d", "unknown": None}
    for part, letter in wanted.items():
        assert classify(found[cast[part][0]])[0] == letter, part
    without = [whole for segment, whole in found.items() if segment in cast["none"]]
    assert without and {classify(whole)[0] for whole in without} == {"c"}
    assert classify(found[cast["unknown"][0]])[1] == "cell of unknown type"


def test_boxes_are_those_of_the_voxels(
    found: dict[int, WholeSegment], cast: dict[str, list[int]], ground: Ground
) -> None:
    for segment in sorted(set(found) & {s for part in cast.values() for s in part}):
        low, high = box_vx(ground, segment)
        lower = np.add(low, OFFSET) * VOXEL_NM
        upper = (np.add(high, OFFSET) + 1) * VOXEL_NM
        # smoothing moves a surface by half a voxel, and dust is not drawn
        assert np.abs(np.subtract(found[segment].box.lower_nm, lower)).max() <= 2 * VOXEL_NM
        assert np.abs(np.subtract(found[segment].box.upper_nm, upper)).max() <= 2 * VOXEL_NM


def test_pieces_of_before_an_edit_hold_no_nucleus(
    found: dict[int, WholeSegment], cast: dict[str, list[int]], truth: Truth, tables: dict[str, Table]
) -> None:
    nuclei = {sv for sv in tables["nuclei"].rows["pt_supervoxel_id"].to_pylist() if sv}
    ids = truth.table["supervoxel_id"]
    final = set(truth.table["final_root"].tolist())
    pieces = [whole for segment, whole in found.items() if segment not in final]
    assert len(pieces) >= 2
    # every set of supervoxels that was once a segment, by its id
    states = [truth.table["initial_root"], *(truth.roots_at(t) for t in truth.table["operation_times"].tolist())]
    for whole in pieces:
        members = next(ids[roots == np.uint64(whole.segment)] for roots in states if np.uint64(whole.segment) in roots)
        assert not nuclei & set(members.tolist())
        (body,) = whole.bodies
        inside = truth.table["final_root"][np.isin(ids, members)]
        assert (inside == np.uint64(body)).any()
        assert classify(whole)[0] == "c"


def test_sites_are_drawn_whole(
    source: CaveSource, found: dict[int, WholeSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_classes, "LEAST", 1)
    labelled = classification_sites(source, SiteConfig((300, 450), 300))
    assert {site.answer for site in labelled.sites} == set("abcde")
    for site in labelled.sites[:6]:
        (mesh,) = source.meshes(site)
        inside = np.abs(mesh.vertices_nm - np.asarray(site.location_nm)) <= site.extent_nm / 2
        assert inside.all()
        edges = found[site.parts[0].segment_id].edges_nm
        assert f"measures {round(edges[0])} x {round(edges[1])} x {round(edges[2])} nm" in (site.question or "")


def test_tables_are_read_exactly(source: CaveSource, tables: dict[str, Table]) -> None:
    client = source.archive.spec.open().connection.materialize
    rows = tables["nuclei"].rows.to_pylist()
    nuclei = read_nuclei(client, "nuclei")
    assert nuclei.supervoxels.tolist() == [row["pt_supervoxel_id"] for row in rows if row["pt_supervoxel_id"]]
    assert max(nuclei.supervoxels.tolist()) > 2**53
    first = [(rows[0][f"bb_end_position_{a}"] - rows[0][f"bb_start_position_{a}"]) * VOXEL_NM for a in "xyz"]
    assert nuclei.edges_nm[0].tolist() == first
    assert set(read_cell_types(client, "types").of_nucleus.values()) == {"neuron", "other"}
    assert client.session.hooks["response"] == []


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("short", r"table short: the server left rows out .*source\.cave\.tables\.nuclei"),
        ("nowhere", r"table nowhere cannot be read \(HTTPError\); name another with source\.cave\.tables\.nuclei"),
        ("rounded", r"table rounded: .*floating-point number"),
        ("bare", r"table bare has no column pt_supervoxel_id"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(source: CaveSource, table: str, problem: str) -> None:
    client = source.archive.spec.open().connection.materialize
    with pytest.raises(ConnectomeBenchError, match=problem) as caught:
        read_nuclei(client, table)
    assert "\n" not in str(caught.value)


def test_a_table_of_types_needs_cells(source: CaveSource) -> None:
    client = source.archive.spec.open().connection.materialize
    with pytest.raises(ConnectomeBenchError, match="table bare has neither target_id nor pt_supervoxel_id"):
        read_cell_types(client, "bare")


def test_a_graph_alone_has_no_tables(cave_source: CaveSource) -> None:
    with pytest.raises(TaskLacking, match=r"a graph alone .* has no tables of nuclei; set the datastack"):
        cave_source.whole_segments()
    assert TABLE in cave_source.info.name
