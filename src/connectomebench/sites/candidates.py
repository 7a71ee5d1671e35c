"""Find candidate places for errors without the truth, and measure how well they cover the corrections.

Split errors are searched at ends of skeletons (degree 1). Merge errors are searched where a segment seems to touch
itself: at branch points (degree above 2), at waists (much thinner than on both sides), where branches run in parallel
(nearer to each other than the way along the skeleton would have it), and where supervoxels of the segment touch in a
suspect way (see :mod:`connectomebench.sites.interface_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.spatial import KDTree

from connectomebench.core.correction import Corrections, MergeCorrection, SplitCorrection
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Skeleton
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.tasks import MERGE_ERROR_KINDS, SPLIT_ERROR_KINDS
from connectomebench.core.tasks import CandidateKind as Kind
from connectomebench.sites.interface_scores import interface_scores, joining_contacts

_LONGEST_DETOUR = 10.0
_CURVE_POINTS = 8


@dataclass(frozen=True)
class CandidateConfig:
    """Which places become candidates, and when a correction counts as near one.

    Attributes
    ----------
    kinds
        Kinds to search for: ``end`` for split errors; ``branch``, ``waist``, ``parallel`` and ``interface`` for merge
        errors. ``interface`` needs supervoxels, and is left out where the source has none.
    radius_nm
        A correction within this distance makes the candidate an error (2 µm on whole brains).
    merge_radius_nm
        The same for merge errors; on small volumes the radius of the neurites' contact.
    min_distance_nm
        Candidates of a segment nearer than this to each other become one, except ends.
    min_nodes
        Skeletons with fewer nodes give no candidates.
    reach_nm
        Length of neurite compared on each side of a node to find waists, nm.
    min_constriction
        A waist is thinner than the thickest place on either side by at least this share.
    parallel_gap_nm
        Branches are parallel where their surfaces come within this distance, nm ...
    min_detour
        ... and the way along the skeleton is at least this many times the straight line.
    min_interface
        A contact of two supervoxels is a candidate from this score on, 0 to 1; see
        :func:`connectomebench.sites.interface_scores.interface_scores`.
    min_side_voxels
        ... and where it joins two parts of the segment of so many voxels; see
        :func:`connectomebench.sites.interface_scores.joining_contacts`.
    max_per_mm
        Most candidates of each kind but ends for each mm of a segment's skeleton (and at least one), the most
        pronounced first; None sets no limit.
    """

    kinds: tuple[Kind, ...] = (*SPLIT_ERROR_KINDS, *MERGE_ERROR_KINDS)
    radius_nm: float = 2000.0
    merge_radius_nm: float = 2000.0
    min_distance_nm: float = 500.0
    min_nodes: int = 5
    reach_nm: float = 1000.0
    min_constriction: float = 0.2
    parallel_gap_nm: float = 80.0
    min_detour: float = 3.0
    min_interface: float = 0.1
    min_side_voxels: int = 500
    max_per_mm: float | None = None

    def __post_init__(self) -> None:
        for name in ("radius_nm", "merge_radius_nm", "reach_nm"):
            if not getattr(self, name) > 0:
                raise ConnectomeBenchError(f"candidates.{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.min_constriction < 1:
            raise ConnectomeBenchError(
                f"candidates.min_constriction must be at least 0 and below 1, not {self.min_constriction}"
            )
        if not 1 <= self.min_detour <= _LONGEST_DETOUR:
            raise ConnectomeBenchError(
                f"candidates.min_detour must be between 1 and {_LONGEST_DETOUR:g}, not {self.min_detour}"
            )
        if not 0 <= self.min_interface <= 1:
            raise ConnectomeBenchError(f"candidates.min_interface must be between 0 and 1, not {self.min_interface}")
        if self.min_side_voxels < 1:
            raise ConnectomeBenchError(f"candidates.min_side_voxels must be at least 1, not {self.min_side_voxels}")
        if self.max_per_mm is not None and not self.max_per_mm > 0:
            raise ConnectomeBenchError(f"candidates.max_per_mm must be above 0, not {self.max_per_mm}")


@dataclass(frozen=True)
class Candidates:
    """Candidate places, one per row.

    Attributes
    ----------
    segments
        uint64, shape (n,).
    points_nm
        float32, shape (n, 3), nm.
    radii_nm
        float32, shape (n,): calibre of the segment there.
    kinds
        Text, shape (n,): one of :data:`Kind`; in proofreading also ``contact``, where two objects touch.
    scores
        float32, shape (n,): how pronounced it is, comparable within a kind: share of the calibre that is
        missing at a waist, ratio of the ways between parallel branches, degree of a branch point, 1 for an end, and
        for a contact of supervoxels see :func:`connectomebench.sites.interface_scores.interface_scores`.
    """

    segments: NDArray[np.uint64]
    points_nm: NDArray[np.float32]
    radii_nm: NDArray[np.float32]
    kinds: NDArray[np.str_]
    scores: NDArray[np.float32]

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Candidates:
        """Select the candidates at these rows."""
        return Candidates(
            self.segments[rows], self.points_nm[rows], self.radii_nm[rows], self.kinds[rows], self.scores[rows]
        )

    def of_kind(self, *kinds: Kind) -> Candidates:
        """Select the candidates of some kinds."""
        return self.take(np.isin(self.kinds, kinds))


_NONE = Candidates(
    np.zeros(0, np.uint64),
    np.zeros((0, 3), np.float32),
    np.zeros(0, np.float32),
    np.zeros(0, np.str_),
    np.zeros(0, np.float32),
)


def find_candidates(
    skeletons: Iterable[tuple[int, Skeleton]],
    rules: CandidateConfig,
    interfaces: SupervoxelInterfaces | None = None,
) -> Candidates:
    """Collect candidates of all kinds that the rules name.

    Parameters
    ----------
    skeletons
        Pairs of segment id and skeleton.
    rules
        See :class:`CandidateConfig`.
    interfaces
        Contacts between supervoxels of these segments; None gives no candidates of the kind ``interface``.

    Returns
    -------
    Candidates
        In the order of the skeletons, then of the kinds; each kind thinned by itself to one per place (see
        :func:`one_a_place` for all kinds together).
    """
    touching = {} if interfaces is None else dict(interfaces.by_segment())
    found = []
    for segment, skeleton in skeletons:
        if len(skeleton.nodes_nm) < rules.min_nodes or not len(skeleton.edges):
            continue
        for kind in rules.kinds:
            if kind != "interface":
                own = _on_skeleton(segment, skeleton, kind, rules)
            elif segment in touching:
                own = _between_supervoxels(touching[segment], rules)
            else:
                continue
            found.append(own if kind == "end" else _thinned(own, skeleton, rules))
    if not found:
        return _NONE
    return Candidates(*(np.concatenate([getattr(c, name) for c in found]) for name in Candidates.__dataclass_fields__))


def _on_skeleton(segment: int, skeleton: Skeleton, kind: Kind, rules: CandidateConfig) -> Candidates:
    nodes, scores = _nodes_of_kind(skeleton, kind, rules)
    return Candidates(
        np.full(len(nodes), segment, np.uint64),
        skeleton.nodes_nm[nodes].astype(np.float32),
        skeleton.radii_nm[nodes].astype(np.float32),
        np.full(len(nodes), kind),
        scores.astype(np.float32),
    )


def _between_supervoxels(interfaces: SupervoxelInterfaces, rules: CandidateConfig) -> Candidates:
    interfaces = interfaces.take(joining_contacts(interfaces, rules.min_side_voxels))
    scores = interface_scores(interfaces)
    kept = np.flatnonzero(scores >= rules.min_interface)
    return Candidates(
        interfaces.segments[kept],
        interfaces.points_nm[kept],
        interfaces.depths_nm[kept],
        np.full(len(kept), "interface"),
        scores[kept].astype(np.float32),
    )


def _thinned(found: Candidates, skeleton: Skeleton, rules: CandidateConfig) -> Candidates:
    """Keep one candidate a place, and at most so many, the most pronounced first and of equal ones the thickest."""
    order = np.lexsort((np.arange(len(found.scores)), -found.radii_nm, -found.scores))
    kept = order[_first_of_each_place(found.points_nm[order], rules.min_distance_nm)]
    if rules.max_per_mm is not None:
        kept = kept[: max(1, math.floor(rules.max_per_mm * path_mm([skeleton])))]
    return found.take(np.sort(kept))


def _nodes_of_kind(
    skeleton: Skeleton, kind: Kind, rules: CandidateConfig
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nodes of a kind (int64, ascending) with their scores."""
    degrees = skeleton.degrees()
    if kind == "end":
        scores = (degrees == 1).astype(np.float64)
    elif kind == "branch":
        scores = np.where(degrees > 2, degrees, 0).astype(np.float64)
    elif kind == "waist":
        scores = _constrictions(skeleton, rules)
    else:
        scores = _parallel_detours(skeleton, rules)
    nodes = np.flatnonzero(scores)
    return nodes, scores[nodes]


def _neighbour_table(skeleton: Skeleton) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the neighbours of each node as compressed sparse rows: starts, neighbours, lengths (nm)."""
    a, b = skeleton.edges.T.astype(np.int64)
    length = np.linalg.norm(skeleton.nodes_nm[a].astype(np.float64) - skeleton.nodes_nm[b], axis=1)
    n = len(skeleton.nodes_nm)
    # nodes at one place are neighbours too
    length = np.maximum(length, 1e-6)
    table = coo_array((np.tile(length, 2), (np.append(a, b), np.append(b, a))), shape=(n, n)).tocsr()
    return table.indptr.astype(np.int64), table.indices.astype(np.int64), np.asarray(table.data, np.float64)


def _constrictions(skeleton: Skeleton, rules: CandidateConfig) -> NDArray[np.float64]:
    """Return the constriction of nodes that are waists, 0 elsewhere; float64, shape (n_nodes,)."""
    from connectomebench.sites.candidate_kernels import constrictions

    starts, neighbours, lengths = _neighbour_table(skeleton)
    radii = skeleton.radii_nm.astype(np.float64)
    found = constrictions(starts, neighbours, lengths, radii, rules.reach_nm)
    thinnest = np.full(len(radii), np.inf)
    np.minimum.at(thinnest, np.repeat(np.arange(len(radii)), np.diff(starts)), radii[neighbours])
    return np.where((radii <= thinnest) & (found >= max(rules.min_constriction, 1e-9)), found, 0.0)


def _parallel_detours(skeleton: Skeleton, rules: CandidateConfig) -> NDArray[np.float64]:
    """Return the largest detour of nodes with a parallel neighbour, 0 elsewhere; float64, shape (n_nodes,)."""
    from connectomebench.sites.candidate_kernels import detours
    from connectomebench.sources.morphology.proximity import close_pairs

    n = len(skeleton.nodes_nm)
    pairs, _ = close_pairs(skeleton.nodes_nm, skeleton.radii_nm, np.arange(n, dtype=np.uint64), rules.parallel_gap_nm)
    straight = np.linalg.norm(
        skeleton.nodes_nm[pairs[:, 0]].astype(np.float64) - skeleton.nodes_nm[pairs[:, 1]], axis=1
    )
    ratio = detours(*_neighbour_table(skeleton), pairs, straight, _LONGEST_DETOUR)
    # nodes of one thick place lie near each other whatever the path
    apart = straight * ratio > skeleton.radii_nm[pairs].sum(axis=1) + rules.parallel_gap_nm
    kept = (ratio >= rules.min_detour) & apart
    found = np.zeros(n)
    for side in (0, 1):
        np.maximum.at(found, pairs[kept, side], ratio[kept])
    return found


def _first_of_each_place(points: NDArray[np.floating], distance_nm: float) -> NDArray[np.int64]:
    """Return the rows farther than a distance from every earlier kept row; ascending."""
    if len(points) < 2:
        return np.arange(len(points))
    near = KDTree(points).query_ball_point(points, distance_nm)
    free = np.ones(len(points), np.bool_)
    kept = []
    for row, others in enumerate(near):
        if free[row]:
            kept.append(row)
            free[others] = False
    return np.asarray(kept, np.int64)


def one_a_place(candidates: Candidates, kinds: Sequence[Kind], distance_nm: float) -> Candidates:
    """Keep one candidate per place of a segment: of the first kind named, then the most pronounced.

    Parameters
    ----------
    candidates
        Of any kinds.
    kinds
        Kinds to keep, most trusted first.
    distance_nm
        Candidates nearer than this are one place, nm.
    """
    rank = np.array([kinds.index(k) if k in kinds else -1 for k in candidates.kinds.tolist()], np.int64)
    rows = np.flatnonzero(rank >= 0)
    order = rows[np.lexsort((rows, -candidates.scores[rows], rank[rows], candidates.segments[rows]))]
    kept = []
    starts = np.unique(candidates.segments[order], return_index=True)[1]
    for own in np.split(order, starts[1:]):
        kept.append(own[_first_of_each_place(candidates.points_nm[own], distance_nm)])
    return candidates.take(np.sort(np.concatenate(kept)) if kept else rows)


@dataclass(frozen=True)
class Coverage:
    """Recall and precision of candidates against corrections, and the length of skeleton searched.

    Attributes
    ----------
    candidates, corrections
        Their numbers.
    found
        Corrections with a candidate.
    right
        Candidates at a correction.
    path_mm
        Length of the skeletons that were searched, mm.
    """

    candidates: int
    corrections: int
    found: int
    right: int
    path_mm: float

    def as_dict(self) -> dict[str, float | int | None]:
        """Return values for the manifest; undefined ratios are None."""
        return {
            "candidates": self.candidates,
            "corrections": self.corrections,
            "recall": self.found / self.corrections if self.corrections else None,
            "precision": self.right / self.candidates if self.candidates else None,
            "candidates_per_mm": self.candidates / self.path_mm if self.path_mm else None,
        }


def path_mm(skeletons: Iterable[Skeleton]) -> float:
    """Sum the length of skeletons, mm."""
    total = 0.0
    for skeleton in skeletons:
        a, b = skeleton.edges[:, 0], skeleton.edges[:, 1]
        total += float(np.linalg.norm(skeleton.nodes_nm[a] - skeleton.nodes_nm[b], axis=1).sum())
    return total / 1e6


def _targets(corrections: Corrections, kind: Kind) -> Sequence[MergeCorrection] | Sequence[SplitCorrection]:
    return corrections.merges if kind in SPLIT_ERROR_KINDS else corrections.splits


def nearest_correction(
    candidates: Candidates, corrections: Corrections, kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the nearest correction of each candidate's own segment.

    Parameters
    ----------
    candidates
        Candidates, shape (n,).
    corrections
        Ground truth; ``end`` looks at merges, the other kinds at splits.
    kind
        Which corrections count.

    Returns
    -------
    distances_nm
        float64, shape (n,): to the nearest point of the correction's interface; infinite if the segment has none.
    index
        int64, shape (n,): index into ``corrections.merges`` or ``corrections.splits``; -1 if there is none.
    """
    places: dict[int, list[int]] = {}
    targets = _targets(corrections, kind)
    for i, target in enumerate(targets):
        for segment in target.segments:
            places.setdefault(segment, []).append(i)
    distances = np.full(len(candidates.segments), np.inf)
    index = np.full(len(candidates.segments), -1, np.int64)
    for segment, rows in _by_segment(candidates):
        if segment in places:
            points = [targets[i].points_nm for i in places[segment]]
            near, at = KDTree(np.concatenate(points)).query(candidates.points_nm[rows])
            distances[rows] = near
            index[rows] = np.repeat(places[segment], [len(p) for p in points])[at]
    return distances, index


def _by_segment(candidates: Candidates) -> Iterable[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(candidates.segments, kind="stable")
    unique, starts = np.unique(candidates.segments[order], return_index=True)
    return zip(unique.tolist(), np.split(order, starts[1:]), strict=False)


def coverage(
    candidates: Candidates, corrections: Corrections, kind: Kind, radius_nm: float, path_mm: float
) -> Coverage:
    """Measure recall and precision of candidates.

    A correction is found when a candidate on one of its segments lies within ``radius_nm`` of its interface; a
    candidate is right when such a correction lies within ``radius_nm`` of it.

    Parameters
    ----------
    candidates
        Of one kind, or of several for the same error.
    corrections
        Ground truth.
    kind
        Which corrections count, as in :func:`nearest_correction`.
    radius_nm
        Largest distance that counts as near, nm.
    path_mm
        Length of the skeletons that were searched, mm.
    """
    distances, _ = nearest_correction(candidates, corrections, kind)
    # one tree a segment: a giant one has thousands of candidates, and as many corrections that ask for them
    trees = {segment: KDTree(candidates.points_nm[rows]) for segment, rows in _by_segment(candidates)}
    bound = np.nextafter(radius_nm, np.inf)  # the tree leaves out what lies at the bound itself
    targets = _targets(corrections, kind)
    found = 0
    for target in targets:
        near = (
            trees[segment].query(target.points_nm, distance_upper_bound=bound)[0]
            for segment in target.segments
            if segment in trees
        )
        found += any(bool(np.isfinite(one).any()) for one in near)
    return Coverage(len(distances), len(targets), found, int((distances <= radius_nm).sum()), path_mm)


def measure(
    candidates: Candidates, corrections: Corrections, kinds: Sequence[Kind], rules: CandidateConfig, path_mm: float
) -> dict[str, Any]:
    """Measure the candidates of all kinds for one error type together, and each kind by itself.

    Parameters
    ----------
    candidates
        From :func:`find_candidates`.
    corrections
        Ground truth.
    kinds
        The kinds for this error type.
    rules
        Radius and distance.
    path_mm
        Length of the skeletons that were searched, mm.

    Returns
    -------
    dict
        See :meth:`Coverage.as_dict`, with ``radius_nm``, ``path_mm`` and ``kinds``: for each kind the same, and
        ``curve``, the same for the most pronounced candidates alone, from few to all.
    """
    radius = rules.radius_nm if kinds[0] in SPLIT_ERROR_KINDS else rules.merge_radius_nm
    used: list[Kind] = [kind for kind in kinds if kind in rules.kinds]
    together = one_a_place(candidates, used, rules.min_distance_nm) if len(used) > 1 else candidates.of_kind(*used)
    each: dict[str, Mapping[str, Any]] = {}
    for kind in used:
        own = candidates.of_kind(kind)
        curve = []
        for score in _thresholds(own.scores):
            some = own.take(own.scores >= score)
            point = coverage(some, corrections, kind, radius, path_mm).as_dict()
            curve.append({"min_score": round(float(score), 4)} | point)
        each[kind] = coverage(own, corrections, kind, radius, path_mm).as_dict() | {"curve": curve}
    whole = coverage(together, corrections, kinds[0], radius, path_mm).as_dict()
    return whole | {"radius_nm": radius, "path_mm": path_mm, "kinds": each}


def _thresholds(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return descending score thresholds that keep more and more candidates; the last keeps all."""
    if not len(scores):
        return scores
    cuts = np.quantile(scores, np.linspace(1, 0, _CURVE_POINTS + 1)[1:], method="lower")
    return np.unique(cuts)[::-1]
