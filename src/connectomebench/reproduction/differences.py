"""Differences between published numbers and the records in the same folder.

Every check compares numbers that are both in the folder, so that it is silent where one of them is missing. Programs
are neither run nor read; a way of computing is named only where it gives a stated number exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from connectomebench.core.tasks import get_task
from connectomebench.reproduction.aggregates import Cell
from connectomebench.reproduction.confidences import all_answers
from connectomebench.reproduction.methods import published_method, style
from connectomebench.reproduction.published_names import UNNAMED_SPECIES
from connectomebench.reproduction.published_records import Run
from connectomebench.reproduction.results_folder import Published

SAME = 1e-9
Place = tuple[str, str]
"""Method and task: a cell of the table."""


@dataclass(frozen=True)
class PublishedDifference:
    """One difference with its evidence.

    Attributes
    ----------
    key
        Short name, unique.
    title, text
        What differs, and how the records show it.
    columns, rows
        A table of the numbers.
    places
        Cells of the benchmark table that it bears on.
    """

    key: str
    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    places: frozenset[Place]


def percent(value: float) -> str:
    """Format a share as percent with two decimals, enough to resolve one sample in a few thousand."""
    return f"{100 * value:.2f}%"


def base(file: str) -> str:
    """Return the base name of a file."""
    return PurePosixPath(file).name


def name(run: Run) -> str:
    """Return a display name of a run: method and task."""
    return f"{style(method_of(run)).title}, {get_task(run.task).title.lower()}"


def method_of(run: Run) -> str:
    """Return the method of a run."""
    return published_method(run.model, run.main_condition)


def place_of(run: Run) -> Place:
    """Return the table cell of a run."""
    return method_of(run), run.task


def right_share(run: Run, predictions: Sequence[bool | None]) -> float:
    """Compute the accuracy; None counts as wrong."""
    return sum(p == s.truth for p, s in zip(predictions, run.samples, strict=True)) / len(run.samples)


def matching_run(published: Published, cell: Cell) -> Run | None:
    """Return the run behind a cell of totals: the one whose accuracy equals the stated one exactly.

    That share is of all votes that hold an answer or, in the file of calibration, of those that hold a confidence too.
    Tasks may go by a shorter name.
    """
    wanted = cell.values.get("individual_accuracy", cell.values.get("accuracy"))
    if wanted is None or cell.species != UNNAMED_SPECIES:
        return None
    for run in published.runs:
        if run.task.startswith(cell.task) and run.votes > 1 and any(abs(s - wanted) < SAME for s in _vote_shares(run)):
            return run
    return None


def _vote_shares(run: Run) -> list[float]:
    held = [v == s.truth for s in run.samples for v in s.votes if v is not None]
    confident = all_answers(run).right
    return [sum(held) / max(1, len(held)), float(confident.mean()) if len(confident) else -1.0]
