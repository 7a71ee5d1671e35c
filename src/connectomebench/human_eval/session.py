"""Rating session: items in order, with every answer saved to disk."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.resume_log import ResumeLog
from connectomebench.human_eval.loops import read_loops

_LONGEST_S = 86_400.0


@dataclass(frozen=True)
class Choice:
    """One selectable answer.

    Attributes
    ----------
    key
        Keyboard key, lower case.
    value
        Recorded value.
    text
        Button text.
    """

    key: str
    value: str
    text: str


@dataclass(frozen=True)
class Step:
    """One choice to make.

    Attributes
    ----------
    prompt
        Short instruction.
    choices
        The selectable answers; none where one draws.
    views
        Views to draw loops in, whose text is the answer (:mod:`connectomebench.human_eval.loops`); empty elsewhere.
    """

    prompt: str
    choices: tuple[Choice, ...]
    views: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One item to rate.

    Attributes
    ----------
    key
        Key in the resume log; never sent to the page.
    row
        Index of the stored row whose images are shown.
    question
        The question about the images.
    texts
        Texts to rate, in display order.
    offered
        Values offered in the first steps, for each of them; all where an entry or the rest is missing or empty.
    """

    key: str
    row: int
    question: str
    texts: tuple[str, ...] = ()
    offered: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Rating:
    """A person's choices for one item.

    Attributes
    ----------
    key
        Key of the item.
    choices
        Value chosen in each step.
    seconds
        Time from display to the first choice, s, without the time the images were hidden.
    """

    key: str
    choices: tuple[str, ...]
    seconds: float


class RatingSession:
    """Items in order, rated from first to last.

    Parameters
    ----------
    items
        Items with distinct keys.
    steps
        Choices to make for each item.
    journal
        Resume log of the ratings; existing ones are restored.
    changed
        Called with the number of rated items after every rating and undo.

    Raises
    ------
    ConnectomeBenchError
        If the log holds ratings of other items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        steps: Sequence[Step],
        journal: ResumeLog,
        changed: Callable[[int], None] = lambda done: None,
    ) -> None:
        self.items = tuple(items)
        self.steps = tuple(steps)
        self._journal = journal
        self._changed = changed
        self._lock = threading.Lock()
        kept = [key for key, record in journal.records.items() if not record["undone"]]
        if kept and set(kept) != {item.key for item in self.items[: len(kept)]}:
            raise ConnectomeBenchError("the existing ratings are of other items; choose another --out")
        self._done = len(kept)

    @property
    def done(self) -> int:
        """Number of rated items; the index of the next one."""
        return self._done

    @property
    def ratings(self) -> list[Rating]:
        """The ratings so far, in the order of the items."""
        records = [self._journal.records[item.key] for item in self.items[: self._done]]
        return [Rating(r["sample_id"], tuple(r["choices"]), r["seconds"]) for r in records]

    def seconds(self, number: int) -> float:
        """Return the time spent on an item before its rating was undone, s."""
        return self._journal.records.get(self.items[number].key, {"seconds": 0.0})["seconds"]

    def rate(self, number: int, choices: Sequence[str], seconds: float) -> bool:
        """Save the rating of the next item; it is on disk when this returns.

        Parameters
        ----------
        number
            Index of the rated item.
        choices
            Value chosen in each step.
        seconds
            As in `Rating`, including time before an undone rating.

        Returns
        -------
        bool
            False if another item is next (a second window); nothing is saved then.

        Raises
        ------
        ConnectomeBenchError
            If a choice or the time is invalid.
        """
        if len(choices) != len(self.steps) or not math.isfinite(seconds) or not 0 <= seconds <= _LONGEST_S:
            raise ConnectomeBenchError("invalid rating; reload the page")
        with self._lock:
            if number != self._done or number >= len(self.items):
                return False
            self._check(self.items[number], choices)
            self._keep(number, list(choices), seconds, undone=False)
            self._done += 1
        self._changed(self._done)
        return True

    def undo(self, number: int) -> bool:
        """Undo the last rating.

        Parameters
        ----------
        number
            Index of the next item, as the page sees it.

        Returns
        -------
        bool
            False if there is nothing to undo, or another item is next.
        """
        with self._lock:
            if number != self._done or number == 0:
                return False
            last = self._journal.records[self.items[number - 1].key]
            self._keep(number - 1, last["choices"], last["seconds"], undone=True)
            self._done -= 1
        self._changed(self._done)
        return True

    def _check(self, item: Item, choices: Sequence[str]) -> None:
        """Raise :class:`ConnectomeBenchError` for an answer that was not offered."""
        offered = (*item.offered, *((),) * len(self.steps))
        for step, choice, values in zip(self.steps, choices, offered, strict=False):
            if step.views:
                read_loops(choice, step.views)
            elif choice not in (values or {one.value for one in step.choices}):
                raise ConnectomeBenchError("invalid rating; reload the page")

    def _keep(self, number: int, choices: list[str], seconds: float, *, undone: bool) -> None:
        record: dict[str, Any] = {
            "sample_id": self.items[number].key,
            "choices": choices,
            "seconds": seconds,
            "undone": undone,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._journal.add([record])
