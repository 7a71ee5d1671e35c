"""Trace stated totals to the records with equal values."""

from __future__ import annotations

import numpy as np

from connectomebench.core.tasks import get_task
from connectomebench.reproduction.aggregates import Cell
from connectomebench.reproduction.confidences import all_answers, open_bins_error
from connectomebench.reproduction.differences import SAME, PublishedDifference, base, matching_run, name
from connectomebench.reproduction.methods import style
from connectomebench.reproduction.published_names import UNNAMED_SPECIES
from connectomebench.reproduction.results_folder import Published

_SWEPT = ("balanced_accuracy", "accuracy", "ece")


def trace_totals(published: Published) -> PublishedDifference | None:
    """List every stated total that the other records of the folder reproduce exactly.

    A probe's number is compared with the means over repeats of every sweep; an ECE of a vision-language model with
    that of all its votes pooled (ten bins that leave out their lower edge).
    """
    rows = []
    for cell in published.cells:
        if cell.species != UNNAMED_SPECIES or "train_samples" in cell.values:
            continue
        for measure, value, source in (*_from_sweeps(published, cell), *_from_votes(published, cell)):
            rows.append(
                (base(cell.file), f"{style(cell.method).title}, {get_task(cell.task).title}", measure, value, source)
            )
    rows += _from_transfer(published) + _from_outputs(published)
    if not rows:
        return None
    return PublishedDifference(
        "sources",
        "Where the numbers of the files of totals stem from",
        "Equal to the last digit, so that they can be computed again. The accuracies of the vision-language model are "
        "traced further above.",
        ("file", "cell", "number", "value", "is"),
        tuple(rows),
        frozenset(),
    )


def _from_sweeps(published: Published, cell: Cell) -> list[tuple[str, str, str]]:
    if cell.method != "linear_probe":
        return []
    found = []
    for point in (p for p in published.sweeps if p.task == cell.task):
        where = f"mean of {len(point.accuracy)} repeats at {point.train_samples} training samples ({base(point.file)})"
        for measure in _SWEPT:
            mean = float(np.mean(getattr(point, measure)))
            if abs(cell.values.get(measure, -1.0) - mean) < SAME:
                found.append((measure, f"{mean:.4f}", where))
    return found


def _from_transfer(published: Published) -> list[tuple[str, str, str, str, str]]:
    """Trace a probe's totals of other species to the fits on mouse."""
    rows = []
    fits = [c for c in published.cells if "fitted_samples" in c.values]
    for cell in (c for c in published.cells if c.method == "linear_probe" and "fitted_samples" not in c.values):
        for fit in (f for f in fits if (f.task, f.species) == (cell.task, cell.species) and f.file != cell.file):
            for measure in ("balanced_accuracy", "ece"):
                value = cell.values.get(measure)
                if value is not None and abs(value - fit.values.get(measure, -1.0)) < SAME:
                    what = f"{style(cell.method).title}, {get_task(cell.task).title}, {cell.species}"
                    fitted = f"{fit.values['fitted_samples']:.0f}"
                    source = f"one fit on {fitted} mouse samples, {fit.n} tested ({base(fit.file)})"
                    rows.append((base(cell.file), what, measure, f"{value:.4f}", source))
    return rows


def _from_outputs(published: Published) -> list[tuple[str, str, str, str, str]]:
    """Trace ECEs of ResNets to the stored outputs of a checkpoint."""
    rows = []
    for cell in (c for c in published.cells if c.method.startswith("resnet") and "ece" in c.values):
        for run in (r for r in published.runs if r.is_network):
            same_place = (run.task, run.species) == (cell.task, cell.species)
            if same_place and abs(run.stated.get("ece", -1.0) - cell.values["ece"]) < SAME:
                what = f"{style(cell.method).title}, {get_task(cell.task).title}, {cell.species}"
                source = f"outputs of {run.revision}, {len(run.samples)} samples ({base(run.file)})"
                rows.append((base(cell.file), what, "ece", f"{cell.values['ece']:.4f}", source))
    return rows


def _from_votes(published: Published, cell: Cell) -> list[tuple[str, str, str]]:
    if cell.method != "vlm" or "ece" not in cell.values or (run := matching_run(published, cell)) is None:
        return []
    answers = all_answers(run)
    if abs(open_bins_error(answers.confidence, answers.right) - cell.values["ece"]) > SAME:
        return []
    description = f"stated confidences of {len(answers.confidence)} votes of {name(run)}, pooled"
    return [("ece", f"{cell.values['ece']:.4f}", description)]
