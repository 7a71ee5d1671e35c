"""Differences between stated and recomputed calibration metrics."""

from __future__ import annotations

import numpy as np

from connectomebench.core.tasks import get_task
from connectomebench.evaluation.calibration import brier_score, expected_calibration_error
from connectomebench.reproduction.confidences import (
    StatedConfidences,
    all_answers,
    first_answers,
    open_bins_error,
)
from connectomebench.reproduction.differences import SAME, PublishedDifference, matching_run, name, percent, place_of
from connectomebench.reproduction.published_records import Run, majority
from connectomebench.reproduction.results_folder import Published


def calibration_differences(published: Published) -> list[PublishedDifference]:
    """Return all differences in calibration."""
    checks = (_mixed_answers, _lost_zeros, _brier, _other_accuracy)
    return [found for check in checks if (found := check(published)) is not None]


def _mixed_answers(published: Published) -> PublishedDifference | None:
    """Find ECEs that pair the first answer's confidence with the majority's correctness."""
    rows, runs = [], []
    for run in _confident(published):
        if any(s.confidence is None for s in run.samples):
            continue
        confidence = np.array([s.confidence for s in run.samples], dtype=np.float64)
        voted = np.array([majority(s.votes) == s.truth for s in run.samples], dtype=np.float64)
        stated = run.stated.get("calibration_ece", -1.0)
        if abs(open_bins_error(confidence, voted) - stated) > SAME:
            continue
        first = first_answers(run)
        rows.append(
            (
                name(run),
                f"{stated:.4f}",
                f"{open_bins_error(first.confidence, first.right, with_zero=True):.4f}",
                f"{_binary(first):.4f}",
                str(len(confidence)),
            )
        )
        runs.append(run)
    if not rows:
        return None
    return PublishedDifference(
        "mixed",
        "The ECE in a file of replies pairs the confidence of one answer with the majority of all",
        "The stated value comes out exactly when the confidence of the first answer is compared with whether the "
        "majority is right, in ten bins. Beside it: the same confidence compared with the answer it was stated for, in "
        "ten bins, and as P(yes) in fifteen (ours).",
        ("run", "stated ECE", "same answer, 10 bins", "P(yes), 15 bins (ours)", "n"),
        tuple(rows),
        frozenset(place_of(r) for r in runs),
    )


def _lost_zeros(published: Published) -> PublishedDifference | None:
    """Find ECEs whose bins exclude confidences of zero."""
    rows, places = [], set()
    for run, answers, stated, what in _stated_errors(published):
        zeros = int(np.count_nonzero(answers.confidence == 0))
        if zeros and abs(open_bins_error(answers.confidence, answers.right) - stated) < SAME:
            rows.append(
                (
                    f"{name(run)}: {what}",
                    f"{zeros} of {len(answers.confidence)}",
                    f"{stated:.4f}",
                    f"{open_bins_error(answers.confidence, answers.right, with_zero=True):.4f}",
                )
            )
            places.add(place_of(run))
    for run in _confident(published):
        confidence = np.array([np.nan if s.confidence is None else s.confidence for s in run.samples])
        voted = np.array([majority(s.votes) == s.truth for s in run.samples], dtype=np.float64)
        stated = run.stated.get("calibration_ece", -1.0)
        zeros = int(np.count_nonzero(confidence == 0))
        if zeros and abs(open_bins_error(confidence, voted) - stated) < SAME:
            whole = open_bins_error(confidence, voted, with_zero=True)
            rows.append(
                (f"{name(run)}: first confidences", f"{zeros} of {len(confidence)}", f"{stated:.4f}", f"{whole:.4f}")
            )
            places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "zeros",
        "A stated confidence of 0% lies in no bin",
        "The stated ECE comes out exactly with bins that leave out their lower edge, so that answers with a confidence "
        "of 0% count as no error. With those in the lowest bin and nothing else changed, the other value comes out.",
        ("run", "answers at 0%", "stated ECE", "with every answer in a bin"),
        tuple(rows),
        frozenset(places),
    )


def _brier(published: Published) -> PublishedDifference | None:
    """Find Brier scores that treat the confidence in any answer as P(yes)."""
    rows, places = [], set()
    for cell in published.cells:
        if cell.method != "vlm" or "brier_score" not in cell.values or (run := matching_run(published, cell)) is None:
            continue
        answers = all_answers(run)
        if not len(answers.confidence):
            continue
        against_yes = float(np.mean((answers.confidence - answers.truth) ** 2))
        if abs(against_yes - cell.values["brier_score"]) < SAME:
            rows.append(
                (
                    get_task(cell.task).title,
                    f"{cell.values['brier_score']:.4f}",
                    f"{brier_score(answers.probability, answers.truth):.4f}",
                    str(len(answers.confidence)),
                )
            )
            places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "brier",
        "The VLM's Brier score takes the confidence in “no” as that in “yes”",
        "The stated value comes out exactly as the mean of (confidence − truth)², where the confidence is that in "
        "the given answer and the truth is 1 for yes. A sure and right “no” then counts as almost 1. Beside it, the "
        "score of P(yes).",
        ("task", "stated", "of P(yes)", "answers"),
        tuple(rows),
        frozenset(places),
    )


def _other_accuracy(published: Published) -> PublishedDifference | None:
    """Find ResNet calibration entries whose accuracy differs from the results."""
    rows = []
    for cell in published.cells:
        if cell.method != "resnet_finetuned" or not {"ece", "accuracy"} <= set(cell.values):
            continue
        stated = cell.values["accuracy"]
        for other in published.cells:
            same = (other.method, other.task, other.species) == (cell.method, cell.task, cell.species)
            # numbers of the file are rounded to four decimals
            if same and other.file != cell.file and abs(other.values.get("accuracy", stated) - stated) > 1e-4:
                rows.append(
                    (
                        f"{get_task(cell.task).title}, {cell.species}",
                        f"{cell.values['ece']:.4f}",
                        percent(stated),
                        percent(other.values["accuracy"]),
                    )
                )
    if not rows:
        return None
    return PublishedDifference(
        "other_accuracy",
        "The ResNet whose calibration is stated is not always the one whose accuracy is",
        "Beside the ECE stands an accuracy. It agrees with that of the results by species except here, so that the two "
        "numbers are of different runs.",
        ("cell", "stated ECE", "accuracy beside it", "accuracy in the results"),
        tuple(rows),
        frozenset(),
    )


def _confident(published: Published) -> list[Run]:
    return [run for run in published.runs if run.states_confidence]


def _stated_errors(published: Published) -> list[tuple[Run, StatedConfidences, float, str]]:
    """Return runs with the pooled confidences of all votes and the stated ECE."""
    found = []
    for cell in published.cells:
        if cell.method == "vlm" and "ece" in cell.values and (run := matching_run(published, cell)) is not None:
            found.append((run, all_answers(run), cell.values["ece"], "all votes pooled"))
    return found


def _binary(answers: StatedConfidences) -> float:
    return expected_calibration_error(answers.probability, answers.truth)
