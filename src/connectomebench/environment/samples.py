"""Rows of a dataset that one can look around in: what is asked, what is right, what lies around."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.neighbourhoods import Neighbourhood, StoredNeighbourhoods
from connectomebench.dataset.rows import DataRecord

KEPT = 64  # neighbourhoods in memory

_COLUMNS = ("sample_id", "answer", "question", "group", "views")


@dataclass(frozen=True)
class Sample:
    """One row, without its pictures.

    Attributes
    ----------
    sample_id, question, group
        Of the row.
    answer
        The right one; no policy may read it.
    labels
        Answers that the row can have.
    task
        Its task.
    shows_em
        Whether its pictures include slices of image data.
    """

    sample_id: str
    question: str
    answer: str
    group: str
    labels: tuple[str, ...]
    task: str
    shows_em: bool


def as_sample(row: Mapping[str, Any], task: Task) -> Sample:
    """Take what the environment needs from a stored row of a task."""
    shown = (row["sample_id"], row["question"], row["answer"], row["group"])
    return Sample(*shown, task.for_views(row["views"]).labels, task.name, task.has_em)


class Samples:
    """Rows of one partition with their neighbourhoods, of which the last few are kept in memory.

    Parameters
    ----------
    data
        Which rows.
    rows
        The rows.
    stored
        Their neighbourhoods.

    Attributes
    ----------
    data
        Which rows.
    task
        Their task.
    labels
        All answers of the task; a row may have fewer.
    rows
        The rows, in stored order.
    """

    def __init__(self, data: DataRecord, rows: Sequence[Sample], stored: StoredNeighbourhoods) -> None:
        self.data = data
        self.task: Task = get_task(data.task)
        self.labels = self.task.labels
        self.rows = tuple(rows)
        self._number = {row.sample_id: i for i, row in enumerate(self.rows)}
        self._stored = stored
        self._kept: OrderedDict[int, Neighbourhood] = OrderedDict()
        # sessions of a server run in threads
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._number

    def number(self, sample_id: str) -> int:
        """Return which row has an id.

        Raises
        ------
        ConnectomeBenchError
            If none has.
        """
        if sample_id not in self._number:
            raise ConnectomeBenchError(f"there is no row {sample_id[:40]!r} in {self.data.task} {self.data.partition}")
        return self._number[sample_id]

    def place(self, number: int) -> Neighbourhood:
        """Return the neighbourhood of a row; see :meth:`StoredNeighbourhoods.get` for errors."""
        with self._lock:
            if number not in self._kept:
                self._kept[number] = self._stored.get(self.rows[number].sample_id)
            self._kept.move_to_end(number)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[number]


def open_samples(folder: Path, species: str, partition: str = "test") -> Samples:
    """Open the rows of a dataset folder that have neighbourhoods.

    Parameters
    ----------
    folder
        ``OUT/TASK``, built with ``connectomebench build --neighbourhoods PARTITION``.
    species, partition
        Which rows.

    Raises
    ------
    ConnectomeBenchError
        If the answers of the task are no set, or no row has a neighbourhood.
    """
    loaded = load_rows(str(folder), species, partition)
    task = get_task(loaded.data.task)
    if not task.labels:
        raise ConnectomeBenchError(
            f"one cannot look around in {task.name}: its answers are places; choose another task"
        )
    stored = StoredNeighbourhoods(folder / species)
    columns: Any = loaded.dataset.select_columns(list(_COLUMNS))
    rows = [as_sample(row, task) for row in columns if row["sample_id"] in stored]
    if not rows:
        raise ConnectomeBenchError(
            f"{folder} has no neighbourhoods of {partition} of {species}; "
            f"write them with `connectomebench build --neighbourhoods {partition}`"
        )
    return Samples(loaded.data, rows, stored)
