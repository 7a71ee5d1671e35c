"""Reproduce published results from a folder of records, and plot the same figures for our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.evaluation.results import DEFAULT, label, read_results
from connectomebench.evaluation.statistics import RESAMPLES
from connectomebench.evaluation.sweep import sweep_run
from connectomebench.reproduction.accuracy_differences import accuracy_differences
from connectomebench.reproduction.calibration_differences import calibration_differences
from connectomebench.reproduction.comparison_page import published_page
from connectomebench.reproduction.methods import ours
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
from connectomebench.reproduction.score_table import Score, record_scores, swept_scores
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
    published: Path | None = None,
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
        From :func:`connectomebench.evaluation.results.read_results`. Runs of a sweep
        (:mod:`connectomebench.evaluation.sweep`) are drawn as the mean over seeds for each number of training samples.
    out
        Folder for ``NAME.png``, ``.pdf`` and ``.txt``.
    published
        Folder of published records, whose scores are drawn beside ours; ours are then named so.
    totals
        Scores without single answers that are drawn beside them, for example
        :func:`.published_scores.stated_scores`.
    train_samples
        (method, task) -> samples trained on; the method is the model, or ``MODEL@CONDITION``. Only records of sweeps
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
        If there is no score to draw, or ``published`` holds nothing that can be read.
    """
    rows = frame.loc[frame["partition"] == partition]
    swept = rows["condition"].map(sweep_run).notna()
    naming = ours if published else label
    known = {(naming(method, DEFAULT), task): count for (method, task), count in (train_samples or {}).items()}
    scores = [
        *record_scores(rows[~swept], naming, known, resamples=resamples),
        *swept_scores(rows[swept], naming),
        *totals,
    ]
    if published:
        scores += _published_scores(published, resamples)
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


def _published_scores(folder: Path, resamples: int) -> list[Score]:
    """Return what the published figures show, computed again from the answers where there are any."""
    published = read_published(folder)
    with TemporaryDirectory() as scratch:
        return figure_scores(published, _own_scores(published, Path(scratch), resamples))


def _own_scores(published: Published, folder: Path, resamples: int) -> list[Score]:
    if not published.runs:
        return []
    return own_scores(published, read_results(write_records(published.runs, folder)), resamples=resamples)
