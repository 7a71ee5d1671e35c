"""What scores of parts of the volume need, beside `mapping.parquet`: overlaps with the truth, and states of scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.proofreading.graph_files import read_columns
from connectomebench.proofreading.truth_table import TruthTable

OVERLAPS, STATES = "overlaps.parquet", "states.parquet"
FORMAT_VERSION = b"1"
_VERSION_KEY = b"format_version"


@dataclass(frozen=True)
class ChangedState:
    """A state of a segmentation, as what differs from the one before any edit.

    Attributes
    ----------
    name
        ``oracle``, or the order in which proposals were decided.
    decisions
        After how many edits (of the oracle) or decisions.
    rows, objects
        int64 and uint64, shape (changed,): rows of supervoxels, and the object of each.
    """

    name: str
    decisions: int
    rows: NDArray[np.int64]
    objects: NDArray[np.uint64]

    def on(self, start: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the object of each supervoxel, from those before any edit."""
        made = start.copy()
        made[self.rows] = self.objects
        return made


def changed_state(name: str, decisions: int, start: NDArray[np.uint64], now: NDArray[np.uint64]) -> ChangedState:
    """Make a state from the object of each supervoxel before any edit and now."""
    rows = np.flatnonzero(now != start)
    return ChangedState(name, decisions, rows, now[rows])


def write_overlaps(table: TruthTable, out: Path) -> Path:
    """Write ``OUT/overlaps.parquet``: ``voxels`` that a ``supervoxel`` shares with a ``body`` in a ``part``."""
    entries, counts = table.entries
    order = np.lexsort((entries[:, 2], entries[:, 1], entries[:, 0]))
    rows, columns, parts = entries[order].T
    values = {
        "supervoxel": rows.astype(np.uint64) + np.uint64(1),
        "body": table.bodies[columns] if len(columns) else np.zeros(0, np.uint64),
        "part": parts.astype(np.uint8),
        "voxels": counts[order].astype(np.uint64),
    }
    return _write(out / OVERLAPS, values)


def write_states(states: Sequence[ChangedState], out: Path) -> Path:
    """Write ``OUT/states.parquet``: ``state``, ``decisions``, and ``supervoxel`` and ``object`` where it changed."""
    lengths = [len(state.rows) for state in states]
    values = {
        "state": np.repeat(np.array([state.name for state in states], object), lengths),
        "decisions": np.repeat(np.array([state.decisions for state in states], np.int64), lengths),
        "supervoxel": np.concatenate([state.rows for state in states]).astype(np.uint64) + np.uint64(1),
        "object": np.concatenate([state.objects for state in states]),
    }
    return _write(out / STATES, values)


def check_written(out: Path) -> None:
    """Refuse a run that was scored before these files were written.

    Raises
    ------
    ConnectomeBenchError
        If one of them is missing.
    """
    for name in (OVERLAPS, STATES):
        if not (out / name).exists():
            raise ConnectomeBenchError(
                f"{out} has no {name}, which older versions did not write; run its connectomebench proofread again: "
                "no question is asked twice"
            )


def read_overlaps(out: Path) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Read ``OUT/overlaps.parquet``.

    Returns
    -------
    entries
        int64, shape (m, 3): row of a supervoxel, column of a body, number of the part.
    bodies
        uint64, ascending: the body of each column.
    counts
        int64, shape (m,): shared voxels.

    Raises
    ------
    ConnectomeBenchError
        If the file is missing, damaged, or of another version.
    """
    found = _read(out, OVERLAPS, ("supervoxel", "body", "part", "voxels"))
    bodies, columns = np.unique(found["body"].astype(np.uint64), return_inverse=True)
    entries = np.stack([found["supervoxel"].astype(np.int64) - 1, columns.ravel(), found["part"].astype(np.int64)], 1)
    return entries, bodies, found["voxels"].astype(np.int64)


def read_states(out: Path) -> dict[tuple[str, int], ChangedState]:
    """Read ``OUT/states.parquet`` by name and number of decisions; a state in which nothing has changed is not in it.

    Raises
    ------
    ConnectomeBenchError
        If the file is missing, damaged, or of another version.
    """
    found = _read(out, STATES, ("state", "decisions", "supervoxel", "object"))
    rows, objects = found["supervoxel"].astype(np.int64) - 1, found["object"].astype(np.uint64)
    members: dict[tuple[str, int], list[int]] = {}
    for i, (name, decisions) in enumerate(zip(found["state"].tolist(), found["decisions"].tolist(), strict=True)):
        members.setdefault((str(name), int(decisions)), []).append(i)
    return {key: ChangedState(*key, rows[own], objects[own]) for key, own in members.items()}


def _write(path: Path, values: dict[str, NDArray[Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    strings = {"state": pa.string()}
    columns = {name: pa.array(value, strings.get(name)) for name, value in values.items()}
    table = pa.table(columns).replace_schema_metadata({_VERSION_KEY: FORMAT_VERSION})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def _read(out: Path, name: str, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = read_columns(out, name)
    try:
        version = (pq.read_schema(out / name).metadata or {}).get(_VERSION_KEY)
    except (OSError, pa.ArrowException):
        version = None
    if version != FORMAT_VERSION or not set(columns) <= set(found):
        raise ConnectomeBenchError(f"{out / name} is damaged or of another version; proofread again")
    return found
