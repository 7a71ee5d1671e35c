"""Places to point at: true in the raw volumes, shown anywhere in the view, and left out where another is as right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_labels import Double, line, truth
from toy_segmentation import OFFSET, VOXEL, arrays, write_toy

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.correction import Corrections, MergeCorrection
from connectomebench.core.cut import ProposalConfig
from connectomebench.core.geometry import Skeleton
from connectomebench.core.place_score import score_row
from connectomebench.core.places import nodes_in
from connectomebench.core.site import Site
from connectomebench.core.source import Source, SourceInfo
from connectomebench.execution.runner import SerialRunner
from connectomebench.sites.candidates import CandidateConfig, find_candidates
from connectomebench.sites.labels import LabelledSites, SiteConfig
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.place_sites import (
    AT_BORDER,
    FAR_NODES,
    NO_NODES,
    OTHER_END,
    OTHER_FUSION,
    localization_sites,
    proposal_sites,
)
from connectomebench.sites.view_nodes import NodeConfig
from connectomebench.sources.factory import open_source

NODES = NodeConfig(least=2, max_chance=0.95, shift=0.2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, BuildConfig]:
    folder = tmp_path_factory.mktemp("toy")
    config = load_config(write_toy(folder))
    source = open_source(config.source, config.species, folder / "cache", folder, SerialRunner())
    return source, replace(config, sites=replace(config.sites, nodes=NODES))  # type: ignore[return-value]


def voxel(point: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (int(np.floor(c / size)) - offset for c, size, offset in zip(point, VOXEL, OFFSET, strict=True))
    return x, y, z


def around(point: tuple[float, float, float], reach: int) -> tuple[slice, ...]:
    return tuple(slice(max(0, v - reach), v + reach + 1) for v in voxel(point))


def as_row(site: Site) -> dict:
    names = ("answer", "target_nm", "location_nm", "extent_nm")
    return {name: getattr(site, name) for name in names} | {"question": site.question}


def listed(site: Site) -> np.ndarray:
    return np.array([nodes_in(str(site.question))[n + 1] for n in range(len(site.nodes_nm))])


def test_the_place_of_a_cut_is_where_raw_labels_change_inside_one_body(toy: tuple[Source, BuildConfig]) -> None:
    source, config = toy
    corrections, skeletons = source.corrections(), dict(source.skeletons([1, 2, 3, 4, 5]))
    candidates = find_candidates(skeletons.items(), config.candidates)
    found = localization_sites(
        source, corrections, candidates, skeletons, config.sites, config.controls, config.candidates.radius_nm
    )
    assert 1 <= len(found.sites) <= 4 and sum(found.dropped.values()) + len(found.sites) >= 4, found.dropped
    made = arrays()
    for site in found.sites:
        (segment,) = site.segment_ids
        labels, bodies = (made[name][around(site.target_nm[0], 2)] for name in ("automatic", "proofread"))
        others = set(labels[bodies == 10].tolist()) - {0}
        assert segment in others and len(others) == 2
        assert score_row(site.answer, as_row(site)) == 1.0
        assert np.allclose(listed(site), np.array(site.nodes_nm) - site.location_nm, atol=0.51)
        assert np.abs(np.array(site.target_nm[0]) - site.location_nm).max() <= NODES.shift * site.extent_nm + 0.1
        best = max(score_row(f"node {n}", as_row(site)) for n in nodes_in(str(site.question)))
        assert best > 0.66, "a node lies near the place"
        assert site.is_case and site.origin == "edit" and site.body_ids == (10,)


def proposed(toy: tuple[Source, BuildConfig], corrections: Corrections | None = None) -> LabelledSites:
    """The fusion of the toy, in the first shift that leaves the view inside the small volume."""
    source, config = toy
    proposals, _ = source.propose(config.proposals, config.sites.extent_nm[1])
    assert any(p.verdict.good for p in proposals)
    skeletons = dict(source.skeletons([4]))
    for seed in range(12):
        rules = replace(config.sites, nodes=replace(NODES, seed=seed, max_chance=1))
        known = corrections or source.corrections()
        found = proposal_sites(source, known, proposals, skeletons, rules, config.controls, config.proposals)
        if not found.dropped[AT_BORDER]:
            return found
    raise AssertionError(found.dropped)


def test_the_places_of_a_split_lie_in_either_body_of_the_raw_truth(toy: tuple[Source, BuildConfig]) -> None:
    found = proposed(toy)
    assert len(found.sites) == 1, found.dropped
    site = found.sites[0]
    truth_volume = arrays()["proofread"]
    inside = [set(np.unique(truth_volume[around(place, 1)]).tolist()) - {0} for place in site.target_nm]
    assert sorted(inside, key=min) == [{20}, {30}]
    assert set(site.target_nm) <= set(site.nodes_nm)
    assert score_row(site.answer, as_row(site)) == 1.0 and site.body_ids == (20, 30)


MERGE = MergeCorrection("m1", (1, 2), 10, (5000.0, 5000.0, 5000.0), 10.0)
FAR = MergeCorrection("m2", (1, 3), 10, (50_000.0, 5000.0, 5000.0), 10.0)
NEAR = MergeCorrection("m2", (1, 3), 10, (5000.0, 5040.0, 5000.0), 10.0)
SIZES, BODIES = {1: 5000, 2: 5000, 3: 5000}, {1: 10, 2: 10, 3: 10}
RULES = SiteConfig(extent_nm=(4000, 4000), min_segment_voxels=100, nodes=NodeConfig(least=2, max_chance=0.9))


def cable(*x_nm: float) -> Skeleton:
    """A straight line along x, far from the border of the data."""
    flat = line(*x_nm)
    return Skeleton(flat.nodes_nm + np.float32([0, 5000, 5000]), flat.edges, flat.radii_nm)


def localized(merges=(MERGE,), skeletons=None, source=None, sizes=SIZES, bodies=BODIES, fused=None, most=0):
    skeletons = skeletons or {1: cable(*range(500, 5001, 100)), 2: cable(*range(5000, 9001, 100))}
    candidates = find_candidates(skeletons.items(), CandidateConfig())
    corrections = truth(sizes, bodies, fused=fused, merges=merges)
    controls = ControlConfig(max_cases=most)
    return localization_sites(source or Double(), corrections, candidates, skeletons, RULES, controls, 300.0)


def test_each_correction_is_asked_from_either_side() -> None:
    found = localized()
    assert {site.segment_ids for site in found.sites} == {(1,), (2,)}
    assert all(site.edit_id == "m1" and site.target_nm == (MERGE.location_nm,) for site in found.sites)
    assert len({site.location_nm for site in found.sites}) == 2
    assert localized().sites == found.sites
    assert len(localized(most=1).sites) == 1


def test_all_places_in_the_view_are_right() -> None:
    found = localized(merges=(MERGE, NEAR))
    of_one = [site for site in found.sites if site.segment_ids == (1,)]
    assert len(of_one) == 2 and all(set(site.target_nm) == {MERGE.location_nm, NEAR.location_nm} for site in of_one)
    assert all(len(site.target_nm) == 1 for site in localized(merges=(MERGE, FAR)).sites)


def test_what_cannot_be_asked_is_counted() -> None:
    assert localized(fused={2: (10, 11)}).dropped["segment is itself a merge error"] == 1
    assert localized(sizes=SIZES | {2: 5}).dropped["segment too small, or without a sure body"] == 1
    assert localized(source=Double(border_x_nm=0.0)).dropped[AT_BORDER] == 2
    whole = cable(*range(5000, 9001, 100))
    assert localized(skeletons={1: cable(4900, 4950, 5000), 2: whole}).dropped[NO_NODES] == 1
    away = localized(skeletons={1: cable(*range(500, 3901, 100)), 2: whole})
    assert away.dropped[FAR_NODES] + away.dropped[NO_NODES] == 1


def test_another_end_that_goes_on_leaves_the_view_out() -> None:
    skeletons = {1: cable(*range(500, 5001, 100)), 2: cable(*range(5000, 6601, 100))}
    asked = [site for site in localized(skeletons=skeletons).sites if site.segment_ids == (2,)]
    shown = [site for site in asked if abs(6600 - site.location_nm[0]) < 2000]
    unsure = localized(skeletons=skeletons, source=Double(unsure_x_nm=(6600.0,)))
    assert len(asked) == 1 and unsure.dropped[OTHER_END] == len(shown)
    assert len(unsure.sites) == len(localized(skeletons=skeletons).sites) - len(shown)
    # explained by a correction there, it is one of the right places
    there = MergeCorrection("m3", (2, 3), 10, (6600.0, 5000.0, 5000.0), 10.0)
    known = localized(merges=(MERGE, there), skeletons=skeletons, source=Double(unsure_x_nm=(6600.0,)))
    assert not known.dropped[OTHER_END]


def test_a_view_with_a_second_fusion_is_left_out(toy: tuple[Source, BuildConfig]) -> None:
    corrections = toy[0].corrections()
    other = replace(corrections.splits[0], edit_id="another")
    found = proposed(toy, replace(corrections, splits=(*corrections.splits, other)))
    assert not found.sites and found.dropped[OTHER_FUSION] == 1


def test_nothing_is_asked_where_no_cut_is_good(toy: tuple[Source, BuildConfig]) -> None:
    source, config = toy
    proposals, _ = source.propose(config.proposals, config.sites.extent_nm[1])
    wrong = [p for p in proposals if not p.verdict.good]
    found = proposal_sites(source, source.corrections(), wrong, {}, config.sites, config.controls, ProposalConfig())
    assert not found.sites and isinstance(source.info, SourceInfo)
