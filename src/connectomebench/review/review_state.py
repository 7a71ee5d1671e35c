"""State of a review: what follows from queue and log of decisions, the same in every process that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.decision_log import PERSON, Decisions, Entry
from connectomebench.proofreading.edit_log import Edit, apply_edit
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.truth_table import gain_if_right

OPEN_S = 300.0
"""How long an edit that one reviewer looks at is shown to others last, s."""


@dataclass(frozen=True)
class Ranked:
    """An edit that waits for a decision, with its value now.

    Attributes
    ----------
    edit
        As proposed.
    value
        Expected gain with the objects as they are now, bits.
    changed
        Whether its objects are others than in its pictures.
    """

    edit: Edit
    value: float
    changed: bool


class ReviewState:
    """See the module.

    Parameters
    ----------
    graph
        The segmentation that the run ended with; not changed.
    queue
        Proposed edits.
    earlier
        Edits that waited in the queue before the run went on from the decisions of people.

    Attributes
    ----------
    graph
        The segmentation with all accepted edits.
    queue, edits
        Edit -> as it was proposed: those of the queue, and the earlier ones too.
    applied
        Accepted edits in the order they were applied, with confidence 1, their objects and who decided.
    entries
        The log so far.
    reviewed
        Edit -> what reviewers made of it.
    taken
        Edits whose decisions the run has taken.
    """

    def __init__(self, graph: SegmentationGraph, queue: Sequence[Edit], earlier: Sequence[Edit] = ()) -> None:
        self._start = graph
        self.queue = {edit.edit_id: edit for edit in queue}
        self.edits = {edit.edit_id: edit for edit in earlier} | self.queue
        self.graph = graph.copy()
        self.applied: list[Edit] = []
        self._log = Decisions()
        self.entries = self._log.entries
        self.reviewed = self._log.reviewed
        self.taken: set[str] = set()
        self._taken_at: list[int] = []
        self._values: dict[str, tuple[tuple[int, ...], float | None]] = {}

    def take_at(self, counts: Sequence[int]) -> None:
        """Say after how many entries of the log the run took the decisions: these stay, and the run applies them."""
        self._taken_at = list(counts)
        if len(self.entries) in self._taken_at:
            self._settle()

    def _settle(self) -> None:
        self._log.settle()
        self.taken = set(self._log.decided())

    def add(self, entry: Entry) -> None:
        """Take in the next entry of the log.

        Raises
        ------
        ConnectomeBenchError
            If it names an edit that is not in the queue, and was not before.
        """
        if entry.action != "again" and entry.edit_id not in self.edits:
            raise ConnectomeBenchError(
                f"the decisions name edit {entry.edit_id}, which is not in the queue; they are of another run"
            )
        before = self._log.verdict(entry.edit_id)
        self._log.add(entry)
        after = self._log.verdict(entry.edit_id)
        if len(self.entries) <= max(self._taken_at, default=0):
            if len(self.entries) in self._taken_at:
                self._settle()
        elif before is None and after == "accept":
            self._apply(entry.edit_id)
        elif before is not None and after != before:
            self._rebuild()

    def _rebuild(self) -> None:
        """Apply all accepted edits to a fresh graph, in the order in which they were accepted."""
        self.graph = self._start.copy()
        self.applied = []
        self._values.clear()  # ids of objects are given again
        accepted = []
        for entry in self.entries:
            known = entry.action in ("accept", "reject") and entry.edit_id not in accepted
            if known and self._log.verdict(entry.edit_id) == "accept":
                accepted.append(entry.edit_id)
        for edit_id in accepted:
            self.reviewed[edit_id].refused = None
            self._apply(edit_id)

    def _apply(self, edit_id: str) -> None:
        edit = self.queue.get(edit_id)
        if edit is None or edit_id in self.taken:
            return  # the run applies it
        rows = (edit.source_supervoxels[0] - 1, edit.sink_supervoxels[0] - 1)
        before = tuple(dict.fromkeys(int(self.graph.objects[row]) for row in rows))
        edit = replace(edit, confidence=PERSON, before=before, decided_by=self.reviewed[edit_id].by)
        try:
            self.applied.append(replace(edit, after=apply_edit(self.graph, edit)))
        except EditRefused as error:
            self.reviewed[edit_id].refused = str(error)

    def undoable(self, reviewer: str) -> Entry | None:
        """Return the last decision of a reviewer that may be taken back: the run has not taken it."""
        return self._log.undoable(reviewer)

    def skipped(self, reviewer: str) -> list[str]:
        """Return the undecided edits that a reviewer skipped."""
        return self._log.skipped(reviewer)

    def seconds(self, reviewer: str, edit_id: str) -> float:
        """Return the time that a reviewer spent on an edit before, s."""
        own = (e for e in reversed(self.entries) if e.reviewer == reviewer and e.edit_id == edit_id)
        return next((e.seconds for e in own if e.action != "open"), 0.0)

    def waiting(self) -> list[Ranked]:
        """Return the undecided edits that can still be made, the most valuable first."""
        found = []
        for edit in self.queue.values():
            if self._log.verdict(edit.edit_id) is None:
                value = self._value(edit)
                if value is not None:
                    changed = any(one not in self.graph for one in edit.before)
                    found.append(Ranked(edit, value, changed))
        found.sort(key=lambda one: (-one.value, one.edit.edit_id))
        return found

    def next_for(self, reviewer: str, now: datetime | None = None) -> Ranked | None:
        """Choose what a reviewer sees next: the most valuable edit that nobody else looks at; those come last."""
        now = now or datetime.now(UTC)
        skipped = set(self.skipped(reviewer))
        choice = [one for one in self.waiting() if one.edit.edit_id not in skipped]
        return next(
            (one for one in choice if not self._busy(one.edit.edit_id, reviewer, now)), next(iter(choice), None)
        )

    def _busy(self, edit_id: str, reviewer: str, now: datetime) -> bool:
        own = self.reviewed.get(edit_id)
        if own is None:
            return False
        limit = now - timedelta(seconds=OPEN_S)
        return any(when > limit for who, when in own.opened.items() if who != reviewer and self._looks(who, edit_id))

    def _looks(self, reviewer: str, edit_id: str) -> bool:
        """Return whether an edit is the last thing that a reviewer opened or decided."""
        last = next((e for e in reversed(self.entries) if e.reviewer == reviewer), None)
        return last is not None and last.action == "open" and last.edit_id == edit_id

    def _value(self, edit: Edit) -> float | None:
        """Return the expected gain of a decision now, bits; None where the edit can no longer be made."""
        graph = self.graph
        rows = [one - 1 for one in (*edit.source_supervoxels, *edit.sink_supervoxels)]
        held = tuple(sorted({int(graph.objects[row]) for row in rows}))
        if len(held) != (2 if edit.operation == "merge" else 1):
            return None
        if edit.operation == "split" and held == edit.before:
            return edit.value  # as it was proposed: no need to compute the cut again
        known = self._values.get(edit.edit_id)
        if known is None or known[0] != held:
            sources, sinks = ([one - 1 for one in side] for side in (edit.source_supervoxels, edit.sink_supervoxels))
            gain = gain_if_right(graph, edit.operation, sources, sinks, PERSON)
            known = self._values[edit.edit_id] = (held, gain)
        chance = edit.confidence if edit.chance is None else edit.chance
        return None if known[1] is None else chance * known[1]

    def decided(self, reviewer: str | None = None) -> dict[str, str]:
        """Return edit -> verdict: those that count, or those of one reviewer."""
        return self._log.decided(reviewer)
