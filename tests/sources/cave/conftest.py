"""The replayed PyChunkedGraph server, what is true of its graph, and what the source `cave` makes of it, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cave_ground import Ground, mesh_files, read_ground
from graph_truth import FIXTURE, Truth, read_truth
from replay_server import ReplayServer, replay_server

from connectomebench.build.config import load_config, parse_config
from connectomebench.build.pipeline import build
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import IN_PROCESS
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.cut_sides import Cutting

# operations whose places are shown with level-2 meshes: a merge and two splits
MESHED = (1, 20, 25)

CAVE = """\
species: fly
source:
  cave:
    roots: {ROOTS}
    until: "2026-11-23T02:10:28"
    server: SERVER
    graph_table: fib_medulla_ts2
    image: none
    license: cc-by-4.0
    citation: "FlyEM, HHMI Janelia: neuroproof_examples, training_sample2 (FIB-25)"
    meshes: voxels
    requests: {wait_s: 0.01, longest_wait_s: 0.05}
    survey: {cutout_nm: 900, label_voxel_nm: 10, border_nm: 60, min_body_voxels: 500, places_per_batch: 4}
    skeleton: {downsample: [2, 2, 2], dust_voxels: 200}
tasks: [merge_action]
sites: {extent_nm: [300, 450], min_segment_voxels: 300, merge_match_nm: 400}
proposals: {reach_nm: 900}
controls: {pool_per_case: 2}
partition: {cube_nm: 800, test_fraction: 0.3}
views: {image_px: 32, em_px: 32}
"""
# proofread by time: all that were edited
EVERY_ROOT = 'changed_since: "2026-11-23T02:06:58.863"'


@pytest.fixture(scope="session")
def truth() -> Truth:
    """Which supervoxel belongs to what, when."""
    return read_truth()


@pytest.fixture(scope="session")
def server() -> Iterator[ReplayServer]:
    """The server without faults; its counters are shared, so compare differences."""
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
    text = CAVE.replace("ROOTS", EVERY_ROOT).replace("image: none", "image: precomputed://SERVER/data/em")
    config = parse_config(yaml.safe_load(text.replace("SERVER", site_server.url)))
    assert config.source.cave is not None
    folder = tmp_path_factory.mktemp("archive")
    with open_runner(IN_PROCESS, 2) as runner:
        yield CaveSource(config.source.cave, config.species, folder, folder, runner)


@pytest.fixture(scope="session")
def archive(cave_source: CaveSource) -> Archive:
    """Its history and surveys."""
    return cave_source.archive


@pytest.fixture(scope="session")
def cutting(archive: Archive) -> Cutting:
    """Cuts of its segments."""
    return Cutting(archive)


@pytest.fixture(scope="session")
def cave_config(archive: Archive, site_server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small build from twelve of the edited segments, among them those of a merge that was undone."""
    ids = archive.roots[0][:12].tolist()
    path = tmp_path_factory.mktemp("cave_config") / "cave.yaml"
    path.write_text(CAVE.replace("ROOTS", f"ids: {ids}").replace("SERVER", site_server.url))
    return path


@pytest.fixture(scope="session")
def cave_built(cave_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that build, made without interruption."""
    out = tmp_path_factory.mktemp("cave_built") / "out"
    build(load_config(cave_config), out, base=cave_config.parent)
    return out
