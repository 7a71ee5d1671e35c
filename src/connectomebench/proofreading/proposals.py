"""Corrections that a model or a person can accept, from what was found in the blocks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from connectomebench.core.files import content_key
from connectomebench.core.site import Cut, Part, Point, Site, as_point
from connectomebench.proofreading.block_candidates import Found
from connectomebench.proofreading.cut_search import FoundCut
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.truth_table import size_gain
from connectomebench.sites.candidates import Candidates
from connectomebench.sites.labels import view_extent_nm


@dataclass(frozen=True)
class Candidate:
    """A place where an object may have an error.

    Attributes
    ----------
    kind
        ``end`` or ``contact`` for split errors; ``branch``, ``waist`` or ``parallel`` for merge errors.
    site
        The question of the identification model; its answer is unknown. At a contact it is not asked.
    radius_nm
        Calibre of the object there, nm.
    """

    kind: str
    site: Site
    radius_nm: float

    @cached_property
    def key(self) -> str:
        """:func:`site_key` of its question."""
        return site_key(self.site)


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
    contact
        Faces of contact near the end, or the cost of the cut.
    cues
        Of a merge: how much of a membrane the contact shows and how much that differs along it, the share of the
        smaller object's contact that is with the other, contact over the smaller object's size to the power of 2/3, and
        log of that size in voxels. 0 for splits.
    """

    operation: Literal["merge", "split"]
    candidate: Candidate
    site: Site
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    source_points_nm: tuple[Point, ...]
    sink_points_nm: tuple[Point, ...]
    gain: float
    contact: float = 0.0
    cues: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @cached_property
    def edit_id(self) -> str:
        """Hash of what is edited, 16 hex digits."""
        return content_key(self.operation, sorted([list(self.sources), list(self.sinks)]), self.site.segment_ids)[:16]


def what_is_done(proposal: Proposal) -> Hashable:
    """Name what a correction does: the ends of two objects may both propose their merge, which is made once.

    A cut has the same name in whatever object its supervoxels lie.
    """
    if proposal.operation == "merge":
        return frozenset(proposal.site.segment_ids)
    return frozenset([frozenset(proposal.sources), frozenset(proposal.sinks)])


def site_key(site: Site) -> str:
    """Hash what a site shows; ids of objects are new after every edit, so the same key is the same picture."""
    parts = [[str(p.segment_id), p.role] for p in site.parts]
    cut = None if site.cut is None else [list(map(list, site.cut.sources_nm)), list(map(list, site.cut.sinks_nm))]
    return content_key(site.task, [round(c, 3) for c in site.location_nm], round(site.extent_nm, 3), parts, cut)[:16]


def make_candidates(found: Candidates, task: str, place: Place) -> list[Candidate]:
    """Ask a question about each place that was found."""
    made = []
    for i, segment in enumerate(found.segments.tolist()):
        at = as_point(found.points_nm[i])
        site = _site(task, at, place, (Part(segment, "base"),), (segment,))
        made.append(Candidate(str(found.kinds[i]), site, float(found.radii_nm[i])))
    return made


def _site(
    task: str, at: Point, place: Place, parts: tuple[Part, ...], segments: tuple[int, ...], cut: Cut | None = None
) -> Site:
    """Make a site without an answer: models never read it, and a stored row needs one of the task's."""
    extent = view_extent_nm(at, place.config.sites)
    return Site(task, at, extent, parts, "no", segments, (), "control", cut=cut)


def make_merges(found: Found, ends: Sequence[Candidate], graph: SegmentationGraph, place: Place) -> Iterator[Proposal]:
    """Propose to merge the object of each end with every partner that was found."""
    for one in found.merges:
        end = ends[one.end]
        own = end.site.segment_ids[0]
        base, candidate = sorted((own, one.partner), key=lambda o: (-graph.voxels(o), o))
        parts = (Part(base, "base"), Part(candidate, "candidate"))
        site = _site("merge_action", one.at_nm, place, parts, (base, candidate))
        gain = size_gain(graph.voxels(own), graph.voxels(one.partner), graph.total_voxels)
        seen, size = one.contact, graph.voxels(candidate)
        faces = seen.own_faces if candidate == own else seen.partner_faces
        share = seen.pair_faces / max(faces, 1)
        cues = (seen.membrane, seen.membrane_deviation, share, seen.pair_faces / size ** (2 / 3), math.log(size))
        (a, b), (a_nm, b_nm) = one.rows, one.points_nm
        yield Proposal("merge", end, site, (a,), (b,), (a_nm,), (b_nm,), gain, float(one.faces), cues)


def make_split(candidate: Candidate, found: FoundCut, graph: SegmentationGraph, place: Place) -> Proposal | str:
    """Propose a cut, checked on the whole object; or return the reason why not.

    A cut is left out where more than what it was judged by would have to be cut elsewhere in the object.
    """
    try:
        plan = graph.plan_split(found.sources, found.sinks)
    except EditRefused as error:
        if "undone" not in str(error):
            return str(error)
        plan = graph.plan_split(found.sources, found.sinks, np.inf)
    judged = {tuple(sorted(pair)) for pair in found.border.tolist()}
    if any(tuple(sorted(pair)) not in judged for pair in plan.cut_edges.tolist()):
        return "the sides meet again elsewhere"
    segment = candidate.site.segment_ids[0]
    parts = (Part(segment, "source"), Part(segment, "sink"))
    site = _site("split_action", found.place_nm, place, parts, (segment,), found.cut)
    points, voxels = graph.supervoxels.points_nm, graph.supervoxels.voxels
    gain = size_gain(float(voxels[plan.source_rows].sum()), float(voxels[plan.sink_rows].sum()), graph.total_voxels)
    return Proposal(
        "split",
        candidate,
        site,
        found.sources,
        found.sinks,
        tuple(as_point(points[i]) for i in found.sources),
        tuple(as_point(points[i]) for i in found.sinks),
        gain,
        found.cost,
    )
