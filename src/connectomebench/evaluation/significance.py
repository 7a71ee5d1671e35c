"""Tests of two models on the same rows, and the correction for several of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from connectomebench.core.errors import ConnectomeBenchError


def mcnemar_exact(first_right: ArrayLike, second_right: ArrayLike) -> float:
    """Return the p-value of the exact McNemar test of two models on the same rows.

    The binomial test on the rows where one is right and the other wrong (McNemar, Psychometrika 12, 1947).

    Takes rows as independent: with several rows a group prefer
    :func:`connectomebench.evaluation.statistics.paired_difference`.

    Parameters
    ----------
    first_right, second_right
        Whether each model was right, shape (rows,).

    Returns
    -------
    float
        Two-sided p-value of the hypothesis that both are right equally often; 1 where they never disagree.

    Raises
    ------
    ConnectomeBenchError
        If the shapes differ.
    """
    from scipy.stats import binomtest

    first = np.asarray(first_right, dtype=bool)
    second = np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ConnectomeBenchError(f"McNemar compares the same rows: shapes are {first.shape} and {second.shape}")
    only_first = int(np.count_nonzero(first & ~second))
    discordant = int(np.count_nonzero(first != second))
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several comparisons (Holm, Scandinavian Journal of Statistics 6, 1979).

    Parameters
    ----------
    p_values
        One a comparison; NaN where there is none, which stays and does not count.

    Returns
    -------
    list[float]
        In the same order; rejecting those at most 0.05 keeps the chance of any false rejection at 0.05.
    """
    corrected = [float("nan")] * len(p_values)
    ranked = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p))
        corrected[i] = largest
    return corrected
