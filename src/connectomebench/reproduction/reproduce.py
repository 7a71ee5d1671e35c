"""Reproduce published results from a folder of records, and plot the same figures for our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.statistics import RESAMPLES
from connectomebench.reproduction.accuracy_differences import accuracy_differences
from connectomebench.reproduction.calibration_differences import calibration_differences
from connectomebench.reproduction.comparison_page import published_page
from connectomebench.reproduction.network_differences import network_differences
from connectomebench.reproduction.paper_figures import Figure, write_figures
from connectomebench.reproduction.published_names import COLUMNS
from connectomebench.reproduction.published_records import write_records
from connectomebench.reproduction.published_scores import (
    figure_scores,
    own_scores,
    stated_scores,
    sweep_scores,
)
from connectomebench.reproduction.results_folder import Published, read_published
from connectomebench.reproduction.score_table import Score, record_scores
from connectomebench.reproduction.sources import trace_totals
from connectomebench.reproduction.table import benchmark_table, latex

if TYPE_CHECKING:
    import pandas as pd


def report_published(folder: Path, out: Path, *, resamples: int = RESAMPLES) -> Path:
    """Recompute published results and compare them with the stated values.

    Writes ``OUT/results`` (result records), ``OUT/table.tex``, ``OUT/figures/NAME.png``, ``.pdf`` and ``.txt``, and
    ``OUT/index.html``, which holds all of it.

    Parameters
    ----------
    folder
        Folder of published records, as their authors gave them out; nothing in it is changed.
    out
        Folder to write to. Records of an earlier call stay where this one writes none.
    resamples
        Of the bootstrap over groups.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ConnectomeBenchError
        If the folder is missing or holds nothing that can be read, or ``out`` lies in it or cannot be written.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ConnectomeBenchError(f"{out} lies in the folder that is read; choose another --out")
    published = read_published(folder)
    own = _own_scores(published, out / "results", resamples)
    stated, swept = stated_scores(published), sweep_scores(published)
    differences = [
        *accuracy_differences(published),
        *network_differences(published),
        *calibration_differences(published),
    ]
    table = benchmark_table(published, stated, own, swept, differences)
    write_text(out / "table.tex", latex(table, resamples))
    scores = figure_scores(published, own)
    figures = write_figures(scores, COLUMNS, out / "figures")
    origin = trace_totals(published)
    shown = [*differences, origin] if origin else differences
    path = out / "index.html"
    write_text(path, published_page(published, table, figures, scores, shown, resamples))
    return path


def report_figures(
    frame: pd.DataFrame,
    out: Path,
    *,
    totals: Sequence[Score] = (),
    train_samples: Mapping[tuple[str, str], int] | None = None,
    partition: str = "test",
    remark: str = "",
    resamples: int = RESAMPLES,
) -> list[Figure]:
    """Plot the same figures from our own result records.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.results.read_results`.
    out
        Folder for ``NAME.png``, ``.pdf`` and ``.txt``.
    totals
        Scores without single answers that are drawn beside them, for example
        :func:`.published_scores.stated_scores`.
    train_samples
        (method, task) -> samples trained on; the method is the model, or ``MODEL@CONDITION``. Result records do not
        hold this number, and scores without one are not in the figures of training samples.
    partition
        Records of other partitions are left out.
    remark
        Shown above every figure and its caption. Result records do not state if samples are simulated; do so here.
    resamples
        Of the bootstrap over groups.

    Raises
    ------
    ConnectomeBenchError
        If there is no score to draw.
    """
    rows = frame.loc[frame["partition"] == partition]
    scores = [*record_scores(rows, train_samples=train_samples, resamples=resamples), *totals]
    tasks = [
        task
        for task in dict.fromkeys((*COLUMNS, *sorted({s.task for s in scores})))
        if any(s.task == task for s in scores)
    ]
    if not tasks:
        raise ConnectomeBenchError(
            f"the records give no score of the partition {partition!r} to draw; they need both answers, yes and no"
        )
    return write_figures(scores, tasks, out, remark)


def _own_scores(published: Published, folder: Path, resamples: int) -> list[Score]:
    if not published.runs:
        return []
    return own_scores(published, read_results(write_records(published.runs, folder)), resamples=resamples)
