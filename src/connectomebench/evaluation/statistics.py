"""Balanced accuracy, and intervals and differences by bootstrap over groups.

Rows of one group (a body, a segment, a place) are not independent, so groups and not rows are drawn: a resample draws
as many groups as there are, with replacement, and takes all rows of a group as often as the group was drawn. Groups of
unequal size make resamples of unequal size, as they should.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import (
    Statistic,
    check_weights,
    plain_value,
    weighted_sums,
)

Method = Literal["percentile", "basic"]

RESAMPLES = 2000
# weights held in memory at once, few enough for the cache of a processor; the result does not depend on it
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes
    ----------
    value
        The statistic on all rows; NaN where it is undefined.
    lower, upper
        Bounds of the interval; NaN where there is none (fewer than two groups, or an undefined value).
    n
        Number of rows.
    n_groups
        Number of groups, the independent units. Below about ten, intervals come out too narrow.
    resamples
        Number of resamples for which the statistic was defined and on which the interval rests.
    """

    value: float
    lower: float
    upper: float
    n: int
    n_groups: int
    resamples: int


@dataclass(frozen=True)
class PairedDifference(Estimate):
    """First minus second model on the same rows.

    Attributes
    ----------
    p
        Two-sided bootstrap p-value of no difference; NaN where there is no interval.
    """

    p: float


def balanced_accuracy(
    predictions: ArrayLike, labels: ArrayLike, sample_weight: ArrayLike | None = None, adjusted: bool = False
) -> float:
    """Return the mean over the classes in ``labels`` of the share of their rows that were predicted right.

    Equals `sklearn.metrics.balanced_accuracy_score`. A prediction outside the classes of ``labels`` is wrong.

    Parameters
    ----------
    predictions, labels
        Predicted and true classes (whole numbers or text), shape (rows,).
    sample_weight
        Weights of the rows, shape (rows,); classes whose rows all weigh nothing do not count.
    adjusted
        Rescale so that chance is 0 and a perfect prediction stays 1.

    Raises
    ------
    ConnectomeBenchError
        If shapes differ, there are no rows, or ``adjusted`` meets a single class, where chance is already perfect.
    """
    said, truth = _check_classes(predictions, labels)
    weights = np.ones(len(truth)) if sample_weight is None else check_weights(sample_weight, len(truth))
    counts = weights > 0
    said, truth, weights = said[counts], truth[counts], weights[counts]
    value = plain_value(balanced_accuracy_statistic(said, truth), len(truth), weights)
    if not adjusted:
        return value
    classes = len(np.unique(truth))
    if classes < 2:
        raise ConnectomeBenchError("adjusted balanced accuracy needs at least two classes among the true labels")
    return (value - 1 / classes) / (1 - 1 / classes)


def balanced_accuracy_statistic(predictions: ArrayLike, labels: ArrayLike) -> Statistic:
    """Return balanced accuracy as a function of row weights.

    NaN for weights under which a class of ``labels`` has no rows: leaving the class out would measure something else.
    """
    said, truth = _check_classes(predictions, labels)
    members = (truth == np.unique(truth)[:, np.newaxis]).astype(np.float64)  # (classes, rows)
    hits = members * (said == truth)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mass = weighted_sums(weights, members)
        recall = np.divide(weighted_sums(weights, hits), mass, out=np.full_like(mass, np.nan), where=mass > 0)
        return recall.mean(axis=1)

    return statistic


def two_class_balanced_accuracy_statistic(predictions: ArrayLike, labels: ArrayLike) -> Statistic:
    """Return balanced accuracy as a function of row weights; NaN where ``labels`` hold one class alone.

    There the share of right answers is no balance: whoever always gives that answer has 1.
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
    """Estimate a statistic with an interval by bootstrap over groups.

    Resamples for which the statistic is undefined (balanced accuracy and AUROC where a class drew no rows) are left
    out, so the interval is conditional on every class being drawn; `Estimate.resamples` says how many remain.

    Parameters
    ----------
    statistic
        Function of row weights, such as `balanced_accuracy_statistic` returns.
    groups
        Group of each row, shape (rows,).
    resamples, seed
        How many resamples, and the seed they are drawn with.
    level
        Coverage aimed at.
    method
        ``"percentile"``: quantiles of the resampled values. ``"basic"``: twice the value minus those quantiles, which
        makes up for the bias of statistics that grow with noise, such as calibration errors: resampling adds noise, so
        their percentile intervals lie too high unless the error stands clear of the noise in every bin.
    bounds
        Least and greatest possible value of the statistic; the interval is cut there.

    Returns
    -------
    Estimate
        The interval always holds the value (it is widened to it where resampling says otherwise).

    Raises
    ------
    ConnectomeBenchError
        If there are no rows, or ``resamples`` or ``level`` make no sense.
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
    """Estimate several statistics of the same rows on the same resamples; each comes out as by `bootstrap_interval`.

    Parameters
    ----------
    statistics
        By name; all built on the rows that ``groups`` describes.
    basic
        Names of those whose interval is the basic one.
    groups, resamples, seed, level, bounds
        As for `bootstrap_interval`.

    Returns
    -------
    dict
        The estimates, by name.
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
    """Estimate the difference of a statistic between two models on the same rows, by bootstrap over groups.

    Each resample is given to both models, so what makes a row hard for both cancels. The p-value is twice the smaller
    share of resamples on either side of zero, one added to both counts, so it is never below 2 / (resamples + 1).

    Parameters
    ----------
    first, second
        The statistic of each model, built on rows in the same order.
    groups
        Group of each row, shape (rows,).
    resamples, seed, level
        As for `bootstrap_interval`, with the percentile method.

    Returns
    -------
    PairedDifference
        First minus second.
    """

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return first(weights) - second(weights)

    [value], [drawn], n, n_groups = _bootstrap([difference], groups, resamples, seed)
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
    """Estimate the difference of a statistic between two sets of rows that share no groups: each is drawn by itself.

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
        First minus second; ``n`` and ``n_groups`` count both sets. No interval where either set has fewer than two
        groups.
    """
    [one], [drawn], n, n_groups = _bootstrap([first], first_groups, resamples, seed)
    # other draws than those of the first, even where both have as many groups
    [other], [drawn_other], n_other, n_groups_other = _bootstrap([second], second_groups, resamples, (seed, 1))
    both = drawn - drawn_other if len(drawn) == len(drawn_other) else np.empty(0)
    both = both[np.isfinite(both)]
    lower, upper = _interval(one - other, both, level, "percentile", (-np.inf, np.inf))
    return Estimate(one - other, lower, upper, n + n_other, n_groups + n_groups_other, len(both))


def _bootstrap(
    statistics: Sequence[Statistic], groups: ArrayLike, resamples: int, seed: int | tuple[int, ...]
) -> tuple[list[float], list[NDArray[np.float64]], int, int]:
    """Return values, resampled values (none where there can be no interval), and the numbers of rows and groups."""
    names = np.asarray(groups)
    if names.ndim != 1 or len(names) == 0:
        raise ConnectomeBenchError(f"groups have shape {names.shape}; give the group of each row, for at least one row")
    if resamples < 1:
        raise ConnectomeBenchError(f"resamples is {resamples}; give at least 1")
    unique, group_of_row = np.unique(names, return_inverse=True)
    values = [plain_value(statistic, len(names)) for statistic in statistics]
    drawn = [np.full(resamples if np.isfinite(value) and len(unique) > 1 else 0, np.nan) for value in values]
    if any(map(len, drawn)):
        done = 0
        for weights in _resampled_weights(group_of_row, len(unique), resamples, seed):
            part = slice(done, done + len(weights))
            done = part.stop
            for statistic, resampled in zip(statistics, drawn, strict=True):
                if len(resampled):
                    resampled[part] = statistic(weights)
    return values, drawn, len(names), len(unique)


def _resampled_weights(
    group_of_row: NDArray[np.intp], n_groups: int, resamples: int, seed: int | tuple[int, ...]
) -> Iterator[NDArray[np.float64]]:
    """Yield row weights, a few resamples at a time, each of shape (resamples of this part, rows)."""
    generator = np.random.default_rng(seed)
    chance = np.full(n_groups, 1 / n_groups)
    step = max(1, _CHUNK // len(group_of_row))
    for start in range(0, resamples, step):
        times = generator.multinomial(n_groups, chance, size=min(step, resamples - start))
        yield times[:, group_of_row].astype(np.float64)


def _interval(
    value: float, drawn: NDArray[np.float64], level: float, method: Method, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Turn resampled values into lower and upper bound; NaN where nothing was resampled."""
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
    """Return predictions and labels as arrays of shape (rows,) that can be compared."""
    said, truth = (np.asarray(a.tolist()) if a.dtype == object else a for a in map(np.asarray, (predictions, labels)))
    if said.ndim != 1 or said.shape != truth.shape:
        raise ConnectomeBenchError(
            f"{said.shape} predictions for {truth.shape} labels; give one predicted and one true class a row"
        )
    if len(truth) == 0:
        raise ConnectomeBenchError("there are no rows; give at least one prediction with its label")
    if not {said.dtype.kind, truth.dtype.kind} <= set("Ubiuf"):
        raise ConnectomeBenchError("classes must be whole numbers or text, one in every row")
    kinds = {"text" if array.dtype.kind == "U" else "number" for array in (said, truth)}
    if len(kinds) > 1:
        raise ConnectomeBenchError("predictions and labels must both be numbers or both be text")
    if any(array.dtype.kind == "f" and np.any(array != np.floor(array)) for array in (said, truth)):
        raise ConnectomeBenchError("classes must be whole numbers or text, not probabilities")
    return said, truth
