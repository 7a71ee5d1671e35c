"""Candidate places for errors, found on skeletons alone, and how well they cover the corrections.

Ends (degree 1) are candidates for split errors, branch points (degree above 2) for merge errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from connectomebench.core.correction import Corrections
from connectomebench.core.geometry import Skeleton

Kind = Literal["end", "branch"]


@dataclass(frozen=True)
class CandidateRules:
    """Which skeleton nodes become candidates, and when a correction counts as being there.

    Attributes
    ----------
    radius_nm
        A correction within this distance makes the candidate an error (2 µm on whole brains).
    merge_radius_nm
        The same for branch points; the radius of the neurites' contact on small volumes.
    min_distance_nm
        Branch points of a segment nearer than this to each other become one candidate.
    min_nodes
        Skeletons with fewer nodes give no candidates.
    """

    radius_nm: float = 2000.0
    merge_radius_nm: float = 2000.0
    min_distance_nm: float = 500.0
    min_nodes: int = 5


@dataclass(frozen=True)
class Candidates:
    """Candidate places, one row each.

    Attributes
    ----------
    segments
        uint64, shape (n,).
    points_nm
        float32, shape (n, 3), nm.
    radii_nm
        float32, shape (n,): calibre of the segment there.
    branch
        bool, shape (n,): True for branch points, False for ends.
    """

    segments: NDArray[np.uint64]
    points_nm: NDArray[np.float32]
    radii_nm: NDArray[np.float32]
    branch: NDArray[np.bool_]

    def of_kind(self, kind: Kind) -> Candidates:
        """Keep ends or branch points."""
        keep = self.branch if kind == "branch" else ~self.branch
        return Candidates(self.segments[keep], self.points_nm[keep], self.radii_nm[keep], self.branch[keep])


def find_candidates(skeletons: Iterable[tuple[int, Skeleton]], rules: CandidateRules) -> Candidates:
    """Collect ends and branch points of skeletons.

    Parameters
    ----------
    skeletons
        Pairs of segment id and skeleton.
    rules
        See :class:`CandidateRules`.

    Returns
    -------
    Candidates
        In the order of the skeletons; branch points thinned to one a place.
    """
    segments, points, radii, branch = [], [], [], []
    for segment, skeleton in skeletons:
        if len(skeleton.nodes_nm) < rules.min_nodes:
            continue
        degrees = skeleton.degrees()
        ends = np.flatnonzero(degrees == 1)
        forks = _one_a_place(skeleton, np.flatnonzero(degrees > 2), degrees, rules.min_distance_nm)
        nodes = np.concatenate([ends, forks])
        segments.append(np.full(len(nodes), segment, np.uint64))
        points.append(skeleton.nodes_nm[nodes])
        radii.append(skeleton.radii_nm[nodes])
        branch.append(np.arange(len(nodes)) >= len(ends))
    if not segments:
        return Candidates(
            np.zeros(0, np.uint64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(0, bool)
        )
    return Candidates(
        np.concatenate(segments),
        np.concatenate(points).astype(np.float32),
        np.concatenate(radii).astype(np.float32),
        np.concatenate(branch),
    )


def _one_a_place(
    skeleton: Skeleton, nodes: NDArray[np.int64], degrees: NDArray[np.int64], distance_nm: float
) -> NDArray[np.int64]:
    """Keep one node of each group nearer than ``distance_nm``: highest degree, then largest radius, then first."""
    if len(nodes) < 2:
        return nodes
    pairs = KDTree(skeleton.nodes_nm[nodes]).query_pairs(distance_nm, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(nodes), len(nodes)))
    place = connected_components(links.tocsr(), directed=False)[1]
    order = np.lexsort((nodes, -skeleton.radii_nm[nodes], -degrees[nodes]))
    first = np.unique(place[order], return_index=True)[1]
    return np.sort(nodes[order[first]])


@dataclass(frozen=True)
class Coverage:
    """Recall and precision of candidates against corrections."""

    candidates: int
    corrections: int
    found: int
    right: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For the manifest; recall and precision are None where there is nothing to divide by."""
        return {
            "candidates": self.candidates,
            "corrections": self.corrections,
            "recall": self.found / self.corrections if self.corrections else None,
            "precision": self.right / self.candidates if self.candidates else None,
        }


def nearest_correction(
    candidates: Candidates, corrections: Corrections, kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find for each candidate the nearest correction that involves its own segment.

    Parameters
    ----------
    candidates
        Candidates, shape (n,).
    corrections
        Ground truth; ``kind`` ``end`` looks at merges, ``branch`` at splits.
    kind
        Which corrections count.

    Returns
    -------
    distances_nm
        float64, shape (n,); infinite where the segment has no correction.
    index
        int64, shape (n,): index into ``corrections.merges`` or ``corrections.splits``; -1 where there is none.
    """
    places: dict[int, list[tuple[int, tuple[float, float, float]]]] = {}
    if kind == "end":
        for i, merge in enumerate(corrections.merges):
            for segment in merge.segments:
                places.setdefault(segment, []).append((i, merge.location_nm))
    else:
        for i, split in enumerate(corrections.splits):
            places.setdefault(split.segment, []).append((i, split.location_nm))
    distances = np.full(len(candidates.segments), np.inf)
    index = np.full(len(candidates.segments), -1, np.int64)
    order = np.argsort(candidates.segments, kind="stable")
    unique, starts = np.unique(candidates.segments[order], return_index=True)
    for segment, rows in zip(unique.tolist(), np.split(order, starts[1:]), strict=True):
        if segment in places:
            near, at = KDTree([p for _, p in places[segment]]).query(candidates.points_nm[rows])
            distances[rows] = near
            index[rows] = np.asarray([i for i, _ in places[segment]])[at]
    return distances, index


def coverage(candidates: Candidates, corrections: Corrections, kind: Kind, radius_nm: float) -> Coverage:
    """Measure recall and precision of candidates of one kind.

    A correction is found when a candidate on one of its segments lies within ``radius_nm``; a candidate is right when
    such a correction lies within ``radius_nm`` of it.
    """
    own = candidates.of_kind(kind)
    distances, _ = nearest_correction(own, corrections, kind)
    points: dict[int, list[NDArray[np.float32]]] = {}
    for segment, point in zip(own.segments.tolist(), own.points_nm, strict=True):
        points.setdefault(segment, []).append(point)
    if kind == "end":
        truths = [(m.segments, m.location_nm) for m in corrections.merges]
    else:
        truths = [((s.segment,), s.location_nm) for s in corrections.splits]
    found = 0
    for segments, place in truths:
        near = [p for s in segments for p in points.get(s, [])]
        found += bool(near) and bool(np.min(np.linalg.norm(np.asarray(near) - place, axis=1)) <= radius_nm)
    return Coverage(len(own.segments), len(truths), found, int((distances <= radius_nm).sum()))
