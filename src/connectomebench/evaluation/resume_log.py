"""Answers as they come, kept on disk row by row, so that an evaluation that is cut off pays for no answer twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError

SUFFIX = ".partial"


class ResumeLog:
    """Records of the rows that were answered so far; :func:`open_journal` makes one.

    Attributes
    ----------
    records
        By sample id, those of earlier runs among them.
    """

    def __init__(self, stream: BufferedRandom, records: dict[str, dict[str, Any]]) -> None:
        self._stream = stream
        self.records = records

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep records; they are on the disk when this returns."""
        self._stream.write(b"".join(_line(record) for record in records))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.records.update({record["sample_id"]: dict(record) for record in records})


@contextmanager
def open_journal(path: Path, identity: Mapping[str, Any]) -> Iterator[ResumeLog]:
    """Open the journal of an evaluation, and go on with what it holds.

    The file is one JSON object a line: the identity, then a record a row. A line that was cut off while it was written
    is dropped.

    Parameters
    ----------
    path
        The journal; made if needed. Remove it (:func:`remove_journal`) once its records are elsewhere.
    identity
        What is evaluated, JSON-ready. Answers given under another identity are never mixed in.

    Yields
    ------
    Journal
        With the records that were there.

    Raises
    ------
    ConnectomeBenchError
        If another process has it open, it belongs to another evaluation, or it is damaged.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_of(path), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConnectomeBenchError(
            f"another evaluation is writing {path}; wait for it or choose another --out"
        ) from None
    try:
        with path.open("a+b") as stream:
            yield ResumeLog(stream, _go_on(stream, path, json.loads(json.dumps(identity))))
    finally:
        lock.release()


def remove_journal(path: Path) -> None:
    """Remove a journal whose records are elsewhere, and its lock."""
    path.unlink()
    _lock_of(path).unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _go_on(stream: BufferedRandom, path: Path, identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Read what is there, cut off a broken last line, and write the identity where there is nothing yet."""
    stream.seek(0)
    text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    stream.truncate(len(whole))
    stream.seek(0, os.SEEK_END)
    if not whole:
        stream.write(_line(identity))
        return {}
    try:
        found, *records = [json.loads(line) for line in whole.splitlines()]
        by_sample = {record["sample_id"]: record for record in records}
    except (ValueError, KeyError, TypeError):
        raise ConnectomeBenchError(f"{path} is damaged; remove it to ask everything anew") from None
    if found != identity:
        names = {**identity, **found} if isinstance(found, dict) else identity
        other = [name for name in names if not isinstance(found, dict) or found.get(name) != identity.get(name)]
        raise ConnectomeBenchError(
            f"{path} holds answers to another evaluation (not the same: {', '.join(other)}); "
            "finish that one, remove the file, or choose another --out"
        )
    return by_sample
