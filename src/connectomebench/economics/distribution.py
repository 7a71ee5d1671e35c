"""Statistics of edits a neuron, with 95% bootstrap intervals over neurons.

A heavy-tailed neuron has more edits than the 95th percentile of its sample (linear interpolation, as numpy's default).
Every statistic is computed again on each resample, the threshold of the tail too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.economics.edit_table import EditTable
from connectomebench.evaluation.statistics import RESAMPLES, Estimate, bootstrap_intervals, independent_difference
from connectomebench.evaluation.weighted_statistics import Statistic, weighted_sums

PERCENTILES = (25, 50, 75, 90, 95, 99)
TAIL = 95
"""Percentile above which a neuron is in the heavy tail."""


@dataclass(frozen=True)
class Tail:
    """Neurons above the threshold.

    Attributes
    ----------
    threshold
        Edits: the 95th percentile.
    neurons
        How many have more.
    neuron_share, edit_share
        Their share of all neurons, and of all edits (NaN where there are no edits).
    """

    threshold: float
    neurons: int
    neuron_share: float
    edit_share: float


@dataclass(frozen=True)
class Distribution:
    """Edits of one sample.

    Attributes
    ----------
    table
        The sample.
    population
        Neurons that the sample stands for; None where nothing is extrapolated.
    estimates
        Values with intervals: ``mean``, ``median``, ``sd``, ``p25`` to ``p99``, ``merge_share``, ``tail_share`` (of
        edits), and with a population ``total``.
    smallest, largest
        Range of edits a neuron.
    tail
        The heavy tail.
    """

    table: EditTable
    population: int | None
    estimates: dict[str, Estimate]
    smallest: int
    largest: int
    tail: Tail


@dataclass(frozen=True)
class SampleDifference:
    """How a smaller sample of a population differs from a larger one.

    Attributes
    ----------
    small, large
        Names of the samples.
    statistic
        ``mean``, ``total`` or ``tail_share``.
    difference
        Smaller minus larger, with an interval.
    relative
        The same as a share of the larger sample's value.
    """

    small: str
    large: str
    statistic: str
    difference: Estimate
    relative: float


def describe(
    table: EditTable, population: int | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> Distribution:
    """Compute the statistics of a sample.

    Parameters
    ----------
    table
        The sample, at least one neuron; intervals need two.
    population
        Neurons to extrapolate to: mean times this number.
    resamples, seed
        Of the bootstrap. Neurons are drawn with replacement, as from a population much larger than the sample, so
        intervals are somewhat too wide where the sample is a large part of it.

    Raises
    ------
    ConnectomeBenchError
        If the population is smaller than the sample.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench.economics.distribution import describe
    >>> from connectomebench.economics.edit_table import EditTable
    >>> table = EditTable("two", np.array([1, 2], np.uint64), np.array([1, 3]), np.array([1, 3]))
    >>> found = describe(table, 1000)
    >>> found.estimates["mean"].value, found.estimates["total"].value
    (4.0, 4000.0)
    """
    if population is not None and population < len(table):
        raise ConnectomeBenchError(
            f"{table.name}: the population of {population:,} is smaller than the sample of {len(table):,}; give the "
            "number of neurons that the sample was drawn from"
        )
    estimates = bootstrap_intervals(
        _statistics(table, population), np.arange(len(table)), resamples=resamples, seed=seed
    )
    edits = table.edits
    return Distribution(table, population, estimates, int(edits.min()), int(edits.max()), heavy_tail(edits))


def heavy_tail(edits: NDArray[np.int64]) -> Tail:
    """Find the neurons above the 95th percentile.

    Parameters
    ----------
    edits
        Of each neuron, shape (n,).
    """
    threshold = float(np.percentile(edits, TAIL))
    above = edits > threshold
    total = int(edits.sum())
    share = float(edits[above].sum() / total) if total else float("nan")
    return Tail(threshold, int(above.sum()), float(above.mean()), share)


def compare_samples(
    small: Distribution, large: Distribution, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[SampleDifference]:
    """Check whether a smaller sample would have been enough.

    Parameters
    ----------
    small, large
        Samples of the same population, drawn independently.
    resamples, seed
        Of the bootstrap.

    Returns
    -------
    list of SampleDifference
        Of the mean, of the total where both have a population, and of the heavy tail's share of edits.
    """
    ours, theirs = (_statistics(d.table, d.population) for d in (small, large))
    found = []
    for name in ("mean", "total", "tail_share"):
        if name not in ours or name not in theirs:
            continue
        difference = independent_difference(
            ours[name],
            np.arange(len(small.table)),
            theirs[name],
            np.arange(len(large.table)),
            resamples=resamples,
            seed=seed,
        )
        reference = large.estimates[name].value
        relative = difference.value / reference if reference else float("nan")
        found.append(SampleDifference(small.table.name, large.table.name, name, difference, relative))
    return found


def _statistics(table: EditTable, population: int | None) -> dict[str, Statistic]:
    edits = table.edits.astype(np.float64)
    mean = mean_statistic(edits)
    found: dict[str, Statistic] = {"mean": mean, "median": percentile_statistic(edits, 50), "sd": _sd(edits)}
    found |= {f"p{q}": percentile_statistic(edits, q) for q in PERCENTILES}
    found["merge_share"] = _share(table.merges.astype(np.float64), edits)
    found["tail_share"] = _tail_share(edits)
    if population is not None:
        found["total"] = lambda weights: population * mean(weights)
    return found


def mean_statistic(values: NDArray[np.float64]) -> Statistic:
    """Return the mean as a function of row weights; values have shape (rows,)."""
    return lambda weights: weighted_sums(weights, values[np.newaxis])[:, 0] / weights.sum(axis=1)


def _sd(values: NDArray[np.float64]) -> Statistic:
    """Sample standard deviation (n - 1); NaN for a single neuron."""
    centred = values - values.mean()  # or large means would cancel digits

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        n = weights.sum(axis=1)
        first, second = weighted_sums(weights, np.stack([centred, centred**2])).T
        spread = np.maximum(second - first**2 / n, 0)
        return np.sqrt(np.divide(spread, n - 1, out=np.full_like(n, np.nan), where=n > 1))

    return statistic


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Statistic:
    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        top, bottom = weighted_sums(weights, np.stack([part, whole])).T
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    return statistic


def percentile_statistic(values: NDArray[np.float64], q: float) -> Statistic:
    """Return a percentile (0 to 100) as a function of whole row weights, equal to numpy's of repeated rows."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _at(ordered, np.cumsum(weights[:, order], axis=1), q)

    return statistic


def _at(ordered: NDArray[np.float64], counts: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """Interpolate a percentile between the two nearest of the repeated values, as ``numpy.percentile`` does."""
    place = (counts[:, -1] - 1) * (q / 100)
    low = np.floor(place)
    last = len(ordered) - 1
    # the k-th of the repeated values (from 0) is the first whose running count is above k
    below = np.minimum((counts <= low[:, np.newaxis]).sum(axis=1), last)
    above = np.minimum((counts <= np.minimum(low + 1, counts[:, -1] - 1)[:, np.newaxis]).sum(axis=1), last)
    return ordered[below] + (place - low) * (ordered[above] - ordered[below])


def _tail_share(values: NDArray[np.float64]) -> Statistic:
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sorted_weights = weights[:, order]
        threshold = _at(ordered, np.cumsum(sorted_weights, axis=1), TAIL)
        mass = sorted_weights * ordered
        total = mass.sum(axis=1)
        tail = np.where(ordered > threshold[:, np.newaxis], mass, 0.0).sum(axis=1)
        return np.divide(tail, total, out=np.full_like(total, np.nan), where=total > 0)

    return statistic


def by_size(distributions: Sequence[Distribution]) -> list[Distribution]:
    """Sort samples from the smallest to the largest."""
    return sorted(distributions, key=lambda d: len(d.table))
