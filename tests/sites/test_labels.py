"""Label rules on small constructed cases; the double stands for where data come from, the rules are the real ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from connectomebench.core.correction import (
    Contacts,
    Corrections,
    MergeCorrection,
    Overlaps,
    SplitCorrection,
    TakenBackMerge,
)
from connectomebench.core.cut import CutConfig, CutGraph, ProposalConfig
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.source import SourceInfo, Surroundings
from connectomebench.cuts.proposals import propose_cuts
from connectomebench.sites.candidates import CandidateConfig, find_candidates
from connectomebench.sites.labels import (
    FRINGE,
    SMALL_SECOND_BODY,
    SiteConfig,
    endpoint_sites,
    merge_action_sites,
    merge_error_sites,
    split_action_sites,
    view_extent_nm,
)
from connectomebench.sites.matched_controls import ControlConfig

RULES = SiteConfig(extent_nm=(2000, 3000), min_segment_voxels=100, merge_match_nm=300)
CONTROLS = ControlConfig(pool_per_case=5)
RADII = CandidateConfig(radius_nm=500, merge_radius_nm=500)


@dataclass
class Double:
    simulated: bool = False
    border_x_nm: float = 1e9
    graph: CutGraph | None = None
    unsure_x_nm: tuple[float, ...] = ()
    clear: bool = True
    asked: list = field(default_factory=list)

    @property
    def info(self) -> SourceInfo:
        box = Box((0, 0, 0), (1e5, 1e5, 1e5))
        return SourceInfo("double", "1", "fly", box, self.simulated, False, 1.0, "cc-by-4.0", "")

    def at_border(self, segment_ids, points_nm):
        assert len(segment_ids) == len(points_nm)
        return np.asarray(points_nm)[:, 0] > self.border_x_nm

    def surroundings(self, segment_ids, points_nm, radius_nm, question="both"):
        self.asked += zip(segment_ids.tolist(), points_nm[:, 0].tolist(), strict=True)
        unsure = np.isin(points_nm[:, 0], self.unsure_x_nm)
        return Surroundings(unsure, unsure & ((question != "clear_second_body") | self.clear))

    def cut_graph(self, segment_id, center_nm, cutout_nm):
        self.asked.append((segment_id, center_nm, cutout_nm))
        return self.graph


def line(*x_nm: float, y: float = 0.0) -> Skeleton:
    nodes = np.array([[x, y, 0] for x in x_nm], np.float32)
    edges = np.column_stack([np.arange(len(x_nm) - 1), np.arange(1, len(x_nm))]).astype(np.int32)
    return Skeleton(nodes, edges, np.full(len(x_nm), 80, np.float32))


def truth(sizes, body_of, fused=None, merges=(), splits=(), unresolved=()) -> Corrections:
    ids = np.array(sorted(sizes), np.uint64)
    voxels = np.array([sizes[int(i)] for i in ids], np.int64)
    table = Overlaps(ids, ids, voxels, voxels)
    places = np.array(unresolved, np.float32).reshape(-1, 3)
    return Corrections(tuple(merges), tuple(splits), table, body_of, fused or {}, places)


def contacts(*rows) -> Contacts:
    pairs, points = zip(*rows, strict=True)
    return Contacts(np.array(pairs, np.uint64), np.array(points, np.float32), np.full(len(rows), 50, np.float32))


def test_merge_action() -> None:
    sizes = {1: 5000, 2: 4000, 3: 3000, 4: 2000, 5: 50, 6: 900, 7: 800}
    corrections = truth(
        sizes,
        {1: 10, 2: 10, 3: 11, 5: 12, 6: 13, 7: 13},
        fused={4: (10, 11)},
        merges=[MergeCorrection("m", (1, 2), 10, (1000, 0, 0), 9)],
    )
    touching = contacts(
        ((1, 2), (1000, 50, 0)),  # one body, at the correction
        ((1, 2), (9000, 0, 0)),  # one body, but no correction here
        ((2, 3), (2000, 0, 0)),  # two bodies
        ((3, 4), (3000, 0, 0)),  # a fused segment: a tangle
        ((3, 5), (4000, 0, 0)),  # too small
        ((6, 7), (5000, 0, 0)),  # one body, no correction known at all
    )
    found = merge_action_sites(Double(), corrections, touching, {}, RULES, CONTROLS)
    with_em = merge_action_sites(Double(), corrections, touching, {}, RULES, CONTROLS, "merge_action_with_em")
    assert with_em.sites == [replace(site, task="merge_action_with_em") for site in found.sites]
    yes, no = ([s for s in found.sites if s.answer == a] for a in ("yes", "no"))
    assert [(s.segment_ids, s.edit_id, s.origin) for s in yes] == [((1, 2), "m", "edit")]
    assert [(s.segment_ids, s.edit_id, s.origin) for s in no] == [((2, 3), None, "control")]
    assert [p.role for p in yes[0].parts] == ["base", "candidate"] and yes[0].location_nm == (1000.0, 50.0, 0.0)
    assert set(yes[0].body_ids) == {10} and no[0].body_ids == (10, 11)
    assert found.dropped["segment is itself a merge error"] == 1
    assert found.dropped["segment too small"] == 1
    assert found.dropped["contact of one body without a localised correction"] == 2
    assert not [reason for reason in found.dropped if reason.startswith("corrections without a case")]


def test_merges_that_were_taken_back_are_the_first_controls() -> None:
    """One case has room for one control: the pair that a person took for one, though many others fit it better."""
    sizes = dict.fromkeys(range(1, 21), 5000) | {20: 900}
    taken_back = TakenBackMerge("wrong", (3, 20), ((9000, 0, 0), (9000, 200, 0)))
    corrections = replace(
        truth(
            sizes,
            {1: 10, 2: 10} | {s: 10 + s for s in range(3, 21)},
            merges=[MergeCorrection("m", (1, 2), 10, (0, 0, 0), 9)],
        ),
        taken_back=(taken_back,),
    )
    others = [((s, s + 1), (1000.0 * s, 0, 0)) for s in range(3, 19)]
    # the contact of the pair that is largest is not the one that was merged
    pair = [((3, 20), (50_000, 0, 0)), ((3, 20), (9000, 190, 0)), ((3, 20), (9000, 500, 0))]
    touching = contacts(((1, 2), (0, 0, 0)), *others, *pair)
    found = merge_action_sites(Double(), corrections, touching, {}, RULES, ControlConfig(pool_per_case=1))
    (case, control) = found.sites
    assert (case.answer, case.hard_negative) == ("yes", False)
    assert (control.answer, control.hard_negative, control.edit_id) == ("no", True, None)
    assert set(control.segment_ids) == {3, 20} and control.location_nm == (9000.0, 190.0, 0.0)
    # far from the merge that was taken back the pair is a control like any other
    far = merge_action_sites(Double(), corrections, contacts(((1, 2), (0, 0, 0)), pair[0]), {}, RULES, CONTROLS)
    assert [s.hard_negative for s in far.sites] == [False, False]


def test_why_a_correction_has_no_case_is_counted_under_its_own_reason() -> None:
    sizes = dict.fromkeys(range(1, 9), 5000)
    merges = [MergeCorrection(f"m{s}", (s, s + 1), 10, (1000.0 * s, 0, 0), 9) for s in (1, 3, 5, 7)]
    # 2 is ambiguous, the contact of 3 and 4 is far off, 5 and 6 do not touch, 7 and 8 are a case by their interface
    merges[3] = replace(merges[3], location_nm=(0, 0, 0), patch_nm=((7000, 0, 0),))
    corrections = truth(sizes, {s: 10 for s in sizes if s != 2}, merges=merges)
    touching = contacts(((1, 2), (1000, 0, 0)), ((3, 4), (9000, 0, 0)), ((7, 8), (7000, 100, 0)))
    found = merge_action_sites(Double(), corrections, touching, {}, RULES, CONTROLS)
    assert [s.edit_id for s in found.sites] == ["m7"]
    reasons = {k.partition(": ")[2]: n for k, n in found.dropped.items() if k.startswith("corrections without a case")}
    assert reasons == {
        "segment without a sure body": 1,
        "all contacts are further away than merge_match_nm, or nearer to another one": 1,
        "no contact": 1,
    }


def test_the_base_is_the_larger_segment_whatever_the_answer() -> None:
    sizes = {1: 300, 2: 900}
    corrections = truth(sizes, {1: 10, 2: 11})
    found = merge_action_sites(Double(), corrections, contacts(((1, 2), (0, 0, 0))), {}, RULES, CONTROLS)
    assert found.sites[0].segment_ids == (2, 1)


def ends_of(corrections: Corrections, source: Double | None = None) -> dict[float, str]:
    skeletons = {1: line(0, 500, 1000, 1500, 2000, 5000), 9: line(0, 500, 1000, 1500, 5000, y=3000)}
    candidates = find_candidates(skeletons.items(), RADII)
    found = endpoint_sites(source or Double(), corrections, candidates, skeletons, RULES, CONTROLS, RADII)
    return {s.location_nm[0] + 10 * s.location_nm[1]: s.answer for s in found.sites}


def test_endpoints() -> None:
    merge = MergeCorrection("m", (1, 2), 10, (5300, 0, 0), 5)
    sizes = {1: 5000, 2: 5000, 9: 5000}
    base = {1: 10, 2: 10, 9: 12}
    assert ends_of(truth(sizes, base, merges=[merge])) == {0: "no", 5000: "yes", 30_000: "no", 35_000: "no"}
    # a correction of other segments near an end, and an excluded one, say nothing of it; the truth itself is asked
    other = MergeCorrection("o", (2, 3), 10, (5000, 3200, 0), 5)
    asked = Double(unsure_x_nm=(0.0,))
    near_others = truth(sizes, base, merges=[merge, other], unresolved=[(5000, 3100, 0)])
    assert ends_of(near_others, asked) == {5000: "yes", 35_000: "no"}
    assert asked.asked == [(1, 0.0), (9, 0.0), (9, 5000.0)], "of controls alone"
    # the distance is that to the whole interface
    long = MergeCorrection("m", (1, 2), 10, (9000, 0, 0), 5, patch_nm=((5400, 0, 0), (8000, 0, 0)))
    assert ends_of(truth(sizes, base, merges=[long])) == {0: "no", 5000: "yes", 30_000: "no", 35_000: "no"}
    # where the data stop an end says nothing; a fused segment is left out
    assert ends_of(truth(sizes, base, merges=[merge]), Double(border_x_nm=4000)) == {0: "no", 30_000: "no"}
    assert ends_of(truth(sizes, {1: 10}, fused={9: (1, 2)}, merges=[merge])) == {0: "no", 5000: "yes"}


def fork(x: float) -> Skeleton:
    nodes = np.array([[x - 900, 0, 0], [x - 450, 0, 0], [x, 0, 0], [x + 450, 450, 0], [x + 450, -450, 0]], np.float32)
    return Skeleton(nodes, np.array([[0, 1], [1, 2], [2, 3], [2, 4]], np.int32), np.full(5, 80, np.float32))


def test_merge_errors() -> None:
    skeletons = {1: fork(1000), 2: fork(9000), 3: fork(20_000)}
    split = SplitCorrection("s", 1, (10, 11), (1100, 100, 0), 4)
    corrections = truth({1: 5000, 2: 5000, 3: 5000}, {2: 12}, fused={1: (10, 11)}, splits=[split])
    candidates = find_candidates(skeletons.items(), RADII)
    source = Double(simulated=True)
    found = merge_error_sites(source, corrections, candidates, skeletons, RULES, CONTROLS, RADII)
    assert [s.answer for s in found.sites] == ["no"] and found.dropped[FRINGE] == 1, "no core of a second body there"

    source.unsure_x_nm = candidates.points_nm[candidates.segments == 1, 0].tolist()
    found = merge_error_sites(source, corrections, candidates, skeletons, RULES, CONTROLS, RADII)
    assert [(s.segment_ids, s.answer, s.body_ids) for s in found.sites] == [
        ((1,), "yes", (10, 11)),
        ((2,), "no", (12,)),
    ]
    assert {s.origin for s in found.sites} == {"simulated"}
    assert found.dropped["segment fused or without a sure body"] == 1  # segment 3 has no body

    source.clear = False
    found = merge_error_sites(source, corrections, candidates, skeletons, RULES, CONTROLS, RADII)
    assert [s.answer for s in found.sites] == ["no"] and found.dropped[SMALL_SECOND_BODY] == 1 > found.dropped[FRINGE]


def chain_graph() -> CutGraph:
    """Two bodies of six pieces each, joined by one thin edge; a thinner place inside the first."""
    points = np.column_stack([np.arange(12) * 200.0, np.zeros(12), np.zeros(12)]).astype(np.float32)
    edges = np.column_stack([np.arange(11), np.arange(1, 12)]).astype(np.int32)
    capacities = np.full(11, 9, np.float32)
    capacities[5], capacities[2] = 2, 1
    voxels = np.zeros((12, 2))
    voxels[:6, 0] = voxels[6:, 1] = 1000
    return CutGraph(points, edges, capacities, np.array([10, 11], np.uint64), voxels)


def test_split_action() -> None:
    split = SplitCorrection("s", 1, (10, 11), (1100, 0, 0), 4)
    rules = ProposalConfig(CutConfig(cutout_nm=5000), reach_nm=8000, wrong_kept=2)
    source = Double(graph=chain_graph())
    corrections = truth({1: 12_000}, {}, fused={1: (10, 11)}, splits=[split])
    proposals, missing = propose_cuts(source, corrections, rules, largest_view_nm=3000)
    assert not missing and source.asked == [(1, (1100, 0, 0), 8000)]
    assert proposals[0].verdict.good and proposals[0].place_nm == (1100.0, 0.0, 0.0)
    assert len(proposals) == 3 and not any(p.verdict.good for p in proposals[1:])
    assert len({p.place_nm for p in proposals}) == 3
    assert all(p.side_voxels[0] >= p.side_voxels[1] for p in proposals), "the source is the larger side"
    assert {(len(p.cut.sources_nm), len(p.cut.sinks_nm)) for p in proposals} == {(2, 2)}
    again, _ = propose_cuts(source, corrections, rules, largest_view_nm=3000)
    assert again == proposals

    found = split_action_sites(source, proposals, RULES, CONTROLS)
    assert Counter(s.answer for s in found.sites) == {"yes": 1, "no": 2}
    assert all([p.role for p in s.parts] == ["source", "sink"] and s.cut is not None for s in found.sites)


def test_one_cut_that_mends_two_near_errors_is_asked_about_once() -> None:
    near = [SplitCorrection(name, 1, (10, 11), (x, 0, 0), 4) for name, x in (("s-0", 1100), ("s-1", 1180))]
    rules = ProposalConfig(CutConfig(cutout_nm=5000), reach_nm=8000, wrong_kept=2)
    source = Double(graph=chain_graph())
    corrections = truth({1: 12_000}, {}, fused={1: (10, 11)}, splits=near)
    proposals, _ = propose_cuts(source, corrections, rules, largest_view_nm=3000)
    assert [p.edit_id for p in proposals if p.verdict.good] == ["s-0", "s-1"]
    found = split_action_sites(source, proposals, RULES, CONTROLS)
    assert len({site.location_nm for site in found.sites}) == len(found.sites)
    assert [site.edit_id for site in found.sites if site.answer == "yes"] == ["s-0"]
    assert found.dropped["the same cut is asked about at another error"] >= 1
    # a cut that is good in one cutout and bad in the other has no sure answer
    right = proposals[0]
    torn = replace(right, edit_id="s-1", verdict=next(p.verdict for p in proposals if not p.verdict.good))
    found = split_action_sites(source, [right, torn, *proposals[1:3]], RULES, CONTROLS)
    assert right.place_nm not in {site.location_nm for site in found.sites}
    assert found.dropped["the same cut is good at one error and bad at another"] == 2


def test_a_cut_whose_view_would_leave_the_pieces_is_not_proposed() -> None:
    split = SplitCorrection("s", 1, (10, 11), (1100, 0, 0), 4)
    rules = ProposalConfig(reach_nm=3000)
    corrections = truth({1: 12_000}, {}, fused={1: (10, 11)}, splits=[split])
    proposals, _ = propose_cuts(Double(graph=chain_graph()), corrections, rules, largest_view_nm=2900)
    assert [p.place_nm for p in proposals] == [(1100.0, 0.0, 0.0)]


def test_the_extent_depends_on_the_place_alone() -> None:
    extents = [view_extent_nm((float(x), 0.0, 0.0), RULES) for x in range(200)]
    assert 2000 <= min(extents) < 2100 and 2900 < max(extents) <= 3000
    assert view_extent_nm((5.0, 0.0, 0.0), RULES) == extents[5]
    assert view_extent_nm((5.0, 0.0, 0.0), SiteConfig(extent_nm=(700, 700))) == 700


def test_sample_ids_do_not_tell_the_answer() -> None:
    corrections = truth({1: 300, 2: 900}, {1: 10, 2: 11})
    site = merge_action_sites(Double(), corrections, contacts(((1, 2), (0, 0, 0))), {}, RULES, CONTROLS).sites[0]
    other = replace(site, answer="yes", edit_id="m", origin="edit", body_ids=(10, 10))
    assert site.sample_id("fly", "s") == other.sample_id("fly", "s")
    assert site.sample_id("fly", "s") != replace(site, location_nm=(1.0, 0.0, 0.0)).sample_id("fly", "s")
    with pytest.raises(AttributeError):
        site.answer = "yes"  # type: ignore[misc]
