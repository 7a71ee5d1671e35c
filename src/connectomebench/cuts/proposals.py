"""Propose cuts at merge errors: one seeded with knowledge of the neurons, and plausible wrong ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.core.correction import Corrections
from connectomebench.core.cut import CutGraph, ProposalConfig, ProposedCut
from connectomebench.core.site import Cut, Point
from connectomebench.core.source import Source
from connectomebench.cuts.min_cut import (
    SINK_SIDE,
    SOURCE_SIDE,
    cut_place_nm,
    judge_cut,
)
from connectomebench.cuts.seeded_cuts import cheapest_sides


@dataclass(frozen=True)
class CutPlace:
    """A segment in pieces, to be cut.

    Attributes
    ----------
    name
        The correction or edit there.
    segment, bodies
        The segment and the bodies it holds.
    location_nm, reach_nm
        Centre and edge of the cube in which it is in pieces, nm.
    graph
        The pieces.
    part
        Computes the side of every piece (int8, as :func:`connectomebench.cuts.min_cut.apply_cut`), or returns the
        reason why it cannot.
    """

    name: str
    segment: int
    bodies: tuple[int, ...]
    location_nm: Point
    reach_nm: float
    graph: CutGraph
    part: Callable[[CutGraph, Cut], NDArray[np.int8] | str]

    def rng(self, seed: int) -> np.random.Generator:
        """Return a random generator for this location alone, so that no location depends on another."""
        digest = hashlib.sha256(f"{seed}/{self.name}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def cut(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> Cut:
        """Make a cut from seed pieces."""

        def points(pieces: NDArray[np.int64]) -> tuple[Point, ...]:
            return tuple((float(x), float(y), float(z)) for x, y, z in self.graph.points_nm[pieces])

        return Cut(points(a), points(b), self.location_nm, self.reach_nm)


def propose_cuts(
    source: Source,
    corrections: Corrections,
    rules: ProposalConfig,
    largest_view_nm: float,
) -> tuple[list[ProposedCut], Counter[str]]:
    """Propose one right cut and several wrong ones at each merge error.

    Parameters
    ----------
    source
        Gives the pieces of each fused segment.
    corrections
        Its localised merge errors.
    rules
        See :class:`ProposalConfig`.
    largest_view_nm
        Edge of the largest view, nm; a cut whose view would leave the cube of ``reach_nm`` is not proposed.

    Returns
    -------
    proposals
        In the order of the corrections; the right cut first where there is one.
    dropped
        Why a proposal is missing.
    """
    proposals: list[ProposedCut] = []
    dropped: Counter[str] = Counter()
    for split in tqdm(corrections.splits, "propose cuts", unit="error", delay=1):
        place = CutPlace(
            split.edit_id,
            split.segment,
            tuple(corrections.fused[split.segment]),
            split.location_nm,
            rules.reach_nm,
            source.cut_graph(split.segment, split.location_nm, rules.reach_nm),
            cheapest_sides,
        )
        right = _right_cut(place, split.bodies, rules, largest_view_nm)
        if isinstance(right, str):
            dropped[right] += 1
        else:
            proposals.append(right)
        wrong = wrong_cuts(place, rules, largest_view_nm)
        if not wrong:
            dropped["no plausible wrong cut"] += 1
        proposals += wrong
    return proposals, dropped


@dataclass(frozen=True)
class LaidCut:
    """A cut that can be made and shown.

    Attributes
    ----------
    cut, place_nm
        Seeds, the source side being the larger one, and where the cut runs (x, y, z), nm.
    sides
        int8, shape (pieces,): as :func:`connectomebench.cuts.min_cut.apply_cut`.
    side_voxels, cost
        Voxels of the two sides, and the summed capacity of the cut edges.
    """

    cut: Cut
    place_nm: Point
    sides: NDArray[np.int8]
    side_voxels: tuple[float, float]
    cost: float


def evaluate_cut(place: CutPlace, cut: Cut, rules: ProposalConfig, largest_view_nm: float) -> ProposedCut | str:
    """Compute and judge a cut.

    Returns
    -------
    ProposedCut or str
        Or the reason why the cut cannot be made or shown.
    """
    laid = lay_cut(place, cut, rules, largest_view_nm)
    if isinstance(laid, str):
        return laid
    verdict = judge_cut(place.graph, laid.sides, np.asarray(laid.place_nm), rules.cuts)
    return ProposedCut(
        place.name, laid.cut, laid.place_nm, verdict, laid.side_voxels, laid.cost, place.segment, place.bodies
    )


def lay_cut(place: CutPlace, cut: Cut, rules: ProposalConfig, largest_view_nm: float) -> LaidCut | str:
    """Compute a cut without judging it, for which no truth is needed; returns as :func:`evaluate_cut`."""
    graph = place.graph
    sides = place.part(graph, cut)
    if isinstance(sides, str):
        return sides
    size = graph.voxels.sum(axis=1)
    if size[sides == SOURCE_SIDE].sum() < size[sides == SINK_SIDE].sum():
        # the larger side is the source, so that colour says nothing
        cut = Cut(cut.sinks_nm, cut.sources_nm, cut.center_nm, cut.cutout_nm)
        sides = place.part(graph, cut)
        if isinstance(sides, str):
            return sides
    where = cut_place_nm(graph, sides)
    if where is None:
        return "the two sides do not touch"
    if np.abs(where - np.asarray(place.location_nm)).max() > (place.reach_nm - largest_view_nm) / 2:
        return "the cut runs too far from the error"
    voxels = (float(size[sides == SOURCE_SIDE].sum()), float(size[sides == SINK_SIDE].sum()))
    if min(voxels) < rules.min_side_fraction * size.sum():
        return "one side is too small to be seen"
    a, b = graph.edges[:, 0], graph.edges[:, 1]
    cost = float(graph.capacities[sides[a] * sides[b] == -1].sum())
    x, y, z = (float(c) for c in where)
    return LaidCut(cut, (x, y, z), sides, voxels, cost)


def _right_cut(
    place: CutPlace, pair: tuple[int, int], rules: ProposalConfig, largest_view_nm: float
) -> ProposedCut | str:
    """Seed each body with its largest pieces near the error, at growing distance until the rule accepts the cut."""
    graph = place.graph
    bodies = graph.bodies.tolist()
    if any(b not in bodies for b in pair):
        return "a body does not reach the cutout"
    first, second = (bodies.index(b) for b in pair)
    owner = np.argmax(graph.voxels, axis=1)
    size = graph.voxels.sum(axis=1)
    distance = np.linalg.norm(graph.points_nm - np.asarray(place.location_nm), axis=1)
    sides = []
    for body in (first, second):
        own = np.flatnonzero((owner == body) & (size > 0) & (graph.voxels[:, body] > 0.9 * size))
        if not len(own):
            return "no piece belongs to one body alone"
        sides.append(own[np.argsort(distance[own], kind="stable")])
    reason = "no seeds give a right cut"
    for reach in (0.1, 0.2, 0.35, 0.5):
        seeds = []
        for own in sides:
            near = own[distance[own] <= reach * rules.cuts.cutout_nm]
            near = near if len(near) else own[:1]
            largest = near[np.argsort(-size[near], kind="stable")]
            seeds.append(largest[: rules.seeds_per_side])
        proposal = evaluate_cut(place, place.cut(seeds[0], seeds[1]), rules, largest_view_nm)
        if isinstance(proposal, str):
            reason = proposal
        elif proposal.verdict.good:
            return proposal
        else:
            reason = "no seeds give a right cut"
    return reason


def wrong_cuts(place: CutPlace, rules: ProposalConfig, largest_view_nm: float) -> list[ProposedCut]:
    """Cut between random seeds; keep the cheapest cuts that the rule rejects, at different locations."""
    graph, rng = place.graph, place.rng(rules.seed)
    n = len(graph.points_nm)
    size = graph.voxels.sum(axis=1)
    if n < 2 or size.sum() == 0:
        return []
    wrong: list[ProposedCut] = []
    for _ in range(rules.wrong_tries):
        a, b = rng.choice(n, size=2, replace=False, p=_weights(size))
        near = [np.argsort(np.linalg.norm(graph.points_nm - graph.points_nm[p], axis=1), kind="stable") for p in (a, b)]
        # as many seeds as the right cut has, so that their number is no cue
        seeds = [order[: rules.seeds_per_side] for order in near]
        proposal = evaluate_cut(place, place.cut(seeds[0], seeds[1]), rules, largest_view_nm)
        if isinstance(proposal, ProposedCut) and not proposal.verdict.good and proposal.verdict.relevant:
            wrong.append(proposal)
    wrong.sort(key=lambda p: (p.cost, p.place_nm))
    kept: list[ProposedCut] = []
    for proposal in wrong:
        if len(kept) < rules.wrong_kept and all(p.place_nm != proposal.place_nm for p in kept):
            kept.append(proposal)
    return kept


def _weights(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seed probabilities: proportional to size, but never zero."""
    weights = size + max(float(size.mean()), 1e-9) * 0.01
    return weights / weights.sum()
