"""Cut neurons where automatic segmentation fails: in thin neurites, of the calibre of natural ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from connectomebench.sources.morphology.faces import FaceDraw, Stretch, draw_face, open_stretch
from connectomebench.sources.morphology.neurites import chains
from connectomebench.sources.morphology.windows import Opened, Window, open_windows


class SimulatedCutConfig(Protocol):
    """The part of the rules that is about cuts; see :class:`simulated_errors.SimulationConfig`."""

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
_STUB_SHARE = 0.3  # of cuts where a twig leaves its trunk


@dataclass(frozen=True)
class NaturalEnds:
    """Statistics of natural ends, which the ends of cuts should resemble.

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
class _Tree:
    """Subtree of each node as an interval of the preorder, and the cable below it (nm)."""

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
    """Compute weights that give cuts the calibres of natural ends: ratio of the two histograms, shape (n_candidates,).

    Thin places are used up first (no two cuts lie close together), hence the extra preference for them.
    """
    bins = np.unique(np.quantile(natural_nm, np.linspace(0, 1, 13)))
    bins = np.concatenate([[0.0], bins[1:-1], [np.inf]])
    wanted = np.histogram(natural_nm, bins)[0]
    there = np.histogram(candidates_nm, bins)[0]
    ratio = (wanted / np.maximum(there, 1))[np.digitize(candidates_nm, bins) - 1]
    return ratio / candidates_nm


def _draw_tapers(radii_nm: NDArray[np.float32], natural: NaturalEnds, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw for each node tapers of natural ends of similar calibre, for the two ends of a cut there; shape (n, 2)."""
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
    rules: SimulatedCutConfig,
    rng: np.random.Generator,
) -> Opened:
    """Cut a neuron at random places: across or along a neurite, or where a twig leaves its trunk.

    Parameters
    ----------
    nodes_nm, radii_nm
        Shapes (n, 3) and (n,), nm.
    edges
        Shape (m, 2); a forest.
    natural
        Calibres and tapers that the ends of cuts should have.
    rules
        Spacing, sizes and gaps.
    rng
        Source of all random draws.

    Returns
    -------
    Opened
        Each cut leaves two ends (or an end and the side of a trunk) at a face.
    """
    tree = _root_tree(nodes_nm, edges)
    places = _places_for_cuts(nodes_nm, radii_nm, edges, rules)
    whole = tree.below_nm[tree.root]
    deep = np.minimum(tree.below_nm, whole - tree.below_nm) > rules.min_fragment_nm
    candidates = np.array([node for node in sorted(places) if deep[node]], np.int64)
    stub = np.array([places[int(node)].stub for node in candidates], np.bool_)
    weights = _calibre_weights(radii_nm[candidates], natural.calibre_nm)
    if stub.any() and not stub.all():
        weights[stub] *= _STUB_SHARE / (1 - _STUB_SHARE) * weights[~stub].sum() / max(float(weights[stub].sum()), 1e-9)
    with np.errstate(divide="ignore"):
        keys = -np.log(rng.random(len(candidates))) / weights  # weighted sampling without replacement
    draws = [draw_face(rng, rules.max_cut_gap_nm) for _ in candidates]
    tapers = _draw_tapers(radii_nm[candidates], natural, rng)
    roots = np.unique(tree.root)
    wanted = round(float(tree.below_nm[roots].sum()) / rules.cut_spacing_nm)
    tops = roots.tolist()  # topmost node of each fragment, and the fragment's cable
    cable = tree.below_nm[roots].tolist()
    windows: list[Window] = []
    taken: dict[int, list[tuple[float, float]]] = {}
    for row in np.argsort(keys, kind="stable"):
        node = int(candidates[row])
        top, own = np.array(tops), np.array(cable)
        over = np.flatnonzero((tree.first[top] <= tree.first[node]) & (tree.first[node] < tree.last[top]))
        home = over[np.argmax(tree.first[top[over]])]
        if len(windows) >= wanted and own[home] <= rules.max_fragment_nm:
            continue
        under = (tree.first[node] <= tree.first[top]) & (tree.first[top] < tree.last[node])
        lower = float(tree.below_nm[node] - own[under].sum())
        upper = float(own[home]) - lower
        if min(lower, upper) < rules.min_fragment_nm:
            continue
        window = _window(places[node], nodes_nm, radii_nm, draws[row], tapers[row])
        if window is None or min(lower, upper) - window.opening.reach_nm < rules.min_fragment_nm:
            continue
        spans = taken.setdefault(places[node].chain, [])
        span = window.span(places[node].backwards)
        if any(span[0] < other[1] + 200 and other[0] < span[1] + 200 for other in spans):
            continue
        spans.append(span)
        tops.append(node)
        cable.append(lower)
        cable[home] = upper
        windows.append(window)
    return open_windows(nodes_nm, radii_nm, edges, windows, TAPER_NM)


@dataclass(frozen=True)
class _Place:
    """Possible place of a cut: on a chain (``nodes``, from the trunk if it makes a stub), at a distance, nm."""

    chain: int
    backwards: bool
    nodes: NDArray[np.int64]
    at_nm: float
    stub: bool


def _along(nodes_nm: NDArray[np.float32], chain: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes_nm[chain], axis=0), axis=1))])


def _places_for_cuts(
    nodes_nm: NDArray[np.float32], radii_nm: NDArray[np.float32], edges: NDArray[np.integer], rules: SimulatedCutConfig
) -> dict[int, _Place]:
    """Find the nodes at which a neurite can be cut; those nearest to a trunk mean a cut of the whole twig."""
    found: dict[int, _Place] = {}
    degree = np.bincount(edges.ravel(), minlength=len(nodes_nm))
    for number, chain in enumerate(chains(edges, len(nodes_nm))):
        along = _along(nodes_nm, chain)
        room = radii_nm[chain] + rules.max_cut_gap_nm / 2
        inner = (along - room > radii_nm[chain[0]]) & (along + room < along[-1] - radii_nm[chain[-1]])
        for k in np.flatnonzero(inner[1:-1]) + 1:
            found[int(chain[k])] = _Place(number, False, chain, float(along[k]), False)
        for nodes in (chain, chain[::-1]):
            trunk = float(radii_nm[nodes[0]])
            at = trunk + 0.5 * rules.step_nm / 3
            distances = _along(nodes_nm, nodes)
            first = int(np.searchsorted(distances, at))
            if degree[nodes[0]] > 2 and first < len(nodes) - 1 and radii_nm[nodes[first]] <= trunk:
                found[int(nodes[first])] = _Place(number, nodes is not chain, nodes, at, True)
    return found


def _window(
    place: _Place,
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    draw: FaceDraw,
    tapers: NDArray[np.float32],
) -> Window | None:
    """Open a neurite at the drawn face, or straight across if a face along it has no room."""
    along = _along(nodes_nm, place.nodes)
    stretch = Stretch(nodes_nm[place.nodes].astype(np.float64), radii_nm[place.nodes].astype(np.float64), along)
    for attempt in (draw, replace(draw, along=False)):
        opening = open_stretch(stretch, place.at_nm, attempt, _pair(tapers), TAPER_NM, place.stub)
        if opening is not None:
            return Window(place.nodes, along, place.at_nm, opening, _pair(tapers), place.stub)
    return None


def _pair(values: NDArray[np.floating]) -> tuple[float, float]:
    one, other = (float(v) for v in values)
    return one, other
