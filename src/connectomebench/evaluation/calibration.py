"""Calibration of stated probabilities: reliability bins, calibration errors and Brier scores.

The shape of ``probabilities`` selects the convention:

- shape (rows,): *binary*. Each number is P(yes). A bin compares the mean P(yes) of its rows with the share of rows
  whose label is 1. This is `torchmetrics.functional.classification.binary_calibration_error`.
- shape (rows, classes): *top-label* (Guo et al., On Calibration of Modern Neural Networks, ICML 2017). A bin compares
  the mean confidence (the largest probability of a row) with the share of rows whose most probable class is the label;
  ties go to the first class. This is `multiclass_calibration_error` there.

The two differ for the same yes/no model: P(yes) = 0.1 lies in the second of 15 binary bins and, as a confidence of 0.9
in "no", in the fourteenth top-label bin.

Bins:

- ``equal_width``: edge i is i / bins, correctly rounded. A bin holds its lower edge, the last one both edges.
  torchmetrics agrees except for a probability of exactly 1, which it puts in an extra bin, and for
  probabilities equal to an edge that `torch.linspace` rounds differently (with 15 bins, only 11/15).
- ``equal_mass``: edges are the quantiles of the confidences and a bin holds its upper edge. Equal confidences share a
  bin, so some bins may be empty. This is `sklearn.calibration.calibration_curve(strategy="quantile")`.

The expected calibration error (ECE) is the mean over rows of the gap of the row's bin, the maximum calibration error
(MCE) the largest gap; empty bins do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import OfSums, Statistic, as_numbers, plain_value

Scheme = Literal["equal_width", "equal_mass"]
Norm = Literal["mean", "max"]

# a half-precision softmax sums to one within about 1e-3; a larger gap means these are not probabilities
SUM_TOLERANCE = 5e-3


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Bins of a reliability diagram.

    Attributes
    ----------
    edges
        Bin edges, shape (bins + 1,), increasing (equal-mass edges may repeat).
    count
        Rows in each bin, int64, shape (bins,).
    confidence
        Mean confidence of each bin, shape (bins,); NaN if empty.
    accuracy
        Observed frequency of the outcome in each bin, shape (bins,); NaN if empty.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_bins(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, scheme: Scheme = "equal_width"
) -> ReliabilityBins:
    """Bin predictions by confidence and compute mean confidence and accuracy per bin.

    Parameters
    ----------
    probabilities
        P(yes), shape (rows,), or class probabilities, shape (rows, classes); see the module docstring.
    labels
        True classes 0, 1, ..., shape (rows,).
    bins
        Number of bins.
    scheme
        ``"equal_width"`` or ``"equal_mass"``.

    Returns
    -------
    ReliabilityBins
        One entry per bin, empty bins included.

    Raises
    ------
    ConnectomeBenchError
        If the input is not probabilities with labels, or the binning is invalid.
    """
    confidence, outcome = _confidence_and_outcome(probabilities, labels)
    edges, index = _assign(confidence, bins, scheme)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as documented for an empty bin
        return ReliabilityBins(
            edges,
            count.astype(np.int64),
            np.bincount(index, weights=confidence, minlength=bins) / count,
            np.bincount(index, weights=outcome, minlength=bins) / count,
        )


@dataclass(frozen=True)
class BinRow:
    """One non-empty bin of a reliability diagram; shares in [0, 1], bounds from the Wilson interval."""

    lower_edge: float
    upper_edge: float
    count: int
    stated: float
    found: float
    found_lower: float
    found_upper: float


def bin_rows(bins: ReliabilityBins) -> list[BinRow]:
    """List the non-empty bins with 95% Wilson intervals of the observed frequency."""
    rows = []
    for i, (low, high) in enumerate(pairwise(bins.edges.tolist())):
        count = int(bins.count[i])
        if count:
            found = float(bins.accuracy[i])
            interval = wilson_interval(round(found * count), count)
            rows.append(BinRow(low, high, count, float(bins.confidence[i]), found, *interval))
    return rows


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a proportion (Journal of the American Statistical Association 22, 1927).

    Parameters
    ----------
    successes
        Successes among ``n`` trials.
    n
        Number of trials, at least 1.
    level
        Coverage.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, scheme: Scheme = "equal_width"
) -> float:
    """Return the expected calibration error: the mean over rows of the gap of the row's bin.

    Parameters and errors are those of `reliability_bins`; the result lies in [0, 1].

    Examples
    --------
    >>> from connectomebench import expected_calibration_error
    >>> round(expected_calibration_error([0.9, 0.2], [1, 0]), 3)
    0.15
    """
    statistic = calibration_statistic(probabilities, labels, bins, scheme, "mean")
    return plain_value(statistic, np.shape(probabilities)[0])


def maximum_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, scheme: Scheme = "equal_width"
) -> float:
    """Return the maximum calibration error: the largest gap over the non-empty bins.

    Parameters and errors are those of `reliability_bins`; the result lies in [0, 1].

    Examples
    --------
    >>> from connectomebench import maximum_calibration_error
    >>> round(maximum_calibration_error([0.9, 0.2], [1, 0]), 3)
    0.2
    """
    statistic = calibration_statistic(probabilities, labels, bins, scheme, "max")
    return plain_value(statistic, np.shape(probabilities)[0])


def calibration_statistic(
    probabilities: ArrayLike,
    labels: ArrayLike,
    bins: int = 15,
    scheme: Scheme = "equal_width",
    norm: Norm = "mean",
) -> Statistic:
    """Return the calibration error as a function of row weights; the bins are those of the unweighted rows.

    Parameters
    ----------
    probabilities, labels, bins, scheme
        As for `reliability_bins`.
    norm
        ``"mean"`` for the expected, ``"max"`` for the maximum calibration error.

    Returns
    -------
    Statistic
        Weights of shape (resamples, rows) to errors of shape (resamples,).
    """
    confidence, outcome = _confidence_and_outcome(probabilities, labels)
    _, index = _assign(confidence, bins, scheme)
    in_bin = (index == np.unique(index)[:, np.newaxis]).astype(np.float64)  # (filled bins, rows)
    excess = in_bin * (confidence - outcome)

    filled = len(in_bin)

    def error(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        mass, gap = sums[:, :filled], np.abs(sums[:, filled:])
        if norm == "mean":
            return gap.sum(axis=1) / mass.sum(axis=1)
        return np.divide(gap, mass, out=np.zeros_like(gap), where=mass > 0).max(axis=1)

    return OfSums(np.concatenate([in_bin, excess]), error)


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the Brier score of a yes/no prediction: the mean of (P(yes) - label) squared, in [0, 1].

    Equals `sklearn.metrics.brier_score_loss(labels, probabilities)`.

    Parameters
    ----------
    probabilities
        P(yes), shape (rows,).
    labels
        True classes, 0 or 1, shape (rows,).

    Raises
    ------
    ConnectomeBenchError
        If the input is not probabilities with labels.
    """
    if as_numbers(probabilities, "probabilities").ndim != 1:
        raise ConnectomeBenchError(
            "brier_score takes P(yes), one number per row; use brier_score_multiclass for class probabilities"
        )
    return plain_value(brier_statistic(probabilities, labels), np.shape(probabilities)[0])


def brier_score_multiclass(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the Brier score over classes: the mean over rows of the squared distance to the one-hot label, in [0, 2].

    The definition of Brier (Verification of Forecasts Expressed in Terms of Probability, 1950). With two classes it is
    twice `brier_score`. Equals `sklearn.metrics.brier_score_loss(..., scale_by_half=False)`.

    Parameters
    ----------
    probabilities
        Class probabilities, shape (rows, classes), rows summing to one.
    labels
        True classes 0, 1, ..., shape (rows,).

    Raises
    ------
    ConnectomeBenchError
        If the input is not probabilities with labels.

    Examples
    --------
    >>> from connectomebench import brier_score_multiclass
    >>> round(brier_score_multiclass([[0.8, 0.2], [0.3, 0.7]], [0, 1]), 3)
    0.13
    """
    if as_numbers(probabilities, "probabilities").ndim != 2:
        raise ConnectomeBenchError(
            "brier_score_multiclass takes one probability per class in every row, rows x classes"
        )
    return plain_value(brier_statistic(probabilities, labels), np.shape(probabilities)[0])


def brier_statistic(probabilities: ArrayLike, labels: ArrayLike) -> Statistic:
    """Return the Brier score as a function of row weights: binary for shape (rows,), else over classes."""
    stated, truth = _check(probabilities, labels)
    target = truth if stated.ndim == 1 else np.eye(stated.shape[1])[truth]
    loss = ((stated - target) ** 2).reshape(len(truth), -1).sum(axis=1)
    return OfSums(np.stack([loss, np.ones(len(loss))]), lambda sums: sums[:, 0] / sums[:, 1])


def _confidence_and_outcome(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return stated confidence and outcome, both float64 of shape (rows,)."""
    stated, truth = _check(probabilities, labels)
    if stated.ndim == 1:
        return stated, truth.astype(np.float64)
    return stated.max(axis=1), (stated.argmax(axis=1) == truth).astype(np.float64)


def _assign(confidence: NDArray[np.float64], bins: int, scheme: Scheme) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return bin edges, shape (bins + 1,), and the bin of each row, shape (rows,)."""
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise ConnectomeBenchError(f"bins is {bins!r}; give a whole number of at least 1")
    if scheme == "equal_width":
        edges = np.arange(bins + 1) / bins
        return edges, np.searchsorted(edges[1:-1], confidence, side="right")
    if scheme == "equal_mass":
        edges = np.percentile(confidence, np.linspace(0, 1, bins + 1) * 100)
        return edges, np.searchsorted(edges[1:-1], confidence, side="left")
    raise ConnectomeBenchError(f"unknown binning scheme {scheme!r}; known: {', '.join(get_args(Scheme))}")


def _check(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Validate probabilities and labels; return them as float64 and int64."""
    stated = as_numbers(probabilities, "probabilities")
    truth = as_numbers(labels, "labels")
    if stated.ndim not in (1, 2) or truth.ndim != 1:
        raise ConnectomeBenchError(
            f"probabilities have shape {stated.shape} and labels {truth.shape}; "
            "give (rows,) or (rows, classes) and (rows,)"
        )
    if len(stated) != len(truth):
        raise ConnectomeBenchError(
            f"{len(stated)} rows of probabilities for {len(truth)} labels; give one label per row"
        )
    if len(truth) == 0:
        raise ConnectomeBenchError("there are no rows; give at least one prediction with its label")
    if not np.all((stated >= 0) & (stated <= 1)):  # NaN fails both
        raise ConnectomeBenchError("probabilities must lie in [0, 1]; convert logits to probabilities first")
    classes = 2
    if stated.ndim == 2:
        classes = stated.shape[1]
        if classes < 2 or np.any(np.abs(stated.sum(axis=1) - 1) > SUM_TOLERANCE):
            raise ConnectomeBenchError("class probabilities must have at least two columns and rows that sum to one")
    if not np.all((truth == np.floor(truth)) & (truth >= 0) & (truth < classes)):
        raise ConnectomeBenchError(f"labels must be whole numbers from 0 to {classes - 1}")
    return stated, truth.astype(np.int64)
