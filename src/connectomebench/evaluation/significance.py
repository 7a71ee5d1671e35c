"""Significance tests of two models on the same rows, and correction for multiple comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from connectomebench.core.errors import ConnectomeBenchError


def mcnemar_exact(first_right: ArrayLike, second_right: ArrayLike) -> float:
    """Return the p-value of the exact McNemar test of two models on the same rows.

    A binomial test on the rows where exactly one model is right (McNemar, Psychometrika 12, 1947).

    Assumes independent rows: with several rows per group prefer
    :func:`connectomebench.evaluation.statistics.paired_difference`.

    Parameters
    ----------
    first_right, second_right
        Whether each model was right, shape (rows,).

    Returns
    -------
    float
        Two-sided p-value for equal accuracy; 1 if the models never disagree.

    Raises
    ------
    ConnectomeBenchError
        If the shapes differ.
    """
    from scipy.stats import binomtest

    first = np.asarray(first_right, dtype=bool)
    second = np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ConnectomeBenchError(f"McNemar needs the same rows: shapes are {first.shape} and {second.shape}")
    only_first = int(np.count_nonzero(first & ~second))
    discordant = int(np.count_nonzero(first != second))
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple comparisons (Holm, Scandinavian Journal of Statistics 6, 1979).

    Parameters
    ----------
    p_values
        One per comparison; NaN entries stay NaN and do not count.

    Returns
    -------
    list[float]
        Corrected p-values in the same order; rejecting at 0.05 bounds the family-wise error rate by 0.05.
    """
    corrected = [float("nan")] * len(p_values)
    ranked = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p))
        corrected[i] = largest
    return corrected
