"""Let ends of different neurons meet: end to end, end along end, and end to side.

Without such meetings two ends that face each other would always be the two sides of a cut. Ends grow straight on from
where they are; they show whether calibre and direction continue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.sources.morphology.faces import Stretch, draw_face, open_stretch
from connectomebench.sources.morphology.neurites import chains
from connectomebench.sources.morphology.windows import Window

END_REACH_NM = 800.0  # largest distance between two ends that are made to meet
SIDE_REACH_NM = 600.0  # largest distance of an end from the centre line it is made to touch
_RUN_NM = 1500.0  # length of cable considered behind an end


@dataclass(frozen=True)
class _End:
    """The unbranched run behind a natural end, from the end inwards."""

    nodes: NDArray[np.int64]
    outward: NDArray[np.float64]


def find_meetings(
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    bodies: NDArray[np.uint64],
    edges: NDArray[np.integer],
    free: NDArray[np.bool_],
    share: float,
    max_gap_nm: float,
    rng: np.random.Generator,
) -> list[Window]:
    """Choose natural ends and the neurites they meet.

    Parameters
    ----------
    nodes_nm, radii_nm, bodies, edges
        Shapes (n, 3), (n,), (n,) and (m, 2), nm; before anything is cut off from the nodes that are free.
    free
        bool, shape (n,): nodes that are neither new ends of cuts nor at the border of the data.
    share
        Largest share of the eligible natural ends that meet another neuron.
    max_gap_nm
        Largest distance between the two sides of a face, nm.
    rng
        Source of all random draws.

    Returns
    -------
    list of Window
        No node is in two of them.
    """
    ends = _natural_ends(nodes_nm, edges, free)
    if not ends:
        return []
    numbers = np.array(sorted(ends), np.int64)
    wanted = round(share * len(numbers))
    windows: list[Window] = []
    used: set[int] = set()
    met: set[int] = set()

    def add(window: Window | None, taken: list[int], which: set[int]) -> None:
        if window is not None and used.isdisjoint(taken):
            windows.append(window)
            used.update(taken)
            met.update(which)

    pairs = KDTree(nodes_nm[numbers]).query_pairs(END_REACH_NM, output_type="ndarray")
    pairs = numbers[pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]]
    pairs = pairs[bodies[pairs[:, 0]] != bodies[pairs[:, 1]]]
    for a, b in pairs[np.argsort(rng.random(len(pairs)), kind="stable")].tolist():
        draw = draw_face(rng, max_gap_nm)
        if len(met) + 2 > wanted or a in used or b in used:
            continue
        way = _unit(nodes_nm[b].astype(np.float64) - nodes_nm[a])
        if ends[a].outward @ way < -0.2 or ends[b].outward @ -way < -0.2:
            continue
        run = np.concatenate([ends[a].nodes[::-1], ends[b].nodes])
        stretch = _stretch(nodes_nm, radii_nm, run)
        place = float(stretch.along_nm[len(ends[a].nodes) - 1 : len(ends[a].nodes) + 1].mean())
        opening = open_stretch(stretch, place, draw)
        if opening is not None:
            add(Window(run, stretch.along_nm, place, opening, (1.0, 1.0), False), run.tolist(), {a, b})
    sides = np.flatnonzero(free & (np.bincount(edges.ravel(), minlength=len(nodes_nm)) == 2))
    trees = {int(b): (own := sides[bodies[sides] != b], KDTree(nodes_nm[own])) for b in np.unique(bodies)}
    for a in numbers[np.argsort(rng.random(len(numbers)), kind="stable")].tolist():
        draw = draw_face(rng, max_gap_nm)
        own, tree = trees[int(bodies[a])]
        if len(met) >= wanted or a in used or len(own) == 0:
            continue
        distance, nearest = tree.query(nodes_nm[a])
        side = int(own[nearest])
        trunk = float(radii_nm[side])
        way = _unit(nodes_nm[side].astype(np.float64) - nodes_nm[a])
        if distance > SIDE_REACH_NM or radii_nm[a] > trunk or ends[a].outward @ way < -0.2:
            continue
        run = np.concatenate([[side], ends[a].nodes])
        stretch = _stretch(nodes_nm, radii_nm, run)
        opening = open_stretch(stretch, trunk + 25.0, draw, stub=True)
        if opening is not None:
            add(Window(run, stretch.along_nm, trunk + 25.0, opening, (1.0, 1.0), True), run.tolist(), {a})
    return windows


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _stretch(nodes_nm: NDArray[np.float32], radii_nm: NDArray[np.float32], run: NDArray[np.int64]) -> Stretch:
    points = nodes_nm[run].astype(np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return Stretch(points, radii_nm[run].astype(np.float64), along)


def _natural_ends(
    nodes_nm: NDArray[np.float32], edges: NDArray[np.integer], free: NDArray[np.bool_]
) -> dict[int, _End]:
    """Find the runs behind natural ends: up to a branch point, halfway to another end, or a node that is not free."""
    degree = np.bincount(edges.ravel(), minlength=len(nodes_nm))
    found = {}
    for chain in chains(edges, len(nodes_nm)):
        for nodes in (chain, chain[::-1]):
            if degree[nodes[0]] != 1 or not free[nodes[0]]:
                continue
            along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes_nm[nodes], axis=0), axis=1))])
            run = (along <= min(_RUN_NM, along[-1] / 2)) & np.logical_and.accumulate(free[nodes])
            nodes = nodes[run]
            if len(nodes) >= 3:
                back = nodes[min(3, len(nodes) - 1)]
                found[int(nodes[0])] = _End(nodes, _unit(nodes_nm[nodes[0]].astype(np.float64) - nodes_nm[back]))
    return found
