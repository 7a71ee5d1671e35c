"""Find sites whose answer is a place: where a segment is wrongly cut, and where a fused one should be.

Views are shifted, so that a place may lie anywhere in them, and nodes are chosen without the answer
(:mod:`connectomebench.sites.view_nodes`). Only places with an error are asked about. A site is left out where another
place could be pointed at with the same right: an error that no correction mends, or a second fusion in the view.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Corrections, MergeCorrection
from connectomebench.core.cut import ProposalConfig, ProposedCut, Verdict
from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.place_score import full_credit_nm
from connectomebench.core.places import PlaceAnswer, list_nodes, relative, write_places
from connectomebench.core.site import Part, Point, Site
from connectomebench.core.source import Source
from connectomebench.core.tasks import get_task
from connectomebench.cuts.seeded_cuts import judge_seeds
from connectomebench.sites.candidates import Candidates
from connectomebench.sites.labels import LabelledSites, SiteConfig, origin_of, view_extent_nm
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.view_nodes import choose_nodes, nearest_node, shifted_centre

AT_BORDER = "at the border of the data"
NO_NODES = "too few nodes fit into the view, or all lie close together"
FAR_NODES = "no node lies near the true place"
OTHER_END = "another end in the view goes on, and no correction is there"
OTHER_FUSION = "another merge error lies in the view"
NO_PAIR = "no nodes on both sides give a right cut"
UNAVAILABLE = "the data of the place cannot be read"
_NEAR = 2.0  # a node must lie within this many times the distance of full credit, where it is worth two thirds
_SHIFTS = 16  # tried, until the middle of the view is not at the border of the data
_TRIED = 4  # pairs of nodes whose cut is computed, the nearest first


@dataclass(frozen=True)
class _View:
    """A shifted view of a place with its nodes."""

    place_nm: Point
    center_nm: Point
    extent_nm: float
    nodes_nm: tuple[Point, ...]

    @property
    def shown(self) -> Box:
        return Box.around(self.center_nm, self.extent_nm)


def localization_sites(
    source: Source,
    corrections: Corrections,
    candidates: Candidates,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
    radius_nm: float,
) -> LabelledSites:
    """Ask where a segment is wrongly cut: at every correction, once from either segment.

    The answer is the place where the segment meets the other part of its neuron; all such places in the view are right.

    Parameters
    ----------
    source, corrections
        The segmentation and what is wrong with it.
    candidates
        Ends of segments are read.
    skeletons
        Segment id -> skeleton.
    rules, controls
        Views, nodes, and the largest number of cases.
    radius_nm
        An end within this distance of a correction of its segment is explained by it.
    """
    task = "endpoint_localization"
    dropped: Counter[str] = Counter()
    sizes = corrections.overlaps.segment_sizes()
    of_segment: dict[int, list[MergeCorrection]] = {}
    for merge in corrections.merges:
        for segment in merge.segments:
            of_segment.setdefault(segment, []).append(merge)
    asked: list[tuple[MergeCorrection, int]] = []
    for merge in corrections.merges:
        for segment in sorted(merge.segments):
            if segment in corrections.fused:
                dropped["segment is itself a merge error"] += 1
            elif segment not in corrections.body_of or sizes.get(segment, 0) < rules.min_segment_voxels:
                dropped["segment too small, or without a sure body"] += 1
            else:
                asked.append((merge, segment))
    places = [(segment, merge.location_nm, f"{merge.edit_id}/{segment}") for merge, segment in asked]
    sites: list[Site] = []
    for (merge, segment), view in zip(asked, _views(source, places, skeletons, rules), strict=True):
        if isinstance(view, str):
            dropped[view] += 1
        elif nearest_node(view.nodes_nm, view.place_nm)[1] > _NEAR * full_credit_nm(view.extent_nm):
            dropped[FAR_NODES] += 1
        else:
            others = [other.location_nm for other in of_segment[segment] if other is not merge]
            right = [view.place_nm, *(p for p in others if view.shown.contains(np.array([p]))[0])]
            answer = PlaceAnswer((relative(view.place_nm, view.center_nm),))
            bodies = (corrections.body_of[segment],)
            sites.append(_site(source, task, segment, bodies, view, answer, right, merge.edit_id))
    explained = _have_explained_ends(source, sites, candidates, of_segment, radius_nm)
    dropped[OTHER_END] += explained.count(False)
    sites = [site for site, kept in zip(sites, explained, strict=True) if kept]
    return LabelledSites(_at_most(sites, controls.max_cases, dropped), dropped)


def proposal_sites(
    source: Source,
    corrections: Corrections,
    proposals: Sequence[ProposedCut],
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
    cutting: ProposalConfig,
) -> LabelledSites:
    """Ask where a fused segment should be split: at every merge error with a cut that the rule calls good.

    The answer is one node on either side of that cut, those nearest to it between which the source itself makes a good
    cut.

    Parameters
    ----------
    source, corrections
        The segmentation and what is wrong with it.
    proposals
        Proposed cuts with their verdicts.
    skeletons
        Segment id -> skeleton.
    rules, controls
        Views, nodes, and the largest number of cases.
    cutting
        How cuts are made and judged.
    """
    dropped: Counter[str] = Counter()
    splits: dict[int, list[tuple[str, Point]]] = {}
    for split in corrections.splits:
        splits.setdefault(split.segment, []).append((split.edit_id, split.location_nm))
    good: dict[str, ProposedCut] = {}
    for proposal in proposals:
        if proposal.verdict.good:
            good.setdefault(proposal.edit_id, proposal)
    chosen = sorted(good.items())
    places = [(proposal.segment, proposal.place_nm, edit_id) for edit_id, proposal in chosen]
    sites: list[Site] = []
    for (edit_id, proposal), view in zip(chosen, _views(source, places, skeletons, rules), strict=True):
        if isinstance(view, str):
            dropped[view] += 1
            continue
        others = [place for name, place in splits.get(proposal.segment, []) if name != edit_id]
        if others and view.shown.contains(np.array(others)).any():
            dropped[OTHER_FUSION] += 1
            continue
        try:
            pair = _right_pair(source, proposal, view, cutting)
        except SiteUnavailable:
            dropped[UNAVAILABLE] += 1
            continue
        if pair is None:
            dropped[NO_PAIR] += 1
            continue
        answer = PlaceAnswer(*((relative(place, view.center_nm),) for place in pair))
        sites.append(_site(source, "split_proposal", proposal.segment, proposal.bodies, view, answer, pair, edit_id))
    return LabelledSites(_at_most(sites, controls.max_cases, dropped), dropped)


def _views(
    source: Source,
    places: Sequence[tuple[int, Point, str]],
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
) -> list[_View | str]:
    """Shift the view of each place (segment, place, name) and choose its nodes, or say why it cannot be asked about."""
    extents = [view_extent_nm(place, rules) for _, place, _ in places]
    # the first shift that leaves the view inside the data, so that small volumes lose few places
    tried = np.array(
        [
            [place, *(shifted_centre(place, extent, f"{name}/{n}", rules.nodes) for n in range(_SHIFTS))]
            for (_, place, name), extent in zip(places, extents, strict=True)
        ],
        np.float64,
    ).reshape(len(places), _SHIFTS + 1, 3)
    segments = np.repeat(np.array([segment for segment, _, _ in places], np.uint64), _SHIFTS + 1)
    # all at once: sources look at all their borders for each call
    if not places:
        return []
    outside = source.at_border(segments, tried.reshape(-1, 3)).reshape(len(places), _SHIFTS + 1)
    return [
        _view(source, segment, place, extent, centers[1:], out, skeletons, rules)
        for (segment, place, _), extent, centers, out in zip(places, extents, tried, outside, strict=True)
    ]


def _view(
    source: Source,
    segment: int,
    place: Point,
    extent_nm: float,
    centers_nm: NDArray[np.float64],
    outside: NDArray[np.bool_],
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
) -> _View | str:
    """Choose the first centre inside the data, and the nodes; ``outside`` is for the place itself and each centre."""
    if segment not in skeletons:
        return "segment without a skeleton"
    if outside[0] or outside[1:].all():
        return AT_BORDER
    x, y, z = centers_nm[int(np.argmin(outside[1:]))].tolist()
    nodes = choose_nodes(skeletons[segment], (x, y, z), extent_nm, source.info.bounds_nm, rules.nodes)
    return _View(place, (x, y, z), extent_nm, nodes) if nodes else NO_NODES


def _site(
    source: Source,
    task: str,
    segment: int,
    bodies: tuple[int, ...],
    view: _View,
    answer: PlaceAnswer,
    right: Sequence[Point],
    edit_id: str,
) -> Site:
    return Site(
        task=task,
        location_nm=view.center_nm,
        extent_nm=view.extent_nm,
        parts=(Part(segment, "base"),),
        answer=write_places(answer),
        segment_ids=(segment,),
        body_ids=bodies,
        origin=origin_of(source, True),
        edit_id=edit_id,
        target_nm=tuple(right),
        question=f"{get_task(task).question}\n{list_nodes(view.nodes_nm, view.center_nm)}",
        nodes_nm=view.nodes_nm,
    )


def _have_explained_ends(
    source: Source,
    sites: Sequence[Site],
    candidates: Candidates,
    of_segment: Mapping[int, Sequence[MergeCorrection]],
    radius_nm: float,
) -> list[bool]:
    """Tell of each site whether every end in its view is a real one, or lies at a correction of the segment."""
    is_end = candidates.kinds == "end"
    found: list[NDArray[np.float64]] = []
    for site in sites:
        (segment,) = site.segment_ids
        points = candidates.points_nm[is_end & (candidates.segments == np.uint64(segment))]
        points = points[Box.around(site.location_nm, site.extent_nm).contains(points)].astype(np.float64)
        known = np.array([p for merge in of_segment[segment] for p in merge.points_nm], np.float64)
        apart = np.linalg.norm(points[:, None] - known[None], axis=2).min(axis=1, initial=np.inf)
        found.append(points[apart > radius_nm])
    owner = np.repeat(np.arange(len(sites)), [len(points) for points in found])
    if not len(owner):
        return [True] * len(sites)
    points = np.concatenate(found)
    ids = np.array([sites[i].segment_ids[0] for i in owner.tolist()], np.uint64)
    inner = ~source.at_border(ids, points)
    around = source.surroundings(ids[inner], points[inner], radius_nm, "goes_on")
    unexplained = set(owner[inner][around.goes_on].tolist())
    return [i not in unexplained for i in range(len(sites))]


def _right_pair(
    source: Source, proposal: ProposedCut, view: _View, cutting: ProposalConfig
) -> tuple[Point, Point] | None:
    """Find the nodes nearest to a right cut on either side between which the source makes a good cut."""
    from scipy.spatial import KDTree

    found = source.cut_sides(proposal.segment, proposal.cut)
    if isinstance(found, str):
        return None
    graph, sides = found
    nodes = np.asarray(view.nodes_nm, np.float64)
    side_of = sides[np.asarray(KDTree(graph.points_nm).query(nodes)[1])]
    apart = np.linalg.norm(nodes - np.asarray(view.place_nm), axis=1)
    pairs = sorted(
        (float(apart[a] + apart[b]), int(a), int(b))
        for a in np.flatnonzero(side_of == 1)
        for b in np.flatnonzero(side_of == -1)
    )
    for _, a, b in pairs[:_TRIED]:
        seeds = (view.nodes_nm[a],), (view.nodes_nm[b],)
        verdict = judge_seeds(source, proposal.segment, *seeds, proposal.cut.center_nm, _same_cube(cutting, proposal))
        if isinstance(verdict, Verdict) and verdict.good:
            return view.nodes_nm[a], view.nodes_nm[b]
    return None


def _same_cube(cutting: ProposalConfig, proposal: ProposedCut) -> ProposalConfig:
    """Cut in the same cube as the proposal."""
    return replace(cutting, reach_nm=proposal.cut.cutout_nm)


def _at_most(sites: list[Site], most: int | None, dropped: Counter[str]) -> list[Site]:
    """Keep at most so many, chosen by a hash of what they show; their order stays."""
    if not most or len(sites) <= most:
        return sites
    digests = [hashlib.sha256(repr((s.segment_ids, s.location_nm)).encode()).digest() for s in sites]
    chosen = set(sorted(range(len(sites)), key=digests.__getitem__)[:most])
    dropped["cases beyond max_cases"] += len(sites) - len(chosen)
    return [site for i, site in enumerate(sites) if i in chosen]
