"""Append-only log of answers, so that an interrupted evaluation resumes without asking twice."""

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
_LOST = "unanswered"


class ResumeLog:
    """Records of the rows answered so far; created by :func:`open_resume_log`.

    Attributes
    ----------
    records
        Records by sample id, including those of earlier runs.
    lost
        ``requests`` and ``cost_usd`` (None if unknown) of requests that were never answered, including earlier runs.
    """

    def __init__(
        self, stream: BufferedRandom, records: dict[str, dict[str, Any]], lost: list[dict[str, Any]] | None = None
    ) -> None:
        self._stream = stream
        self.records = records
        self.lost = lost or []

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records; they are on disk when this returns."""
        self._write(records)
        self.records.update({record["sample_id"]: dict(record) for record in records})

    def add_lost(self, requests: int, cost_usd: float | None) -> None:
        """Append requests that were never answered and may be billed; on disk when this returns."""
        lost = {"requests": requests, "cost_usd": cost_usd}
        self._write([{_LOST: lost}])
        self.lost.append(lost)

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._stream.write(b"".join(_line(entry) for entry in entries))
        self._stream.flush()
        os.fsync(self._stream.fileno())


@contextmanager
def open_resume_log(path: Path, identity: Mapping[str, Any]) -> Iterator[ResumeLog]:
    """Open the resume log of an evaluation and read its records.

    The file holds one JSON object per line: the identity, then one record per row or failed request. A truncated last
    line is dropped.

    Parameters
    ----------
    path
        The log file; created if needed. Remove it (:func:`remove_resume_log`) once its records are stored elsewhere.
    identity
        JSON-serialisable identity of the evaluation. Records of another identity are refused.

    Yields
    ------
    ResumeLog
        With the records found.

    Raises
    ------
    ConnectomeBenchError
        If another process has it open, or it belongs to another evaluation or is damaged.
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
            yield ResumeLog(stream, *_read_existing(stream, path, json.loads(json.dumps(identity))))
    finally:
        lock.release()


def remove_resume_log(path: Path) -> None:
    """Remove a resume log and its lock."""
    path.unlink()
    _lock_of(path).unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _read_existing(
    stream: BufferedRandom, path: Path, identity: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Read existing records, truncate a broken last line, and write the identity to an empty file."""
    stream.seek(0)
    text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    stream.truncate(len(whole))
    stream.seek(0, os.SEEK_END)
    if not whole:
        stream.write(_line(identity))
        return {}, []
    try:
        found, *entries = [json.loads(line) for line in whole.splitlines()]
        lost = [{name: entry[_LOST][name] for name in ("requests", "cost_usd")} for entry in entries if _LOST in entry]
        by_sample = {record["sample_id"]: record for record in entries if _LOST not in record}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConnectomeBenchError(f"{path} is damaged; remove it to start again") from None
    if found != identity:
        names = {**identity, **found} if isinstance(found, dict) else identity
        other = [name for name in names if not isinstance(found, dict) or found.get(name) != identity.get(name)]
        raise ConnectomeBenchError(
            f"{path} holds answers of another evaluation (different: {', '.join(other)}); "
            "finish that one, remove the file, or choose another --out"
        )
    return by_sample, lost
