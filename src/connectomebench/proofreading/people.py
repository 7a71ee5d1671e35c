"""What people decided of the queue: answers of the loop, which hold from the round on in which they were taken.

A decision is about supervoxels: that those of a merge are of one neuron or are not, that those of a split are of two.
It therefore holds whatever the objects round them become, and is never asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.decision_log import (
    FILE_NAME,
    FOLDER,
    PERSON,
    DecisionLog,
    Decisions,
    Entry,
    Taken,
    read_taken,
    write_taken,
)
from connectomebench.proofreading.judged import Judged
from connectomebench.proofreading.proposals import Proposal, what_is_done
from connectomebench.proofreading.segmentation_graph import SegmentationGraph


@dataclass(frozen=True)
class Decided:
    """A decision that was taken: what was asked, whether it was accepted, and who decided."""

    judged: Judged
    accepted: bool
    by: str


class People:
    """The decisions of the people who review a run.

    Parameters
    ----------
    out
        Folder of the run; None: nobody decides anything.

    Attributes
    ----------
    decided
        Edit -> the decision, those that were taken.
    refused
        Edit -> why it could not be applied though it was accepted.
    """

    def __init__(self, out: Path | None = None) -> None:
        self._out = out
        self._taken: list[Taken] = [] if out is None else read_taken(out)
        self._log: DecisionLog | None = None
        self._entries: list[Entry] = []
        self._decisions = Decisions()
        self._asked: dict[str, Judged] = {}
        self.decided: dict[str, Decided] = {}
        self.refused: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        """Read what is new in the log; it is no file of the run, which makes none."""
        if self._out is None or not (self._out / FOLDER / FILE_NAME).exists():
            return
        self._log = self._log or DecisionLog(self._out)
        with self._log.locked() as news:
            self._entries += news

    def remember(self, judged: Iterable[Judged]) -> None:
        """Remember what may be in the queue, and so be decided; the latest of those with one id counts."""
        self._asked.update((one.edit_id, one) for one in judged)

    def take(self, number: int) -> bool:
        """Take new decisions for a round to come, on disk when this returns; tell whether there are any.

        Raises
        ------
        ConnectomeBenchError
            If a decision is about an edit that was never proposed, or the log is damaged.
        """
        # a smaller limit of rounds than before does not move what was taken: the rounds up to there are done again
        if any(one.round >= number for one in self._taken):
            return True
        if not self.waiting_decisions():
            return False
        assert self._out is not None and self._log is not None, "there are decisions"
        with self._log.locked() as news:  # what is taken here can no longer be taken back in a review
            self._entries += news
            if not self._fresh(len(self._entries)):
                return False
            self._taken.append(Taken(number, len(self._entries)))
            write_taken(self._out, self._taken)
        return True

    def waiting_decisions(self) -> int:
        """Count the decisions that were not taken yet."""
        self._read()
        return len(self._fresh(len(self._entries)))

    def begin(self, number: int) -> bool:
        """Let the decisions that were taken for a round count from now on; tell whether there are any."""
        own = next((one for one in self._taken if one.round == number), None)
        if own is None:
            return False
        if own.entries > len(self._entries):
            assert self._out is not None, "decisions were taken from a folder"
            raise ConnectomeBenchError(
                f"{self._out / FOLDER / FILE_NAME} has lost decisions that the run took; restore the file, or choose "
                "another --out"
            )
        self.decided |= self._fresh(own.entries)
        self._decisions.settle()
        return True

    def _fresh(self, count: int) -> dict[str, Decided]:
        """Return the decisions that follow from so many entries, without those taken before."""
        for entry in self._entries[len(self._decisions.entries) : count]:
            self._decisions.add(entry)
        fresh = {}
        for edit_id, verdict in self._decisions.decided().items():
            if edit_id in self.decided:
                continue
            if edit_id not in self._asked:
                raise ConnectomeBenchError(
                    f"the decisions name edit {edit_id}, which this run never proposed; they are of another run: "
                    "choose another --out"
                )
            by = self._decisions.reviewed[edit_id].by
            fresh[edit_id] = Decided(self._asked[edit_id], verdict == "accept", by)
        return fresh

    def settled(self, graph: SegmentationGraph) -> set[Hashable]:
        """Return the questions about the current objects that people decided; see :func:`.what_is_done`."""
        found: set[Hashable] = set()
        for one in self.decided.values():
            proposal = one.judged.proposal
            if proposal.operation == "split":
                found.add(what_is_done(proposal))
            else:
                found.add(frozenset(int(graph.objects[row]) for row in (proposal.sources[0], proposal.sinks[0])))
        return found

    def accepted(self, graph: SegmentationGraph, number: int) -> list[Judged]:
        """Return what people accepted and no edit has done yet, as corrections of the current objects."""
        found = []
        for edit_id, one in self.decided.items():
            if one.accepted and edit_id not in self.refused and _can_be_made(one.judged.proposal, graph):
                proposal = one.judged.proposal
                held = _objects(proposal, graph)
                if set(held) != set(proposal.site.segment_ids):
                    proposal = replace(proposal, site=replace(proposal.site, segment_ids=held))
                found.append(
                    replace(
                        one.judged,
                        proposal=proposal,
                        confidence=PERSON,
                        chance=PERSON,
                        round=number,
                        decided_by=one.by,
                        decided_id=edit_id,
                    )
                )
        return found

    def refuse(self, reasons: Mapping[str, str], graph: SegmentationGraph) -> None:
        """Note what could not be applied in a round, where the round has not done it otherwise."""
        for edit_id, reason in reasons.items():
            if _can_be_made(self.decided[edit_id].judged.proposal, graph):
                self.refused[edit_id] = reason

    def summary(self) -> dict[str, Any]:
        """Count decisions, and name the accepted ones that could not be applied."""
        every = list(self.decided.values())
        return {
            "accepted": sum(one.accepted for one in every),
            "rejected": sum(not one.accepted for one in every),
            "refused": dict(sorted(self.refused.items())),
            "reviewers": dict(sorted(Counter(one.by for one in every).items())),
        }


def _objects(proposal: Proposal, graph: SegmentationGraph) -> tuple[int, ...]:
    rows = (*proposal.sources, *proposal.sinks)
    return tuple(dict.fromkeys(int(graph.objects[row]) for row in rows))


def _can_be_made(proposal: Proposal, graph: SegmentationGraph) -> bool:
    return len(_objects(proposal, graph)) == (2 if proposal.operation == "merge" else 1)
