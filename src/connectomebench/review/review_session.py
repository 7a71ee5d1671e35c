"""A review in this process: reads and appends to the log that all reviewers share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.decision_log import DecisionLog, Entry, read_taken
from connectomebench.proofreading.edit_log import Edit, read_edits
from connectomebench.proofreading.graph_files import read_graph
from connectomebench.proofreading.outputs import read_earlier
from connectomebench.review.review_state import Ranked, ReviewState

T = TypeVar("T")
Decision = Literal["accept", "reject", "skip"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_LONGEST_S = 86_400.0


def check_name(name: str) -> str:
    """Return the name of a reviewer.

    Raises
    ------
    ConnectomeBenchError
        If it is none.
    """
    if not _NAME.fullmatch(name):
        raise ConnectomeBenchError(f"the reviewer's name is {name!r:.60}; use up to 40 letters, digits, '.', '_', '-'")
    return name


class ReviewSession:
    """Decisions of any number of reviewers; other processes may review the same folder at the same time.

    Parameters
    ----------
    out
        Folder of a finished ``connectomebench proofread``.
    empty_queue
        Whether the queue may be empty: there is nothing to decide then, but edits of the run to look at.

    Attributes
    ----------
    out
        As above.
    edits
        Edits of the run itself.

    Raises
    ------
    ConnectomeBenchError
        If it holds none, its queue is empty, or its decisions are damaged or of another run.
    """

    def __init__(self, out: Path, *, empty_queue: bool = False) -> None:
        graph, self.edits = read_graph(out)
        queue = read_edits(out / "queue.jsonl")
        if not queue and not empty_queue:
            raise ConnectomeBenchError(f"the queue of {out} is empty: there is nothing to review")
        self.out = out
        self._state = ReviewState(graph, queue, read_earlier(out))
        self._log = DecisionLog(out)
        self._begun_with = read_taken(out)
        self.read(lambda state: None)

    def read(self, look: Callable[[ReviewState], T]) -> T:
        """Return what a function makes of the state, with all decisions of all processes so far."""
        with self._log.locked() as news:
            self._state.take_at([one.entries for one in read_taken(self.out)])
            for entry in news:
                self._state.add(entry)
            return look(self._state)

    def check_current(self) -> None:
        """Raise :class:`ConnectomeBenchError` if the run went on since this review began: what it shows is old."""
        if read_taken(self.out) != self._begun_with:
            raise ConnectomeBenchError(
                f"connectomebench proofread has taken the decisions on {self.out} since this review began; all of them "
                "are kept: start the review again for what waits now"
            )

    def _act(self, choose: Callable[[ReviewState], Entry | None]) -> Entry | None:
        """Append the entry that a function makes of the state, in one step for all processes."""

        def act(state: ReviewState) -> Entry | None:
            entry = choose(state)
            if entry is None:
                return None
            done = self._log.append(entry)
            state.add(done)
            return done

        return self.read(act)

    def open_next(self, reviewer: str) -> Ranked | None:
        """Choose the next edit of a reviewer and record that it is shown; None where nothing is left."""
        check_name(reviewer)
        chosen: list[Ranked] = []

        def choose(state: ReviewState) -> Entry | None:
            found = state.next_for(reviewer)
            if found is None:
                return None
            chosen.append(found)
            return Entry("open", reviewer, found.edit.edit_id)

        self._act(choose)
        return chosen[0] if chosen else None

    def decide(self, reviewer: str, edit_id: str, decision: Decision, seconds: float) -> bool:
        """Record a decision; it is on disk when this returns.

        Parameters
        ----------
        reviewer, edit_id
            Who decides what.
        decision
            ``accept`` applies the edit, if nobody decided it before; a later decision of somebody else is kept and
            counts for their agreement.
        seconds
            From display to decision, s.

        Returns
        -------
        bool
            False where this reviewer decided it before (a second window); nothing is recorded then.

        Raises
        ------
        ConnectomeBenchError
            If the edit, the decision or the time is invalid.
        """
        check_name(reviewer)
        if decision not in ("accept", "reject", "skip") or not math.isfinite(seconds) or not 0 <= seconds <= _LONGEST_S:
            raise ConnectomeBenchError("invalid decision; reload the page")

        def choose(state: ReviewState) -> Entry | None:
            if edit_id not in state.queue:
                raise ConnectomeBenchError("no such edit in the queue; reload the page")
            if edit_id in state.decided(reviewer) or (decision == "skip" and edit_id in state.skipped(reviewer)):
                return None
            return Entry(decision, reviewer, edit_id, round(seconds, 3))

        return self._act(choose) is not None

    def undo(self, reviewer: str) -> Entry | None:
        """Take back the last decision of a reviewer; return it, or None where there is none."""
        check_name(reviewer)
        undone: list[Entry] = []

        def choose(state: ReviewState) -> Entry | None:
            last = state.undoable(reviewer)
            if last is None:
                return None
            undone.append(last)
            return Entry("undo", reviewer, last.edit_id, last.seconds)

        self._act(choose)
        return undone[0] if undone else None

    def again(self, reviewer: str) -> None:
        """Bring back what a reviewer skipped."""
        check_name(reviewer)
        self._act(lambda state: Entry("again", reviewer) if state.skipped(reviewer) else None)

    def all_edits(self) -> list[Edit]:
        """Return the edits of the run and the accepted ones, in order."""
        return self.read(lambda state: [*self.edits, *state.applied])
