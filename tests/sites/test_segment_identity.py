"""Pairs of pictures: one segment twice, or two that are alike; nothing but shape may tell which."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.stats import ks_2samp

from connectomebench.core.correction import Corrections, Overlaps
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.site import Site
from connectomebench.core.source import SourceInfo
from connectomebench.sites.candidates import CandidateConfig
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.segment_identity import LEAST_CABLE, SHIFT, ZOOM, identity_sites

RULES = SiteConfig(extent_nm=(2000, 3000), min_segment_voxels=100)
CONTROLS = ControlConfig(pool_per_case=2)
RADII = CandidateConfig()
N_SEGMENTS = 40


class Forest:
    """Random trees; every second pair of segments is of one body, segment 1 is fused and segment 2 small."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.skeletons = {s: tree(rng, rng.uniform(0, 60_000, 3)) for s in range(1, N_SEGMENTS + 1)}
        ids = np.arange(1, N_SEGMENTS + 1, dtype=np.uint64)
        voxels = np.array([len(self.skeletons[int(s)].nodes_nm) * 40 for s in ids], np.int64)
        voxels[1] = 50
        bodies = {s: 100 + s // 2 for s in range(2, N_SEGMENTS + 1)}
        table = Overlaps(ids, ids, voxels, voxels)
        none = np.zeros((0, 3), np.float32)
        self.corrections = Corrections((), (), table, bodies, {1: (100, 101)}, none)

    @property
    def info(self) -> SourceInfo:
        return SourceInfo("forest", "1", "fly", Box((0,) * 3, (7e4,) * 3), False, False, 1.0, "cc-by-4.0", "")

    def at_border(self, segment_ids, points_nm):
        return np.asarray(points_nm)[:, 0] > 55_000


def tree(rng: np.random.Generator, root: np.ndarray) -> Skeleton:
    """A trunk of 9 µm with a twig every 1.5 µm, nodes 100 nm apart."""
    nodes, edges, trunk = [root], [], 0
    heading = rng.normal(size=3)
    for step in range(90):
        heading = heading / np.linalg.norm(heading) + 0.15 * rng.normal(size=3)
        edges.append((trunk, len(nodes)))
        nodes.append(nodes[edges[-1][0]] + 100 * heading / np.linalg.norm(heading))
        trunk = len(nodes) - 1
        if step % 15 == 7:
            way, before = rng.normal(size=3), trunk
            for _ in range(int(rng.integers(8, 20))):
                edges.append((before, len(nodes)))
                nodes.append(nodes[before] + 100 * way / np.linalg.norm(way))
                before = len(nodes) - 1
    radii = np.full(len(nodes), 60 + 80 * rng.random())
    return Skeleton(np.array(nodes, np.float32), np.array(edges, np.int32), radii.astype(np.float32))


@pytest.fixture(scope="module")
def forest() -> Forest:
    return Forest()


@pytest.fixture(scope="module")
def sites(forest: Forest) -> list[Site]:
    return made(forest).sites


def made(forest: Forest):
    return identity_sites(forest, forest.corrections, forest.skeletons, RULES, CONTROLS, RADII)  # type: ignore[arg-type]


def of(sites: list[Site], answer: str) -> list[Site]:
    return [site for site in sites if site.answer == answer]


def test_answers_are_true(forest: Forest, sites: list[Site]) -> None:
    assert len(of(sites, "yes")) > 60 and len(of(sites, "no")) > 60
    for site in sites:
        assert site.second is not None
        first, second = site.parts[0].segment_id, site.second.segment_id
        assert (site.answer == "yes") == (first == second)
        # by the skeletons themselves, which segment is at each place
        for segment, place in ((first, site.location_nm), (second, site.second.location_nm)):
            assert KDTree(forest.skeletons[segment].nodes_nm).query(place)[0] < 1e-3
        assert set(site.segment_ids) == {first, second}
        assert set(site.body_ids) == {forest.corrections.body_of[s] for s in {first, second}}
        assert (site.answer == "yes") == (len(set(site.body_ids)) == 1)
        assert not {1, 2} & set(site.segment_ids)
        assert site.origin == "control" and site.edit_id is None


def test_both_pictures_of_a_case_share_structure(forest: Forest, sites: list[Site]) -> None:
    for site in of(sites, "yes"):
        assert site.second is not None
        apart = float(np.linalg.norm(np.subtract(site.location_nm, site.second.location_nm)))
        narrow = min(site.extent_nm, site.second.extent_nm)
        assert apart <= SHIFT[1] * narrow
        skeleton = forest.skeletons[site.parts[0].segment_id]
        a, b = skeleton.nodes_nm[skeleton.edges.T].astype(float)
        shown = Box.around(site.location_nm, narrow).contains((a + b) / 2)
        assert np.linalg.norm(a - b, axis=1)[shown].sum() >= 0.9 * LEAST_CABLE * narrow


def test_zoom_says_nothing(sites: list[Site]) -> None:
    ratios = {}
    for answer in ("yes", "no"):
        own = [site.second.extent_nm / site.extent_nm for site in of(sites, answer) if site.second]
        ratios[answer] = np.array([min(r, 1 / r) for r in own])
        assert (ratios[answer] > ZOOM[0] - 1e-3).all() and (ratios[answer] < ZOOM[1] + 1e-3).all()
        wider_first = np.mean([r < 1 for r in own])
        assert 0.3 < wider_first < 0.7
    assert ks_2samp(ratios["yes"], ratios["no"]).pvalue > 0.01


def test_pictures_are_of_the_same_places_in_cases_and_controls(sites: list[Site]) -> None:
    shown = {}
    for answer in ("yes", "no"):
        own = of(sites, answer)
        shown[answer] = {s.location_nm for s in own}, {s.second.location_nm for s in own if s.second}
    for place in (0, 1):
        assert len(shown["no"][place] & shown["yes"][place]) > 0.7 * len(shown["yes"][place])


def test_a_control_resembles_a_case(sites: list[Site]) -> None:
    # both pictures together: the difference of what they show is as in cases
    for name in ("cable", "volume", "branches", "segment"):
        apart = {
            answer: [s.covariates[f"log_{name}_first"] - s.covariates[f"log_{name}_second"] for s in of(sites, answer)]
            for answer in ("yes", "no")
        }
        assert abs(np.mean(apart["yes"]) - np.mean(apart["no"])) < 0.25 * max(np.std(apart["no"]), 0.1), name


def test_the_border_is_left_out_and_counted(forest: Forest) -> None:
    found = made(forest)
    assert found.dropped["at the border of the data"] > 0
    assert all(site.location_nm[0] <= 55_000 for site in found.sites)


def test_the_same_input_gives_the_same_sites(forest: Forest, sites: list[Site]) -> None:
    again = made(forest).sites
    assert again == sites
    assert [s.sample_id("fly", "x") for s in again] == [s.sample_id("fly", "x") for s in sites]
    assert len({s.sample_id("fly", "x") for s in sites}) == len(sites)


def test_one_body_alone_gives_no_rows(forest: Forest) -> None:
    alone = {s: skeleton for s, skeleton in forest.skeletons.items() if s in (4, 5)}
    found = identity_sites(forest, forest.corrections, alone, RULES, CONTROLS, RADII)  # type: ignore[arg-type]
    assert found.sites == [] and found.dropped["no second segment of another body"] > 0
