"""What the recorded volumes show; the other tests use made ones. Skipped where the recording is not at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cave_configs import open_cave
from graph_truth import Truth
from read_replayed import darkness_of_borders, read_volumes
from replay_server import ReplayServer, replay_server
from replay_volumes import NO_RECORDING, RECORDING, layer_files

from connectomebench.core.cut import CutConfig, ProposalConfig
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cut_sides import ServerCuts
from connectomebench.sources.cave.multicut_proposals import propose

pytestmark = pytest.mark.skipif(not RECORDING.exists(), reason=NO_RECORDING)


@pytest.fixture(scope="module")
def recorded_server() -> Iterator[ReplayServer]:
    layer_files("ws", RECORDING)  # read before the first request, which does not wait for ever
    with replay_server(recording=RECORDING) as server:
        yield server


@pytest.fixture(scope="module")
def recorded_archive(recorded_server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with open_cave(recorded_server.url, tmp_path_factory.mktemp("recorded_archive")) as source:
        yield source.archive


def test_volumes_are_those_of_the_tables(recorded_server: ReplayServer, truth: Truth) -> None:
    voxels, gray = read_volumes(recorded_server)
    ids, sizes = np.unique(voxels, return_counts=True)
    assert np.array_equal(ids, truth.table["supervoxel_id"])
    assert np.array_equal(sizes, truth.table["size_voxels"])
    assert darkness_of_borders(voxels, gray) > 10


def test_all_recorded_edits_that_stand_are_corrections(recorded_archive: Archive) -> None:
    counts = recorded_archive.corrections.counts
    assert (counts["merges"], counts["splits"], counts["proofread roots"]) == (35, 8, 26)


def test_all_eight_standing_splits_cut_cleanly(recorded_archive: Archive) -> None:
    rules = ProposalConfig(reach_nm=900.0, cuts=CutConfig(cutout_nm=800, min_body_voxels=500), wrong_tries=2)
    proposals, dropped = propose(recorded_archive, ServerCuts(recorded_archive), rules, 450.0)
    good = {p.edit_id for p in proposals if p.verdict.good}
    assert good == {f"operation-{number}" for number in (2, 15, 20, 23, 25, 28, 30, 35)}
    # the server previews none of the other cuts
    assert dropped == {"no plausible wrong cut": 9}
