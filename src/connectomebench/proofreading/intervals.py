"""Intervals of a change of the variation of information over parts of the volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.proofreading.truth_table import TruthTable, bits

RESAMPLES = 1000
_LEVEL = 0.95


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
    parts, own = np.unique(entries[:, 2], return_inverse=True)
    own = own.ravel()
    states = [_Bits(entries, of_rows, len(table.bodies)) for of_rows in (before, after)]
    whole = [state.variation(counts) for state in states]
    result: dict[str, Any] = {"fall_bits": whole[0] - whole[1], "parts": len(parts), "resamples": RESAMPLES}
    if len(parts) < 2:
        return result | {"low": None, "high": None}
    rng = np.random.default_rng(seed)
    falls = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(0, len(parts), len(parts)), minlength=len(parts))
        weighted = counts * drawn[own]
        falls.append(states[0].variation(weighted) - states[1].variation(weighted))
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(falls, [tail, 1 - tail])
    return result | {"low": float(low), "high": float(high)}


class _Bits:
    """Variation of information of one state for many weights of the same entries."""

    def __init__(self, entries: NDArray[np.int64], of_rows: NDArray[np.uint64], bodies: int) -> None:
        objects, self._object = np.unique(of_rows[entries[:, 0]], return_inverse=True)
        self._object = self._object.ravel()
        self._body = entries[:, 1]
        pairs, self._pair = np.unique(self._object * max(bodies, 1) + self._body, return_inverse=True)
        self._pair = self._pair.ravel()
        self._sizes = len(objects), bodies, len(pairs)

    def variation(self, counts: NDArray[np.float64]) -> float:
        """Compute H(object | body) + H(body | object), bits."""
        total = counts.sum()
        if not total:
            return 0.0
        sums = [
            float(bits(np.bincount(index, weights=counts, minlength=n)).sum())
            for index, n in zip((self._object, self._body, self._pair), self._sizes, strict=True)
        ]
        return (sums[0] + sums[1] - 2 * sums[2]) / float(total)
