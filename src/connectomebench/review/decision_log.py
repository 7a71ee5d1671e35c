"""`OUT/review/decisions.jsonl`: everything that reviewers did, appended under a lock, never changed."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from connectomebench.core.errors import ConnectomeBenchError

FOLDER, FILE_NAME = "review", "decisions.jsonl"
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
