"""Why totals of image networks and probes differ from their per-sample outputs: rule, rows or checkpoint."""

from __future__ import annotations

import numpy as np

from connectomebench.core.tasks import get_task
from connectomebench.evaluation.calibration import expected_calibration_error
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.reproduction.aggregates import Cell
from connectomebench.reproduction.checkpoints import CheckpointScore
from connectomebench.reproduction.confidences import first_answers, open_bins_error
from connectomebench.reproduction.differences import PublishedDifference, base, percent
from connectomebench.reproduction.methods import style
from connectomebench.reproduction.published_records import Run, word
from connectomebench.reproduction.results_folder import Published

_SINGLE_PRECISION = 1e-6
"""Outputs were stored in single precision, so that sums of them differ in the seventh digit."""


def network_differences(published: Published) -> list[PublishedDifference]:
    """Return all differences in the numbers of networks and probes."""
    checks = (_checkpoints_of_cells, _outputs_and_totals, _tested_repeatedly, _network_calibration, _probe_rows)
    return [found for check in checks if (found := check(published)) is not None]


def run_balanced_accuracy(run: Run) -> float:
    """Return the balanced accuracy of the first answers of a run."""
    truth = [word(s.truth) or "" for s in run.samples]
    return float(balanced_accuracy([word(s.votes[0]) or "" for s in run.samples], truth))


def _checkpoints_of_cells(published: Published) -> PublishedDifference | None:
    """Find the checkpoint whose evaluation gives each total of a ResNet."""
    cells = [c for c in published.cells if c.method.startswith("resnet") and "balanced_accuracy" in c.values]
    if not cells or not published.checkpoints:
        return None
    rows, places = [], set()
    for cell in cells:
        found = [s for s in published.checkpoints if s.gives(cell)]
        names = sorted({f"{s.checkpoint.name} ({_rows_words(s)})" for s in found})
        remark = ""
        if found and all(s.checkpoint.training and s.checkpoint.method != cell.method for s in found):
            remark = f"by its name this is {style(found[0].checkpoint.method).title}"
        rows.append(
            (
                f"{style(cell.method).title}, {get_task(cell.task).title.lower()}, {cell.species}",
                f"{percent(cell.values['balanced_accuracy'])}"
                + (f", {cell.n} samples" if cell.n is not None else "")
                + f" ({base(cell.file)})",
                "; ".join(names) or "none in the folder",
                remark,
            )
        )
        if found:
            places.add((cell.method, cell.task))
    return PublishedDifference(
        "checkpoints",
        "The checkpoint behind each number of a ResNet",
        "Of the checkpoints whose evaluations are in the folder, the one with this balanced accuracy on this task, "
        "species and number of samples. Numbers of one column often stem from several checkpoints and sets of rows.",
        ("cell", "stated", "checkpoint (rows)", "remark"),
        tuple(rows),
        frozenset(places),
    )


def _rows_words(score: CheckpointScore) -> str:
    which = "test rows" if score.test_rows else "all rows"
    return f"{score.total} {which}{f' of {score.dataset}' if score.dataset else ''}"


def _outputs_and_totals(published: Published) -> PublishedDifference | None:
    """Compare stated totals with the balanced accuracy of per-sample outputs."""
    rows, places = [], set()
    for run in (r for r in published.runs if r.is_network):
        own = run_balanced_accuracy(run)
        stated = [
            c
            for c in published.cells
            if (c.method, c.task, c.species) == (run.model, run.task, run.species) and "balanced_accuracy" in c.values
        ]
        for cell in stated:
            value = cell.values["balanced_accuracy"]
            if abs(value - own) <= 5e-5 and cell.n in (None, len(run.samples)):
                continue
            rows.append(
                (
                    f"{style(run.model).title}, {get_task(run.task).title.lower()}",
                    f"{percent(value)} ({base(cell.file)}{f', {cell.n} samples' if cell.n is not None else ''})",
                    f"{percent(own)} ({len(run.samples)} samples{_constant_words(run)})",
                    _why(cell, run, published.checkpoints),
                )
            )
            places.add((run.model, run.task))
    if not rows:
        return None
    return PublishedDifference(
        "outputs",
        "A stated number of a ResNet is not that of its stored outputs",
        "Ours is the balanced accuracy of the stored predictions. Where the stated number is of other rows or of "
        "another checkpoint, the two are different measurements.",
        ("cell", "stated", "from the outputs (ours)", "why"),
        tuple(rows),
        frozenset(places),
    )


def _constant_words(run: Run) -> str:
    answers = {s.votes[0] for s in run.samples}
    return f", always “{word(answers.pop())}”" if len(answers) == 1 else ""


def _why(cell: Cell, run: Run, scores: tuple[CheckpointScore, ...]) -> str:
    found = [s for s in scores if s.gives(cell)]
    other_rows = cell.n is not None and cell.n != len(run.samples)
    rows = f"other rows ({cell.n} instead of {len(run.samples)})" if other_rows else ""
    if not found:
        return rows or "not known: no evaluation in the folder gives the stated number"
    if any(s.checkpoint.name == run.revision for s in found):
        return f"the same checkpoint, {rows}" if rows else "not known: the same checkpoint on as many rows"
    names = ", ".join(sorted({s.checkpoint.name for s in found}))
    return f"another checkpoint ({names} instead of {run.revision}){f', {rows}' if rows else ''}"


def _tested_repeatedly(published: Published) -> PublishedDifference | None:
    """List checkpoints that were tested several times on one task and species, with different numbers."""
    found: dict[tuple[str, str, str], set[tuple[float, int, str, str]]] = {}
    for score in published.checkpoints:
        key = (score.checkpoint.name, score.task, score.species)
        entry = (score.balanced_accuracy, score.total, _rows_words(score), base(score.file))
        found.setdefault(key, set()).add(entry)
    for run in (r for r in published.runs if r.is_network):
        key = (run.revision, run.task, run.species)
        known, own = found.setdefault(key, set()), run_balanced_accuracy(run)
        if not any(abs(value - own) <= 5e-5 and n == len(run.samples) for value, n, _, _ in known):
            known.add((own, len(run.samples), f"{len(run.samples)} stored outputs", base(run.file)))
    rows = [
        (name, f"{get_task(task).title.lower()}, {species}", percent(value), words, file)
        for (name, task, species), entries in sorted(found.items())
        if len({(round(value, 6), n) for value, n, _, _ in entries}) > 1
        for value, _, words, file in sorted(entries, key=lambda e: (e[1], e[0]))
    ]
    if not rows:
        return None
    return PublishedDifference(
        "tested_repeatedly",
        "One checkpoint was tested on several sets of rows",
        "Each line is one evaluation of it. Which of them stands in the totals is in the list of checkpoints.",
        ("checkpoint", "task, species", "balanced accuracy", "rows", "file"),
        tuple(rows),
        frozenset(),
    )


def _network_calibration(published: Published) -> PublishedDifference | None:
    """Find ECEs of networks that come out of their outputs in ten bins of the confidence in the answer."""
    rows, places = [], set()
    for run in (r for r in published.runs if r.is_network and "ece" in r.stated):
        answers = first_answers(run)
        again = open_bins_error(answers.confidence, answers.right)
        agrees = abs(again - run.stated["ece"]) < _SINGLE_PRECISION
        rows.append(
            (
                f"{style(run.model).title}, {get_task(run.task).title.lower()}",
                f"{run.stated['ece']:.4f}",
                f"{again:.4f}" if agrees else f"{again:.4f} (not the stated one)",
                f"{expected_calibration_error(np.asarray(answers.probability), answers.truth):.4f}",
                str(len(run.samples)),
            )
        )
        places.add((run.model, run.task))
    if not rows:
        return None
    return PublishedDifference(
        "network_ece",
        "The ECE of a network is of ten bins of the confidence in its answer",
        "By that rule the stated value comes out of the outputs. Ours compares P(yes) with the truth in fifteen bins.",
        ("network", "stated ECE", "same answer, 10 bins", "P(yes), 15 bins (ours)", "n"),
        tuple(rows),
        frozenset(places),
    )


def _probe_rows(published: Published) -> PublishedDifference | None:
    """Show the single fit of the linear probe beside its repeated fits."""
    single = {c.task: c for c in published.cells if c.method == "linear_probe" and "train_samples" in c.values}
    if not single:
        return None
    rows, places = [], set()
    for task, fit in single.items():
        repeated = next(
            (
                c
                for c in published.cells
                if (c.method, c.task, c.species) == ("linear_probe", task, fit.species)
                and "train_samples" not in c.values
                and "balanced_accuracy" in c.values
            ),
            None,
        )
        folds = fit.values.get("cross_validated")
        rows_words = f"{fit.values['train_samples']:.0f} trained on, {fit.n} tested"
        rows.append(
            (
                get_task(task).title,
                f"{percent(fit.values['balanced_accuracy'])} ({rows_words})",
                percent(folds) if folds is not None else "",
                f"{percent(repeated.values['balanced_accuracy'])} ({repeated.n} tested)" if repeated else "",
            )
        )
        places |= {("linear_probe", task), ("linear_probe_single", task)}
    return PublishedDifference(
        "probe",
        "The linear probe has two rows: one fit, and the mean of repeated fits",
        "Table 1 of the publication prints the single fit, most often on 512 samples; the file of totals by species, "
        "and with it the figures, hold the cross-validated probe on more rows: where its sweep is in the folder, it is "
        "the mean of its repeats. Beside them: the mean over the folds of the single fit's own cross-validation.",
        ("task", "single fit", "folds of the same samples", "repeated fits"),
        tuple(rows),
        frozenset(places),
    )
