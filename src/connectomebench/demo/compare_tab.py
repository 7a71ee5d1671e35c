"""Tab "Compare": models on every species, calibration, accuracy against cost and training samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS
from connectomebench.demo.app_data import SOON, AppData, show_errors
from connectomebench.demo.html import model_name, table
from connectomebench.demo.recorded_answers import RecordedAnswers
from connectomebench.demo.texts import species_title

if TYPE_CHECKING:
    import gradio as gr

    from connectomebench.evaluation.results import Summary
    from connectomebench.evaluation.statistics import Estimate

_BINS = 10
_MOST_DIAGRAMS = 12
_PARTITION = "test"
_NOTE = (
    "Balanced accuracy is the mean over the answers of the share that was answered right; guessing gives 0.5 for yes "
    "and no. Square brackets hold the 95% interval, by bootstrap over groups of samples that are not independent; n is "
    "the number of samples. Intervals that overlap show neither that two models are equal nor that they differ."
)
_SMALL = (
    "The error of calibration (ECE, with 15 bins) is the mean distance between the probabilities that a model states "
    "and how often they come true. It is never below 0, so noise raises it, the more the fewer samples there are. It "
    "is about 0 for a model that tells nothing too: one that says 0.5 of every sample where half are “yes”."
)
_UNMEASURED = Markup('<p class="cb-soft">{}</p>')


def build_compare(content: AppData, blocks: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's components and events; the figures are drawn when it is opened."""
    import gradio as gr

    names = list(dict.fromkeys(task for task, _ in content.samples.collections))
    task = gr.Dropdown([(TASKS[name].title, name) for name in names], value=names[0], label="Task", interactive=True)
    drawn = gr.HTML("<p>Reading the result records.</p>", elem_id="cb-comparison", elem_classes="cb-prose")

    def show(name: str) -> Markup:
        if name not in names:
            raise ConnectomeBenchError("there is no such task; reload the page")
        return comparison(content.records.get(), name, content)

    tab.select(show_errors(show), task, drawn, **SOON)
    task.input(show_errors(show), task, drawn, **SOON)


def comparison(found: RecordedAnswers, task: str, content: AppData) -> Markup:
    """Compare the models on the test partition of one task, in words, tables and figures."""
    summaries = [s for s in found.summaries if s.task == task and s.partition == _PARTITION]
    if found.unreadable:
        return _UNMEASURED.format("The result records cannot be read; the log of the server says why.")
    if not summaries:
        return _UNMEASURED.format("There are no result records of this task; `connectomebench evaluate` makes them.")
    parts: list[Markup] = []
    for (name, _), collection in content.samples.collections.items():
        if name == task and collection.warning:
            parts.append(
                Markup('<p class="cb-warning">{}: {}</p>').format(species_title(collection.species), collection.warning)
            )
    parts += [
        _by_species(found, summaries, "balanced_accuracy", "Balanced accuracy by model and species"),
        Markup('<p class="cb-soft">{}</p>').format(_NOTE),
        _by_species(found, summaries, "ece", "Error of calibration by model and species"),
        Markup('<p class="cb-soft">{}</p>').format(_SMALL),
        _section("Is a stated probability true?"),
        _diagrams(found, summaries),
        _section("Accuracy against cost"),
        _costs(found, summaries),
        _section("Accuracy against training samples"),
        _training(found, summaries),
    ]
    if found.left_out:
        parts.append(_UNMEASURED.format(f"{found.left_out} records are about other data and left out."))
    return Markup("").join(parts)


def _section(title: str) -> Markup:
    return Markup('<h2 class="cb-section">{}</h2>').format(title)


def _label(summary: Summary) -> str:
    from connectomebench.evaluation.results import label

    return label(summary.model, summary.condition)


def _cell(estimate: Estimate, always: str | None = None) -> Markup | str:
    if math.isnan(estimate.value):
        return "–"
    interval = "no interval" if math.isnan(estimate.lower) else f"[{estimate.lower:.2f}, {estimate.upper:.2f}]"
    note = f"; always answers {always}" if always else ""
    return Markup('{:.2f} <span class="cb-n">{}, n = {}{}</span>').format(estimate.value, interval, estimate.n, note)


def _by_species(found: RecordedAnswers, summaries: Sequence[Summary], metric: str, title: str) -> Markup:
    species = list(dict.fromkeys(s.species for s in summaries))
    models = list(dict.fromkeys(map(_label, summaries)))
    cells = {(_label(s), s.species): _cell(s.estimates[metric], s.always) for s in summaries}
    rows = [[model_name(model, found.kinds), *(cells.get((model, name), "–") for name in species)] for model in models]
    return table(title, ["Model", *map(species_title, species)], rows)


def _diagrams(found: RecordedAnswers, summaries: Sequence[Summary]) -> Markup:
    from connectomebench.demo.plots import reliability
    from connectomebench.evaluation.calibration import reliability_bins
    from connectomebench.evaluation.results import stated_events

    stated = [s for s in summaries if not math.isnan(s.estimates["ece"].value)]
    figures = []
    for summary in stated[:_MOST_DIAGRAMS]:
        rows = _records(found, summary)
        rows = rows[rows["probability"].notna()]
        bins = reliability_bins(rows["probability"].to_numpy(float), stated_events(rows), _BINS)
        name = f"{_label(summary)}, {species_title(summary.species)}"
        title = f"{name}: stated probability against the share found, {len(rows)} samples in {_BINS} bins"
        figures.append(
            Markup("<div><h3>{}</h3>{}<p>Error of calibration {}</p></div>").format(
                name, reliability(bins, f"cb-reliability-{len(figures)}", title), _cell(summary.estimates["ece"])
            )
        )
    if not figures:
        return _UNMEASURED.format("No model states probabilities here.")
    more = len(stated) - len(figures)
    note = (
        "A mark on the dashed line is true: of the samples given 0.8, 80% are “yes”. Its line is the 95% interval; the "
        f"bars below count the samples.{f' {more} more models are in the tables above.' if more else ''}"
    )
    return Markup('<p>{}</p><div class="cb-figures">{}</div>').format(note, Markup("").join(figures))


def _records(found: RecordedAnswers, summary: Summary) -> Any:
    frame = found.frame
    assert frame is not None
    for name in ("model", "task", "species", "partition", "condition"):
        frame = frame[frame[name] == getattr(summary, name)]
    return frame


def _costs(found: RecordedAnswers, summaries: Sequence[Summary]) -> Markup:
    def mean(column: str) -> Callable[[Summary], float | None]:
        def of(summary: Summary) -> float | None:
            values = _records(found, summary)[column].dropna()
            return float(values.mean()) if len(values) else None

        return of

    money = _against(summaries, mean("cost_usd"), "US dollars a sample", "Balanced accuracy against price")
    time = _against(summaries, mean("latency_s"), "seconds a sample", "Balanced accuracy against time")
    if not money and not time:
        return _UNMEASURED.format("The records hold neither prices nor times.")
    note = "Times are those of the machine that each model ran on, for one sample by itself."
    return Markup("{}{}{}").format(_UNMEASURED.format(note) if time else "", money, time)


def _training(found: RecordedAnswers, summaries: Sequence[Summary]) -> Markup:
    def rows(summary: Summary) -> float | None:
        revisions = set(_records(found, summary)["model_revision"])
        counts = {found.trained_on.get((summary.model, revision, summary.task)) for revision in revisions}
        only = counts.pop() if len(counts) == 1 else None
        return None if only is None else float(only)

    drawn = _against(summaries, rows, "training samples", "Balanced accuracy against training samples")
    return drawn or _UNMEASURED.format("No record of a model says how many samples it was trained on.")


def _against(summaries: Sequence[Summary], measure: Callable[[Summary], float | None], unit: str, title: str) -> Markup:
    """Plot and list balanced accuracy against a measure; empty if no model has it."""
    from connectomebench.demo.plots import Mark, scatter

    measured = [(s, value) for s in summaries if (value := measure(s)) and not math.isnan(_accuracy(s).value)]
    if not measured:
        return Markup("")
    marks = [Mark(i, value, _accuracy(s)) for i, (s, value) in enumerate(measured, 1)]
    rows = [
        (str(i), f"{_label(s)}, {s.species}", f"{value:.3g}", _cell(_accuracy(s)))
        for i, (s, value) in enumerate(measured, 1)
    ]
    listed = table(title, ("Mark", "Model, species", unit.capitalize(), "Balanced accuracy"), rows)
    return Markup('<div class="cb-beside">{}{}</div>').format(
        scatter(marks, unit, f"cb-{unit.replace(' ', '-')}", title), listed
    )


def _accuracy(summary: Summary) -> Estimate:
    return summary.estimates["balanced_accuracy"]
