"""What a person is asked one after the other, and what was answered, kept on disk answer by answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.resume_log import ResumeLog

_LONGEST_S = 86_400.0


@dataclass(frozen=True)
class Choice:
    """One of the answers on offer.

    Attributes
    ----------
    key
        Key that gives it, lower case.
    value
        What is recorded.
    text
        What stands on its button.
    """

    key: str
    value: str
    text: str


@dataclass(frozen=True)
class Step:
    """One thing to choose.

    Attributes
    ----------
    prompt
        What to do, a few words.
    choices
        What can be chosen.
    """

    prompt: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Item:
    """One thing to rate.

    Attributes
    ----------
    key
        Its name in the journal; never leaves this process.
    row
        Number of the stored row whose pictures are shown.
    question
        What was asked about the pictures.
    texts
        Texts to be judged, in the order in which they stand side by side.
    """

    key: str
    row: int
    question: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rating:
    """What a person chose for one item.

    Attributes
    ----------
    key
        Of the item.
    choices
        Value chosen in each step.
    seconds
        From the pictures being on the screen to the first choice, without the time they were hidden.
    """

    key: str
    choices: tuple[str, ...]
    seconds: float


class RatingSession:
    """Items in their order, of which the first so many are rated.

    Parameters
    ----------
    items
        What to rate; keys differ.
    steps
        What to choose for each item.
    journal
        Where ratings are kept. Those in it are taken over.
    changed
        Called after every rating and undoing with the number of items rated.

    Raises
    ------
    ConnectomeBenchError
        If the journal holds ratings of other items.
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
            raise ConnectomeBenchError("the ratings kept there are of other items; choose another --out")
        self._done = len(kept)

    @property
    def done(self) -> int:
        """How many items are rated; the next one has this number."""
        return self._done

    @property
    def ratings(self) -> list[Rating]:
        """The ratings so far, in the order of the items."""
        records = [self._journal.records[item.key] for item in self.items[: self._done]]
        return [Rating(r["sample_id"], tuple(r["choices"]), r["seconds"]) for r in records]

    def seconds(self, number: int) -> float:
        """Return for how long an item was looked at before its rating was taken back."""
        return self._journal.records.get(self.items[number].key, {"seconds": 0.0})["seconds"]

    def rate(self, number: int, choices: Sequence[str], seconds: float) -> bool:
        """Keep the rating of the next item; it is on the disk when this returns.

        Parameters
        ----------
        number
            Which item was rated.
        choices
            Value chosen in each step.
        seconds
            As in `Rating`, those before an undone rating among them.

        Returns
        -------
        bool
            False where another item is next (a second window), so that nothing was kept.

        Raises
        ------
        ConnectomeBenchError
            If a choice is not on offer or the time is impossible.
        """
        allowed = [{choice.value for choice in step.choices} for step in self.steps]
        fits = len(choices) == len(allowed) and all(c in a for c, a in zip(choices, allowed, strict=True))
        if not fits or not math.isfinite(seconds) or not 0 <= seconds <= _LONGEST_S:
            raise ConnectomeBenchError("that rating is not on offer; reload the page")
        with self._lock:
            if number != self._done or number >= len(self.items):
                return False
            self._keep(number, list(choices), seconds, undone=False)
            self._done += 1
        self._changed(self._done)
        return True

    def undo(self, number: int) -> bool:
        """Take back the rating before the next item.

        Parameters
        ----------
        number
            Which item is next, as the person sees it.

        Returns
        -------
        bool
            False where there is nothing to take back, or another item is next.
        """
        with self._lock:
            if number != self._done or number == 0:
                return False
            last = self._journal.records[self.items[number - 1].key]
            self._keep(number - 1, last["choices"], last["seconds"], undone=True)
            self._done -= 1
        self._changed(self._done)
        return True

    def _keep(self, number: int, choices: list[str], seconds: float, *, undone: bool) -> None:
        record: dict[str, Any] = {
            "sample_id": self.items[number].key,
            "choices": choices,
            "seconds": seconds,
            "undone": undone,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._journal.add([record])
