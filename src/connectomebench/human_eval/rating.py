"""Let a person answer the rows of a partition, and keep the answers as result records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.console_summary import simulated_note
from connectomebench.evaluation.results import (
    DEFAULT,
    Summary,
    read_results,
    result_path,
    summarise,
    write_results,
)
from connectomebench.evaluation.resume_log import ResumeLog, open_journal
from connectomebench.evaluation.subsample import balanced_sample, sample_name
from connectomebench.human_eval.answers import PROTOCOL, answer_steps, person, rating_records
from connectomebench.human_eval.app import AppPage, AppTexts, show
from connectomebench.human_eval.session import Item, RatingSession

SUFFIX = ".ratings.jsonl"
_RATER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_COLUMNS = ("sample_id", "task", "species", "question", "answer", "group")


@dataclass(frozen=True)
class Rater:
    """Who rates what.

    Attributes
    ----------
    name
        Of the person, in the records: letters, digits, ``.``, ``_`` and ``-``.
    n
        How many rows; None takes the whole partition.
    seed
        Of the draw. People who rate with the same seed rate the same rows.
    """

    name: str
    n: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not _RATER.fullmatch(self.name):
            raise ConnectomeBenchError(
                f"the rater's name is {self.name!r:.60}; use up to 40 letters, digits, '.', '_' and '-'"
            )

    def draw(self, answers: Sequence[str]) -> list[int]:
        """Draw the rows to rate: those of ``connectomebench evaluate --sample`` with the same number and seed.

        Parameters
        ----------
        answers
            True answers, by which the draw is balanced.

        Returns
        -------
        list[int]
            Numbers of rows in the order in which they are shown; all of them where there are fewer than ``n``.
        """
        n = len(answers) if self.n is None else min(self.n, len(answers))
        return balanced_sample(answers, n, self.seed)


def rate(rows: Rows, rater: Rater, out: Path, page: AppPage | None = None, *, export: bool = False) -> Path:
    """Let a person answer rows in the browser, and write the result records.

    Returns once all rows are rated. Each answer is on the disk before the next row is shown; the same call goes on
    where the last one was left, however that ended.

    Parameters
    ----------
    rows
        The partition.
    rater
        Who rates how many of them.
    out
        Folder of result records. The records are of the model ``person-NAME``; their condition is `DEFAULT` where the
        whole partition was rated, else ``sampleN-seedS``, and of an unfinished sample ``sampleN-seedS-firstK``.
    page
        Where the page is shown; None opens it in the browser on a free port.
    export
        Write the records of what is rated so far, and show nothing.

    Returns
    -------
    Path
        File of the records.

    Raises
    ------
    ConnectomeBenchError
        If the task asks for a place, the ratings there are of another dataset or draw, there is nothing to export, or
        another process rates there.
    """
    task = get_task(rows.data.task)
    steps = answer_steps(task)
    table: dict[str, Any] = {name: list(rows.dataset[name]) for name in _COLUMNS}
    drawn = rater.draw(table["answer"])
    condition = DEFAULT if len(drawn) == len(rows.dataset) else sample_name(len(drawn), rater.seed)
    path = _path(out, rows, rater, condition)
    identity = {"condition": condition, "rows": len(drawn)}
    with open_ratings(path.with_suffix(SUFFIX), rows, rater, identity, must_exist=export) as journal:
        items = [Item(table["sample_id"][row], row, table["question"][row]) for row in drawn]
        sitting = RatingSession(items, steps, journal)
        if not export and sitting.done < len(items):
            show(sitting, rows.dataset, _words(rows, len(items)), page or AppPage())
        ratings = sitting.ratings
    if not ratings:
        raise ConnectomeBenchError(f"{rater.name} has rated nothing there; leave --export out to begin")
    if len(ratings) < len(drawn):
        condition = f"{sample_name(len(drawn), rater.seed)}-first{len(ratings)}"
    constant = {
        "model": person(rater.name),
        "partition": rows.data.partition,
        "condition": condition,
        "dataset_fingerprint": rows.data.fingerprint,
    }
    written = write_results(_path(out, rows, rater, condition), rating_records(table, ratings, task, constant))
    _remove_older(written, rows.data.partition, sample_name(len(drawn), rater.seed))
    return written


def summary_line(path: Path) -> str:
    """Tell in one line how a person did: balanced accuracy with its interval, and the median time.

    Parameters
    ----------
    path
        Records of one person, from `rate`.
    """
    frame = read_results(path)
    found: Summary = summarise(frame)[0]
    estimate = found.estimates["balanced_accuracy"]
    where = f"{found.model} on {found.task}/{found.species}/{found.partition}"
    asked = "" if found.condition == DEFAULT else f" ({found.condition})"
    seconds = float(frame["latency_s"].median())
    said = (
        "balanced accuracy is undefined (answers of one class only)"
        if estimate.value != estimate.value
        else f"balanced accuracy {estimate.value:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"
    )
    return f"{where}{asked}: {said}, n={found.n}, {found.n_groups} groups, median {seconds:.1f} s"


@contextmanager
def open_ratings(
    path: Path, rows: Rows, rater: Rater, identity: dict[str, Any], *, must_exist: bool = False
) -> Iterator[ResumeLog]:
    """Open the journal of one person's ratings of one dataset.

    Parameters
    ----------
    path
        The journal.
    rows, rater
        What is rated, by whom.
    identity
        What else must be the same for the ratings there to be gone on with.
    must_exist
        Raise where nothing was rated yet.

    Raises
    ------
    ConnectomeBenchError
        As :func:`connectomebench.evaluation.resume_log.open_journal`.
    """
    if must_exist and not path.exists():
        raise ConnectomeBenchError(f"{rater.name} has rated nothing there; leave --export out to begin")
    same = {
        "rater": rater.name,
        "protocol": PROTOCOL,
        "seed": rater.seed,
        "task": rows.data.task,
        "species": rows.data.species,
        "partition": rows.data.partition,
        "dataset_fingerprint": rows.data.fingerprint,
    }
    with open_journal(path, same | identity) as journal:
        yield journal


def _path(out: Path, rows: Rows, rater: Rater, condition: str) -> Path:
    return result_path(out, person(rater.name), rows.data.task, rows.data.species, rows.data.partition, condition)


def _remove_older(written: Path, partition: str, sample: str) -> None:
    """Remove what was exported of the same draw when less of it was rated."""
    for older in written.parent.glob(f"{partition}@{sample}-first*.parquet"):
        if older != written:
            older.unlink()


def _words(rows: Rows, total: int) -> AppTexts:
    task = get_task(rows.data.task)
    return AppTexts(
        f"{task.title}, {rows.data.species}",
        (
            f"{total} questions, one after the other. Answer each from the pictures below it, and then say how sure "
            "you are.",
            "Answer with the buttons or with the keys written on them. Click a picture to enlarge it. The first answer "
            "can be changed until you have said how sure you are; Back takes back the last question.",
            "The clock runs from the pictures being on the screen to your answer. Pause, and another tab or window, "
            "stop it. Nobody tells you whether you were right, as nobody tells a model.",
            *simulated_note(rows.data),
        ),
    )
