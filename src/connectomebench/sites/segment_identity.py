"""Label pairs of pictures by whether both show the same segment.

A case is one place of a segment, seen twice: from two directions, at two zooms, and with its centre moved along the
segment, so that the pictures share structure but no outline. A control has the second picture of another segment,
whose place resembles the first: cable, volume, branch points and ends in the view, and size of the segment.

What must not tell: both pictures of every row are drawn at branch points, by the same rule for direction, zoom and
shift, from hashes of the places; a segment's pictures are in cases and in controls; and controls are chosen by what
*both* of their pictures show. Only shape decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import Corrections
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.paired_frames import first_frame, second_frame, shares_of
from connectomebench.core.site import Part, Point, SecondPlace, Site, as_point
from connectomebench.core.source import Source
from connectomebench.sites.candidates import CandidateConfig, find_candidates
from connectomebench.sites.labels import LabelledSites, SiteConfig, _pool, origin_of, view_extent_nm
from connectomebench.sites.matched_controls import ControlConfig, standardise
from connectomebench.sites.view_content import SkeletonIndex, index_skeleton, view_content

TASK = "segment_identity"
ZOOM = (0.6, 0.8)  # edge of the narrower picture as a share of the wider one
SHIFT = (0.08, 0.25)  # distance of the two centres of a case, in edges of the narrowest possible picture
LEAST_CABLE = 1.4  # cable in the cube that both pictures show at least in part, in its edges: more than a bare neurite
NEARBY = 12.0  # this many views away, a place resembles another as little as one of twice the cable


@dataclass(frozen=True)
class _Place:
    """A branch point of a segment, and the second centre near it.

    ``index`` holds the skeleton's edges and ends, ``branches`` its branch points; ``content`` is what a view of the
    width ``wide_nm`` shows there.
    """

    segment: int
    first_nm: Point
    second_nm: Point
    wide_nm: float
    index: SkeletonIndex
    branches: KDTree
    content: NDArray[np.float64]


def identity_sites(
    source: Source,
    corrections: Corrections,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
    radii: CandidateConfig,
) -> LabelledSites:
    """Make cases of one segment seen twice, and controls of two alike.

    Parameters
    ----------
    source, corrections
        The segmentation. Only segments of one sure body take part, and the two of a control are of two bodies.
    skeletons
        Segment -> skeleton before the correction.
    rules, controls
        Views and sizes; how many controls.
    radii
        Rules of candidates; branch points are sought by them.

    Returns
    -------
    LabelledSites
        Cases first.
    """
    dropped: Counter[str] = Counter()
    places = list(_places(source, corrections, skeletons, rules, radii, dropped))
    sizes = corrections.overlaps.segment_sizes()
    cases = [_site(source, corrections, sizes, place, place) for place in places]
    others = [
        _site(source, corrections, sizes, places[i], places[k])
        for i, k in _partners(places, corrections, sizes, controls)
    ]
    if cases and not others:
        dropped["no second segment of another body"] += len(cases)
        cases = []
    return LabelledSites(_pool(cases, others, controls, dropped), dropped)


def _places(
    source: Source,
    corrections: Corrections,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    radii: CandidateConfig,
    dropped: Counter[str],
) -> Iterator[_Place]:
    """Yield branch points with enough structure around them, one a view of each segment."""
    sizes = corrections.overlaps.segment_sizes()
    known = {
        segment: skeleton
        for segment, skeleton in skeletons.items()
        if segment in corrections.body_of and sizes.get(segment, 0) >= rules.min_segment_voxels
    }
    apart = replace(radii, kinds=("branch",), min_distance_nm=max(radii.min_distance_nm, rules.extent_nm[1]))
    found = find_candidates(known.items(), apart)
    border = source.at_border(found.segments, found.points_nm)
    dropped["at the border of the data"] += int(border.sum())
    for row in np.flatnonzero(~border).tolist():
        segment, point = int(found.segments[row]), as_point(found.points_nm[row])
        skeleton = known[segment]
        index = index_skeleton(skeleton)
        assert index is not None, "a skeleton with a branch point has edges"
        wide = view_extent_nm(point, rules)
        second = _second_center(skeleton, point, wide * ZOOM[0])
        if second is None:
            dropped["no place beside the branch point"] += 1
            continue
        shared = Box.around(point, wide * ZOOM[0])
        if index.lengths_nm[shared.contains(index.middles_nm)].sum() < LEAST_CABLE * wide * ZOOM[0]:
            dropped["too little structure in the view"] += 1
            continue
        branches = KDTree(skeleton.nodes_nm[skeleton.degrees() > 2])
        content = _content(index, branches, point, wide)
        yield _Place(segment, point, second, wide, index, branches, content)


def _second_center(skeleton: Skeleton, point: Point, narrow_nm: float) -> Point | None:
    """Choose a node near a branch point, by a hash of the place; None where there is none."""
    distance = np.linalg.norm(skeleton.nodes_nm.astype(np.float64) - point, axis=1)
    near = np.flatnonzero((distance >= SHIFT[0] * narrow_nm) & (distance <= SHIFT[1] * narrow_nm))
    if not len(near):
        return None
    order = near[np.lexsort((*skeleton.nodes_nm[near].T, distance[near]))]
    (share,) = shares_of(point, 1, "beside")
    return as_point(skeleton.nodes_nm[order[int(share * len(order))]])


def _content(index: SkeletonIndex, branches: KDTree, place: Point, extent_nm: float) -> NDArray[np.float64]:
    """Measure what a view shows: logs of cable, volume, way to the next end, ends and branch points; shape (5,)."""
    shown = list(view_content(index, place, extent_nm, "x").values())
    ends = 0 if index.end_tree is None else len(index.end_tree.query_ball_point(place, extent_nm / 2, p=np.inf))
    forks = len(branches.query_ball_point(place, extent_nm / 2, p=np.inf))
    return np.array([*shown, np.log1p(ends), np.log1p(forks)])


def _extents_nm(first: _Place, second: _Place) -> tuple[float, float]:
    """Return the edges of the two pictures: one is the first place's own, zoom and order are the second's."""
    share, order = shares_of(second.second_nm, 2, "zoom")
    narrow = round(first.wide_nm * (ZOOM[0] + (ZOOM[1] - ZOOM[0]) * share), 1)
    return (first.wide_nm, narrow) if order < 0.5 else (narrow, first.wide_nm)


def _site(source: Source, corrections: Corrections, sizes: Mapping[int, int], first: _Place, second: _Place) -> Site:
    """Make a row of the first picture of one place and the second of another, or of the same."""
    same = first is second
    wide, narrow = _extents_nm(first, second)
    one = _content(first.index, first.branches, first.first_nm, wide)
    two = _content(second.index, second.branches, second.second_nm, narrow)
    names = ("cable", "volume", "end", "ends", "branches")
    covariates = {f"log_{name}_first": float(v) for name, v in zip(names, one, strict=True)}
    covariates |= {f"log_{name}_second": float(v) for name, v in zip(names, two, strict=True)}
    covariates["log_segment_first"] = float(np.log(sizes[first.segment]))
    covariates["log_segment_second"] = float(np.log(sizes[second.segment]))
    frame = second_frame(first_frame(first.first_nm), second.second_nm)
    segments = (first.segment,) if same else (first.segment, second.segment)
    return Site(
        task=TASK,
        location_nm=first.first_nm,
        extent_nm=wide,
        parts=(Part(first.segment, "base"),),
        answer="yes" if same else "no",
        segment_ids=segments,
        body_ids=tuple(corrections.body_of[segment] for segment in segments),
        origin=origin_of(source, case=False),
        covariates=covariates,
        second=SecondPlace(second.segment, second.second_nm, narrow, as_point(frame[2])),
    )


def _partners(
    places: list[_Place], corrections: Corrections, sizes: Mapping[int, int], controls: ControlConfig
) -> Iterator[tuple[int, int]]:
    """Yield pairs of places of two bodies that are alike, for each place the most alike and nearest ones."""
    if len(places) < 2:
        return
    alike = standardise(np.array([[*p.content, np.log(sizes[p.segment])] for p in places]))
    # a pair far apart ties two parts of the volume together, and is lost where these are in two partitions
    where = np.array([p.first_nm for p in places]) / (NEARBY * max(p.wide_nm for p in places))
    wanted = 2 * controls.pool_per_case
    tree = KDTree(np.column_stack([alike, where]))
    bodies = [corrections.body_of[p.segment] for p in places]
    for i in range(len(places)):
        found = 0
        ask = 4 * wanted
        while found < wanted:
            near = np.atleast_1d(tree.query(tree.data[i], min(ask, len(places)))[1]).tolist()
            other = [k for k in near if bodies[k] != bodies[i]]
            yield from ((i, k) for k in other[found:wanted])
            found = min(len(other), wanted)
            if ask >= len(places):
                break
            ask *= 4
