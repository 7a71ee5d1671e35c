"""Send accepted edits to a ChunkedGraph: a dry run, then each edit once, with a log that survives anything.

Each edit is logged before it is sent and again once it is answered. One without an answer is never sent again by
itself: the next run looks at the roots of its supervoxels, and takes it as made if they show it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Point
from connectomebench.proofreading import decision_log, edit_log
from connectomebench.proofreading.edit_log import Edit, read_edits
from connectomebench.proofreading.graph_files import read_supervoxels
from connectomebench.sources.cave.graph import Graph
from connectomebench.sources.cave.graph_edits import Busy, GraphEdits, Made, NotAccepted, NotAnswered, Seed

FOLDER, FILE_NAME = "submission", "log.jsonl"
Status = Literal["sending", "made", "refused", "busy"]


@dataclass(frozen=True)
class Submission:
    """An edit in the terms of the server.

    Attributes
    ----------
    edit
        The edit.
    sources, sinks
        Supervoxels of the server with a point in each; one each for a merge.
    """

    edit: Edit
    sources: tuple[Seed, ...]
    sinks: tuple[Seed, ...]

    @property
    def supervoxels(self) -> tuple[list[int], list[int]]:
        """Supervoxels of both sides."""
        return [one for one, _ in self.sources], [one for one, _ in self.sinks]

    def request(self) -> dict[str, Any]:
        """Return what is sent, for the log."""
        sides = {"sources": self.sources, "sinks": self.sinks}
        return {name: [[one, *point] for one, point in seeds] for name, seeds in sides.items()}


def latest_edits(out: Path) -> Path:
    """Return the file with all edits of a run: that of its review, unless the run itself has gone on since."""
    own, reviewed = out / edit_log.FILE_NAME, out / decision_log.FOLDER / edit_log.FILE_NAME
    if not own.exists() or not reviewed.exists():
        return own
    made = read_edits(own)
    return reviewed if read_edits(reviewed)[: len(made)] == made else own


def prepare(edits: Sequence[Edit], out: Path) -> tuple[list[Submission], dict[str, str]]:
    """Express edits in supervoxels of the server.

    Parameters
    ----------
    edits
        Applied edits, in order.
    out
        The run's folder; ``mapping.parquet`` gives the ids in the source.

    Returns
    -------
    submissions
        In the same order.
    refused
        Edit -> why it cannot be expressed.
    """
    ids = read_supervoxels(out).sources
    prepared, refused = [], {}
    for edit in edits:
        sides = [
            _seeds(rows, points, ids)
            for rows, points in (
                (edit.source_supervoxels, edit.source_points_nm),
                (edit.sink_supervoxels, edit.sink_points_nm),
            )
        ]
        both = {one for one, _ in sides[0]} & {one for one, _ in sides[1]}
        if any(not one for side in sides for one, _ in side):
            refused[edit.edit_id] = (
                "its supervoxels have no id on the server; proofread with source.volumes.supervoxels"
            )
        elif both:
            refused[edit.edit_id] = f"both sides lie in supervoxel {min(both)}, which a graph cannot cut"
        else:
            prepared.append(Submission(edit, sides[0], sides[1]))
    return prepared, refused


def _seeds(rows: Sequence[int], points: Sequence[Point], ids: NDArray[np.uint64]) -> tuple[Seed, ...]:
    """Pair ids of the server with points; several pieces of one supervoxel count once."""
    found: dict[int, Point] = {}
    for row, point in zip(rows, points, strict=True):
        found.setdefault(int(ids[row - 1]), point)
    return tuple(found.items())


class SubmissionLog:
    """`OUT/submission/log.jsonl`; created by :func:`open_submission_log`.

    Attributes
    ----------
    last
        Edit -> its last line.
    """

    def __init__(self, path: Path, lines: Sequence[dict[str, Any]]) -> None:
        self._path = path
        self.last: dict[str, dict[str, Any]] = {line["edit_id"]: line for line in lines}

    def add(self, edit_id: str, status: Status, **more: Any) -> None:
        """Append a line; it is on disk when this returns."""
        line = {"edit_id": edit_id, "status": status, "at": datetime.now(UTC).isoformat(timespec="seconds"), **more}
        with self._path.open("ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.last[edit_id] = line

    def status(self, edit_id: str) -> str | None:
        """Return the status of an edit; None where it was not sent."""
        line = self.last.get(edit_id)
        return None if line is None else line["status"]


@contextmanager
def open_submission_log(out: Path, server: str, table: str) -> Iterator[SubmissionLog]:
    """Open the log of a folder and a graph; a last line that a crash cut short is dropped.

    Raises
    ------
    ConnectomeBenchError
        If another process submits, the log is of another graph, or it is damaged.
    """
    from filelock import FileLock, Timeout

    path = out / FOLDER / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{FILE_NAME}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConnectomeBenchError(f"another process is submitting {out}; wait for it") from None
    try:
        head = {"server": server, "table": table}
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            found, entries = (lines[0], lines[1:]) if lines else (head, [])
            known = all(line["edit_id"] and line["status"] for line in entries)
        except (ValueError, KeyError, TypeError, RecursionError):
            known, found, entries = False, head, []
        if not known:
            raise ConnectomeBenchError(f"{path} is damaged: what was sent is not known; restore it")
        if found != head:
            raise ConnectomeBenchError(
                f"{out} was submitted to {found.get('table')} on {found.get('server')} before; use a copy of it for "
                "another graph"
            )
        if not whole:
            path.write_bytes(json.dumps(head).encode() + b"\n")
        elif len(whole) < len(text):
            with path.open("r+b") as stream:
                stream.truncate(len(whole))
        yield SubmissionLog(path, entries)
    finally:
        lock.release()


def read_statuses(out: Path) -> dict[str, str]:
    """Return edit -> status of a log that may not be there; read only, for a dry run."""
    path = out / FOLDER / FILE_NAME
    if not path.exists():
        return {}
    text = path.read_bytes()
    try:
        lines = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()[1:]]
        return {line["edit_id"]: line["status"] for line in lines}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConnectomeBenchError(f"{path} is damaged: what was sent is not known; restore it") from None


@dataclass(frozen=True)
class Check:
    """What the roots of an edit's supervoxels say.

    Attributes
    ----------
    done
        The graph is already as the edit would make it.
    problem
        Why it cannot be made; empty where it can.
    roots
        The roots of both sides now.
    """

    done: bool
    problem: str
    roots: tuple[int, ...]


def check_roots(one: Submission, roots: dict[int, int]) -> Check:
    """Compare an edit with the graph, from the root of each supervoxel (0 where the server knows none)."""
    mine, theirs = ({roots[s] for s in side} for side in one.supervoxels)
    held = tuple(sorted(mine | theirs))
    if 0 in held:
        return Check(False, "the server does not know its supervoxels", held)
    if one.edit.operation == "merge":
        return Check(mine == theirs, "", held)
    if not mine & theirs:
        return Check(True, "", held)
    return Check(False, "" if len(held) == 1 else "its seeds lie in several objects", held)


def current_roots(graph: Graph, submissions: Sequence[Submission]) -> dict[int, int]:
    """Ask for the roots of all supervoxels now."""
    ids = np.unique(np.array([s for one in submissions for side in one.supervoxels for s in side], np.uint64))
    found = graph.roots(ids, datetime.now(UTC)) if len(ids) else ids
    return dict(zip(ids.tolist(), found.tolist(), strict=True))


def dry_run(submissions: Sequence[Submission], graph: Graph, out: Path, echo: Callable[[str], None]) -> Counter[str]:
    """Say what would be sent, with one line for each edit; nothing is changed anywhere.

    A cut of an object that no earlier edit of the list changes is previewed by the server.

    Returns
    -------
    Counter
        Number of edits by outcome: ``send``, ``done``, ``refused``, ``known``.
    """
    counts: Counter[str] = Counter()
    statuses = read_statuses(out)
    roots = current_roots(graph, submissions)
    united = _Sets()
    changed: set[int] = set()
    for one in submissions:
        status = statuses.get(one.edit.edit_id)
        if status in ("made", "refused", "sending"):
            counts["known"] += 1
            echo(f"{_name(one)}: {_SAID[status]}")
            continue
        as_now = {s: united.find(root) for s, root in roots.items()}
        check = check_roots(one, as_now)
        touched = any(root in changed for root in check.roots)
        # what an earlier cut of the list leaves is not known before it is made
        problem = "" if touched else check.problem
        note = ""
        if not problem and not check.done and one.edit.operation == "split" and not touched:
            preview = graph.preview_split(check.roots[0], one.sources, one.sinks)
            if preview is None:
                problem = "the server finds no such cut"
            else:
                note = f" ({len(preview.sources)} and {len(preview.sinks)} supervoxels)"
        if problem:
            counts["refused"] += 1
            echo(f"{_name(one)}: refused: {problem}")
            continue
        if check.done and not touched:
            counts["done"] += 1
            echo(f"{_name(one)}: the graph is so already")
            continue
        counts["send"] += 1
        echo(f"{_name(one)}: would be sent{note}{' after the edits above' if touched else ''}")
        if one.edit.operation == "merge":
            changed.add(united.unite(check.roots))
        else:
            changed.update(check.roots)
    return counts


class _Sets:
    """Roots that merges of the list would unite."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, root: int) -> int:
        while root in self._parent:
            root = self._parent[root]
        return root

    def unite(self, roots: Sequence[int]) -> int:
        first, *others = [self.find(root) for root in roots]
        for other in others:
            if other != first:
                self._parent[other] = first
        return first


_SAID = {
    "made": "was sent before",
    "refused": "was refused by the server before",
    "sending": "was sent before, without an answer",
}


def submit(
    submissions: Sequence[Submission],
    graph: Graph,
    edits: GraphEdits,
    log: SubmissionLog,
    echo: Callable[[str], None],
    resend: bool = False,
) -> Counter[str]:
    """Send edits in order, each once; the same call continues.

    Parameters
    ----------
    submissions
        What to send.
    graph, edits
        The graph, to read and to change.
    log
        What was sent before.
    echo
        Receives one line an edit that was not simply made.
    resend
        Send those again that were sent without an answer and of which the graph shows nothing.

    Returns
    -------
    Counter
        Number of edits by outcome: ``made``, ``done`` (the graph was so already), ``refused``, ``unclear``, ``known``.

    Raises
    ------
    ConnectomeBenchError
        If an answer is lost or the server is busy: run again to continue.
    """
    counts: Counter[str] = Counter()
    for one in submissions:
        edit_id = one.edit.edit_id
        status = log.status(edit_id)
        if status in ("made", "refused"):
            counts["known"] += 1
            continue
        check = check_roots(one, current_roots(graph, [one]))
        if check.done:
            # also what was made by an edit of which no answer came
            log.add(edit_id, "made", operation_id=None, roots=list(check.roots), note="the graph was so already")
            counts["made" if status == "sending" else "done"] += 1
            echo(
                f"{_name(one)}: {'was made, as the graph shows' if status == 'sending' else 'the graph is so already'}"
            )
            continue
        if status == "sending" and not resend:
            counts["unclear"] += 1
            echo(
                f"{_name(one)}: was sent without an answer and the graph does not show it; look at it, then --resend "
                "sends it again"
            )
            continue
        if check.problem:
            # not logged: the graph may be another by the next run
            counts["refused"] += 1
            echo(f"{_name(one)}: refused: {check.problem}")
            continue
        counts[_send(one, graph, edits, log, check, echo)] += 1
    return counts


def _send(
    one: Submission, graph: Graph, edits: GraphEdits, log: SubmissionLog, check: Check, echo: Callable[[str], None]
) -> str:
    edit_id = one.edit.edit_id
    log.add(edit_id, "sending", request=one.request(), roots=list(check.roots))
    try:
        made: Made = (
            edits.merge(one.sources[0], one.sinks[0])
            if one.edit.operation == "merge"
            else edits.split(one.sources, one.sinks)
        )
    except NotAccepted as error:
        log.add(edit_id, "refused", reason=str(error))
        echo(f"{_name(one)}: refused by the server: {error}")
        return "refused"
    except Busy as error:
        log.add(edit_id, "busy")
        raise ConnectomeBenchError(f"{_name(one)}: {error}; it was not made, so run again later to continue") from None
    except NotAnswered as error:
        raise ConnectomeBenchError(
            f"{_name(one)}: no answer ({error}); run again to see whether it was made, and to continue"
        ) from None
    log.add(edit_id, "made", operation_id=made.operation_id, roots=list(made.roots))
    if not check_roots(one, current_roots(graph, [one])).done:
        # some servers answer 200 to a cut that separates nothing
        echo(f"{_name(one)}: the server made operation {made.operation_id}, which did not do it; look at it")
        return "unclear"
    return "made"


def _name(one: Submission) -> str:
    x, y, z = (round(c) for c in one.edit.location_nm)
    return f"{one.edit.operation} {one.edit.edit_id} at {x}, {y}, {z} nm"
