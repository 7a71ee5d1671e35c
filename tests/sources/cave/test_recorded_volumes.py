"""What the recorded volumes show; the other tests use made ones. Skipped where the recording is not at hand."""

from __future__ import annotations

import fastremap
import numpy as np
import pytest
from graph_truth import Truth
from read_replayed import darkness_of_borders, read_volumes
from replay_server import ReplayServer
from replay_volumes import NO_RECORDING, RECORDING

from connectomebench.core.cut import CutConfig, ProposalConfig
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.cut_sides import ServerCuts
from connectomebench.sources.cave.multicut_proposals import propose

pytestmark = pytest.mark.skipif(not RECORDING.exists(), reason=NO_RECORDING)


def test_volumes_are_those_of_the_tables(recorded_server: ReplayServer, truth: Truth) -> None:
    voxels, gray = read_volumes(recorded_server)
    ids, sizes = fastremap.unique(voxels, return_counts=True)
    assert np.array_equal(ids, truth.table["supervoxel_id"])
    assert np.array_equal(sizes, truth.table["size_voxels"])
    assert darkness_of_borders(voxels, gray) > 10


def test_all_recorded_edits_that_stand_are_corrections(recorded_source: CaveSource) -> None:
    counts = recorded_source.archive.corrections.counts
    assert (counts["merges"], counts["splits"], counts["proofread roots"]) == (35, 8, 26)


def test_all_eight_standing_splits_cut_cleanly(recorded_source: CaveSource) -> None:
    rules = ProposalConfig(reach_nm=900.0, cuts=CutConfig(cutout_nm=800, min_body_voxels=500), wrong_tries=2)
    proposals, dropped = propose(recorded_source.archive, ServerCuts(recorded_source.archive), rules, 450.0)
    good = {p.edit_id for p in proposals if p.verdict.good}
    assert good == {f"operation-{number}" for number in (2, 15, 20, 23, 25, 28, 30, 35)}
    # the server previews none of the other cuts
    assert dropped == {"no plausible wrong cut": 9}
