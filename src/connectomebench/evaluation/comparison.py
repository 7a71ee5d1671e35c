"""Paired comparison of two models: differences with intervals over groups, tests, and agreement."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.evaluation.agreement import kappa_statistic
from connectomebench.evaluation.formatting import interval_text, p_text, without_nan
from connectomebench.evaluation.mask_scores import mask_statistics, score_texts
from connectomebench.evaluation.pairing import paired_rows
from connectomebench.evaluation.place_metrics import place_statistics, score_places
from connectomebench.evaluation.result_records import predictions_and_answers
from connectomebench.evaluation.significance import holm, mcnemar_exact
from connectomebench.evaluation.statistics import (
    RESAMPLES,
    Estimate,
    PairedDifference,
    bootstrap_interval,
    paired_difference,
    two_class_balanced_accuracy_statistic,
)
from connectomebench.evaluation.summary import MAIN_METRICS, METRIC_TITLES, main_metric, only_answer
from connectomebench.evaluation.weighted_statistics import Statistic

if TYPE_CHECKING:
    import pandas as pd

# with fewer groups than this, bootstrap intervals over groups are too narrow: equal models differ too often
FEW_GROUPS = 20

Verdict = Literal["ahead", "undecided", "behind"]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two models on the same samples.

    Attributes
    ----------
    first, second
        The models (:func:`connectomebench.evaluation.result_records.label`).
    task, species, partition
        Where both were evaluated.
    values
        Main metric (:func:`connectomebench.evaluation.summary.main_metric`) of the first and of the second.
    difference
        That of the first minus the second, by paired bootstrap over groups.
    mcnemar_p
        Exact McNemar test on right and wrong answers; assumes independent samples. NaN where answers are masks.
    kappa
        Cohen's kappa of the two models' answers; an unparsed answer counts as a category of its own.
    always
        The one answer that the first and the second give to all samples; None where they give several.
    """

    first: str
    second: str
    task: str
    species: str
    partition: str
    values: tuple[Estimate, Estimate]
    difference: PairedDifference
    mcnemar_p: float
    kappa: Estimate
    always: tuple[str | None, str | None] = (None, None)


def verdict(comparison: Comparison) -> Verdict:
    """Return ``ahead`` or ``behind`` if the paired interval excludes zero, else ``undecided``."""
    if comparison.difference.lower > 0:
        return "ahead"
    return "behind" if comparison.difference.upper < 0 else "undecided"


def compare(
    frame: pd.DataFrame,
    first: str,
    second: str,
    *,
    shared: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare two models on every task, species and partition where both were evaluated.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.result_records.read_results`.
    first, second
        The models, as `label` names them: ``MODEL``, or ``MODEL@CONDITION`` for a non-default condition.
    shared
        Compare on the samples both answered if the sample sets differ; otherwise that is an error.
    resamples, seed
        Number and seed of the bootstrap resamples.

    Returns
    -------
    list[Comparison]
        One for each task, species and partition, sorted.

    Raises
    ------
    ConnectomeBenchError
        If the models share nothing, or saw different samples.

    Examples
    --------
    A model against one that always answers yes, which has a balanced accuracy of one half:

    >>> import pandas as pd
    >>> from connectomebench import compare, read_results
    >>> frame = read_results("quickstart-out/results/trivial/merge_action")
    >>> constant = frame.assign(model="always_yes", prediction="yes", probability=1.0)
    >>> [comparison] = compare(pd.concat([frame, constant]), "trivial", "always_yes")
    >>> comparison.values[1].value
    0.5
    """
    comparisons = []
    for (task, species, partition), (one, other) in paired_rows(frame, first, second, shared=shared).items():
        predicted, truth = predictions_and_answers(one)
        predicted_other, truth_other = predictions_and_answers(other)
        groups = one["group"].to_numpy(dtype=str)
        settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
        first_statistic = _main_statistic(task, predicted, truth)
        second_statistic = _main_statistic(task, predicted_other, truth_other)
        one_value, other_value = (
            bootstrap_interval(statistic, groups, bounds=(0.0, 1.0), **settings)
            for statistic in (first_statistic, second_statistic)
        )
        exact = main_metric(task) == MAIN_METRICS["exact"]
        agreement = kappa_statistic(predicted, predicted_other) if exact else _undefined
        kappa = bootstrap_interval(agreement, groups, bounds=(-1.0, 1.0), **settings)
        comparisons.append(
            Comparison(
                first,
                second,
                task,
                species,
                partition,
                (one_value, other_value),
                paired_difference(first_statistic, second_statistic, groups, **settings),
                mcnemar_exact(predicted == truth, predicted_other == truth_other) if exact else float("nan"),
                kappa,
                (only_answer(predicted), only_answer(predicted_other)),
            )
        )
    return comparisons


def _main_statistic(task: str, predicted: NDArray[np.str_], truth: NDArray[np.str_]) -> Statistic:
    """Return the main metric of a task as a function of row weights."""
    if main_metric(task) == MAIN_METRICS["masks"]:
        return mask_statistics(score_texts(predicted.tolist(), truth.tolist()))[MAIN_METRICS["masks"]]
    if main_metric(task) == MAIN_METRICS["places"]:
        return place_statistics(score_places(predicted.tolist(), truth.tolist()))[MAIN_METRICS["places"]]
    return two_class_balanced_accuracy_statistic(predicted, truth)


def _undefined(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full(len(weights), np.nan)


def as_text(comparisons: Sequence[Comparison]) -> str:
    """Format comparisons as text: values, paired difference, tests, agreement, and a verdict from the interval."""
    corrected = holm([c.difference.p for c in comparisons])
    blocks = []
    for c, p in zip(comparisons, corrected, strict=True):
        d = c.difference
        several = f" ({p_text(p)} by Holm over {len(comparisons)} comparisons)" if len(comparisons) > 1 else ""
        width = max(len(c.first), len(c.second), len("difference"))
        lines = [
            f"{c.task}, {c.species}, {c.partition}: {d.n} samples in {d.n_groups} groups",
            f"  {METRIC_TITLES[main_metric(c.task)]} with 95% interval over groups",
            f"  {c.first:<{width}}  {interval_text(c.values[0])}{_always(c.always[0])}",
            f"  {c.second:<{width}}  {interval_text(c.values[1])}{_always(c.always[1])}",
            f"  {'difference':<{width}}  {interval_text(d, sign='+')}, on the same samples",
            f"  p = {p_text(d.p)} by bootstrap over groups{several}{_of_answers(c)}",
            f"  {verdict_text(c)}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _of_answers(c: Comparison) -> str:
    """Format the tests of right and wrong answers; nothing where answers are neither, such as masks."""
    if math.isnan(c.mcnemar_p):
        return ""
    return (
        f"; {p_text(c.mcnemar_p)} by McNemar, which assumes independent samples\n"
        f"  agreement of their answers beyond chance (Cohen's kappa): {interval_text(c.kappa)}"
    )


def _always(answer: str | None) -> str:
    return "" if answer is None else f", always answers {answer}"


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Format comparisons as a JSON list; NaN becomes null, ``p_holm`` is corrected over the whole list."""
    corrected = holm([c.difference.p for c in comparisons])
    rows = [{**asdict(c), "p_holm": p, "verdict": verdict_text(c)} for c, p in zip(comparisons, corrected, strict=True)]
    return json.dumps(without_nan(rows), indent=2)


def verdict_text(comparison: Comparison) -> str:
    """Return the verdict of the paired interval as a sentence."""
    d, first, second = comparison.difference, comparison.first, comparison.second
    if math.isnan(d.value):
        return f"{first} and {second} cannot be compared: only one answer is right in all samples"
    if math.isnan(d.lower):
        return f"{first} and {second} cannot be distinguished: all samples are of one group"
    words = {"ahead": f"{first} is better than {second}", "behind": f"{first} is worse than {second}"}
    outcome = words.get(verdict(comparison), f"{first} and {second} cannot be distinguished at n = {d.n}")
    few = f"; with only {d.n_groups} groups, the interval is too narrow" if d.n_groups < FEW_GROUPS else ""
    return outcome + few
