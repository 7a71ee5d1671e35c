"""Balanced accuracy, and bootstrap intervals and differences over groups.

Rows of one group (a body, a segment, a place) are not independent, so groups are resampled instead of rows: a resample
draws as many groups as there are, with replacement, and repeats all rows of a group as often as it was drawn. Groups
of unequal size make resamples of unequal size, as intended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import (
    Grouped,
    OfGroups,
    OfSums,
    Statistic,
    check_weights,
    plain_value,
)

Method = Literal["percentile", "basic"]

RESAMPLES = 2000
# weights held in memory at once, small enough for the CPU cache; the result does not depend on it
_CHUNK = 1 << 16
# with more rows, sums are taken over groups, and rankings without the weights of rows: same values but for rounding
_MANY_ROWS = 5_000


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval.

    Attributes
    ----------
    value
        The statistic on all rows; NaN if undefined.
    lower, upper
        Interval bounds; NaN without interval (fewer than two groups, or an undefined value).
    n
        Number of rows.
    n_groups
        Number of groups, the independent units. Below about ten, intervals are too narrow.
    resamples
        Number of resamples with a defined statistic, on which the interval is based.
    """

    value: float
    lower: float
    upper: float
    n: int
    n_groups: int
    resamples: int


@dataclass(frozen=True)
class PairedDifference(Estimate):
    """Difference of the first minus the second model on the same rows.

    Attributes
    ----------
    p
        Two-sided bootstrap p-value of no difference; NaN without interval.
    """

    p: float


def balanced_accuracy(
    predictions: ArrayLike, labels: ArrayLike, sample_weight: ArrayLike | None = None, adjusted: bool = False
) -> float:
    """Return the mean recall over the classes in ``labels``.

    Equals `sklearn.metrics.balanced_accuracy_score`. A prediction outside the classes of ``labels`` is wrong.

    Parameters
    ----------
    predictions, labels
        Predicted and true classes (whole numbers or text), shape (rows,).
    sample_weight
        Weights of the rows, shape (rows,); classes with zero total weight do not count.
    adjusted
        Rescale so that chance is 0 and a perfect prediction is 1.

    Raises
    ------
    ConnectomeBenchError
        If shapes differ, there are no rows, or ``adjusted`` is used with a single class.

    Examples
    --------
    >>> from connectomebench import balanced_accuracy
    >>> round(balanced_accuracy(["yes", "yes", "no", "no"], ["yes", "yes", "yes", "no"]), 3)
    0.833
    """
    predicted, truth = _check_classes(predictions, labels)
    weights = np.ones(len(truth)) if sample_weight is None else check_weights(sample_weight, len(truth))
    counts = weights > 0
    predicted, truth, weights = predicted[counts], truth[counts], weights[counts]
    value = plain_value(balanced_accuracy_statistic(predicted, truth), len(truth), weights)
    if not adjusted:
        return value
    classes = len(np.unique(truth))
    if classes < 2:
        raise ConnectomeBenchError("adjusted balanced accuracy needs at least two classes among the true labels")
    return (value - 1 / classes) / (1 - 1 / classes)


def balanced_accuracy_statistic(predictions: ArrayLike, labels: ArrayLike) -> Statistic:
    """Return balanced accuracy as a function of row weights.

    NaN for weights under which a class of ``labels`` has no rows: dropping the class would change the quantity.
    """
    predicted, truth = _check_classes(predictions, labels)
    members = (truth == np.unique(truth)[:, np.newaxis]).astype(np.float64)  # (classes, rows)
    hits = members * (predicted == truth)
    classes = len(members)

    def mean_recall(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        mass = sums[:, :classes]
        recall = np.divide(sums[:, classes:], mass, out=np.full_like(mass, np.nan), where=mass > 0)
        return recall.mean(axis=1)

    return OfSums(np.concatenate([members, hits]), mean_recall)


def two_class_balanced_accuracy_statistic(predictions: ArrayLike, labels: ArrayLike) -> Statistic:
    """Return balanced accuracy as a function of row weights; NaN if ``labels`` hold a single class.

    With a single class, always giving that answer would score 1.
    """
    if len(np.unique(np.asarray(labels))) > 1:
        return balanced_accuracy_statistic(predictions, labels)
    return lambda weights: np.full(len(weights), np.nan)


def bootstrap_interval(
    statistic: Statistic,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Estimate a statistic and its interval by bootstrap over groups.

    Resamples with an undefined statistic (balanced accuracy and AUROC if a class drew no rows) are left out, so the
    interval is conditional on every class being drawn; `Estimate.resamples` counts those that remain.

    Parameters
    ----------
    statistic
        Function of row weights, for example from `balanced_accuracy_statistic`.
    groups
        Group of each row, shape (rows,).
    resamples, seed
        Number of resamples and their seed.
    level
        Nominal coverage.
    method
        ``"percentile"``: quantiles of the resampled values. ``"basic"``: twice the value minus those quantiles, which
        corrects the bias of statistics that grow with noise, such as calibration errors: resampling adds noise, so
        their percentile intervals are too high unless the error exceeds the noise in every bin.
    bounds
        Minimum and maximum of the statistic; the interval is clipped to them.

    Returns
    -------
    Estimate
        The interval always contains the value (it is widened if necessary).

    Raises
    ------
    ConnectomeBenchError
        If there are no rows, or ``resamples`` or ``level`` is invalid.
    """
    basic = ["value"] if method == "basic" else []
    found = bootstrap_intervals(
        {"value": statistic}, groups, resamples=resamples, seed=seed, level=level, basic=basic, bounds=bounds
    )
    return found["value"]


def bootstrap_intervals(
    statistics: Mapping[str, Statistic],
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    basic: Collection[str] = (),
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> dict[str, Estimate]:
    """Estimate several statistics of the same rows on shared resamples; each equals `bootstrap_interval`.

    Parameters
    ----------
    statistics
        Statistics by name, all built on the rows of ``groups``.
    basic
        Names of those with a basic interval.
    groups, resamples, seed, level, bounds
        As for `bootstrap_interval`.

    Returns
    -------
    dict
        Estimates by name.
    """
    values, drawn, n, n_groups = _bootstrap(list(statistics.values()), groups, resamples, seed)
    found = {}
    for name, value, resampled in zip(statistics, values, drawn, strict=True):
        defined = resampled[np.isfinite(resampled)]
        lower, upper = _interval(value, defined, level, "basic" if name in basic else "percentile", bounds)
        found[name] = Estimate(value, lower, upper, n, n_groups, len(defined))
    return found


def paired_difference(
    first: Statistic,
    second: Statistic,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> PairedDifference:
    """Estimate the difference of a statistic between two models on the same rows by paired bootstrap over groups.

    Both models share each resample, so that row difficulty cancels. The p-value is twice the smaller share of resamples
    on either side of zero, with one added to both counts, so it is at least 2 / (resamples + 1).

    Parameters
    ----------
    first, second
        Statistic of each model, built on rows in the same order.
    groups
        Group of each row, shape (rows,).
    resamples, seed, level
        As for `bootstrap_interval`, with the percentile method.

    Returns
    -------
    PairedDifference
        First minus second.
    """
    [value], [drawn], n, n_groups = _bootstrap([_Difference(first, second)], groups, resamples, seed)
    drawn = drawn[np.isfinite(drawn)]
    lower, upper = _interval(value, drawn, level, "percentile", (-np.inf, np.inf))
    p = float("nan")
    if len(drawn):
        tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
        p = min(1.0, float(2 * (tail + 1) / (len(drawn) + 1)))
    return PairedDifference(value, lower, upper, n, n_groups, len(drawn), p)


def independent_difference(
    first: Statistic,
    first_groups: ArrayLike,
    second: Statistic,
    second_groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate the difference of a statistic between two sets of rows without shared groups, resampled independently.

    Parameters
    ----------
    first, second
        The statistic on each set of rows.
    first_groups, second_groups
        Groups of their rows, shape (rows,).
    resamples, seed, level
        As for `bootstrap_interval`, with the percentile method.

    Returns
    -------
    Estimate
        First minus second; ``n`` and ``n_groups`` count both sets. No interval if either set has fewer than two
        groups.
    """
    [one], [drawn], n, n_groups = _bootstrap([first], first_groups, resamples, seed)
    # draws independent of the first, even if both have as many groups
    [other], [drawn_other], n_other, n_groups_other = _bootstrap([second], second_groups, resamples, (seed, 1))
    both = drawn - drawn_other if len(drawn) == len(drawn_other) else np.empty(0)
    both = both[np.isfinite(both)]
    lower, upper = _interval(one - other, both, level, "percentile", (-np.inf, np.inf))
    return Estimate(one - other, lower, upper, n + n_other, n_groups + n_groups_other, len(both))


def _bootstrap(
    statistics: Sequence[Statistic], groups: ArrayLike, resamples: int, seed: int | tuple[int, ...]
) -> tuple[list[float], list[NDArray[np.float64]], int, int]:
    """Return values, resampled values (empty without interval), and the numbers of rows and groups."""
    names = np.asarray(groups)
    if names.ndim != 1 or len(names) == 0:
        raise ConnectomeBenchError(f"groups have shape {names.shape}; give the group of each row, for at least one row")
    if resamples < 1:
        raise ConnectomeBenchError(f"resamples is {resamples}; give at least 1")
    unique, group_of_row = np.unique(names, return_inverse=True)
    values = [plain_value(statistic, len(names)) for statistic in statistics]
    drawn = [np.full(resamples if np.isfinite(value) and len(unique) > 1 else 0, np.nan) for value in values]
    if any(map(len, drawn)):
        many = len(names) > _MANY_ROWS
        counted = [
            _of_groups(one, group_of_row, len(unique)) if many else _of_rows(one, group_of_row) for one in statistics
        ]
        done = 0
        for times in _resampled_groups(len(unique), len(names), many, resamples, seed):
            part = slice(done, done + len(times))
            done = part.stop
            for statistic, resampled in zip(counted, drawn, strict=True):
                if len(resampled):
                    resampled[part] = statistic(times)
    return values, drawn, len(names), len(unique)


def _resampled_groups(
    n_groups: int, n_rows: int, many: bool, resamples: int, seed: int | tuple[int, ...]
) -> Iterator[NDArray[np.int64]]:
    """Yield how often each group was drawn, in chunks of shape (resamples of the chunk, groups)."""
    generator = np.random.default_rng(seed)
    chance = np.full(n_groups, 1 / n_groups)
    step = max(1, 16 * _CHUNK // n_groups if many else _CHUNK // n_rows)
    for start in range(0, resamples, step):
        yield generator.multinomial(n_groups, chance, size=min(step, resamples - start))


def _of_rows(statistic: Statistic, group_of_row: NDArray[np.intp]) -> OfGroups:
    """Return a statistic of row weights as one of groups drawn."""
    return lambda times: statistic(times[:, group_of_row].astype(np.float64))


def _of_groups(statistic: Statistic, group_of_row: NDArray[np.intp], n_groups: int) -> OfGroups:
    """Return a statistic as one of groups drawn; one that needs row weights takes few resamples at a time."""
    if isinstance(statistic, Grouped):
        return statistic.of_groups(group_of_row, n_groups)
    of_rows = _of_rows(statistic, group_of_row)
    step = max(1, _CHUNK // len(group_of_row))
    return lambda times: np.concatenate([of_rows(times[i : i + step]) for i in range(0, len(times), step)])


@dataclass(frozen=True, eq=False)
class _Difference:
    """The difference of two statistics of the same rows."""

    first: Statistic
    second: Statistic

    def __call__(self, weights: NDArray[np.float64], /) -> NDArray[np.float64]:
        return self.first(weights) - self.second(weights)

    def of_groups(self, group_of_row: NDArray[np.intp], n_groups: int) -> OfGroups:
        one, other = (_of_groups(statistic, group_of_row, n_groups) for statistic in (self.first, self.second))
        return lambda times: one(times) - other(times)


def _interval(
    value: float, drawn: NDArray[np.float64], level: float, method: Method, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return lower and upper bound from resampled values; NaN if there are none."""
    if not 0 < level < 1:
        raise ConnectomeBenchError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    if len(drawn) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    if method == "basic":
        low, high = 2 * value - high, 2 * value - low
    low, high = np.clip([low, high], *bounds)
    return float(min(low, value)), float(max(high, value))


def _check_classes(predictions: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    """Validate predictions and labels; return comparable arrays of shape (rows,)."""
    predicted, truth = (
        np.asarray(a.tolist()) if a.dtype == object else a for a in map(np.asarray, (predictions, labels))
    )
    if predicted.ndim != 1 or predicted.shape != truth.shape:
        raise ConnectomeBenchError(
            f"{predicted.shape} predictions for {truth.shape} labels; give one predicted and one true class per row"
        )
    if len(truth) == 0:
        raise ConnectomeBenchError("there are no rows; give at least one prediction with its label")
    if not {predicted.dtype.kind, truth.dtype.kind} <= set("Ubiuf"):
        raise ConnectomeBenchError("classes must be whole numbers or text, one in every row")
    kinds = {"text" if array.dtype.kind == "U" else "number" for array in (predicted, truth)}
    if len(kinds) > 1:
        raise ConnectomeBenchError("predictions and labels must both be numbers or both be text")
    if any(array.dtype.kind == "f" and np.any(array != np.floor(array)) for array in (predicted, truth)):
        raise ConnectomeBenchError("classes must be whole numbers or text, not probabilities")
    return predicted, truth
