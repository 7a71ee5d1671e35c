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
    sites: list[Site] = []
    for merge in corrections.merges:
        for segment in sorted(merge.segments):
            if segment in corrections.fused:
                dropped["segment is itself a merge error"] += 1
            elif segment not in corrections.body_of or sizes.get(segment, 0) < rules.min_segment_voxels:
                dropped["segment too small, or without a sure body"] += 1
            else:
                name = f"{merge.edit_id}/{segment}"
                view = _view(source, segment, merge.location_nm, name, skeletons, rules)
                if isinstance(view, str):
                    dropped[view] += 1
                    continue
                if nearest_node(view.nodes_nm, view.place_nm)[1] > _NEAR * full_credit_nm(view.extent_nm):
                    dropped[FAR_NODES] += 1
                    continue
                own = [other.location_nm for other in of_segment[segment] if other is not merge]
                right = [view.place_nm, *(p for p in own if view.shown.contains(np.array([p]))[0])]
                answer = PlaceAnswer((relative(view.place_nm, view.center_nm),))
                bodies = (corrections.body_of[segment],)
                sites.append(_site(source, task, segment, bodies, view, answer, right, merge.edit_id))
    explained = [_has_explained_ends(source, site, candidates, of_segment, radius_nm) for site in sites]
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
    sites: list[Site] = []
    for edit_id, proposal in sorted(good.items()):
        view = _view(source, proposal.segment, proposal.place_nm, edit_id, skeletons, rules)
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


def _view(
    source: Source, segment: int, place: Point, name: str, skeletons: Mapping[int, Skeleton], rules: SiteConfig
) -> _View | str:
    """Shift the view of a place and choose its nodes, or return why it cannot be asked about."""
    if segment not in skeletons:
        return "segment without a skeleton"
    extent = view_extent_nm(place, rules)
    # the first shift that leaves the view inside the data, so that small volumes lose few places
    centers = [shifted_centre(place, extent, f"{name}/{n}", rules.nodes) for n in range(_SHIFTS)]
    outside = source.at_border(np.full(_SHIFTS + 1, segment, np.uint64), np.array([place, *centers]))
    if outside[0] or outside[1:].all():
        return AT_BORDER
    center = centers[int(np.argmin(outside[1:]))]
    nodes = choose_nodes(skeletons[segment], center, extent, source.info.bounds_nm, rules.nodes)
    return _View(place, center, extent, nodes) if nodes else NO_NODES


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


def _has_explained_ends(
    source: Source,
    site: Site,
    candidates: Candidates,
    of_segment: Mapping[int, Sequence[MergeCorrection]],
    radius_nm: float,
) -> bool:
    """Tell whether every end in the view is a real one, or lies at a correction of the segment."""
    (segment,) = site.segment_ids
    points = candidates.points_nm[(candidates.segments == np.uint64(segment)) & (candidates.kinds == "end")]
    points = points[Box.around(site.location_nm, site.extent_nm).contains(points)].astype(np.float64)
    known = np.array([p for merge in of_segment[segment] for p in merge.points_nm], np.float64)
    apart = np.linalg.norm(points[:, None] - known[None], axis=2).min(axis=1, initial=np.inf)
    points = points[apart > radius_nm]
    ids = np.full(len(points), segment, np.uint64)
    points = points[~source.at_border(ids, points)] if len(points) else points
    if not len(points):
        return True
    return not source.surroundings(ids[: len(points)], points, radius_nm, "goes_on").goes_on.any()


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
