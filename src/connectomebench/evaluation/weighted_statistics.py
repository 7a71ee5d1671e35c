"""Statistics as functions of row weights, which vectorises thousands of bootstrap resamples.

A resample that draws a row three times gives it weight three, so one formula in terms of row weights serves the plain
value (all weights one), sample weights and the bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps weights of shape (resamples, rows) to values of shape (resamples,); NaN if undefined."""


OfGroups = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Maps how often each group was drawn, shape (resamples, groups), to values of shape (resamples,)."""


@runtime_checkable
class Grouped(Protocol):
    """A statistic that needs no weights of rows where rows of one group have the same weight."""

    def __call__(self, weights: NDArray[np.float64], /) -> NDArray[np.float64]:
        """Map weights of shape (resamples, rows) to values of shape (resamples,)."""
        ...

    def of_groups(self, group_of_row: NDArray[np.intp], n_groups: int) -> OfGroups:
        """Return the statistic as a function of groups drawn, which are whole numbers; equal but for rounding."""
        ...


@dataclass(frozen=True, eq=False)
class OfSums:
    """A statistic that depends on weighted sums over rows alone.

    Attributes
    ----------
    terms
        What is summed, shape (terms, rows).
    finish
        Maps sums of shape (resamples, terms) to values of shape (resamples,).
    """

    terms: NDArray[np.float64]
    finish: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, weights: NDArray[np.float64], /) -> NDArray[np.float64]:
        """See :class:`Grouped`."""
        return self.finish(weighted_sums(weights, self.terms))

    def of_groups(self, group_of_row: NDArray[np.intp], n_groups: int) -> OfGroups:
        """See :class:`Grouped`."""
        from scipy.sparse import csr_array

        rows = np.arange(len(group_of_row))
        membership = csr_array((np.ones(len(rows)), (rows, group_of_row)), shape=(len(rows), n_groups))
        # products of sparse matrices run on one thread, in one order
        of_group = csr_array(self.terms) @ membership
        return lambda times: self.finish(np.ascontiguousarray((of_group @ times.T.astype(np.float64)).T))


def weighted_sums(weights: NDArray[np.float64], terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum terms over rows under each set of weights.

    Parameters
    ----------
    weights
        Shape (resamples, rows).
    terms
        Shape (terms, rows).

    Returns
    -------
    NDArray[np.float64]
        Shape (resamples, terms).
    """
    # not a BLAS product: its order of summation may depend on the number of threads
    return np.einsum("rn,tn->rt", weights, terms, optimize=False)


def plain_value(statistic: Statistic, rows: int, sample_weight: ArrayLike | None = None) -> float:
    """Evaluate a statistic once.

    Parameters
    ----------
    statistic
        Statistic to evaluate.
    rows
        Number of rows the statistic was built on.
    sample_weight
        Weights of the rows, shape (rows,); all one by default.

    Returns
    -------
    float
        The value; NaN if undefined.
    """
    weights = np.ones(rows) if sample_weight is None else check_weights(sample_weight, rows)
    return float(statistic(weights[np.newaxis])[0])


def check_weights(sample_weight: ArrayLike, rows: int) -> NDArray[np.float64]:
    """Check sample weights and return them as an array of shape (rows,).

    Raises
    ------
    ConnectomeBenchError
        If the weights are not one finite, non-negative number per row, or are all zero.
    """
    weights = as_numbers(sample_weight, "sample_weight")
    if weights.shape != (rows,):
        raise ConnectomeBenchError(f"sample_weight has shape {weights.shape}; give one weight for each of {rows} rows")
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights > 0):
        raise ConnectomeBenchError("sample_weight must be finite, not negative, and above zero somewhere")
    return weights


def as_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Convert values to a float64 array.

    Raises
    ------
    ConnectomeBenchError
        If they are not numeric or the rows differ in length.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConnectomeBenchError(f"{name} must be numbers, the same count in every row") from None
