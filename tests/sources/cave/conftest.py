"""The replayed PyChunkedGraph server, what is true of its graph, and what the source `cave` makes of it, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cave_configs import CAVE, open_cave
from cave_ground import Ground, mesh_files, read_ground
from graph_truth import FIXTURE, Truth, read_truth
from replay_server import ReplayServer, replay_server
from replay_volumes import RECORDING, layer_files

from connectomebench.build.config import load_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.cut_sides import ServerCuts

# operations whose places are shown with level-2 meshes: a merge and three splits
MESHED = (1, 15, 20, 30)


@pytest.fixture(scope="session")
def truth() -> Truth:
    """Which supervoxel belongs to what, when."""
    return read_truth()


@pytest.fixture(scope="session")
def server() -> Iterator[ReplayServer]:
    """The server without faults; its counters are shared, so compare differences."""
    layer_files("ws")  # made before the first request, which does not wait for ever
    with replay_server(FIXTURE) as running:
        yield running


@pytest.fixture(scope="session")
def ground(truth: Truth) -> Ground:
    """The volume, and its segments at any time."""
    return read_ground(truth)


@pytest.fixture(scope="session")
def site_server(server: ReplayServer, ground: Ground) -> Iterator[ReplayServer]:
    """The same server with level-2 meshes of the segments of ``MESHED``, just before these operations."""
    files: dict[str, bytes] = {}
    for number, told in enumerate(ground.truth.told["operations"]):
        if told["operation_id"] in MESHED:
            points = [seed["point_nm"] for seed in (*told["sources"], *told["sinks"])]
            center = [sum(values) / len(points) for values in zip(*points, strict=True)]
            files |= mesh_files(
                ground, server.graph.roots[number], server.graph.nodes[number], set(told["old_root_ids"]), center
            )
    with replay_server(FIXTURE, mesh_files=files) as running:
        yield running


@pytest.fixture(scope="session")
def cave_source(site_server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaveSource]:
    """The source over all edited segments, with image data."""
    with open_cave(site_server.url, tmp_path_factory.mktemp("archive")) as source:
        yield source


@pytest.fixture(scope="session")
def recorded_server() -> Iterator[ReplayServer]:
    """The server with the recorded volumes, which are not everywhere."""
    layer_files("ws", RECORDING)  # read before the first request, which does not wait for ever
    with replay_server(recording=RECORDING) as running:
        yield running


@pytest.fixture(scope="session")
def recorded_source(recorded_server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaveSource]:
    """The source over all edited segments of the recorded volumes."""
    with open_cave(recorded_server.url, tmp_path_factory.mktemp("recorded")) as source:
        yield source


@pytest.fixture(scope="session")
def archive(cave_source: CaveSource) -> Archive:
    """Its history and surveys."""
    return cave_source.archive


@pytest.fixture(scope="session")
def cutting(archive: Archive) -> ServerCuts:
    """Cuts of its segments."""
    return ServerCuts(archive)


@pytest.fixture(scope="session")
def cave_config(archive: Archive, site_server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small build from twelve of the edited segments, among them those of a merge that was undone."""
    ids = archive.roots.ids[:12].tolist()
    path = tmp_path_factory.mktemp("cave_config") / "cave.yaml"
    path.write_text(CAVE.replace("ROOTS", f"ids: {ids}").replace("SERVER", site_server.url))
    return path


@pytest.fixture(scope="session")
def cave_built(cave_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that build, made without interruption."""
    out = tmp_path_factory.mktemp("cave_built") / "out"
    build_datasets(load_config(cave_config), out, base=cave_config.parent)
    return out
