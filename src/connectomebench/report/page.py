"""Self-contained report page of datasets and model results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.core.species import get_species
from connectomebench.core.task_explanations import (
    COMPARED_MODELS,
    MODEL_NAMES,
    ORIGIN_NAMES,
    VIEW_NAMES,
    explain,
)
from connectomebench.core.tasks import Scoring, Task, get_task
from connectomebench.evaluation.calibration import bin_rows
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.statistics import RESAMPLES
from connectomebench.evaluation.summary import METRIC_TITLES, main_metric
from connectomebench.report.attribution import read_looks
from connectomebench.report.figures import interval_plot, reliability_diagram
from connectomebench.report.look_alikes import show_closest
from connectomebench.report.measures import TaskMeasures, measure_task
from connectomebench.report.provenance import Provenance, read_provenance
from connectomebench.report.samples import DatasetSummary, summarise_dataset

PARTITION = "test"
_MARKS = ("probe", "trivial", "grey")
"""Kinds of marks in figures: of the model that a report is about, and of what it must beat."""
_SHOWN: Mapping[Scoring, tuple[tuple[str, str], ...]] = {
    "exact": (("balanced_accuracy", "Balanced accuracy"), ("ece", "Calibration error (ECE)")),
    "places": (("place_score", "Place score"), ("hit_rate", "Answers with full credit")),
    "masks": (("miou", "Mean IoU of both parts"), ("iou", "IoU of the part taken away")),
}
"""Scores in the table of a task, by how it is scored: name and title; the first is the main one."""


@dataclass(frozen=True)
class Glance:
    """The table of main results of all tasks that are scored alike."""

    scoring: Scoring
    metric: str
    title: str
    models: tuple[str, ...]
    tasks: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ResultLine:
    """A sentence in a box; `kind` is good, warn, bad or empty (plain)."""

    kind: str
    title: str
    text: str


def write_report(
    out: Path, datasets: Mapping[str, Path], species: str, results: Path | str | Sequence[Path | str]
) -> Path:
    """Write ``OUT/report/index.html``.

    Parameters
    ----------
    out
        Folder of the run; what models look at is read from its ``attribution``, where there is any.
    datasets
        Task -> dataset folder (with ``manifest.json`` and ``SPECIES/*.parquet``), in the order of the page.
    species
        Species config.
    results
        Files or folders of result records on the test partitions, of the models in
        :data:`connectomebench.core.task_explanations.COMPARED_MODELS`.

    Returns
    -------
    Path
        The page. The same input gives the same bytes.

    Raises
    ------
    ConnectomeBenchError
        If a dataset, its manifest or the results of a model are missing, or the results belong to another dataset.
    """
    frame = read_results(results)
    looks = out / "attribution"
    tasks = [_task(name, folder, species, frame, looks) for name, folder in datasets.items()]
    if not tasks:
        raise ConnectomeBenchError("no dataset to report; build at least one task first")
    page = (
        _environment()
        .get_template("report.html")
        .render(
            css=Markup(files("connectomebench.report").joinpath("templates/report.css").read_text(encoding="utf-8")),
            species=get_species(species),
            species_name=species,
            tasks=tasks,
            reality_lines=_reality([t["provenance"] for t in tasks]),
            any_em=any(t["provenance"].shows_em for t in tasks),
            glances=_glances(tasks),
            scorings={t["scoring"] for t in tasks},
            model_names=MODEL_NAMES,
            view_names=VIEW_NAMES,
            origin_names=ORIGIN_NAMES,
            resamples=RESAMPLES,
            credits=list({(p.source, p.citation): p for p in (t["provenance"] for t in tasks)}.values()),
            versions=_versions(tasks),
        )
    )
    path = out / "report" / "index.html"
    write_text(path, page)
    return path


def _task(name: str, folder: Path, species: str, frame: Any, looks: Path) -> dict[str, Any]:
    """Collect the template data of one task."""
    task = get_task(name)
    rows = frame[(frame["task"] == name) & (frame["species"] == species) & (frame["partition"] == PARTITION)]
    if rows.empty:
        raise ConnectomeBenchError(
            f"no results on the {PARTITION} partition of {name}/{species}; run the evaluation first"
        )
    main, *baselines = COMPARED_MODELS[task.scoring]
    measures = measure_task(rows, main, baselines)
    provenance = read_provenance(folder, name, species)
    if measures.fingerprint != provenance.fingerprint:
        raise ConnectomeBenchError(f"results of {name} belong to another version of the dataset; evaluate again")
    dataset = summarise_dataset(folder, name, species)
    metric, metric_title = _SHOWN[task.scoring][0]
    values = [
        (MODEL_NAMES[m.model][0], mark, m.estimates[metric]) for m, mark in zip(measures.models, _MARKS, strict=True)
    ]
    bins = [] if measures.bins is None else bin_rows(measures.bins)
    chance = _chance(task, dataset)
    spoken = "; ".join(
        f"{title} {_number(e.value)}, {_number(e.lower)} to {_number(e.upper)}" for title, _, e in values
    )
    return {
        "name": name,
        "title": task.title,
        "scoring": task.scoring,
        "yes_no": task.answer_kind == "yes_no",
        "shown": _SHOWN[task.scoring],
        "chance": chance,
        "explanation": explain(name),
        "provenance": provenance,
        "look_alike": show_closest(folder / species, provenance.look_alikes),
        "dataset": dataset,
        "measures": measures,
        "interval_plot": interval_plot(
            values, f"{name}-main", f"{metric_title} with 95% intervals: {spoken}", METRIC_TITLES[metric], chance
        ),
        "reliability": None
        if measures.bins is None
        else reliability_diagram(
            measures.bins,
            f"{name}-reliability",
            f"Reliability of the probe: {measures.n} samples in {len(bins)} bins; the numbers are in a table below",
            "“yes”" if task.answer_kind == "yes_no" else "the answer given",
        ),
        "bin_rows": bins,
        "looks": read_looks(looks, name, species),
        "verdict": _verdict(measures, task),
        "verdict_short": _verdict_short(measures, task),
        "origin_text": _origins(dataset, provenance),
    }


def _glances(tasks: Sequence[dict[str, Any]]) -> list[Glance]:
    """Gather the tasks that are scored alike, in the order of the page."""
    found = []
    for scoring in dict.fromkeys(t["scoring"] for t in tasks):
        own = tuple(t for t in tasks if t["scoring"] == scoring)
        name, title = _SHOWN[scoring][0]
        found.append(Glance(scoring, name, title, COMPARED_MODELS[scoring], own))
    return found


def _chance(task: Task, dataset: DatasetSummary) -> float | None:
    """Return the balanced accuracy of guessing: one over the answers that occur; None for other scores."""
    if main_metric(task.name) != "balanced_accuracy":
        return None
    [test] = [count for count in dataset.counts if count.partition == PARTITION]
    return 1 / max(1, sum(n > 0 for n in test.by_answer.values()))


def _verdict(measures: TaskMeasures, task: Task) -> list[ResultLine]:
    """State the result of the comparison with the baselines."""
    main = MODEL_NAMES[measures.models[0].model][0]
    lines = []
    for comparison in measures.against("behind") if task.scoring != "exact" else ():
        lines.append(
            ResultLine(
                "bad",
                f"“{MODEL_NAMES[comparison.second][0]}” wins: the model has learned too little.",
                "A rule without learning does better on the same samples. The model adds nothing to it.",
            )
        )
    if task.scoring == "exact":
        lines += _flaws(measures)
    undecided = [MODEL_NAMES[c.second][0] for c in measures.against("undecided")]
    if undecided:
        names = " and ".join(f"“{n}”" for n in undecided)
        lines.append(
            ResultLine(
                "warn",
                f"{main} and {names}: the difference is not distinguishable at this n.",
                f"With {measures.n} test samples in {measures.n_groups} groups, the interval of the difference holds "
                f"zero. That neither shows that the {_lower(main)} has learned anything "
                f"beyond {'these baselines' if len(undecided) > 1 else 'this baseline'}, nor that it has not.",
            )
        )
    if not lines:
        lines.append(
            ResultLine(
                "good",
                f"The {_lower(main)} beats both baselines.",
                "Both 95% intervals of the difference lie above zero.",
            )
        )
    if measures.few_groups:
        lines.append(
            ResultLine(
                "warn",
                f"Only {measures.n_groups} independent group{'' if measures.n_groups == 1 else 's'} in test.",
                "Intervals rest on so few groups that they are too narrow; take them as a rough guide.",
            )
        )
    return lines


def _lower(name: str) -> str:
    """Begin a name with a small letter, unless it is an abbreviation."""
    return name if name[1:2] in ("-", "") or name.isupper() else name.lower()


def _flaws(measures: TaskMeasures) -> list[ResultLine]:
    """Name the baselines that cannot see what matters and yet win."""
    lines = []
    for comparison in measures.against("behind"):
        lines.append(
            ResultLine(
                "bad",
                f"“{MODEL_NAMES[comparison.second][0]}” wins: construction flaw.",
                "This baseline cannot see what matters, yet it beats the probe on the same samples. Labels can be read "
                "off something else than shape; the sampling has to be mended before any result on this task counts.",
            )
        )
    return lines


def _verdict_short(measures: TaskMeasures, task: Task) -> str:
    if measures.against("behind"):
        return f"No: a baseline wins{' (construction flaw)' if task.scoring == 'exact' else ''}"
    if measures.against("undecided"):
        return "Not distinguishable at this n"
    return "Yes, by few groups" if measures.few_groups else "Yes"


def _reality(provenances: Sequence[Provenance]) -> list[ResultLine]:
    """State which errors and images are real or simulated."""
    errors = {p.simulated_errors for p in provenances}
    slices = {p.simulated_em for p in provenances if p.shows_em}
    lines = []
    if errors == {True}:
        lines.append(
            ResultLine(
                "warn",
                "The errors on this page are simulated.",
                "The neurons are real, but a program cut and fused them to imitate the mistakes of a segmentation. "
                "Numbers do not carry over to real errors.",
            )
        )
    elif errors == {False}:
        lines.append(
            ResultLine(
                "",
                "The errors on this page are real.",
                "They are mistakes of an automatic segmentation that people corrected.",
            )
        )
    else:
        lines.append(
            ResultLine("warn", "Some of the errors on this page are simulated.", "Each task says so below its title.")
        )
    if slices == {True}:
        lines.append(
            ResultLine(
                "warn",
                "The image data on this page are simulated.",
                "The slices are drawn from the shapes to look like electron microscopy; no microscope took them.",
            )
        )
    elif slices == {False}:
        lines.append(ResultLine("", "The image data are real", "electron microscopy."))
    elif slices:
        lines.append(
            ResultLine(
                "warn", "Some of the image data on this page are simulated.", "Each task says so below its title."
            )
        )
    return lines


def _origins(dataset: DatasetSummary, provenance: Provenance) -> str:
    parts = [f"{count} {ORIGIN_NAMES.get(origin, origin)}" for origin, count in dataset.origins.items()]
    return f"{', '.join(parts)} (source {provenance.source})"


def _versions(tasks: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the code versions of page, datasets and results, without duplicates."""
    pairs = [("connectomebench", version("connectomebench"))]
    for task in tasks:
        pairs += task["provenance"].versions
        pairs.append(("evaluation code", task["measures"].code_version))
    return list(dict.fromkeys(pairs))


def _number(value: float | None, pattern: str = "%.2f") -> str:
    return "n/a" if value is None or not math.isfinite(value) else pattern % value


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("connectomebench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["finite"] = math.isfinite
    return environment
