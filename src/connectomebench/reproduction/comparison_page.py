"""Self-contained page of published results: table, figures, differences and source files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import median
from typing import Any

from markupsafe import Markup

from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.reproduction.differences import PublishedDifference
from connectomebench.reproduction.drawing import one_each
from connectomebench.reproduction.methods import in_order, style
from connectomebench.reproduction.paper_figures import Figure, compared
from connectomebench.reproduction.published_names import COLUMNS
from connectomebench.reproduction.published_records import Run
from connectomebench.reproduction.results_folder import Published
from connectomebench.reproduction.score_table import Score
from connectomebench.reproduction.table import Table, caption


@dataclass(frozen=True)
class _RunLine:
    model: str
    task: str
    species: str
    partition: str
    conditions: tuple[str, ...]
    n: int
    groups: int
    seconds: float | None


def published_page(
    published: Published,
    table: Table,
    figures: Sequence[Figure],
    scores: Sequence[Score],
    differences: Sequence[PublishedDifference],
    resamples: int,
) -> str:
    """Return the page as reproducible HTML without external resources.

    Parameters
    ----------
    published
        What was read.
    table, figures, differences
        What the page shows.
    scores
        What the figures were drawn from.
    resamples
        Of the bootstrap behind the intervals.
    """
    return (
        _environment()
        .get_template("published.html")
        .render(
            css=Markup(_style("connectomebench.report", "report.css") + _style(__package__ or "", "published.css")),
            version=__version__,
            table=table,
            table_caption=caption(resamples),
            columns=[get_task(task).title for task in COLUMNS],
            titles={task: get_task(task).title for task in COLUMNS},
            figures=figures,
            shown={figure.plan.name: _figure_scores(figure, scores) for figure in figures},
            differences=differences,
            runs=[_line(run) for run in published.runs],
            samples=sum(len(run.samples) for run in published.runs),
            totals=len(published.cells) + len(published.sweeps) + len(published.checkpoints),
            programs=published.programs,
            files=published.files,
            used=sum(file.used for file in published.files),
            left_out=[file for file in published.files if "left out" in file.state],
        )
    )


def _figure_scores(figure: Figure, scores: Sequence[Score]) -> list[Score]:
    """Return the scores of a figure in the order of its panels and legend."""
    of = [s for s in scores if s.metric == figure.plan.metric and s.task in COLUMNS]
    of = one_each(compared(of)) if figure.plan.by_species else [s for s in of if s.train_samples is not None]
    order, species = in_order({s.method for s in of}), list(SPECIES)
    return sorted(
        of, key=lambda s: (COLUMNS.index(s.task), species.index(s.species), order.index(s.method), s.train_samples or 0)
    )


def _line(run: Run) -> _RunLine:
    seconds = [s.latency_s for s in run.samples if s.latency_s is not None]
    return _RunLine(
        run.model,
        run.task,
        run.species,
        run.partition,
        run.conditions,
        len(run.samples),
        len({s.group for s in run.samples}),
        median(seconds) if seconds else None,
    )


def _style(package: str, name: str) -> str:
    return files(package).joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__ or ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["title_of"] = lambda method: style(method).title
    return environment
