"""Cuts at places of merge errors: the branches that meet there, and the cheapest cuts between them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from connectomebench.core.cut import CutGraph, ProposalConfig
from connectomebench.core.geometry import Skeleton
from connectomebench.core.site import Cut, Point
from connectomebench.cuts.min_cut import SINK_SIDE, SOURCE_SIDE, SeedsTouch, apply_cut
from connectomebench.cuts.proposals import CutPlace, LaidCut, lay_cut
from connectomebench.proofreading.place import PlaceState, blind_source
from connectomebench.sites.candidates import CandidateConfig

MAX_BRANCHES = 5
MAX_CUTS = 4  # questions about one place, the cheapest cuts first


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


@dataclass(frozen=True)
class Spot:
    """A place where cuts are searched: a name, the object, the place (x, y, z), nm, and its branches."""

    key: str
    segment: int
    at_nm: Point
    branches: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class CutJob:
    """Places in one block at which cuts are searched."""

    state: PlaceState
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class FoundCut:
    """A cut in terms of supervoxels.

    Attributes
    ----------
    cut, place_nm
        The cut of the pieces near the place, and where it runs (x, y, z), nm.
    cost
        What it costs.
    sources, sinks
        Rows of the supervoxels along it on either side.
    border
        int64, shape (k, 2): rows on both sides of every edge that is cut.
    """

    cut: Cut
    place_nm: Point
    cost: float
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    border: NDArray[np.int64]


def search_cuts(job: CutJob) -> list[tuple[list[FoundCut], Counter[str]]]:
    """Find the cheapest cuts between the branches at each place; also return why cuts are missing, by reason."""
    held, pieces = job.state.spec.open()
    source = blind_source(held, pieces, job.state.rows(), job.state.key)
    rules, largest = held.config.proposals, held.config.sites.extent_nm[1]
    made = []
    for spot in job.spots:
        dropped: Counter[str] = Counter()
        found: list[FoundCut] = []
        if len(spot.branches) < 2:
            dropped["fewer than two branches"] += 1
        else:
            local = source.pieces(spot.segment, spot.at_nm, rules.reach_nm)
            if len(local.graph.points_nm) < 2:
                dropped["one piece"] += 1
            else:
                where = CutPlace(spot.key, spot.segment, (), spot.at_nm, rules.reach_nm, local.graph, _cheapest)
                assert local.supervoxels is not None
                rows = local.supervoxels.astype(np.int64) - 1
                for cut in _cheapest_cuts(where, spot.branches, rules, largest, dropped):
                    one = _in_supervoxels(cut, local.graph, rows)
                    if isinstance(one, str):
                        dropped[one] += 1
                    else:
                        found.append(one)
        made.append((found, dropped))
    return made


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
) -> list[LaidCut]:
    """Cut between all divisions of the branches into two sides, and keep the cheapest different cuts."""
    tree = KDTree(where.graph.points_nm)
    seeds = [np.unique(tree.query(points)[1]) for points in branches]
    found: dict[bytes, LaidCut] = {}
    others = range(1, len(branches))
    for size in range(len(branches) - 1):
        for chosen in itertools.combinations(others, size):
            mine = np.concatenate([seeds[i] for i in (0, *chosen)])
            theirs = np.concatenate([seeds[i] for i in others if i not in chosen])
            made = lay_cut(where, where.cut(mine, theirs), rules, largest_view_nm)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            found.setdefault(made.sides.tobytes(), made)
    return sorted(found.values(), key=lambda cut: (cut.cost, cut.place_nm))[:MAX_CUTS]


def _in_supervoxels(cut: LaidCut, local: CutGraph, rows: NDArray[np.int64]) -> FoundCut | str:
    """Express a cut of a cutout in supervoxels."""
    sides = cut.sides
    mine, theirs = np.unique(rows[sides == SOURCE_SIDE]), np.unique(rows[sides == SINK_SIDE])
    both = np.intersect1d(mine, theirs)
    a, b = local.edges[:, 0], local.edges[:, 1]
    border = rows[local.edges[sides[a] * sides[b] == -1]]
    sources = np.setdiff1d(np.intersect1d(border, mine), both)
    sinks = np.setdiff1d(np.intersect1d(border, theirs), both)
    if not len(sources) or not len(sinks):
        return "a side is no supervoxel of its own"
    return FoundCut(cut.cut, cut.place_nm, cut.cost, tuple(sources.tolist()), tuple(sinks.tolist()), border)
