"""Rate the rows of a partition as a person, and write result records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import nodes_in
from connectomebench.core.tasks import Task, get_task
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
from connectomebench.evaluation.resume_log import ResumeLog, open_resume_log
from connectomebench.evaluation.subsample import balanced_sample, sample_name
from connectomebench.evaluation.summary import METRIC_TITLES, main_metric
from connectomebench.evaluation.true_answers import dataset_answers
from connectomebench.human_eval.answers import PROTOCOL, answer_steps, offered, person, rating_records
from connectomebench.human_eval.app import AppPage, AppTexts, require_page, show
from connectomebench.human_eval.session import Item, RatingSession

SUFFIX = ".ratings.jsonl"
_RATER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_COLUMNS = ("sample_id", "task", "species", "question", "answer", "group", "views")


@dataclass(frozen=True)
class Rater:
    """Rater and number of rows to rate.

    Attributes
    ----------
    name
        Name in the records: letters, digits, ``.``, ``_`` and ``-``.
    max_samples
        Number of rows; None takes the whole partition.
    seed
        Seed of the draw. Raters with the same seed rate the same rows.
    """

    name: str
    max_samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not _RATER.fullmatch(self.name):
            raise ConnectomeBenchError(
                f"the rater's name is {self.name!r:.60}; use up to 40 letters, digits, '.', '_' and '-'"
            )

    def draw(self, answers: Sequence[str]) -> list[int]:
        """Draw the rows to rate, the same as ``connectomebench evaluate --max-samples`` with this number and seed.

        Parameters
        ----------
        answers
            True answers, used to balance the draw.

        Returns
        -------
        list[int]
            Row indices in display order; all rows if there are fewer than ``max_samples``.
        """
        n = len(answers) if self.max_samples is None else min(self.max_samples, len(answers))
        return balanced_sample(answers, n, self.seed)


def rate(rows: Rows, rater: Rater, out: Path, page: AppPage | None = None, *, export: bool = False) -> Path:
    """Rate rows in the browser and write the result records.

    Returns once all rows are rated. Each answer is on disk before the next row is shown; the same call resumes
    an interrupted session.

    Parameters
    ----------
    rows
        The partition.
    rater
        The rater.
    out
        Folder of result records. The model is ``person-NAME``; the condition is `DEFAULT` if the
        whole partition was rated, else ``sampleN-seedS``, and ``sampleN-seedS-firstK`` for an unfinished sample.
    page
        Page options; None opens the browser on a free port.
    export
        Write records of the ratings so far without showing the page.

    Returns
    -------
    Path
        File of the records.

    Raises
    ------
    ConnectomeBenchError
        If existing ratings are of another dataset or draw, there is nothing to export, or
        another process is rating.
    """
    task = get_task(rows.data.task)
    table: dict[str, Any] = {name: list(rows.dataset[name]) for name in _COLUMNS}
    places = task.scoring == "places"
    most_nodes = max((len(nodes_in(question)) for question in table["question"]), default=0) if places else 0
    steps = answer_steps(task, most_nodes, table["views"][0] if table["views"] else ())
    drawn = rater.draw([task.counted_as(answer) for answer in table["answer"]])
    table["answer"] = dataset_answers(rows.dataset)
    condition = DEFAULT if len(drawn) == len(rows.dataset) else sample_name(len(drawn), rater.seed)
    path = _path(out, rows, rater, condition)
    if not export:
        require_page()
    identity = {"condition": condition, "rows": len(drawn)}
    with open_ratings(path.with_suffix(SUFFIX), rows, rater, identity, must_exist=export) as journal:
        items = [_item(task, table, row) for row in drawn]
        session = RatingSession(items, steps, journal)
        if not export and session.done < len(items):
            show(session, rows.dataset, _page_texts(rows, len(items)), page or AppPage())
        ratings = session.ratings
    if not ratings:
        raise ConnectomeBenchError(f"{rater.name} has no ratings there; leave out --export to begin")
    if len(ratings) < len(drawn):
        condition = f"{sample_name(len(drawn), rater.seed)}-first{len(ratings)}"
    constant = {
        "model": person(rater.name),
        "partition": rows.data.partition,
        "condition": condition,
        "dataset_fingerprint": rows.data.fingerprint,
    }
    records = rating_records(table, ratings, task, constant, lambda row: rows.dataset[row]["images"])
    written = write_results(_path(out, rows, rater, condition), records)
    _remove_older(written, rows.data.partition, sample_name(len(drawn), rater.seed))
    return written


def _item(task: Task, table: Mapping[str, Sequence[Any]], row: int) -> Item:
    """Return one row as an item, with the answers that it can have."""
    question = table["question"][row]
    return Item(table["sample_id"][row], row, question, offered=offered(task, question, table["views"][row]))


def summary_line(path: Path) -> str:
    """Return a one-line summary of a person's ratings: the task's main metric with interval, and median time.

    Parameters
    ----------
    path
        Records of one person, from `rate`.
    """
    frame = read_results(path)
    found: Summary = summarise(frame)[0]
    metric = main_metric(found.task)
    estimate = found.estimates[metric]
    where = f"{found.model} on {found.task}/{found.species}/{found.partition}"
    condition_text = "" if found.condition == DEFAULT else f" ({found.condition})"
    seconds = float(frame["latency_s"].median())
    score = (
        "balanced accuracy is undefined (answers of one class only)"
        if estimate.value != estimate.value
        else f"{METRIC_TITLES[metric]} {estimate.value:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"
    )
    return f"{where}{condition_text}: {score}, n={found.n}, {found.n_groups} groups, median {seconds:.1f} s"


@contextmanager
def open_ratings(
    path: Path, rows: Rows, rater: Rater, identity: dict[str, Any], *, must_exist: bool = False
) -> Iterator[ResumeLog]:
    """Open the resume log of a person's ratings of a dataset.

    Parameters
    ----------
    path
        The resume log.
    rows, rater
        The partition and the rater.
    identity
        Further identity that must match to resume existing ratings.
    must_exist
        Raise if nothing was rated yet.

    Raises
    ------
    ConnectomeBenchError
        As :func:`connectomebench.evaluation.resume_log.open_resume_log`.
    """
    if must_exist and not path.exists():
        raise ConnectomeBenchError(f"{rater.name} has no ratings there; leave out --export to begin")
    same = {
        "rater": rater.name,
        "protocol": PROTOCOL,
        "seed": rater.seed,
        "task": rows.data.task,
        "species": rows.data.species,
        "partition": rows.data.partition,
        "dataset_fingerprint": rows.data.fingerprint,
    }
    with open_resume_log(path, same | identity) as journal:
        yield journal


def _path(out: Path, rows: Rows, rater: Rater, condition: str) -> Path:
    return result_path(out, person(rater.name), rows.data.task, rows.data.species, rows.data.partition, condition)


def _remove_older(written: Path, partition: str, sample: str) -> None:
    """Remove earlier, smaller exports of the same draw."""
    for older in written.parent.glob(f"{partition}@{sample}-first*.parquet"):
        if older != written:
            older.unlink()


def _page_texts(rows: Rows, total: int) -> AppTexts:
    task = get_task(rows.data.task)
    how = (
        "Hold the mouse button down and draw a loop round the part, in every view that shows it. Several loops of a "
        "view count together, and only the segment counts."
        if task.scoring == "masks"
        else "Use the buttons or the keys shown on them. Click an image to enlarge it."
    )
    return AppTexts(
        f"{task.title}, {rows.data.species}",
        (
            f"{total} questions. Answer each from the images below it, then state how sure you are.",
            f"{how} You can change the first answer until you state how sure you are; Back undoes the last question.",
            "The clock runs from the display of the images to your answer. Pause, or another tab or window, "
            "stops it. You are not shown whether you were right; neither is a model.",
            *simulated_note(rows.data),
        ),
    )
