"""Places to point at from a recorded edit history. Skipped where the recording is not at hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pytest
from caveclient.auth import AuthClient
from caveclient.chunkedgraph import ChunkedGraphClient
from replay_server import ReplayServer
from replay_volumes import NO_RECORDING, RECORDING

from connectomebench.core.cut import CutConfig, ProposalConfig
from connectomebench.core.place_score import score_row
from connectomebench.core.site import Site
from connectomebench.evaluation.cut_verdicts import judge_answers
from connectomebench.sites.candidates import CandidateConfig, find_candidates
from connectomebench.sites.choices import choice_sites
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.place_sites import localization_sites, proposal_sites
from connectomebench.sites.view_nodes import NodeConfig
from connectomebench.sources.cave.cave_source import CaveSource

pytestmark = pytest.mark.skipif(not RECORDING.exists(), reason=NO_RECORDING)
RULES = SiteConfig(extent_nm=(450, 450), min_segment_voxels=200, nodes=NodeConfig(least=2, max_chance=0.9, shift=0.2))
CUTTING = ProposalConfig(reach_nm=900.0, cuts=CutConfig(cutout_nm=800, min_body_voxels=500), wrong_tries=2)


@pytest.fixture
def source(recorded_source: CaveSource) -> CaveSource:
    return recorded_source


def as_row(site: Site, source: CaveSource) -> dict:
    names = ("task", "answer", "target_nm", "location_nm", "extent_nm", "segment_ids", "edit_id", "question")
    return {name: getattr(site, name) for name in names} | {"source": source.info.name}


def test_splits_of_people_are_asked_for_and_judged_by_the_same_cut(source: CaveSource) -> None:
    proposals, _ = source.propose(CUTTING, 450.0)
    segments = sorted({p.segment for p in proposals})
    skeletons = dict(source.skeletons(segments))
    found = proposal_sites(source, source.corrections(), proposals, skeletons, RULES, ControlConfig(), CUTTING)
    good = {p.edit_id for p in proposals if p.verdict.good}
    assert found.sites, found.dropped
    assert {site.edit_id for site in found.sites} <= good
    rows = [as_row(site, source) for site in found.sites]
    assert all(score_row(row["answer"], row) == 1.0 for row in rows)
    verdicts = judge_answers([row["answer"] for row in rows], rows, source, CUTTING)
    assert all(verdict.good for verdict in verdicts)
    # both seeds on one node cut nothing
    [same] = judge_answers(["sources=[node 1];sinks=[node 1]"], rows[:1], source, CUTTING)
    assert not same.good and same.problem == "seeds of both sides in one piece"


def test_merges_of_people_are_asked_for_at_the_place_of_the_merge(source: CaveSource) -> None:
    corrections = source.corrections()
    places = {merge.edit_id: merge for merge in corrections.merges}
    segments = sorted({segment for merge in corrections.merges for segment in merge.segments})
    skeletons = dict(source.skeletons(segments))
    candidates = find_candidates(skeletons.items(), CandidateConfig(min_nodes=3))
    found = localization_sites(source, corrections, candidates, skeletons, RULES, ControlConfig(), 200.0)
    assert found.sites, found.dropped
    for site in found.sites:
        merge = places[str(site.edit_id)]
        assert site.segment_ids[0] in merge.segments and merge.location_nm in site.target_nm
        assert not source.at_border(np.array(site.segment_ids, np.uint64), np.array([site.location_nm])).any()
        assert score_row(site.answer, as_row(site, source)) == 1.0


def final_roots(server: ReplayServer, segments: Sequence[int]) -> dict[int, set[int]]:
    """Ask the server itself what the supervoxels of each segment belong to in the end."""
    graph = ChunkedGraphClient(
        server.url, table_name="fib_medulla_ts2", auth_client=AuthClient(server_address=server.url, token="unused")
    )
    until = datetime.fromisoformat("2026-11-23T02:10:28+00:00")
    return {s: {int(r) for r in graph.get_roots(graph.get_leaves(s), timestamp=until)} for s in segments}


def test_choices_name_the_segment_that_people_merged(source: CaveSource, recorded_server: ReplayServer) -> None:
    corrections = source.corrections()
    segments = sorted({segment for merge in corrections.merges for segment in merge.segments})
    skeletons = dict(source.skeletons(segments))
    ends = find_candidates(skeletons.items(), CandidateConfig(min_nodes=3))
    rules = SiteConfig(extent_nm=(450, 450), min_segment_voxels=200, merge_match_nm=400)
    found = choice_sites(source, corrections, source.contacts(), ends, skeletons, rules, ControlConfig())
    assert len({site.answer for site in found.sites}) > 2 and "none" in {site.answer for site in found.sites}
    roots = final_roots(recorded_server, sorted({s for site in found.sites for s in site.segment_ids}))
    merges = {merge.edit_id: set(merge.segments) for merge in corrections.merges}
    for site in found.sites:
        base, *offered = site.segment_ids
        assert tuple(offered) == site.choices and base not in offered and 1 <= len(offered) <= 4
        same = [letter for letter, choice in zip("abcd", offered, strict=False) if roots[choice] & roots[base]]
        assert same == ([] if site.answer == "none" else [site.answer]), site
        if site.is_case:
            assert {base, offered["abcd".index(site.answer)]} <= merges[str(site.edit_id)]
