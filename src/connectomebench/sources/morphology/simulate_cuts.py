"""Cut a neuron where automatic segmentation fails: in thin neurites, of the calibre that ends have by nature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from connectomebench.sources.morphology.neurites import chains


class SimulatedCutRules(Protocol):
    """The part of the rules that is about cuts; see :class:`simulated_errors.MorphologyRules`."""

    @property
    def step_nm(self) -> float: ...  # noqa: D102
    @property
    def cut_spacing_nm(self) -> float: ...  # noqa: D102
    @property
    def min_fragment_nm(self) -> float: ...  # noqa: D102
    @property
    def max_fragment_nm(self) -> float: ...  # noqa: D102
    @property
    def max_cut_gap_nm(self) -> float: ...  # noqa: D102


TAPER_NM = 450.0  # ends are compared over this length


@dataclass(frozen=True)
class NaturalEnds:
    """What ends look like by nature, which the ends of cuts are to resemble.

    Attributes
    ----------
    calibre_nm
        Shape (n,), ascending: radius of the neurite a taper length before each end, nm.
    taper
        Shape (n,): radius at the end over that radius.
    """

    calibre_nm: NDArray[np.float32]
    taper: NDArray[np.float32]


def measure_ends(
    nodes_nm: NDArray[np.float32], radii_nm: NDArray[np.float32], edges: NDArray[np.integer]
) -> NaturalEnds:
    """Measure calibre and taper of all ends on stretches longer than the taper.

    Parameters
    ----------
    nodes_nm, radii_nm, edges
        Shapes (n, 3), (n,) and (m, 2); whole neurons, evenly sampled.
    """
    degree = np.bincount(edges.ravel(), minlength=len(nodes_nm))
    found = []
    for chain in chains(edges, len(nodes_nm)):
        for from_end in (chain, chain[::-1]):
            at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes_nm[from_end], axis=0), axis=1))])
            if degree[from_end[0]] == 1 and at[-1] > TAPER_NM:
                calibre = float(np.interp(TAPER_NM, at, radii_nm[from_end]))
                found.append((calibre, float(radii_nm[from_end[0]]) / calibre))
    table = np.array(sorted(found), np.float32).reshape(-1, 2)
    return NaturalEnds(table[:, 0], table[:, 1])


@dataclass(frozen=True)
class CutNeuron:
    """A neuron in fragments.

    Attributes
    ----------
    nodes_nm
        float32, shape (n, 3), nm.
    radii_nm, body_radii_nm
        float32, shape (n,), nm: of the fragment, which tapers towards the ends of cuts, and of the neuron itself.
    edges
        int64, shape (m, 2): inside fragments.
    gaps
        int64, shape (k, 2): the two ends of each cut.
    came_from
        int64, shape (n,): node of the whole neuron, -1 for the ends of cuts, which are new.
    """

    nodes_nm: NDArray[np.float32]
    radii_nm: NDArray[np.float32]
    body_radii_nm: NDArray[np.float32]
    edges: NDArray[np.int64]
    gaps: NDArray[np.int64]
    came_from: NDArray[np.int64]


@dataclass(frozen=True)
class _Tree:
    """Each node's subtree as an interval of the preorder, and the cable below it (nm)."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    below_nm: NDArray[np.float64]
    root: NDArray[np.int64]


def _root_tree(nodes: NDArray[np.float32], edges: NDArray[np.integer]) -> _Tree:
    n = len(nodes)
    links = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()
    piece = connected_components(links, directed=False)[1]
    roots = np.unique(piece, return_index=True)[1]
    parent, order = np.full(n, -1), []
    for root in roots:
        nodes_of, before = breadth_first_order(links, root, directed=False)
        parent[nodes_of[1:]] = before[nodes_of[1:]]
        order.append(nodes_of)
    order = np.concatenate(order).tolist()
    above = parent.tolist()
    length = np.linalg.norm(nodes - nodes[parent], axis=1)
    below, size = [0.0] * n, [1] * n
    for node in reversed(order):
        up = above[node]
        if up >= 0:
            below[up] += below[node] + float(length[node])
            size[up] += size[node]
    first, free = [0] * n, [0] * n  # free: where the next child's interval starts
    start = 0
    for node in order:
        up = above[node]
        if up < 0:
            first[node], start = start, start + size[node]
        else:
            first[node], free[up] = free[up], free[up] + size[node]
        free[node] = first[node] + 1
    return _Tree(np.array(first), np.array(first) + np.array(size), np.array(below), np.asarray(roots, np.int64)[piece])


def _calibre_weights(candidates_nm: NDArray[np.float32], natural_nm: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights that give cuts the calibres of natural ends: ratio of the two histograms, shape (n_candidates,).

    Thin places are used up first (no two cuts lie close together), hence the extra preference for them.
    """
    bins = np.unique(np.quantile(natural_nm, np.linspace(0, 1, 13)))
    bins = np.concatenate([[0.0], bins[1:-1], [np.inf]])
    wanted = np.histogram(natural_nm, bins)[0]
    there = np.histogram(candidates_nm, bins)[0]
    ratio = (wanted / np.maximum(there, 1))[np.digitize(candidates_nm, bins) - 1]
    return ratio / candidates_nm


def _draw_tapers(radii_nm: NDArray[np.float32], natural: NaturalEnds, rng: np.random.Generator) -> NDArray[np.float32]:
    """Give each node, for the two ends of a cut there, tapers of natural ends of about its calibre; shape (n, 2)."""
    near = rng.integers(-20, 21, (len(radii_nm), 2))
    if len(natural.taper) == 0:  # no neurite long enough to measure
        return np.ones((len(radii_nm), 2), np.float32)
    like = np.searchsorted(natural.calibre_nm, radii_nm)[:, None] + near
    return natural.taper[np.clip(like, 0, len(natural.taper) - 1)]


def cut_neuron(
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    edges: NDArray[np.integer],
    natural: NaturalEnds,
    rules: SimulatedCutRules,
    rng: np.random.Generator,
) -> CutNeuron:
    """Cut a neuron at random places.

    Parameters
    ----------
    nodes_nm, radii_nm
        Shapes (n, 3) and (n,), nm.
    edges
        Shape (m, 2); a forest.
    natural
        Calibres and tapers that the ends of cuts are to have.
    rules
        Spacing, sizes and gaps.
    rng
        Source of all random draws.

    Returns
    -------
    CutNeuron
        Each cut leaves two tapered, round ends whose surfaces are 0 to ``max_cut_gap_nm`` apart; the cable between
        belongs to no fragment.
    """
    tree = _root_tree(nodes_nm, edges)
    stretches = chains(edges, len(nodes_nm))
    chain_of, place_on = np.full(len(nodes_nm), -1), np.zeros(len(nodes_nm))
    along: list[NDArray[np.float64]] = []
    candidate = np.zeros(len(nodes_nm), bool)
    for number, chain in enumerate(stretches):
        at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes_nm[chain], axis=0), axis=1))])
        along.append(at)
        chain_of[chain[1:-1]], place_on[chain[1:-1]] = number, at[1:-1]
        room = radii_nm[chain] + rules.max_cut_gap_nm / 2
        candidate[chain[1:-1]] = ((at - room > radii_nm[chain[0]]) & (at + room < at[-1] - radii_nm[chain[-1]]))[1:-1]
    whole = tree.below_nm[tree.root]
    candidate &= np.minimum(tree.below_nm, whole - tree.below_nm) > rules.min_fragment_nm
    candidates = np.flatnonzero(candidate)
    weights = _calibre_weights(radii_nm[candidates], natural.calibre_nm)
    with np.errstate(divide="ignore"):
        keys = -np.log(rng.random(len(candidates))) / weights  # weighted sampling without replacement
    gaps_nm = rng.uniform(0, rules.max_cut_gap_nm, len(nodes_nm))
    tapers = _draw_tapers(radii_nm, natural, rng)
    wanted = round(float(tree.below_nm[np.unique(tree.root)].sum()) / rules.cut_spacing_nm)
    roots = np.unique(tree.root)
    tops = roots.tolist()  # topmost node of each fragment, and the fragment's cable
    cable = tree.below_nm[roots].tolist()
    windows: list[tuple[int, int, float, float]] = []
    for node in candidates[np.argsort(keys, kind="stable")]:
        top, own = np.array(tops), np.array(cable)
        over = np.flatnonzero((tree.first[top] <= tree.first[node]) & (tree.first[node] < tree.last[top]))
        home = over[np.argmax(tree.first[top[over]])]
        if len(windows) >= wanted and own[home] <= rules.max_fragment_nm:
            continue
        under = (tree.first[node] <= tree.first[top]) & (tree.first[top] < tree.last[node])
        lower = float(tree.below_nm[node] - own[under].sum())
        upper = float(own[home]) - lower
        chain = int(chain_of[node])
        place = float(place_on[node])
        half = _half_window(
            nodes_nm, radii_nm, stretches[chain], along[chain], place, tapers[node], float(gaps_nm[node])
        )
        if half is None or min(lower, upper) - half < rules.min_fragment_nm:
            continue
        tops.append(int(node))
        cable.append(lower)
        cable[home] = upper
        windows.append((int(node), chain, place, half))
    return _open_windows(nodes_nm, radii_nm, edges, stretches, along, tapers, windows)


def _on_chain(
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    chain: NDArray[np.int64],
    along: NDArray[np.float64],
    at: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and radii at distances along a chain."""
    points = np.stack([np.interp(at, along, nodes_nm[chain, k]) for k in range(3)], axis=-1)
    return points, np.interp(at, along, radii_nm[chain])


def _half_window(
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    chain: NDArray[np.int64],
    along: NDArray[np.float64],
    at: float,
    taper: NDArray[np.float32],
    gap_nm: float,
) -> float | None:
    """Cable to remove on each side so that the round ends are a gap apart; None where there is no room."""
    room = min(at - along[0] - radii_nm[chain[0]], along[-1] - radii_nm[chain[-1]] - at)
    halves = np.arange(20.0, room, 5.0)
    if len(halves) == 0:
        return None
    left, left_radius = _on_chain(nodes_nm, radii_nm, chain, along, at - halves)
    right, right_radius = _on_chain(nodes_nm, radii_nm, chain, along, at + halves)
    gap = np.linalg.norm(left - right, axis=1) - left_radius * taper[0] - right_radius * taper[1]
    enough = np.flatnonzero(gap >= gap_nm)
    return float(halves[enough[0]]) if len(enough) else None


def _open_windows(
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    edges: NDArray[np.integer],
    stretches: list[NDArray[np.int64]],
    along: list[NDArray[np.float64]],
    tapers: NDArray[np.float32],
    windows: list[tuple[int, int, float, float]],
) -> CutNeuron:
    """Remove the cable of each window (node, chain, place, half width) and put a tapered end at either side of it."""
    n = len(nodes_nm)
    keep = np.ones(n, bool)
    factor = np.ones(n)
    points, calibres, end_factors = [nodes_nm], [radii_nm], []
    links: list[tuple[int, int]] = []
    gaps = n + np.arange(2 * len(windows)).reshape(-1, 2)
    for number, (node, chain, at, half) in enumerate(windows):
        stretch, place = stretches[chain], along[chain]
        within = np.abs(place - at) < half
        keep[stretch[within]] = False
        ends_nm, end_radii = _on_chain(nodes_nm, radii_nm, stretch, place, np.array([at - half, at + half]))
        points.append(ends_nm.astype(np.float32))
        calibres.append(end_radii.astype(np.float32))
        end_factors.append(tapers[node])
        first, last = np.flatnonzero(within)[[0, -1]]
        links += [(int(stretch[first - 1]), int(gaps[number, 0])), (int(gaps[number, 1]), int(stretch[last + 1]))]
        for side, distance in enumerate((at - half - place[:first], place[last + 1 :] - at - half)):
            rest = stretch[:first] if side == 0 else stretch[last + 1 :]
            factor[rest] *= 1 + (tapers[node, side] - 1) * np.clip(1 - distance / TAPER_NM, 0, 1)
    kept_edges = np.asarray(edges, np.int64)[keep[np.asarray(edges)].all(axis=1)]
    kept = np.concatenate([keep, np.ones(gaps.size, bool)])
    number_of = np.cumsum(kept) - 1
    body_radii = np.concatenate(calibres)[kept]
    factors = np.concatenate([factor, *end_factors])[kept]
    return CutNeuron(
        np.concatenate(points)[kept],
        (body_radii * factors).astype(np.float32),
        body_radii,
        number_of[np.concatenate([kept_edges, np.array(links, np.int64).reshape(-1, 2)])],
        number_of[gaps],
        np.concatenate([np.arange(n), np.full(gaps.size, -1)])[kept],
    )
