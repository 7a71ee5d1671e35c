"""`edits.jsonl`: applied edits in the terms of CAVE, on disk as soon as they are made, to replay a state from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Point
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph

FILE_NAME = "edits.jsonl"
_IDS = ("source_supervoxels", "sink_supervoxels", "before", "after")


@dataclass(frozen=True)
class Edit:
    """A merge or split, applied or proposed.

    Attributes
    ----------
    edit_id
        Hash of what it does; 16 hex digits.
    operation
        ``merge`` unites the objects of source and sink, ``split`` separates them.
    round
        Round of the run that proposed it, from 1; of what a person accepted, the round that applied it.
    location_nm
        Where to look (x, y, z), nm.
    source_points_nm, sink_points_nm
        Points inside the two sides (x, y, z), nm.
    source_supervoxels, sink_supervoxels
        Supervoxels of these points; ids as in ``mapping.parquet``.
    before, after
        Ids of the objects before and after it. ``after`` is empty for a proposal.
    confidence
        Probability that it is right: identification and correction together.
    identification, correction
        P(yes) of either model; None where it was not asked.
    value
        Expected gain of a decision on it, bits of variation of information: the chance that it is right times the
        change that a right edit of objects of these sizes makes.
    candidate
        Kind of candidate that led to it: end, contact, branch, waist or parallel.
    evidence
        Pictures that the models saw, paths relative to the output folder.
    neuroglancer
        Link to the place.
    decided_by
        Name of the person who accepted it; empty where models decided, or nobody has.
    chance
        Probability that ``value`` counts with; see
        :meth:`connectomebench.proofreading.calibration.Calibration.chance`. None: the confidence, as in logs of earlier
        versions.
    """

    edit_id: str
    operation: Literal["merge", "split"]
    round: int
    location_nm: Point
    source_points_nm: tuple[Point, ...]
    sink_points_nm: tuple[Point, ...]
    source_supervoxels: tuple[int, ...]
    sink_supervoxels: tuple[int, ...]
    before: tuple[int, ...]
    confidence: float
    identification: float | None
    correction: float | None
    value: float
    candidate: str
    after: tuple[int, ...] = ()
    evidence: tuple[str, ...] = ()
    neuroglancer: str = field(default="", compare=False)
    decided_by: str = ""
    chance: float | None = None

    def as_line(self) -> str:
        """Return the edit as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def parse_edit(line: str | bytes, where: str) -> Edit:
    """Read an edit from a line of JSON.

    Raises
    ------
    ConnectomeBenchError
        If it is not one; ``where`` names it in the message.
    """
    try:
        raw = {"decided_by": "", "chance": None, **json.loads(line)}  # logs of earlier versions do not have them
        values = {f.name: _tuples(raw[f.name]) for f in fields(Edit)}
        inexact = next((n for n in _IDS if not all(type(one) is int for one in values[n])), None)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConnectomeBenchError(f"{where} is no edit; remove the output folder to start again") from None
    if inexact is not None:
        raise ConnectomeBenchError(
            f"{where}: {inexact} are no whole numbers; a floating-point number rounds ids above 2^53: write the edits "
            "again"
        )
    return Edit(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


class EditLog:
    """Applied edits; created by :func:`open_edit_log`.

    Attributes
    ----------
    edits
        All of them, in order, including those of earlier runs.
    """

    def __init__(self, stream: BinaryIO, edits: list[Edit]) -> None:
        self._stream = stream
        self.edits = edits

    def add(self, edit: Edit) -> None:
        """Append an edit; it is on disk when this returns."""
        self._stream.write(edit.as_line().encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.edits.append(edit)


@contextmanager
def open_edit_log(folder: Path) -> Iterator[EditLog]:
    """Open ``FOLDER/edits.jsonl``; a last line that a crash cut short is dropped.

    Raises
    ------
    ConnectomeBenchError
        If another run has it open, or a line is damaged.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    lock = FileLock(folder / f".{FILE_NAME}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConnectomeBenchError(f"another run is writing {path}; wait for it or choose another --out") from None
    try:
        with path.open("a+b") as stream:
            stream.seek(0)
            text = stream.read()
            whole = text[: text.rfind(b"\n") + 1]
            stream.truncate(len(whole))
            stream.seek(0, os.SEEK_END)
            edits = [parse_edit(line, f"{path}, line {n}") for n, line in enumerate(whole.splitlines(), 1)]
            yield EditLog(stream, edits)
    finally:
        lock.release()


def read_edits(path: Path) -> list[Edit]:
    """Read the edits of a log that is not open."""
    return [parse_edit(line, f"{path}, line {n}") for n, line in enumerate(path.read_bytes().splitlines(), 1)]


def apply_edit(graph: SegmentationGraph, edit: Edit) -> tuple[int, ...]:
    """Apply an edit and return the ids of the objects it makes.

    Raises
    ------
    EditRefused
        As :meth:`SegmentationGraph.merge` and :meth:`SegmentationGraph.split`.
    """
    a, b = ([one - 1 for one in side] for side in (edit.source_supervoxels, edit.sink_supervoxels))
    if edit.operation == "merge":
        return (graph.merge(a[0], b[0], edit.confidence),)
    return graph.split(a, b, edit.confidence)


def replay(graph: SegmentationGraph, edits: Sequence[Edit]) -> None:
    """Apply logged edits to the graph of the segmentation they were made on.

    Raises
    ------
    ConnectomeBenchError
        If one does not give the objects that the log says.
    """
    for edit in edits:
        try:
            made = apply_edit(graph, edit)
        except (EditRefused, IndexError) as error:
            raise ConnectomeBenchError(
                f"edit {edit.edit_id} cannot be replayed ({error}); choose another --out for other data"
            ) from None
        if made != edit.after:
            raise ConnectomeBenchError(
                f"edit {edit.edit_id} made the objects {list(edit.after)} and now {list(made)}; the data have changed, "
                "so choose another --out"
            )
