"""Precision, recall, false positive rate and F1 of yes/no answers, as functions of row weights.

"Yes" is the positive class. A reply that could not be parsed says neither: it lowers recall where the truth is yes and
is no false positive where the truth is no.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import Statistic, as_numbers, weighted_sums


def precision_statistic(said_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return the share of right answers among those that say yes; NaN where none does.

    Equals `sklearn.metrics.precision_score`.

    Parameters
    ----------
    said_yes
        Whether the answer given is yes, 0 or 1, shape (rows,).
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
    said, truth = _flags(said_yes, is_yes)
    return _ratio(said * truth, said)


def recall_statistic(said_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return the share of rows whose truth is yes that were answered yes; NaN where there are none.

    Equals `sklearn.metrics.recall_score`. Parameters are those of `precision_statistic`.
    """
    said, truth = _flags(said_yes, is_yes)
    return _ratio(said * truth, truth)


def false_positive_rate_statistic(said_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return the share of rows whose truth is no that were answered yes; NaN where there are none.

    Parameters are those of `precision_statistic`.
    """
    said, truth = _flags(said_yes, is_yes)
    return _ratio(said * (1 - truth), 1 - truth)


def f1_statistic(said_yes: ArrayLike, is_yes: ArrayLike) -> Statistic:
    """Return 2 TP / (2 TP + FP + FN); NaN where no answer says yes and no truth is yes.

    Equals `sklearn.metrics.f1_score`, which is 0 where only one of the two occurs. Parameters are those of
    `precision_statistic`.
    """
    said, truth = _flags(said_yes, is_yes)
    return _ratio(2 * said * truth, said + truth)


RATES: dict[str, Callable[[ArrayLike, ArrayLike], Statistic]] = {
    "precision": precision_statistic,
    "recall": recall_statistic,
    "false_positive_rate": false_positive_rate_statistic,
    "f1": f1_statistic,
}
"""By their names in summaries."""


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Statistic:
    terms = np.stack([numerator, denominator])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        above, below = weighted_sums(weights, terms).T
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)

    return statistic


def _flags(said_yes: ArrayLike, is_yes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said, truth = as_numbers(said_yes, "said_yes"), as_numbers(is_yes, "is_yes")
    if said.ndim != 1 or said.shape != truth.shape or not len(said):
        raise ConnectomeBenchError(
            f"rates take one answer and one truth a row, for at least one: shapes are {said.shape} and {truth.shape}"
        )
    if not np.all(np.isin([said, truth], (0, 1))):
        raise ConnectomeBenchError("said_yes and is_yes must be 0 or 1")
    return said, truth
