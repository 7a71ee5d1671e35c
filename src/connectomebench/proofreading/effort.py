"""What decisions are worth: value against effort, in several orders."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts
from connectomebench.proofreading.calibration import Calibration
from connectomebench.proofreading.deciders import gain_now
from connectomebench.proofreading.face_affinities import PairAffinities
from connectomebench.proofreading.loop import LoopResult, best_of_candidates
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.proposals import Proposal
from connectomebench.proofreading.score_files import ChangedState, changed_state
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.truth_table import TruthTable, gain_if_right

RANDOM_ORDERS = 10
FIRST_SHARE = 0.3  # of the decisions
_SURE = 2.0  # the truth overrules any edit


@dataclass(frozen=True)
class Curve:
    """Value against effort.

    Attributes
    ----------
    gains
        float64, shape (decisions,): bits by which the first ``n`` decisions lower the variation of information, if a
        person decides each rightly.
    right
        Decisions that accept an edit.
    accepted
        What was accepted, each after the number of its decision, from 1: a proposal, or the rows of two supervoxels
        whose objects become one.
    """

    gains: NDArray[np.float64]
    right: int
    accepted: tuple[tuple[int, Proposal | tuple[int, int]], ...] = ()

    def at(self, decisions: float) -> float:
        """Return the gain after a number of decisions; beyond the last one it stays."""
        return float(np.interp(decisions, np.arange(len(self.gains) + 1), np.append(0.0, self.gains)))

    def first(self, decisions: int) -> NDArray[np.float64]:
        """Return the gain after each of the first decisions, shape (decisions,)."""
        last = self.gains[-1:] if len(self.gains) else np.zeros(1)
        return np.append(self.gains[:decisions], np.repeat(last, max(decisions - len(self.gains), 0)))

    def area(self, decisions: int, whole: float) -> float:
        """Return the mean share of a whole gain over the first decisions: 1 if the first one brought all of it."""
        if not decisions or whole <= 0:
            return 0.0
        return float(self.first(decisions).mean()) / whole

    def state(self, name: str, decisions: int, graph: SegmentationGraph) -> ChangedState:
        """Return what the objects are after a number of decisions that began with a graph."""
        state = graph.copy()
        for number, edit in self.accepted:
            if number > decisions:
                continue
            if isinstance(edit, Proposal):
                make_proposal(state, edit)
            else:
                state.merge(*edit, _SURE)
        return changed_state(name, decisions, graph.objects, state.objects)


def make_proposal(state: SegmentationGraph, proposal: Proposal) -> None:
    """Make an edit, surer than any made before; raise ``EditRefused`` where it cannot be made."""
    if proposal.operation == "merge":
        state.merge(proposal.sources[0], proposal.sinks[0], _SURE)
    else:
        state.split(proposal.sources, proposal.sinks, _SURE)


class _Queue:
    """Proposals that can still be made, the largest expected gain with the objects of the moment first."""

    def __init__(self, state: SegmentationGraph, proposals: Sequence[Proposal], chances: Sequence[float]) -> None:
        self._state, self._proposals, self._chances = state, proposals, chances
        self._heap: list[tuple[float, str, int, int]] = []
        self._version = [0] * len(proposals)
        self._of_object: dict[int, set[int]] = {}
        for i in range(len(proposals)):
            self._put(i)

    def _put(self, i: int) -> None:
        """Rank a proposal with the objects as they are; one that can no longer be made is left out."""
        proposal, state = self._proposals[i], self._state
        for row in (*proposal.sources, *proposal.sinks):
            self._of_object.setdefault(int(state.objects[row]), set()).add(i)
        self._version[i] += 1
        if self._version[i] == 1 and proposal.operation == "split":
            gain: float | None = proposal.gain  # as it was proposed: no need to compute the cut again
        else:
            gain = gain_if_right(state, proposal.operation, proposal.sources, proposal.sinks, _SURE)
        if gain is not None:
            heapq.heappush(self._heap, (-self._chances[i] * gain, proposal.edit_id, i, self._version[i]))

    def __iter__(self) -> Iterator[Proposal]:
        while self._heap:
            _, _, i, version = heapq.heappop(self._heap)
            if version == self._version[i]:
                self._version[i] = 0  # decided
                yield self._proposals[i]

    def changed(self, objects: Collection[int]) -> None:
        """Rank again what concerned objects that are gone."""
        touched = set().union(*(self._of_object.pop(one, set()) for one in objects))
        for i in sorted(touched):
            if self._version[i]:
                self._put(i)


def decide_rightly(
    graph: SegmentationGraph,
    proposals: Sequence[Proposal],
    table: TruthTable,
    chances: Sequence[float] | None = None,
) -> Curve:
    """Decide proposals as a person who knows the truth, on a copy of the graph.

    A proposal that can no longer be made, because its objects are one already, is no decision: it leaves the queue, as
    it does in a review.

    Parameters
    ----------
    graph
        Before any decision.
    proposals
        In this order, unless there are chances.
    table
        The truth.
    chances
        Probability of each that it is right: after every accepted one, what has the largest expected gain with the
        objects as they are then comes next, as in a review.
    """
    state = graph.copy()
    queue = None if chances is None else _Queue(state, proposals, chances)
    gains: list[float] = []
    total, accepted = 0.0, []
    for proposal in queue or proposals:
        gain = gain_now(state, proposal, table)
        if gain is None:
            continue
        if gain > 0:
            objects = {int(state.objects[row]) for row in (*proposal.sources, *proposal.sinks)}
            make_proposal(state, proposal)
            if queue is not None:
                queue.changed(objects)
            total += gain
            accepted.append((len(gains) + 1, proposal))
        gains.append(total)
    return Curve(np.asarray(gains, np.float64), len(accepted), tuple(accepted))


def largest_contacts_first(graph: SegmentationGraph, contacts: Contacts, place: Place, table: TruthTable) -> Curve:
    """Decide all touching pairs of objects, the largest contact first, as a person who knows the truth.

    Of equal contacts the one of smaller ids comes first.
    """
    pairs, areas = touching_pairs(contacts)
    return _decide_pairs(graph, pairs[np.argsort(-areas, kind="stable")], place, table)


def highest_affinities_first(
    graph: SegmentationGraph, contacts: Contacts, affinities: PairAffinities, place: Place, table: TruthTable
) -> Curve:
    """Decide the same pairs as :func:`largest_contacts_first`, the highest mean affinity first.

    Pairs that touch across background alone share no face, and come last. Of equal affinities the largest contact comes
    first, of equal contacts the one of smaller ids.
    """
    pairs, areas = touching_pairs(contacts)
    order = np.lexsort((-areas, -np.nan_to_num(affinities.of(pairs), nan=-1.0)))
    return _decide_pairs(graph, pairs[order], place, table)


def touching_pairs(contacts: Contacts) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Return all pairs of segments that touch (the smaller id first, ascending), and the area of each."""
    pairs, inverse = np.unique(contacts.segments, axis=0, return_inverse=True)
    areas: NDArray[Any] = np.bincount(inverse.ravel(), weights=contacts.areas, minlength=len(pairs))
    return pairs, areas


def _decide_pairs(graph: SegmentationGraph, pairs: NDArray[np.uint64], place: Place, table: TruthTable) -> Curve:
    """Decide whether pairs of objects are one, in this order, as a person who knows the truth."""
    least = place.config.sites.min_segment_voxels
    state = graph.copy()
    gains, total, accepted = [], 0.0, []
    for first, second in pairs.tolist():
        if min(graph.voxels(first), graph.voxels(second)) < least:
            continue
        a, b = int(graph.rows(first)[0]), int(graph.rows(second)[0])
        try:
            gain = table.merge_gain(state, *state.check_merge(a, b, _SURE))
        except EditRefused:
            continue
        if gain > 0:
            state.merge(a, b, _SURE)
            total += gain
            accepted.append((len(gains) + 1, (a, b)))
        gains.append(total)
    return Curve(np.asarray(gains, np.float64), len(accepted), tuple(accepted))


def value_against_effort(
    graph: SegmentationGraph,
    result: LoopResult,
    contacts: Contacts,
    place: Place,
    table: TruthTable,
    oracle_gain: float,
    calibration: Calibration | None = None,
    affinities: PairAffinities | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Curve], list[ChangedState]]:
    """Compare orders of decisions: by expected gain, without the models, at random, by contact, and by affinity.

    Parameters
    ----------
    graph
        Before any edit.
    result
        Of the models; the corrections judged in its first round are decided, the best of each candidate.
    contacts
        Of the objects before any edit.
    place, table
        Data and truth.
    oracle_gain
        Bits that the oracle gains in all of its rounds; shares are of that.
    calibration
        What was learnt in a validation place: then the same corrections are also decided by what their contacts look
        like, without the answers of models.
    affinities
        Of touching segments before any edit; None where they are not known: then there is no order ``affinity``.
    seed
        Of the random orders.

    Returns
    -------
    summary
        For each order ``decisions``, ``right``, ``gain_bits``, ``share_of_oracle``, ``share_in_first_30_percent`` (of
        the decisions of the first order) and ``area``.
    curves
        The curves behind it; that of the random orders is their mean.
    states
        The states on either side of 30% of the decisions, by expected gain (``expected_gain``) and in each random order
        (``random_0`` and on), and where there are such orders by ``contact_look`` and ``affinity``.
    """
    pool = list(best_of_candidates(result.rounds[0].judged).values())
    pool.sort(key=lambda one: one.proposal.edit_id)
    proposals = [one.proposal for one in pool]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(pool)) for _ in range(RANDOM_ORDERS)]
    curves = {"expected_gain": decide_rightly(graph, proposals, table, [one.chance for one in pool])}
    if calibration is not None and not (calibration.merge is None and calibration.split is None):
        by_contact = [calibration.chance_by_contact(one) for one in proposals]
        curves["contact_look"] = decide_rightly(graph, proposals, table, by_contact)
    shuffled = [decide_rightly(graph, [proposals[i] for i in order], table) for order in orders]
    n = len(curves["expected_gain"].gains)
    longest = max(len(curve.gains) for curve in shuffled)
    mean = np.mean([curve.first(longest) for curve in shuffled], axis=0)
    curves["random"] = Curve(mean, round(np.mean([c.right for c in shuffled])))
    curves["largest_contact"] = largest_contacts_first(graph, contacts, place, table)
    named = {"expected_gain": curves["expected_gain"], **{f"random_{i}": curve for i, curve in enumerate(shuffled)}}
    if affinities is not None:
        curves["affinity"] = highest_affinities_first(graph, contacts, affinities, place, table)
    named |= {name: curves[name] for name in ("contact_look", "affinity") if name in curves}

    def share(bits: float) -> float | None:
        return bits / oracle_gain if oracle_gain > 0 else None

    summary = {
        name: {
            "decisions": len(curve.gains),
            "right": curve.right,
            "gain_bits": curve.at(len(curve.gains)),
            "share_of_oracle": share(curve.at(len(curve.gains))),
            "share_in_first_30_percent": share(curve.at(FIRST_SHARE * n)),
            "area": curve.area(n, oracle_gain),
        }
        for name, curve in curves.items()
    }
    states = [curve.state(name, at, graph) for name, curve in named.items() for at in either_side(n)]
    return summary, curves, states


def either_side(decisions: int) -> tuple[int, int]:
    """Return the whole numbers of decisions on either side of the first 30% of them."""
    first = FIRST_SHARE * decisions
    return math.floor(first), math.ceil(first)
