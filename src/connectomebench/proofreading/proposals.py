"""Propose corrections without truth: partners that touch at an end, and cuts between the branches at a place."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from connectomebench.core.correction import Contacts
from connectomebench.core.cut import CutGraph, ProposalConfig, ProposedCut
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Skeleton
from connectomebench.core.site import Cut, Part, Point, Site
from connectomebench.cuts.min_cut import SINK_SIDE, SOURCE_SIDE, SeedsTouch, apply_cut
from connectomebench.cuts.proposals import CutPlace, evaluate_cut
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.truth_table import size_gain
from connectomebench.sites.candidates import (
    MERGE_ERROR_KINDS,
    CandidateConfig,
    Candidates,
    Kind,
    find_candidates,
    one_a_place,
)
from connectomebench.sites.labels import view_extent_nm
from connectomebench.sources.volumes.volume_source import VolumeSource

MAX_BRANCHES = 5
MAX_CUTS = 4  # questions about one place, the cheapest cuts first


@dataclass(frozen=True)
class Candidate:
    """A place where an object may have an error.

    Attributes
    ----------
    kind
        ``end`` for split errors; ``branch``, ``waist`` or ``parallel`` for merge errors.
    site
        The question of the identification model; its answer is unknown.
    radius_nm
        Calibre of the object there, nm.
    """

    kind: str
    site: Site
    radius_nm: float


@dataclass(frozen=True)
class Proposal:
    """A correction that a model or a person can accept.

    Attributes
    ----------
    operation
        ``merge`` or ``split``.
    candidate
        Where it comes from.
    site
        The question of the correction model.
    sources, sinks
        Rows of the supervoxels that an edit names: one each for a merge, those along the cut for a split.
    source_points_nm, sink_points_nm
        Points of them (x, y, z), nm.
    gain
        Change of the variation of information if the edit is right and its objects are pure, bits.
    """

    operation: Literal["merge", "split"]
    candidate: Candidate
    site: Site
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    source_points_nm: tuple[Point, ...]
    sink_points_nm: tuple[Point, ...]
    gain: float

    @property
    def edit_id(self) -> str:
        """Hash of what is edited, 16 hex digits."""
        return content_key(self.operation, sorted([list(self.sources), list(self.sinks)]), self.site.segment_ids)[:16]


def site_key(site: Site) -> str:
    """Hash what a site shows; ids of objects are new after every edit, so the same key is the same picture."""
    parts = [[str(p.segment_id), p.role] for p in site.parts]
    cut = None if site.cut is None else [list(map(list, site.cut.sources_nm)), list(map(list, site.cut.sinks_nm))]
    return content_key(site.task, [round(c, 3) for c in site.location_nm], round(site.extent_nm, 3), parts, cut)[:16]


def find_places(
    source: VolumeSource, skeletons: Mapping[int, Skeleton], place: Place, end_task: str
) -> tuple[list[Candidate], list[Candidate]]:
    """Find candidates on the current objects, away from the border of the data.

    Parameters
    ----------
    source
        Over the current objects.
    skeletons
        Object -> skeleton.
    place
        Gives the rules.
    end_task
        Task that asks about ends.

    Returns
    -------
    ends, merge_places
        Candidates for split errors, and for merge errors (one per place).
    """
    rules = place.config.candidates
    found = find_candidates(skeletons.items(), rules)
    found = found.take(~source.at_border(found.segments, found.points_nm))
    kinds: list[Kind] = [kind for kind in MERGE_ERROR_KINDS if kind in rules.kinds]
    ends = _candidates(found.of_kind("end"), end_task, place)
    return ends, _candidates(one_a_place(found, kinds, rules.min_distance_nm), "merge_error_identification", place)


def _candidates(found: Candidates, task: str, place: Place) -> list[Candidate]:
    made = []
    for i, segment in enumerate(found.segments.tolist()):
        at = _point(found.points_nm[i])
        site = _site(task, at, place, (Part(segment, "base"),), (segment,))
        made.append(Candidate(str(found.kinds[i]), site, float(found.radii_nm[i])))
    return made


def _site(
    task: str, at: Point, place: Place, parts: tuple[Part, ...], segments: tuple[int, ...], cut: Cut | None = None
) -> Site:
    """Make a site without an answer: models never read it, and a stored row needs one of the task's."""
    extent = view_extent_nm(at, place.config.sites)
    return Site(task, at, extent, parts, "no", segments, (), "control", cut=cut)


def _point(values: NDArray[np.floating] | Sequence[float]) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z


def propose_merges(
    ends: Sequence[Candidate], contacts: Contacts, graph: SegmentationGraph, place: Place, source: VolumeSource
) -> Iterator[Proposal]:
    """Propose to merge the object of each end with every object that touches it within ``candidates.radius_nm``.

    Objects below ``sites.min_segment_voxels`` take no part. Of several contacts with one object the nearest counts.
    """
    least, radius = place.config.sites.min_segment_voxels, place.config.candidates.radius_nm
    if not len(contacts.areas):
        return
    tree = KDTree(contacts.points_nm)
    for end in ends:
        own = end.site.segment_ids[0]
        near = tree.query_ball_point(end.site.location_nm, radius)
        distance = np.linalg.norm(contacts.points_nm[near] - np.asarray(end.site.location_nm), axis=1)
        partners: dict[int, int] = {}
        for row in (near[i] for i in np.argsort(distance, kind="stable")):
            pair = contacts.segments[row].tolist()
            if own in pair:
                partners.setdefault(pair[0] if pair[1] == own else pair[1], row)
        for partner, row in partners.items():
            if graph.voxels(partner) >= least:
                yield _merge(end, own, partner, _point(contacts.points_nm[row]), graph, place, source)


def _merge(
    end: Candidate, own: int, partner: int, at: Point, graph: SegmentationGraph, place: Place, source: VolumeSource
) -> Proposal:
    base, candidate = sorted((own, partner), key=lambda one: (-graph.voxels(one), one))
    site = _site("merge_action", at, place, (Part(base, "base"), Part(candidate, "candidate")), (base, candidate))
    (a, a_nm), (b, b_nm) = (_nearest_piece(one, at, place, source) for one in (own, partner))
    total = float(graph.supervoxels.voxels.sum())
    gain = size_gain(graph.voxels(own), graph.voxels(partner), total)
    return Proposal("merge", end, site, (a,), (b,), (a_nm,), (b_nm,), gain)


def _nearest_piece(object_id: int, at: Point, place: Place, source: VolumeSource) -> tuple[int, Point]:
    """Return the row of an object's supervoxel nearest to a point, and the centre of its voxel there."""
    voxel, offset = np.asarray(place.voxel_size_nm), np.asarray(place.offset_vx)
    middle = np.floor(np.asarray(at) / voxel).astype(np.int64) - offset
    reach = 12
    while True:
        lower, upper = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, place.labels.shape)
        here = tuple(slice(a, b) for a, b in zip(lower.tolist(), upper.tolist(), strict=True))
        own = np.argwhere(source.automatic.read(_ints(lower), _ints(upper)) == np.uint64(object_id))
        if len(own):
            points = (own + lower + offset + 0.5) * voxel
            best = int(np.argmin(np.linalg.norm(points - np.asarray(at), axis=1)))
            return int(place.pieces[here][tuple(own[best])]) - 1, _point(points[best])
        reach *= 2


def _ints(values: NDArray[np.int64]) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in values)
    return x, y, z


def propose_splits(
    candidate: Candidate,
    skeleton: Skeleton,
    graph: SegmentationGraph,
    place: Place,
    source: VolumeSource,
    dropped: Counter[str],
) -> list[Proposal]:
    """Propose cuts at a place: the cheapest ones between the branches of the skeleton that meet there.

    Every way to put the branches on two sides gives seeds of a minimum cut of the pieces round the place. A cut of
    which the whole object says that more would have to be cut elsewhere is left out, and ``dropped`` counts why.
    """
    rules, limits = place.config.proposals, place.config.candidates
    at, segment = candidate.site.location_nm, candidate.site.segment_ids[0]
    branches = find_branches(skeleton, at, candidate.radius_nm, limits, rules)
    if len(branches) < 2:
        dropped["fewer than two branches"] += 1
        return []
    pieces = source.pieces(segment, at, rules.reach_nm)
    if len(pieces.graph.points_nm) < 2:
        dropped["one piece"] += 1
        return []
    where = CutPlace(site_key(candidate.site), segment, (), at, rules.reach_nm, pieces.graph, _cheapest)
    cuts = _cheapest_cuts(where, branches, rules, place.config.sites.extent_nm[1], dropped)
    if not cuts:
        return []
    rows = _rows_of_pieces(pieces.labels, pieces.lower, place)
    made = []
    for cut in cuts:
        proposal = _split(candidate, cut, pieces.graph, rows, graph, place)
        if isinstance(proposal, str):
            dropped[proposal] += 1
        else:
            made.append(proposal)
    return made


def find_branches(
    skeleton: Skeleton, at: Point, calibre_nm: float, limits: CandidateConfig, rules: ProposalConfig
) -> list[NDArray[np.float32]]:
    """Find the branches that meet at a place.

    Returns
    -------
    list of float32, shape (k, 3)
        Seed points (x, y, z), nm, of at most :data:`MAX_BRANCHES` branches, those with most nodes first. A branch is a
        connected part of the skeleton between the calibre of the place and 0.4 of the cutout that comes within
        ``merge_radius_nm``; its seeds are the node nearest to that distance, and the farthest.
    """
    inner = max(calibre_nm, limits.min_distance_nm)
    outer = max(0.4 * rules.reach_nm, inner)
    distance = np.linalg.norm(skeleton.nodes_nm.astype(np.float64) - np.asarray(at), axis=1)
    shell = (distance > inner) & (distance <= outer)
    a, b = skeleton.edges[:, 0], skeleton.edges[:, 1]
    kept = shell[a] & shell[b]
    n = len(distance)
    links = coo_array((np.ones(int(kept.sum()), np.int8), (a[kept], b[kept])), shape=(n, n))
    part = connected_components(links.tocsr(), directed=False)[1]
    found = []
    for number in np.unique(part[shell]).tolist():
        nodes = np.flatnonzero((part == number) & shell)
        reached = distance[nodes]
        if reached.min() > max(limits.merge_radius_nm, inner * 1.5) or reached.max() < 1.25 * inner:
            continue
        near = nodes[int(np.argmin(np.abs(reached - limits.merge_radius_nm)))]
        far = nodes[int(np.argmax(reached))]
        found.append((len(nodes), skeleton.nodes_nm[np.unique([near, far])]))
    found.sort(key=lambda one: -one[0])
    return [seeds for _, seeds in found[:MAX_BRANCHES]]


def _cheapest(graph: CutGraph, cut: Cut) -> NDArray[np.int8] | str:
    try:
        return apply_cut(graph, cut)
    except SeedsTouch:
        return "seeds of both sides in one piece"


def _cheapest_cuts(
    where: CutPlace,
    branches: Sequence[NDArray[np.float32]],
    rules: ProposalConfig,
    largest_view_nm: float,
    dropped: Counter[str],
) -> list[ProposedCut]:
    """Cut between all divisions of the branches into two sides, and keep the cheapest different cuts."""
    tree = KDTree(where.graph.points_nm)
    seeds = [np.unique(tree.query(points)[1]) for points in branches]
    found: dict[bytes, ProposedCut] = {}
    others = range(1, len(branches))
    for size in range(len(branches) - 1):
        for chosen in itertools.combinations(others, size):
            mine = np.concatenate([seeds[i] for i in (0, *chosen)])
            theirs = np.concatenate([seeds[i] for i in others if i not in chosen])
            made = evaluate_cut(where, where.cut(mine, theirs), rules, largest_view_nm)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            sides = where.part(where.graph, made.cut)
            assert not isinstance(sides, str)
            found.setdefault(sides.tobytes(), made)
    return sorted(found.values(), key=lambda cut: (cut.cost, cut.place_nm))[:MAX_CUTS]


def _rows_of_pieces(labels: NDArray[np.uint32], lower: tuple[int, int, int], place: Place) -> NDArray[np.int64]:
    """Return the row of the supervoxel that each piece of a cutout is part of; int64, shape (pieces,)."""
    here = tuple(slice(a, a + n) for a, n in zip(lower, labels.shape, strict=True))
    flat, pieces = labels.ravel(), place.pieces[here].ravel()
    first = np.zeros(int(labels.max()) + 1, np.int64)
    inside = np.flatnonzero(flat)
    first[flat[inside]] = inside
    return pieces[first[1:]].astype(np.int64) - 1


def _split(
    candidate: Candidate,
    cut: ProposedCut,
    local: CutGraph,
    rows: NDArray[np.int64],
    graph: SegmentationGraph,
    place: Place,
) -> Proposal | str:
    """Express a cut of a cutout in supervoxels, and check it on the whole object."""
    sides = apply_cut(local, cut.cut)
    mine, theirs = np.unique(rows[sides == SOURCE_SIDE]), np.unique(rows[sides == SINK_SIDE])
    both = np.intersect1d(mine, theirs)
    a, b = local.edges[:, 0], local.edges[:, 1]
    across = sides[a] * sides[b] == -1
    border = rows[local.edges[across]]
    sources = np.setdiff1d(np.intersect1d(border, mine), both)
    sinks = np.setdiff1d(np.intersect1d(border, theirs), both)
    if not len(sources) or not len(sinks):
        return "a side is no supervoxel of its own"
    try:
        plan = graph.plan_split(sources.tolist(), sinks.tolist())
    except EditRefused as error:
        if "undone" not in str(error):
            return str(error)
        plan = graph.plan_split(sources.tolist(), sinks.tolist(), np.inf)
    judged = {tuple(sorted(pair)) for pair in border.tolist()}
    if any(tuple(sorted(pair)) not in judged for pair in plan.cut_edges.tolist()):
        return "the sides meet again elsewhere"
    segment = cut.segment
    parts = (Part(segment, "source"), Part(segment, "sink"))
    site = _site("split_action", cut.place_nm, place, parts, (segment,), cut.cut)
    points = graph.supervoxels.points_nm
    voxels = graph.supervoxels.voxels
    gain = size_gain(float(voxels[plan.source_rows].sum()), float(voxels[plan.sink_rows].sum()), float(voxels.sum()))
    return Proposal(
        "split",
        candidate,
        site,
        tuple(sources.tolist()),
        tuple(sinks.tolist()),
        tuple(_point(points[i]) for i in sources),
        tuple(_point(points[i]) for i in sinks),
        gain,
    )
