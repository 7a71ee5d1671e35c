"""Precision, recall, false positive rate and F1 of yes/no answers, as functions of row weights.

"Yes" is the positive class. An unparsed reply is neither yes nor no: it lowers recall where the truth is yes and
is not a false positive where the truth is no.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import OfSums, Statistic, as_numbers


def precision_statistic(predicted_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return the share of correct answers among those that are yes; NaN if there are none.

    Equals `sklearn.metrics.precision_score`.

    Parameters
    ----------
    predicted_yes
        Whether the predicted answer is yes, 0 or 1, shape (rows,).
    is_yes
        Whether the true answer is yes, 0 or 1, shape (rows,).

    Returns
    -------
    Statistic
        Weights of shape (resamples, rows) to values of shape (resamples,).

    Raises
    ------
    ConnectomeBenchError
        If the shapes differ, there are no rows, or values are not 0 or 1.
    """
    predicted, truth = _flags(predicted_yes, is_yes)
    return _ratio(predicted * truth, predicted)


def recall_statistic(predicted_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return the share of truly yes rows that were answered yes; NaN if there are none.

    Equals `sklearn.metrics.recall_score`. Parameters are those of `precision_statistic`.
    """
    predicted, truth = _flags(predicted_yes, is_yes)
    return _ratio(predicted * truth, truth)


def false_positive_rate_statistic(predicted_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return the share of truly no rows that were answered yes; NaN if there are none.

    Parameters are those of `precision_statistic`.
    """
    predicted, truth = _flags(predicted_yes, is_yes)
    return _ratio(predicted * (1 - truth), 1 - truth)


def f1_statistic(predicted_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return 2 TP / (2 TP + FP + FN); NaN if no answer and no truth is yes.

    Equals `sklearn.metrics.f1_score`, which is 0 where only one of the two occurs. Parameters are those of
    `precision_statistic`.
    """
    predicted, truth = _flags(predicted_yes, is_yes)
    return _ratio(2 * predicted * truth, predicted + truth)


RATES: dict[str, Callable[[ArrayLike, ArrayLike], Statistic]] = {
    "precision": precision_statistic,
    "recall": recall_statistic,
    "false_positive_rate": false_positive_rate_statistic,
    "f1": f1_statistic,
}
"""Name in summaries -> statistic."""


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Statistic:
    def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        above, below = sums.T
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)

    return OfSums(np.stack([numerator, denominator]), ratio)


def _flags(predicted_yes: ArrayLike, is_yes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    predicted, truth = as_numbers(predicted_yes, "predicted_yes"), as_numbers(is_yes, "is_yes")
    if predicted.ndim != 1 or predicted.shape != truth.shape or not len(predicted):
        raise ConnectomeBenchError(
            f"rates need one answer and one truth per row: shapes are {predicted.shape} and {truth.shape}"
        )
    if not np.all(np.isin([predicted, truth], (0, 1))):
        raise ConnectomeBenchError("predicted_yes and is_yes must be 0 or 1")
    return predicted, truth
