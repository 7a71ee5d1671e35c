"""The loop: candidates, identification, correction, edits; again where something changed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.calibration import Calibration, combine
from connectomebench.proofreading.deciders import NOT_ASKED, Decider, Judgement
from connectomebench.proofreading.edit_log import Edit, apply_edit
from connectomebench.proofreading.finder import Finder, FoundPlaces
from connectomebench.proofreading.judged import Judged
from connectomebench.proofreading.people import People
from connectomebench.proofreading.proposals import Candidate, Proposal, what_is_done
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """When an edit is applied, and when the loop stops.

    Attributes
    ----------
    min_confidence
        Edits of at least this confidence are applied; the others wait in the queue.
    min_identification
        Candidates with a lower P(error) go no further.
    max_decisions
        Most edits that are applied, those of the largest expected gain; None sets no limit.
    max_rounds
        Rounds after which the loop stops though something changed; decisions of people begin the count again.
    calibration
        Turns answers into confidence, with a threshold for each operation in place of ``min_confidence``; None
        multiplies the answers.
    """

    min_confidence: float = 0.9
    min_identification: float = 0.5
    max_decisions: int | None = None
    max_rounds: int = 10
    calibration: Calibration | None = None

    def accepts(self, operation: str, confidence: float) -> bool:
        """Whether an edit is sure enough to be applied."""
        if self.calibration is None:
            return confidence >= self.min_confidence
        least = self.calibration.threshold(operation)
        return least is not None and confidence >= least

    def confidence(self, proposal: Proposal, identification: float | None, correction: float | None) -> float:
        """Compute the confidence of an edit from the answers of both models."""
        if self.calibration is None:
            return combine(identification, correction)
        return self.calibration.confidence(proposal, identification, correction)

    def chance(self, proposal: Proposal, identification: float | None, correction: float | None) -> float:
        """Compute the probability that the expected gain of a decision counts with."""
        if self.calibration is None:
            return combine(identification, correction)
        return self.calibration.chance(proposal, identification, correction)

    def __post_init__(self) -> None:
        for name in ("min_confidence", "min_identification"):
            if not 0 <= getattr(self, name) <= 1:
                option = f"--{name.replace('_', '-')}"
                raise ConnectomeBenchError(f"{option} is {getattr(self, name)}; it must lie between 0 and 1")
        if self.max_decisions is not None and self.max_decisions < 0:
            raise ConnectomeBenchError(f"--max-decisions is {self.max_decisions}; it must be at least 0")
        if self.max_rounds < 1:
            raise ConnectomeBenchError(f"--max-rounds is {self.max_rounds}; it must be at least 1")


@dataclass
class Round:
    """What one round looked at.

    Attributes
    ----------
    number
        From 1.
    candidates
        Candidates with the answer of the identification model.
    judged
        All judged corrections, several of one candidate included.
    applied
        Applied edits.
    dropped
        Why corrections were not proposed or applied: reason -> number.
    refused
        Edits that a person accepted and that cannot be made: edit -> reason.
    """

    number: int
    candidates: list[tuple[Candidate, Judgement]] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    applied: list[Edit] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoopResult:
    """Rounds of a finished loop, what is left to decide (unsorted), and why it stopped.

    Left is the best correction of each candidate that models judged, and all that a person must decide.
    """

    rounds: tuple[Round, ...]
    pending: tuple[Judged, ...]
    stopped: str

    @property
    def waiting(self) -> int:
        """How many of those that are left a person must decide."""
        return sum(one.waits for one in self.pending)


def run_loop(
    finder: Finder,
    graph: SegmentationGraph,
    decider: Decider,
    rules: LoopConfig,
    logged: Sequence[Edit] = (),
    record: Callable[[Edit], None] = lambda edit: None,
    link: Callable[[Edit], str] = lambda edit: "",
    people: People | None = None,
) -> LoopResult:
    """Proofread until nothing confident is left or a budget is spent; then go on from what people decided, if they did.

    Parameters
    ----------
    finder
        Finds candidates and corrections in the data.
    graph
        The segmentation before any edit; edited in place.
    decider
        Answers the questions.
    rules
        See :class:`LoopConfig`.
    logged
        Edits of an interrupted run: each is applied again in its round, and the rest of the round after it.
    record
        Called with each new edit before the next one.
    link
        Makes the link to the place of an edit.
    people
        Decisions of people, each of which counts from the round on in which it was taken first.

    Returns
    -------
    LoopResult
        The same for the same place, answers, decisions and rules, however often it was interrupted.

    Raises
    ------
    ConnectomeBenchError
        If a logged edit cannot be applied again.
    """
    people = people or People()
    rounds: list[Round] = []
    pending: dict[Hashable, Judged] = {}
    changed: set[int] | None = None
    done, begun = 0, 1
    while True:
        current = Round(len(rounds) + 1)
        rounds.append(current)
        if people.begin(current.number):
            begun = current.number
        settled = people.settled(graph)
        if changed is None or changed:
            judge_once(finder, graph, decider, rules, current, changed, settled)
        best = best_of_candidates([one for one in current.judged if not one.waits])
        waiting = {what_is_done(one.proposal): one for one in current.judged if one.waits}
        kept = {key: one for key, one in pending.items() if _exists(one, graph) and key not in settled}
        pending = kept | best | waiting
        people.remember([*current.judged, *pending.values()])
        earlier = [edit for edit in logged if edit.round == current.number]
        left = None if rules.max_decisions is None else rules.max_decisions - done
        chosen = [*best.values(), *people.accepted(graph, current.number)]
        changed = apply_round(graph, decider, rules, current, chosen, earlier, left, record, link)
        people.refuse(current.refused, graph)
        done += len(current.applied)
        applied = {edit.edit_id for edit in current.applied}
        pending = {k: one for k, one in pending.items() if one.edit_id not in applied}
        _log.info(
            "round %d: %d candidates, %d corrections judged, %d edits applied",
            current.number,
            len(current.candidates),
            len(current.judged),
            len(current.applied),
        )
        # what was applied stays, though a limit is smaller now: files name all edits of the log
        if any(edit.round > current.number for edit in logged):
            continue
        # decisions are taken only where more money or edits would not have changed the rounds before
        if decider.exhausted():
            stopped = "the budget in USD is spent"
        elif rules.max_decisions is not None and done >= rules.max_decisions:
            stopped = f"{done} edits were applied"
        else:
            more = bool(changed) and current.number - begun + 1 < rules.max_rounds
            if more or people.take(current.number + 1):
                continue
            stopped = f"{rules.max_rounds} rounds are done" if changed else "nothing confident is left"
        break
    return LoopResult(tuple(rounds), tuple(one for one in pending.values() if _exists(one, graph)), stopped)


def _exists(judged: Judged, graph: SegmentationGraph) -> bool:
    return all(segment in graph for segment in judged.proposal.site.segment_ids)


def judge_once(
    finder: Finder,
    graph: SegmentationGraph,
    decider: Decider,
    rules: LoopConfig,
    current: Round,
    changed: set[int] | None = None,
    settled: Collection[Hashable] = (),
) -> None:
    """Find and judge the candidates of the current objects; after the first round only where something changed.

    Nothing is asked about what is settled: questions that people decided.
    """
    operations = [one for one in ("merge", "split") if decider.can(one)]
    places = finder.find(graph, decider.end_task, operations, changed, current.dropped)
    by_end: dict[str, list[Proposal]] = {}
    for merge in places.merges:
        by_end.setdefault(merge.candidate.key, []).append(merge)

    def merges(some: Sequence[Candidate]) -> list[list[Proposal]]:
        return [by_end[one.key] for one in some]

    def splits(some: Sequence[Candidate]) -> list[list[Proposal]]:
        return finder.cuts(places, some, graph, current.dropped)

    # ends that have a partner, each once
    ends = list({merge.candidate.key: merge.candidate for merge in places.merges}.values())
    if "merge" in operations:
        _judge_kind(decider, rules, current, ends, merges, places, graph, settled)
    if "split" in operations:
        _judge_kind(decider, rules, current, places.spots, splits, places, graph, settled)


def _judge_kind(
    decider: Decider,
    rules: LoopConfig,
    current: Round,
    candidates: Sequence[Candidate],
    corrections: Callable[[Sequence[Candidate]], list[list[Proposal]]],
    places: FoundPlaces,
    graph: SegmentationGraph,
    settled: Collection[Hashable],
) -> None:
    """Identify errors among candidates of one kind, and judge the corrections of those that pass."""
    known = made = None
    if decider.known_error is not None:
        made = corrections(candidates)
        known = [decider.known_error(own, graph) for own in made]
    if known is not None and rules.calibration is None:
        answers = [Judgement(float(one)) for one in known]
    else:
        # a learnt confidence needs what the models say, whoever lets a place go on; at a contact there is no end to ask
        asked = [one.site for one in candidates if one.kind != "contact"]
        found = iter(decider.identify(asked, places.source))
        answers = [NOT_ASKED if one.kind == "contact" else next(found) for one in candidates]
    current.candidates += zip(candidates, answers, strict=True)
    if known is None:
        known = [not one.asked or (one.probability or 0.0) >= rules.min_identification for one in answers]
    passed = [i for i, goes_on in enumerate(known) if goes_on]
    own = corrections([candidates[i] for i in passed]) if made is None else [made[i] for i in passed]
    own = [[one for one in several if what_is_done(one) not in settled] for several in own]
    proposals = [one for several in own for one in several]
    identified = [answers[i] for i, several in zip(passed, own, strict=True) for _ in several]
    judgements = decider.correct(proposals, places.source, graph)
    for proposal, identification, correction in zip(proposals, identified, judgements, strict=True):
        if correction.probability is not None or correction.waits:
            both = identification.probability, correction.probability
            confidence, chance = rules.confidence(proposal, *both), rules.chance(proposal, *both)
            current.judged.append(Judged(proposal, identification, correction, confidence, current.number, chance))
        else:
            current.dropped["no answer to the question of a correction"] += 1


def best_of_candidates(judged: Iterable[Judged]) -> dict[Hashable, Judged]:
    """Keep the most confident correction of each candidate, and of those that ask the same question."""
    best: dict[str, Judged] = {}
    for one in judged:
        key = one.proposal.candidate.key
        if key not in best or one.confidence > best[key].confidence:
            best[key] = one
    distinct: dict[Hashable, Judged] = {}
    for one in best.values():
        key = what_is_done(one.proposal)
        if key not in distinct or one.confidence > distinct[key].confidence:
            distinct[key] = one
    return distinct


def apply_round(
    graph: SegmentationGraph,
    decider: Decider,
    rules: LoopConfig,
    current: Round,
    judged: Sequence[Judged],
    earlier: Sequence[Edit],
    limit: int | None,
    record: Callable[[Edit], None],
    link: Callable[[Edit], str],
) -> set[int]:
    """Apply the confident edits of a round.

    Parameters
    ----------
    graph
        Edited in place.
    decider
        Says whether an accepted correction still holds after the others.
    rules
        ``min_confidence`` counts here.
    current
        Gets the applied edits, and why others were put off or refused.
    judged
        One correction a candidate, and what people accepted, which needs no confidence.
    earlier
        Edits of this round that an interrupted run made; applied first.
    limit
        Most edits, those of the largest expected gain; None sets no limit.
    record, link
        As for :func:`run_loop`.

    Returns
    -------
    set of int
        The objects that the edits made.

    Raises
    ------
    ConnectomeBenchError
        If an earlier edit cannot be made again.
    """
    confident = [one for one in judged if one.decided_by or rules.accepts(one.proposal.operation, one.confidence)]
    confident.sort(key=lambda one: (-one.confidence, -one.proposal.gain, one.edit_id))
    chosen = _compatible(graph.copy(), decider, confident, current)
    if limit is not None and len(chosen) > limit:
        order = sorted(chosen, key=lambda one: (-(2 * one.confidence - 1) * one.proposal.gain, one.edit_id))
        kept = {one.edit_id for one in order[: max(limit, 0)]}
        chosen = [one for one in chosen if one.edit_id in kept]
    for edit in earlier:
        if _make(graph, edit) != edit.after:
            raise ConnectomeBenchError(
                f"edit {edit.edit_id} of the log cannot be made again; the data have changed, so choose another --out"
            )
        current.applied.append(edit)
    known = {edit.edit_id for edit in earlier}
    for one in chosen:
        if one.edit_id in known or (limit is not None and len(current.applied) >= limit):
            continue
        edit = one.as_edit(graph)
        after = _make(graph, edit)
        if after:
            edit = replace(edit, after=after)
            edit = replace(edit, neuroglancer=link(edit))
            record(edit)
            current.applied.append(edit)
    return {made for edit in current.applied for made in edit.after if made in graph}


def _make(graph: SegmentationGraph, edit: Edit) -> tuple[int, ...]:
    try:
        return apply_edit(graph, edit)
    except (EditRefused, IndexError):
        return ()


def _compatible(
    trial: SegmentationGraph, decider: Decider, confident: Sequence[Judged], current: Round
) -> list[Judged]:
    """Choose edits in the order of their confidence, leaving out those in conflict with one chosen before.

    Merges may follow each other; an object that is split takes part in nothing else in this round, since the pictures
    of its other edits show it whole.
    """
    merged: set[int] = set()
    split: set[int] = set()
    chosen = []
    for one in confident:
        own = set(one.proposal.site.segment_ids)
        others = split | merged if one.proposal.operation == "split" else split
        if own & others:
            current.dropped["put off: in conflict with a more confident edit"] += 1
            continue
        if not decider.stands(one.proposal, trial):
            continue
        try:
            apply_edit(trial, one.as_edit(trial))
        except EditRefused as error:
            current.dropped[f"refused: {error}"] += 1
            if one.decided_by:
                current.refused[one.edit_id] = str(error)
            continue
        (split if one.proposal.operation == "split" else merged).update(own)
        chosen.append(one)
    return chosen
