"""Simulate errors of an automatic segmentation in proofread neurons: cut neurites, fuse neighbours.

The result is a :class:`reconstruction.Reconstruction`, which holds truth and error side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from connectomebench.sources.morphology.faces import draw_face, face_row, tilted
from connectomebench.sources.morphology.meetings import find_meetings
from connectomebench.sources.morphology.neurites import prune_hidden_twigs, resample, smooth
from connectomebench.sources.morphology.proximity import between, close_pairs, patches, yield_to_neighbours
from connectomebench.sources.morphology.reconstruction import Reconstruction
from connectomebench.sources.morphology.simulate_cuts import NaturalEnds, cut_neuron, measure_ends
from connectomebench.sources.morphology.simulation_rules import SimulationConfig
from connectomebench.sources.morphology.swc import Neuron
from connectomebench.sources.morphology.windows import Flesh, open_windows


def simulate(neurons: Sequence[Neuron], rules: SimulationConfig) -> Reconstruction:
    """Make smooth tubes of the neurons, cut them into fragments, and fuse some fragments.

    Parameters
    ----------
    neurons
        Proofread neurons.
    rules
        Rules of the simulation.

    Returns
    -------
    Reconstruction
        Before proofreading (segments) and after (bodies).
    """
    rng = np.random.default_rng(rules.seed)
    whole = _tubes(neurons, rules)
    degree = whole.degrees()
    border = _border_nodes(whole, degree, float(np.quantile(whole.radii_nm[degree == 1], rules.border_radius_quantile)))
    natural = measure_ends(whole.nodes_nm, whole.radii_nm, whole.edges)
    cut = _cut(whole, natural, border, rules, rng)
    met = _meet(cut, rules, rng)
    return _fuse(replace(met, tips=_tips(met, rules, rng)), rules, rng)


def _tubes(neurons: Sequence[Neuron], rules: SimulationConfig) -> Reconstruction:
    """Put all neurons into one table, not yet cut: every segment is a body."""
    tubes = [smooth(resample(prune_hidden_twigs(n.skeleton), rules.step_nm), 4, rules.min_radius_nm) for n in neurons]
    sizes = [len(t.nodes_nm) for t in tubes]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    nodes = np.concatenate([t.nodes_nm for t in tubes])
    edges = np.concatenate([t.edges + start for t, start in zip(tubes, starts, strict=False)]).astype(np.int32)
    radii = np.concatenate([t.radii_nm for t in tubes])
    bodies = np.repeat(np.array([n.body for n in neurons], np.uint64), sizes)
    thinner = yield_to_neighbours(nodes, radii, bodies, rules.clearance_nm, rules.min_radius_nm) / radii
    for _ in range(8):  # dents fade out along the neurite
        np.minimum.at(thinner, edges[:, 0], thinner[edges[:, 1]] + 0.2)
        np.minimum.at(thinner, edges[:, 1], thinner[edges[:, 0]] + 0.2)
    radii = np.maximum(radii * thinner, rules.min_radius_nm).astype(np.float32)
    none = np.zeros((0, 2), np.int32)
    return Reconstruction(
        nodes,
        radii,
        radii,
        bodies,
        bodies,
        edges,
        none,
        none,
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros(len(edges), np.bool_),
        Flesh.join([]),
        Flesh.join([]),
        (np.zeros(0, np.int64), np.zeros((0, 10))),
        none,
    )


def _border_nodes(whole: Reconstruction, degree: NDArray[np.int64], thick_nm: float) -> NDArray[np.int64]:
    """Find natural ends where the data stop: thick ones, and those that face another piece of the same neuron."""
    n = len(whole.nodes_nm)
    links = coo_array((np.ones(len(whole.edges), np.int8), (whole.edges[:, 0], whole.edges[:, 1])), shape=(n, n))
    piece = connected_components(links, directed=False)[1]
    ends = np.flatnonzero(degree <= 1)
    stops = whole.radii_nm[ends] > thick_nm
    for body in np.unique(whole.bodies):
        own = np.flatnonzero(whole.bodies == body)
        for number in np.unique(piece[own]):
            others = own[piece[own] != number]
            if len(others) and len(own):
                mine = np.flatnonzero(piece[ends] == number)
                distance, _ = KDTree(whole.nodes_nm[others]).query(whole.nodes_nm[ends[mine]])
                stops[mine] |= distance < 3000
    return ends[stops]


def _cut(
    whole: Reconstruction,
    natural: NaturalEnds,
    border: NDArray[np.int64],
    rules: SimulationConfig,
    rng: np.random.Generator,
) -> Reconstruction:
    parts, gaps, flesh, through, count, windows = [], [], [], [], 0, 0
    for body in whole.bodies[np.sort(np.unique(whole.bodies, return_index=True)[1])]:
        own = np.flatnonzero(whole.bodies == body)
        edges = whole.edges[whole.bodies[whole.edges[:, 0]] == body] - own[0]
        cut = cut_neuron(whole.nodes_nm[own], whole.radii_nm[own], edges, natural, rules, rng)
        parts.append((cut, own, np.full(len(cut.nodes_nm), body, np.uint64)))
        gaps.append(cut.faces + count)
        for tubes, table, sides in ((cut.flesh, flesh, 2), (cut.through, through, 1)):
            tubes.cones[:, 9] += sides * windows
            table.append((tubes.cones, tubes.nodes + count))
        count += len(cut.nodes_nm)
        windows += len(cut.faces)
    starts = np.cumsum([0] + [len(c.nodes_nm) for c, _, _ in parts])
    edges = np.concatenate([c.edges + s for (c, _, _), s in zip(parts, starts, strict=False)]).astype(np.int32)
    came_from = np.concatenate([np.where(c.came_from >= 0, c.came_from + own[0], -1) for c, own, _ in parts])
    links = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    fragment = connected_components(links, directed=False)[1]
    none = np.zeros((0, 2), np.int32)
    return Reconstruction(
        np.concatenate([c.nodes_nm for c, _, _ in parts]),
        np.concatenate([c.radii_nm for c, _, _ in parts]),
        np.concatenate([c.body_radii_nm for c, _, _ in parts]),
        np.concatenate([b for _, _, b in parts]),
        _random_ids(int(fragment.max()) + 1, rules.seed)[fragment],
        edges,
        np.concatenate(gaps).astype(np.int32),
        none,
        np.zeros(0, np.float32),
        np.flatnonzero(np.isin(came_from, border)),
        np.concatenate([c.hidden for c, _, _ in parts]),
        Flesh.join(flesh),
        Flesh.join(through),
        whole.tips,
        none,
    )


def _meet(cut: Reconstruction, rules: SimulationConfig, rng: np.random.Generator) -> Reconstruction:
    """Let natural ends meet other neurons; see :mod:`meetings`."""
    free = np.ones(len(cut.nodes_nm), np.bool_)
    free[cut.edges[cut.hidden]] = False
    free[cut.gaps] = False
    free[cut.border_nodes] = False
    windows = find_meetings(
        cut.nodes_nm, cut.radii_nm, cut.bodies, cut.edges, free, rules.meeting_fraction, rules.max_cut_gap_nm, rng
    )
    opened = open_windows(cut.nodes_nm, cut.radii_nm, cut.edges, windows, 1.0)
    number_of = np.full(len(cut.nodes_nm), -1)
    old = opened.came_from >= 0
    number_of[opened.came_from[old]] = np.flatnonzero(old)
    # existing edges keep their order, new ones follow
    kept = (number_of[cut.edges] >= 0).all(axis=1)
    hidden = np.concatenate([cut.hidden[kept], opened.hidden[kept.sum() :]])
    new = opened.flesh.cones.copy()
    before = cut.flesh.cones[:, 9].max(initial=-1) + 1
    new[:, 9] += before
    flesh = [(cut.flesh.cones, number_of[cut.flesh.nodes]), (new, opened.flesh.nodes)]
    through = [(cut.through.cones, number_of[cut.through.nodes])]
    body = new.copy()  # membranes end at the face, too; their chains are kept apart from those of cuts
    through.append((body, opened.flesh.nodes))
    body_radii = opened.body_radii_nm.copy()
    body_radii[old] = cut.body_radii_nm[opened.came_from[old]]
    return replace(
        cut,
        nodes_nm=opened.nodes_nm,
        radii_nm=opened.radii_nm,
        body_radii_nm=body_radii,
        bodies=cut.bodies[opened.grown_from],
        segments=cut.segments[opened.grown_from],
        edges=opened.edges.astype(np.int32),
        gaps=number_of[cut.gaps].astype(np.int32),
        border_nodes=number_of[cut.border_nodes],
        hidden=hidden,
        flesh=Flesh.join(flesh),
        through=Flesh.join(through),
        meetings=opened.faces.astype(np.int32),
    )


def _tips(
    met: Reconstruction, rules: SimulationConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Add faces to the remaining natural ends; return edges near them and the face of each, shape (t, 10)."""
    degree = met.degrees()
    rows: list[int] = []
    faces: list[NDArray[np.float64]] = []
    touching: dict[int, list[int]] = {}
    for row, (a, b) in enumerate(met.edges.tolist()):
        touching.setdefault(a, []).append(row)
        touching.setdefault(b, []).append(row)
    nodes = met.nodes_nm.astype(np.float64)
    closed = np.zeros(len(nodes), np.bool_)
    closed[met.edges[met.hidden]] = True
    at_cut = np.isin(np.arange(len(nodes)), met.gaps)
    for end in np.flatnonzero((degree == 1) & ~closed).tolist():
        draw = draw_face(rng, 0.0)
        if at_cut[end]:  # a trunk whose twigs were all cut off, not a natural end
            continue
        radius = float(met.radii_nm[end])
        run, here, length = [], end, 0.0
        while length < 2.5 * radius + 100 and not closed[here]:
            onward = [row for row in touching[here] if row not in run]
            if len(onward) != 1:
                break
            run.append(onward[0])
            a, b = met.edges[onward[0]].tolist()
            after = b if a == here else a
            length += float(np.linalg.norm(nodes[after] - nodes[here]))
            here = after
        if not run or length == 0:
            continue
        outward = (nodes[end] - nodes[here]) / max(float(np.linalg.norm(nodes[end] - nodes[here])), 1e-9)
        normal, _ = tilted(outward, 0.6 * draw.tilt, draw.turn)
        rows += run
        faces += [face_row(nodes[end] + draw.depth[0] * radius * outward, normal, draw)] * len(run)
    return np.array(rows, np.int64), np.array(faces, np.float64).reshape(-1, 10)


def _random_ids(count: int, seed: int) -> NDArray[np.uint64]:
    """Return distinct uninformative 64-bit ids (splitmix64 of the index, a bijection); uint64, shape (count,)."""
    with np.errstate(over="ignore"):
        start = np.uint64(np.random.default_rng(seed + 1).integers(1 << 63))
        x = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _fuse(cut: Reconstruction, rules: SimulationConfig, rng: np.random.Generator) -> Reconstruction:
    """Bridge random pairs of fragments of different neurons that touch, each fragment once at most."""
    pairs, gaps = close_pairs(cut.nodes_nm, cut.radii_nm, cut.segments, rules.fusion_gap_nm)
    degree = cut.degrees()
    cut_ends = np.zeros(len(cut.nodes_nm), bool)
    cut_ends[cut.gaps.ravel()] = True
    # an end fused to an end leaves no branch point, and an end that was cut no end
    usable = (
        (cut.bodies[pairs[:, 0]] != cut.bodies[pairs[:, 1]])
        & (degree[pairs] > 1).any(axis=1)
        & ~cut_ends[pairs].any(axis=1)
    )
    pairs, gaps = pairs[usable], gaps[usable]
    fragments = np.sort(cut.segments[pairs], axis=1)
    couples, couple = np.unique(fragments, axis=0, return_inverse=True)
    couple = couple.ravel()
    places = between(cut.nodes_nm, cut.radii_nm, pairs)
    patch = patches(places, couple, 4 * rules.step_nm)
    nearest = np.lexsort((pairs[:, 1], pairs[:, 0], gaps, patch))
    nearest = nearest[np.unique(patch[nearest], return_index=True)[1]]  # the closest pair of each patch
    nearest = nearest[np.argsort(rng.random(len(nearest)), kind="stable")]
    wanted = round(rules.fused_fraction * len(np.unique(cut.segments)) / 2)
    # fusing a fragment turns all its cuts into tangles: those with few cuts come first, so that many merges stay pure
    names, cuts = np.unique(cut.segments[cut.gaps], return_counts=True)
    at = np.minimum(np.searchsorted(names, couples), len(names) - 1)
    tangles = np.where(names[at] == couples, cuts[at], 0).sum(axis=1) if len(names) else np.zeros(len(couples))
    taken: set[int] = set()
    chosen: list[int] = []
    for couple_number in np.argsort(rng.exponential(size=len(couples)) * (1 + tangles) ** 2, kind="stable"):
        if len(chosen) == wanted:
            break
        a, b = (int(s) for s in couples[couple_number])
        if a in taken or b in taken:
            continue
        for k in nearest[couple[nearest] == couple_number]:
            apart = np.linalg.norm(places[chosen] - places[k], axis=1) if chosen else np.array([np.inf])
            if apart.min() >= rules.fusion_spacing_nm:
                chosen.append(int(k))
                taken |= {a, b}
                break
    bridges = pairs[np.array(chosen, np.int64)].astype(np.int32)
    segments = cut.segments.copy()
    # a new id: reusing the smaller of the two would reveal fused segments
    fragments_before = len(np.unique(cut.segments))
    ids = _random_ids(fragments_before + len(bridges), rules.seed)[fragments_before:]
    for (a, b), fused in zip(cut.segments[bridges], ids, strict=True):
        segments[(segments == a) | (segments == b)] = fused
    radii = 0.9 * cut.radii_nm[bridges].min(axis=1)
    return replace(cut, segments=segments, bridges=bridges, bridge_radii_nm=radii.astype(np.float32))
