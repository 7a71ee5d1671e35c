"""AUROC and selective prediction: metrics of how a model ranks rows.

A selective model answers only the rows it is most confident about. Coverage is the share of rows it answers, risk the
share of wrong answers among them (El-Yaniv and Wiener, JMLR 11, 2010). Tied rows have no order: each answered part of a
tie carries the mean error of the tie, which is the expectation over all orders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import OfGroups, Statistic, as_numbers

Times = NDArray[np.int64]
"""How often each group was drawn, shape (resamples, groups)."""


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Points of a risk-coverage plot, one per distinct confidence, highest first.

    Attributes
    ----------
    confidence
        Rows with at least this confidence are answered, shape (points,), decreasing.
    coverage
        Share of rows answered, shape (points,), increasing to 1.
    risk
        Share of wrong answers among them, shape (points,).
    """

    confidence: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]


def auroc_statistic(probabilities: ArrayLike, labels: ArrayLike) -> Statistic:
    """Return the area under the receiver operating characteristic as a function of row weights.

    The probability that a row labelled 1 scores higher than a row labelled 0, ties counting half. NaN for weights under
    which either class has no rows. Equals `sklearn.metrics.roc_auc_score`.

    Parameters
    ----------
    probabilities
        P(yes), or any increasing function of it, shape (rows,).
    labels
        0 or 1, shape (rows,).
    """
    score, truth = _scores_and_flags(probabilities, labels, "AUROC", "probability", "labels")
    order, starts = _runs(score)
    positive = truth[order]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        ordered = weights[:, order]
        ones = np.add.reduceat(ordered * positive, starts, axis=1)
        zeros = np.add.reduceat(ordered * (1 - positive), starts, axis=1)
        below = np.cumsum(zeros, axis=1) - zeros
        pairs = ones.sum(axis=1) * zeros.sum(axis=1)
        won = (ones * (below + zeros / 2)).sum(axis=1)
        return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)

    def kernel(times: Times, ranked: _Ranked) -> NDArray[np.float64]:
        from connectomebench.evaluation.rank_kernels import auroc_of_groups

        return auroc_of_groups(times, *ranked)

    return _OfRanks(statistic, order, starts, truth == 1, kernel)


def answer_confidence(predicted_yes: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the confidence of each answer: P(yes) for yes, else 1 - P(yes), shape (rows,).

    Parameters
    ----------
    predicted_yes
        Whether the predicted answer is yes, shape (rows,).
    probabilities
        P(yes), shape (rows,).
    """
    probability = as_numbers(probabilities, "probabilities")
    return np.where(np.asarray(predicted_yes, dtype=bool), probability, 1 - probability)


def risk_statistic(confidence: ArrayLike, right: ArrayLike, coverage: float) -> Statistic:
    """Return the risk at a coverage as a function of row weights.

    Parameters
    ----------
    confidence
        Any score that increases with the model's confidence in its answer, shape (rows,).
    right
        Whether the answer is right, 0 or 1, shape (rows,).
    coverage
        Share of rows answered, above 0 and at most 1; the last row may count in part, to meet it exactly.

    Returns
    -------
    Statistic
        Weights of shape (resamples, rows) to risks of shape (resamples,); 0 is best.

    Raises
    ------
    ConnectomeBenchError
        If the shapes differ, there are no rows, a confidence is not finite, or the coverage is not in (0, 1].
    """
    if not 0 < coverage <= 1:
        raise ConnectomeBenchError(f"the coverage is {coverage}; give a share above 0 and at most 1")
    masses = _masses(confidence, right)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mass, wrong = masses(weights)
        reached, wrong_reached = np.cumsum(mass, axis=1), np.cumsum(wrong, axis=1)
        answered = coverage * reached[:, -1]
        # the tie in which the coverage is reached counts in part
        last = np.count_nonzero(reached < answered[:, np.newaxis], axis=1)
        resample = np.arange(len(weights))
        left_over = reached[resample, last] - answered
        share = wrong[resample, last] / mass[resample, last]
        return (wrong_reached[resample, last] - left_over * share) / answered

    def kernel(times: Times, ranked: _Ranked) -> NDArray[np.float64]:
        from connectomebench.evaluation.rank_kernels import risk_of_groups

        return risk_of_groups(times, *ranked, coverage)

    return _OfRanks(statistic, *_ranking(confidence, right), kernel)


def aurc_statistic(confidence: ArrayLike, right: ArrayLike) -> Statistic:
    """Return the area under the risk-coverage curve as a function of row weights.

    The mean of the risk over the coverages 1/n, 2/n, ..., 1 (Geifman, Uziel and El-Yaniv, ICLR 2019), n being the sum
    of the weights. For a random ranking the expectation is the error rate.

    Parameters
    ----------
    confidence, right
        As for `risk_statistic`.

    Returns
    -------
    Statistic
        Weights of shape (resamples, rows) to areas of shape (resamples,); 0 is best.
    """
    from scipy.special import digamma

    masses = _masses(confidence, right)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mass, wrong = masses(weights)
        reached = np.cumsum(mass, axis=1)
        # harmonic numbers: the sum of 1/k over the rows of a tie is the difference of two of them
        harmonic = digamma(np.concatenate([np.zeros((len(mass), 1)), reached], axis=1) + 1)
        share = _share(wrong, mass)
        excess = np.cumsum(wrong, axis=1) - wrong - share * (reached - mass)
        return (mass * share + excess * np.diff(harmonic, axis=1)).sum(axis=1) / reached[:, -1]

    def kernel(times: Times, ranked: _Ranked) -> NDArray[np.float64]:
        from connectomebench.evaluation.rank_kernels import aurc_of_groups

        most = int((times @ np.bincount(ranked.groups, minlength=times.shape[1])).max())
        return aurc_of_groups(times, *ranked, digamma(np.arange(most + 1) + 1.0))

    return _OfRanks(statistic, *_ranking(confidence, right), kernel)


def risk_coverage_curve(confidence: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """Return the points of a risk-coverage plot.

    Parameters and errors are those of `aurc_statistic`.
    """
    mass, wrong = (found[0] for found in _masses(confidence, right)(np.ones((1, np.size(confidence)))))
    answered = np.cumsum(mass)
    return RiskCoverage(np.unique(confidence)[::-1], answered / answered[-1], np.cumsum(wrong) / answered)


Masses = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Maps weights to the mass of each tie, highest confidence first, and the mass of its wrong answers."""


def _masses(confidence: ArrayLike, right: ArrayLike) -> Masses:
    order, starts, is_wrong = _ranking(confidence, right)
    wrong = is_wrong[order].astype(np.float64)

    def masses(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ordered = weights[:, order]
        if len(starts) == len(order):  # no ties: nothing to add up
            return ordered, ordered * wrong
        return np.add.reduceat(ordered, starts, axis=1), np.add.reduceat(ordered * wrong, starts, axis=1)

    return masses


def _ranking(confidence: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return rows by decreasing confidence, where each tie starts among them, and whether each row is wrong."""
    score, hit = _scores_and_flags(confidence, right, "a risk", "confidence", "right")
    return *_runs(-score), hit == 0


class _Ranked(NamedTuple):
    """Rows in the order of a ranking: group, flag, and whether a row is the last of a tie."""

    groups: NDArray[np.int32]
    flags: NDArray[np.bool_]
    last: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _OfRanks:
    """A statistic of ranked rows; see :class:`connectomebench.evaluation.weighted_statistics.Grouped`."""

    plain: Statistic
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    flags: NDArray[np.bool_]
    kernel: Callable[[Times, _Ranked], NDArray[np.float64]]

    def __call__(self, weights: NDArray[np.float64], /) -> NDArray[np.float64]:
        return self.plain(weights)

    def of_groups(self, group_of_row: NDArray[np.intp], n_groups: int) -> OfGroups:
        last = np.zeros(len(self.order), bool)
        last[self.starts - 1] = True  # before the first tie comes the last row
        ranked = _Ranked(group_of_row[self.order].astype(np.int32), self.flags[self.order], last)
        return lambda times: self.kernel(times, ranked)


def _share(wrong: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(wrong, mass, out=np.zeros_like(wrong), where=mass > 0)


def _runs(score: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row order by increasing score, and where each tie starts in it."""
    order = np.argsort(score, kind="stable")
    return order, np.flatnonzero(np.diff(score[order], prepend=-np.inf))


def _scores_and_flags(
    scores: ArrayLike, flags: ArrayLike, what: str, of: str, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    score, flag = as_numbers(scores, of), as_numbers(flags, name)
    if score.ndim != 1 or score.shape != flag.shape or not len(score) or not np.all(np.isfinite(score)):
        raise ConnectomeBenchError(f"{what} takes one finite {of} and one of {name} per row, for at least one row")
    if not np.all((flag == 0) | (flag == 1)):
        raise ConnectomeBenchError(f"{name} must be 0 or 1")
    return score, flag
