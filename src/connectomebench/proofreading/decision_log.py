"""`OUT/review/decisions.jsonl`: everything that reviewers did, appended under a lock, never changed; what of it counts.

Beside it `taken.jsonl` says which decisions the run itself has taken, and in which round.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path

FOLDER, FILE_NAME = "review", "decisions.jsonl"
TAKEN_NAME = "taken.jsonl"
PERSON = 1.0
"""Confidence of an edit that a person accepted."""

Action = Literal["open", "accept", "reject", "skip", "undo", "again"]
"""``open``: the edit is shown; ``undo`` takes back the last decision of its reviewer, named by ``edit_id``; ``again``
brings back what the reviewer skipped."""

_WAIT_S = 30.0


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes
    ----------
    action
        What was done.
    reviewer
        Name of the reviewer.
    edit_id
        To which edit; empty for ``again``.
    seconds
        From display to decision, without the time the page was hidden, s; 0 where nothing was decided.
    at
        When, UTC, ISO 8601.
    """

    action: Action
    reviewer: str
    edit_id: str = ""
    seconds: float = 0.0
    at: str = ""


class DecisionLog:
    """The log of one output folder, shared by any number of processes.

    Parameters
    ----------
    out
        Folder of a ``connectomebench proofread``.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / FOLDER / FILE_NAME
        self._read = 0
        self._count = 0
        self._thread = threading.RLock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{FILE_NAME}.lock"), thread_local=False)

    @contextmanager
    def locked(self) -> Iterator[list[Entry]]:
        """Hold the log, so that no other process or thread appends to it.

        Yields
        ------
        list of Entry
            What was appended since the last time. A last line that a crash cut short is removed.

        Raises
        ------
        ConnectomeBenchError
            If a line is damaged, or another process holds the log for half a minute.
        """
        with self._thread:
            try:
                self._lock.acquire(timeout=_WAIT_S)
            except Timeout:
                raise ConnectomeBenchError(f"{self.path} is held by another process; end that one") from None
            try:
                yield self._news()
            finally:
                self._lock.release()

    def append(self, entry: Entry) -> Entry:
        """Append an entry, with the time; it is on disk when this returns. Call it while the log is held."""
        stamped = Entry(**{**asdict(entry), "at": entry.at or datetime.now(UTC).isoformat(timespec="milliseconds")})
        line = json.dumps(asdict(stamped), ensure_ascii=False).encode() + b"\n"
        with self.path.open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._read += len(line)
        self._count += 1
        return stamped

    def _news(self) -> list[Entry]:
        if not self.path.exists():
            return []
        with self.path.open("r+b") as stream:
            stream.seek(self._read)
            text = stream.read()
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                stream.truncate(self._read + len(whole))
        found = [self._parse(line, self._count + n) for n, line in enumerate(whole.splitlines(), 1)]
        self._read += len(whole)
        self._count += len(found)
        return found

    def _parse(self, line: bytes, number: int) -> Entry:
        try:
            entry = Entry(**json.loads(line))
            texts = (entry.reviewer, entry.edit_id, entry.at)
            if entry.action not in get_args(Action) or not all(isinstance(text, str) for text in texts):
                raise ValueError
            if not math.isfinite(float(entry.seconds)):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise ConnectomeBenchError(f"{self.path}, line {number} is no decision; restore the file") from None
        return entry


@dataclass
class Reviewed:
    """What reviewers made of one edit.

    Attributes
    ----------
    decisions
        Reviewer -> accept or reject, in the order of the log; the first one counts.
    opened
        Reviewer -> when it was last shown.
    refused
        Why an accepted edit could not be applied; None where it was, or was not accepted.
    """

    decisions: dict[str, str] = field(default_factory=dict)
    opened: dict[str, datetime] = field(default_factory=dict)
    refused: str | None = None

    @property
    def verdict(self) -> str | None:
        """What counts: accept, reject, or None where nobody decided."""
        return next(iter(self.decisions.values()), None)

    @property
    def by(self) -> str:
        """Whose decision counts; empty where nobody decided."""
        return next(iter(self.decisions), "")


class Decisions:
    """What follows from a log: the decisions that count, what was skipped, and what may be taken back.

    Attributes
    ----------
    entries
        The log so far.
    reviewed
        Edit -> what reviewers made of it.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.reviewed: dict[str, Reviewed] = {}
        self._skipped: dict[str, list[str]] = {}
        self._last: dict[str, list[Entry]] = {}

    def add(self, entry: Entry) -> None:
        """Take in the next entry of the log."""
        self.entries.append(entry)
        mine = self._last.setdefault(entry.reviewer, [])
        skipped = self._skipped.setdefault(entry.reviewer, [])
        if entry.action == "again":
            skipped.clear()
            return
        own = self.reviewed.setdefault(entry.edit_id, Reviewed())
        if entry.action == "open":
            own.opened[entry.reviewer] = datetime.fromisoformat(entry.at)
        elif entry.action == "undo":
            if mine and mine[-1].edit_id == entry.edit_id:
                self._undo(mine.pop())
        else:
            mine.append(entry)
            if entry.action == "skip":
                skipped.append(entry.edit_id)
            elif entry.reviewer not in own.decisions:
                own.decisions[entry.reviewer] = entry.action

    def _undo(self, entry: Entry) -> None:
        if entry.action != "skip":
            self.reviewed[entry.edit_id].decisions.pop(entry.reviewer, None)
        elif entry.edit_id in self._skipped[entry.reviewer]:
            self._skipped[entry.reviewer].remove(entry.edit_id)

    def settle(self) -> None:
        """Let nobody take back what was decided so far: the run has taken it."""
        self._last.clear()

    def verdict(self, edit_id: str) -> str | None:
        """Return what counts for an edit: accept, reject, or None where nobody decided."""
        own = self.reviewed.get(edit_id)
        return None if own is None else own.verdict

    def decided(self, reviewer: str | None = None) -> dict[str, str]:
        """Return edit -> verdict: those that count, or those of one reviewer."""
        found = {}
        for edit_id, own in self.reviewed.items():
            verdict = own.verdict if reviewer is None else own.decisions.get(reviewer)
            if verdict is not None:
                found[edit_id] = verdict
        return found

    def undoable(self, reviewer: str) -> Entry | None:
        """Return the last decision of a reviewer that may be taken back."""
        mine = self._last.get(reviewer, [])
        return mine[-1] if mine else None

    def skipped(self, reviewer: str) -> list[str]:
        """Return the undecided edits that a reviewer skipped."""
        return [one for one in self._skipped.get(reviewer, []) if self.verdict(one) is None]


@dataclass(frozen=True)
class Taken:
    """One line of ``taken.jsonl``.

    Attributes
    ----------
    round
        Round of the run that begins with these decisions.
    entries
        How many lines of the log it had read: what counts of these was taken, and stays.
    """

    round: int
    entries: int


def read_taken(out: Path) -> list[Taken]:
    """Read which decisions the run of a folder has taken.

    Raises
    ------
    ConnectomeBenchError
        If a line is damaged.
    """
    path = out / FOLDER / TAKEN_NAME
    if not path.exists():
        return []
    found: list[Taken] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            one = Taken(**json.loads(line))
            before = found[-1] if found else Taken(1, 0)
            if not (int(one.round) > before.round and int(one.entries) > before.entries):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise ConnectomeBenchError(f"{path}, line {number} is damaged; restore the file") from None
        found.append(one)
    return found


def write_taken(out: Path, taken: Sequence[Taken]) -> None:
    """Record which decisions were taken; it is on disk when this returns. Call it while the log is held."""
    with atomic_path(out / FOLDER / TAKEN_NAME) as temporary, temporary.open("wb") as stream:
        stream.write("".join(json.dumps(asdict(one)) + "\n" for one in taken).encode())
        stream.flush()
        os.fsync(stream.fileno())
