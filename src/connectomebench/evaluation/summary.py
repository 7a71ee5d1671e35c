"""Summarise result records: every metric with its 95% interval over groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.tasks import TASKS, Scoring
from connectomebench.evaluation.auroc import (
    answer_confidence,
    aurc_statistic,
    auroc_statistic,
    risk_statistic,
)
from connectomebench.evaluation.calibration import brier_statistic, calibration_statistic
from connectomebench.evaluation.mask_scores import MASK_METRICS, mask_statistics, score_texts
from connectomebench.evaluation.place_metrics import PLACE_METRICS, place_statistics, score_places
from connectomebench.evaluation.precision_recall import RATES
from connectomebench.evaluation.result_records import (
    YES_NO,
    by_keys,
    classes_of,
    predictions_and_answers,
    stated_events,
)
from connectomebench.evaluation.statistics import (
    RESAMPLES,
    Estimate,
    bootstrap_intervals,
    two_class_balanced_accuracy_statistic,
)
from connectomebench.evaluation.weighted_statistics import Statistic

if TYPE_CHECKING:
    import pandas as pd

COVERAGES = {"risk_at_50": 0.5, "risk_at_80": 0.8, "risk_at_90": 0.9}
"""Name of risk -> coverage, the share of rows answered."""
MAIN_METRICS: Mapping[Scoring, str] = {
    "exact": "balanced_accuracy",
    "masks": MASK_METRICS[0],
    "places": PLACE_METRICS[0],
}
"""How a task is scored -> the metric that says most."""
METRIC_TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "miou": "mean IoU of both parts",
    "place_score": "place score",
}
METRICS: tuple[str, ...] = ("balanced_accuracy", "ece", "mce", "brier", "auroc", *RATES, *COVERAGES, "aurc")


@dataclass(frozen=True)
class Summary:
    """Results of one model on one partition of one task and species.

    Attributes
    ----------
    model, task, species, partition, condition
        What was evaluated.
    n, n_groups
        Samples and groups.
    unparsed
        Samples without a parsed answer; they count as wrong.
    estimates
        Estimates by the names in `METRICS`. `Estimate.n` is the number of rows used: for calibration, Brier score,
        AUROC, risks and AURC those with a probability, else all. Undefined values are NaN: a single class, nothing
        answered "yes", no probabilities, rates of answers other than yes and no, or places or masks as answers. For
        masks there are those of :data:`connectomebench.evaluation.mask_scores.MASK_METRICS`, too, and for places those
        of :data:`connectomebench.evaluation.place_metrics.PLACE_METRICS`.
    always
        The one answer given to all samples; None if there are several, or a single sample. Such a model has a balanced
        accuracy of exactly chance and may have a calibration error of 0: neither says anything about it.
    """

    model: str
    task: str
    species: str
    partition: str
    condition: str
    n: int
    n_groups: int
    unparsed: int
    estimates: Mapping[str, Estimate]
    always: str | None = None


def summarise(frame: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0, bins: int = 15) -> list[Summary]:
    """Estimate all metrics with 95% intervals over groups, per model, task, species, partition and condition.

    Balanced accuracy counts an unparsed prediction as wrong; precision, recall, false positive rate and F1 count it as
    not "yes". Calibration (binary convention, equal-width bins), Brier score, AUROC and the risks of selective
    prediction use the rows with a probability: P(yes), or where answers are other than yes and no the probability of
    the answer given, which is then judged against whether it is right. Calibration errors grow with noise, so their
    intervals are basic bootstrap intervals (see :func:`connectomebench.evaluation.statistics.bootstrap_interval`).

    Read intervals of calibration errors with care. In simulations with 60 to 512 rows, 95% intervals of an ECE of 0.03
    to 0.2 covered the true value 78 to 91% of the time, those of an MCE of 0.15 89% with 512 rows but 27% with 60.
    For a perfectly calibrated model, whose estimated error is all noise, they covered zero 14 to 39% (ECE) and 20 to
    67% (MCE) of the time.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.result_records.read_results`.
    resamples, seed
        Number and seed of the bootstrap resamples.
    bins
        Number of bins of the calibration errors.

    Returns
    -------
    list[Summary]
        Sorted by model, task, species, partition and condition.

    Examples
    --------
    >>> from connectomebench import read_results, summarise
    >>> [summary] = summarise(read_results("quickstart-out/results/trivial/merge_action"))
    >>> accuracy = summary.estimates["balanced_accuracy"]
    >>> bool(accuracy.lower <= accuracy.value <= accuracy.upper)
    True
    """
    summaries = []
    for (model, task, species, partition, condition), rows in by_keys(frame).items():
        prediction, answer = predictions_and_answers(rows)
        summaries.append(
            Summary(
                model,
                task,
                species,
                partition,
                condition,
                len(rows),
                len(set(rows["group"])),
                _unparsed(task, prediction, answer),
                _estimates(rows, resamples, seed, bins),
                only_answer(prediction),
            )
        )
    return summaries


def _unparsed(task: str, prediction: NDArray[np.str_], answer: NDArray[np.str_]) -> int:
    """Count the predictions that are no possible answer."""
    known = TASKS.get(task)
    if known is not None and not known.labels:
        return int(np.count_nonzero(prediction == ""))
    classes = classes_of(answer) if known is None else known.labels
    return int(np.count_nonzero(~np.isin(prediction, classes)))


def only_answer(prediction: NDArray[np.str_]) -> str | None:
    """Return the answer that stands in every row; None if there are several, a row without one, or fewer than two."""
    given = np.unique(prediction)
    return str(given[0]) if len(prediction) > 1 and len(given) == 1 and given[0] else None


def main_metric(task: str) -> str:
    """Name the metric of a task that says most; balanced accuracy for tasks that are not known here."""
    known = TASKS.get(task)
    return MAIN_METRICS.get(known.scoring if known else "exact", MAIN_METRICS["exact"])


def _estimates(rows: pd.DataFrame, resamples: int, seed: int, bins: int) -> dict[str, Estimate]:
    """Estimate every metric on the rows of one partition."""
    prediction, answer = predictions_and_answers(rows)
    group = rows["group"].to_numpy(dtype=str)
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed, "bounds": (0.0, 1.0)}
    estimates = dict.fromkeys(METRICS, _undefined(0, 0))
    task = TASKS.get(str(rows["task"].iloc[0]))
    if task is not None and task.scoring == "masks":
        return estimates | bootstrap_intervals(
            mask_statistics(score_texts(prediction.tolist(), answer.tolist())), group, **settings
        )
    if task is not None and task.scoring == "places":
        places = score_places(prediction.tolist(), answer.tolist())
        return estimates | bootstrap_intervals(place_statistics(places), group, **settings)
    yes_no = classes_of(answer) == YES_NO
    statistics, settings["basic"] = _of_answers(prediction, answer, yes_no), ("ece", "mce")
    stated = rows["probability"].notna().to_numpy()
    if stated.all():  # the same groups would be drawn twice
        return estimates | bootstrap_intervals(statistics | _of_probabilities(rows, yes_no, bins), group, **settings)
    estimates |= bootstrap_intervals(statistics, group, **settings)
    if stated.any():
        statistics = _of_probabilities(rows[stated], yes_no, bins)
        estimates |= bootstrap_intervals(statistics, group[stated], **settings)
    return estimates


def _of_answers(prediction: NDArray[np.str_], answer: NDArray[np.str_], yes_no: bool) -> dict[str, Statistic]:
    """Return the statistics of answers."""
    found = {"balanced_accuracy": two_class_balanced_accuracy_statistic(prediction, answer)}
    if not yes_no:
        return found
    predicted, truth = prediction == "yes", answer == "yes"
    return found | {name: statistic(predicted, truth) for name, statistic in RATES.items()}


def _of_probabilities(rows: pd.DataFrame, yes_no: bool, bins: int) -> dict[str, Statistic]:
    """Return the statistics of rows with a probability."""
    prediction, answer = predictions_and_answers(rows)
    probability = rows["probability"].to_numpy(dtype=np.float64)
    label = stated_events(rows)
    confidence = answer_confidence(prediction == "yes", probability) if yes_no else probability
    # an unparsed reply has no answer, so it is deferred first
    confidence = np.where(np.isin(prediction, YES_NO) if yes_no else prediction != "", confidence, 0)
    right = prediction == answer
    return {
        "ece": calibration_statistic(probability, label, bins, norm="mean"),
        "mce": calibration_statistic(probability, label, bins, norm="max"),
        "brier": brier_statistic(probability, label),
        "auroc": auroc_statistic(probability, label),
        **{name: risk_statistic(confidence, right, coverage) for name, coverage in COVERAGES.items()},
        "aurc": aurc_statistic(confidence, right),
    }


def _undefined(n: int, n_groups: int) -> Estimate:
    nan = float("nan")
    return Estimate(nan, nan, nan, n, n_groups, 0)
