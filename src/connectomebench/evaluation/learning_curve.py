"""Learning curves: error against training samples as a power law, and how many samples reach a level.

The curve is ``error(n) = scale * n ** -exponent + floor`` (Hestness et al., Deep Learning Scaling is Predictable,
Empirically, 2017), with an error of one minus balanced accuracy. Intervals resample the groups of the test rows, the
same for all runs, and the training seeds of each size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.statistics import balanced_accuracy_statistic

FEWEST_SIZES = 4
"""A power law has three numbers; with fewer sizes than this it is not determined."""
_EXPONENTS = np.linspace(0.02, 2.0, 100)


@dataclass(frozen=True)
class PowerLaw:
    """``error(n) = scale * n ** -exponent + floor``, all three not below 0."""

    scale: float
    exponent: float
    floor: float

    def error(self, samples: ArrayLike) -> NDArray[np.float64]:
        """Return the error at some numbers of samples, shape as given."""
        return self.scale * np.asarray(samples, np.float64) ** -self.exponent + self.floor

    def samples_to_reach(self, error: float) -> float:
        """Return how many samples reach an error; infinite where the curve never does.

        Examples
        --------
        >>> from connectomebench.evaluation.learning_curve import PowerLaw
        >>> PowerLaw(1.0, 0.5, 0.0).samples_to_reach(0.1)
        100.0
        >>> PowerLaw(1.0, 0.5, 0.2).samples_to_reach(0.1)
        inf
        """
        if error <= self.floor or self.scale == 0:
            return 1.0 if self.error(1) <= error else math.inf
        with np.errstate(over="ignore"):
            found = np.float64((error - self.floor) / self.scale) ** (-1 / self.exponent)
        return max(1.0, round(float(found), 9))


def fit_power_law(samples: ArrayLike, errors: ArrayLike, weights: ArrayLike | None = None) -> PowerLaw:
    """Fit a power law by weighted least squares.

    For each exponent of a fine grid, scale and floor follow from linear least squares with both not below 0; the best
    exponent is kept. That finds the global minimum, where a gradient would stop in one of several.

    Parameters
    ----------
    samples
        Numbers of training samples, shape (sizes,).
    errors
        Errors there, shape (sizes,).
    weights
        Of the sizes, shape (sizes,), for example the number of runs; all one where None.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than four sizes.

    Examples
    --------
    >>> from connectomebench.evaluation.learning_curve import fit_power_law
    >>> law = fit_power_law([10, 100, 1000, 10000], [0.4, 0.25, 0.2026, 0.1876])
    >>> round(law.floor, 2), round(law.exponent, 1)
    (0.18, 0.5)
    """
    n = np.asarray(samples, np.float64)
    found = np.asarray(errors, np.float64)
    if len(np.unique(n)) < FEWEST_SIZES:
        raise ConnectomeBenchError(
            f"a power law needs {FEWEST_SIZES} different numbers of samples, not {len(np.unique(n))}; train on more"
        )
    weight = np.ones(len(n)) if weights is None else np.asarray(weights, np.float64)
    x = n[np.newaxis] ** -_EXPONENTS[:, np.newaxis]  # (exponents, sizes)
    total = weight.sum()
    mean_x, mean_y = (x * weight).sum(axis=1) / total, (found * weight).sum() / total
    spread = (weight * (x - mean_x[:, np.newaxis]) ** 2).sum(axis=1)
    slope = (weight * (x - mean_x[:, np.newaxis]) * (found - mean_y)).sum(axis=1) / spread
    floor = mean_y - slope * mean_x
    # where the free optimum leaves the quadrant, the optimum lies on its edge
    through_zero = (weight * x * found).sum(axis=1) / (weight * x**2).sum(axis=1)
    slope, floor = np.where(floor < 0, through_zero, slope), np.maximum(floor, 0)
    floor, slope = np.where(slope < 0, mean_y, floor), np.maximum(slope, 0)
    loss = (weight * (slope[:, np.newaxis] * x + floor[:, np.newaxis] - found) ** 2).sum(axis=1)
    best = int(np.argmin(loss))
    return PowerLaw(float(slope[best]), float(_EXPONENTS[best]), float(floor[best]))


@dataclass(frozen=True)
class Run:
    """The answers of one trained model to all test rows.

    Attributes
    ----------
    samples, seed
        Training samples, and the seed that drew them.
    predictions
        Shape (rows,), text; empty where there is none. All runs answer the same rows in the same order.
    """

    samples: int
    seed: int
    predictions: NDArray[np.str_]


@dataclass(frozen=True)
class LearningCurve:
    """A fitted learning curve with 95% intervals.

    Attributes
    ----------
    samples, accuracy, lower, upper
        Balanced accuracy at each number of training samples, mean over seeds, shape (sizes,).
    runs
        Number of runs at each size, shape (sizes,).
    law
        Fitted to the means.
    band
        Balanced accuracy of the resampled laws at ``band_samples``: 2.5% and 97.5% quantiles, shape (2, points).
    target
        Level that is to be reached; None where there is none.
    to_reach, to_reach_lower, to_reach_upper
        Training samples that reach it; infinite where the curve does not.
    n, n_groups
        Test rows, and groups of them.
    """

    samples: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    runs: NDArray[np.int64]
    law: PowerLaw
    band_samples: NDArray[np.float64]
    band: NDArray[np.float64]
    target: float | None
    to_reach: float | None
    to_reach_lower: float | None
    to_reach_upper: float | None
    n: int
    n_groups: int

    @property
    def is_extrapolated(self) -> bool:
        """Whether the target lies beyond the largest measured size."""
        return self.to_reach is not None and self.to_reach > float(self.samples.max())


def fit_learning_curve(
    runs: Sequence[Run],
    answers: ArrayLike,
    groups: ArrayLike,
    *,
    target: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    reach: float = 10.0,
) -> LearningCurve:
    """Fit a power law to runs of several sizes and seeds.

    Parameters
    ----------
    runs
        Of one model, on the same test rows.
    answers, groups
        True answers and groups of the test rows, shape (rows,).
    target
        Balanced accuracy to reach, for example that of people.
    resamples, seed
        Number and seed of the bootstrap.
    reach
        How far the band goes beyond the largest size, as a factor.

    Raises
    ------
    ConnectomeBenchError
        If there are too few sizes, or a run answers other rows.
    """
    truth, named = np.asarray(answers, str), np.asarray(groups, str)
    if any(run.predictions.shape != truth.shape for run in runs):
        raise ConnectomeBenchError("the runs of a learning curve answer different rows; evaluate all on the same data")
    sizes = np.array(sorted({run.samples for run in runs}), np.int64)
    at_size = [[i for i, run in enumerate(runs) if run.samples == size] for size in sizes]
    counts = np.array([len(members) for members in at_size])
    statistics = [balanced_accuracy_statistic(run.predictions, truth) for run in runs]
    _, group_of_row = np.unique(named, return_inverse=True)
    n_groups = int(group_of_row.max()) + 1

    def accuracies(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the accuracy of every run under row weights, shape (resamples, runs)."""
        return np.stack([statistic(weights) for statistic in statistics], axis=1)

    whole = accuracies(np.ones((1, len(truth))))[0]
    means = np.array([whole[members].mean() for members in at_size])
    law = fit_power_law(sizes, 1 - means, counts)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), resamples)[:, group_of_row]
    by_run = np.concatenate(
        [accuracies(part.astype(np.float64)) for part in np.array_split(drawn, max(1, resamples // 50))]
    )
    last = float(sizes.max()) * reach
    band_samples = np.geomspace(float(sizes.min()), last, 60)
    resampled, curves, reached = [], [], []
    for accuracy in by_run[np.isfinite(by_run).all(axis=1)]:
        own = np.array([accuracy[generator.choice(members, len(members))].mean() for members in at_size])
        fitted = fit_power_law(sizes, 1 - own, counts)
        resampled.append(own)
        curves.append(1 - fitted.error(band_samples))
        if target is not None:
            reached.append(fitted.samples_to_reach(1 - target))
    lower, upper = (np.quantile(resampled, q, axis=0) for q in (0.025, 0.975))
    # order statistics, not interpolated ones: some may be infinite
    ordered = np.sort(reached)
    return LearningCurve(
        sizes,
        means,
        np.minimum(lower, means),
        np.maximum(upper, means),
        counts.astype(np.int64),
        law,
        band_samples,
        np.quantile(curves, [0.025, 0.975], axis=0),
        target,
        law.samples_to_reach(1 - target) if target is not None else None,
        float(ordered[int(0.025 * (len(ordered) - 1))]) if target is not None else None,
        float(ordered[math.ceil(0.975 * (len(ordered) - 1))]) if target is not None else None,
        len(truth),
        n_groups,
    )


def samples_text(curve: LearningCurve) -> str:
    """Say how many samples reach the target, with its interval and whether that was measured."""
    if curve.target is None or curve.to_reach is None:
        return "no level to reach"
    bounds = [
        _count(bound) for bound in (curve.to_reach, curve.to_reach_lower, curve.to_reach_upper) if bound is not None
    ]
    where = ", beyond what was measured" if curve.is_extrapolated else ""
    return f"{bounds[0]} samples [{bounds[1]}, {bounds[2]}] reach {curve.target:.3f}{where}"


def _count(samples: float) -> str:
    return "no number of" if math.isinf(samples) else f"{samples:,.0f}" if samples < 1e7 else f"{samples:.1e}"


def as_plain(curve: LearningCurve) -> Mapping[str, object]:
    """Return a curve as JSON-ready values; an infinite number of samples is null."""

    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else value

    points = zip(curve.samples, curve.accuracy, curve.lower, curve.upper, curve.runs, strict=True)
    return {
        "points": [
            {"samples": int(n), "balanced_accuracy": float(a), "lower": float(low), "upper": float(up), "runs": int(k)}
            for n, a, low, up, k in points
        ],
        "law": {"scale": curve.law.scale, "exponent": curve.law.exponent, "floor": curve.law.floor},
        "target": curve.target,
        "samples_to_reach": number(curve.to_reach),
        "samples_to_reach_interval": [number(curve.to_reach_lower), number(curve.to_reach_upper)],
        "extrapolated": curve.is_extrapolated,
        "n": curve.n,
        "n_groups": curve.n_groups,
    }
