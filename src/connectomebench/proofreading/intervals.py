"""Intervals of a change of the variation of information over parts of the volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from connectomebench.proofreading.truth_table import TruthTable, bits

RESAMPLES = 1000
LEVEL = 0.95
_MOST_NUMBERS = 2**22  # held at a time


def variation_interval(
    table: TruthTable, before: NDArray[np.uint64], after: NDArray[np.uint64], seed: int = 0
) -> dict[str, Any]:
    """Bootstrap by how much the variation of information falls, over parts of the volume.

    The parts are the cells of a grid of 4 × 4 × 4; each resample draws as many with replacement, and both states are
    scored on the voxels of the same draw.

    Parameters
    ----------
    table
        Overlaps with the truth.
    before, after
        uint64, shape (supervoxels,): the object of each.
    seed
        Of the resamples.

    Returns
    -------
    dict
        ``fall_bits`` (above 0: better), ``low`` and ``high`` of the 95% percentile interval, ``parts`` and
        ``resamples``. The interval is None where there are fewer than two parts.
    """
    entries, counts = table.entries
    parts = np.unique(entries[:, 2])
    falls = Falls(entries, counts, parts)
    whole = float(falls.between(before, after, np.ones((1, len(parts)), np.int64))[0])
    result: dict[str, Any] = {"fall_bits": whole, "parts": len(parts), "resamples": RESAMPLES}
    if len(parts) < 2:
        return result | {"low": None, "high": None}
    low, high = quantiles(falls.between(before, after, draws(len(parts), np.random.default_rng(seed))))
    return result | {"low": low, "high": high}


def draws(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw as many of ``n`` things with replacement, once for each resample; how often each, shape (resamples, n)."""
    drawn = rng.integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * RESAMPLES).reshape(RESAMPLES, n)


def quantiles(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """Return low and high of the 95% percentile interval of resampled values."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


class Falls:
    """By how much the variation of information falls between two states, for many weights of the parts.

    The variation is made of sums of ``n log2 n`` over objects, bodies and pairs of both. Bodies are the same in both
    states, and so is an object that holds the same voxels under whatever id: only what differs is summed.

    Parameters
    ----------
    entries
        int64, shape (m, 3): row of a supervoxel, column of a body, number of the part.
    counts
        Shape (m,): voxels of each.
    parts
        int64, shape (parts,), ascending: numbers of the parts that are weighed; all of ``entries`` are among them.
    """

    def __init__(self, entries: NDArray[np.int64], counts: NDArray[Any], parts: NDArray[np.int64]) -> None:
        self._rows, self._bodies = entries[:, 0], entries[:, 1]
        self._counts = np.asarray(counts, np.float64)
        self._parts = np.searchsorted(parts, entries[:, 2])
        self._voxels = np.bincount(self._parts, weights=self._counts, minlength=len(parts))

    def between(
        self, before: NDArray[np.uint64], after: NDArray[np.uint64], weights: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compute the falls, bits.

        Parameters
        ----------
        before, after
            uint64, shape (supervoxels,): the object of each.
        weights
            int64, shape (resamples, parts): how often each part counts.

        Returns
        -------
        numpy.ndarray
            float64, shape (resamples,); 0 where no voxel counts.
        """
        states = [np.unique(of_rows[self._rows], return_inverse=True)[1].ravel() for of_rows in (before, after)]
        changed = ~_one_to_one(*states)
        sums = [self._sum(state, changed, weights) for state in states]
        total = weights @ self._voxels
        return np.divide(sums[0] - sums[1], total, out=np.zeros(len(weights)), where=total > 0)

    def _sum(
        self, objects: NDArray[np.int64], chosen: NDArray[np.bool_], weights: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Sum ``n log2 n`` of the chosen objects, less twice that of their overlaps with bodies; for each weight."""
        if not chosen.any():
            return np.zeros(len(weights))
        own, bodies = objects[chosen], self._bodies[chosen]
        total = np.zeros(len(weights))
        for factor, cells in ((1, own), (-2, own * (int(bodies.max()) + 1) + bodies)):
            names, cell = np.unique(cells, return_inverse=True)
            by_part = coo_array(
                (self._counts[chosen], (cell.ravel(), self._parts[chosen])), shape=(len(names), weights.shape[1])
            ).tocsr()
            for some in _slices(len(weights), len(names)):
                total[some] += factor * bits(by_part @ weights[some].T).sum(axis=0)
        return total


def _one_to_one(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of which entries both labels name the same set of entries; labels are counted from 0."""
    if not len(first):
        return np.zeros(0, np.bool_)
    n = int(second.max()) + 1
    pairs = np.unique(first * n + second)
    return (np.bincount(pairs // n)[first] == 1) & (np.bincount(pairs % n)[second] == 1)


def _slices(n: int, width: int) -> Iterator[slice]:
    step = max(1, _MOST_NUMBERS // max(width, 1))
    for start in range(0, n, step):
        yield slice(start, start + step)
