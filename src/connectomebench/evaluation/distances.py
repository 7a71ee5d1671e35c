"""Distances between two sets of feature vectors: Fréchet and energy distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.weighted_statistics import as_numbers


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of vectors.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), as in the Fréchet inception distance (Heusel et al., NeurIPS 2017). It is
    biased upwards for few vectors (not 0 for two samples of one distribution), so compare only values at equal n.

    Parameters
    ----------
    first, second
        Vectors, shape (rows, dim), at least two rows each; rows may be fewer than dim.

    Returns
    -------
    float
        0 or more, in squared units of the vectors.

    Raises
    ------
    ConnectomeBenchError
        If the vectors differ in length, are not finite, or there are fewer than two of either.
    """
    one, other = _checked(first, second)
    gap = one.mean(axis=0) - other.mean(axis=0)
    centred = [(rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (one, other)]
    # tr (C1 C2)^½ is the sum of the singular values of X1 X2ᵀ: rows x rows, and no matrix square root needed
    shared = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    spread = sum(float((rows**2).sum()) for rows in centred)
    return max(0.0, float(gap @ gap + spread - 2 * shared))


def energy_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Return the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Székely and Rizzo, J. Stat. Plan. Inf. 143, 2013).

    Unbiased: pairs of a row with itself are left out, so it is 0 on average for two samples of one distribution,
    whatever their n, and may be negative. It is the squared maximum mean discrepancy for the kernel -|x - y|.

    Parameters
    ----------
    first, second
        As for `frechet_distance`.

    Returns
    -------
    float
        In units of the vectors.
    """
    from scipy.spatial.distance import cdist, pdist

    one, other = _checked(first, second)
    return float(2 * cdist(one, other).mean() - pdist(one).mean() - pdist(other).mean())


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = as_numbers(first, "vectors"), as_numbers(second, "vectors")
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise ConnectomeBenchError(
            f"a distance takes two sets of vectors of one length, two or more each: shapes are {one.shape} and "
            f"{other.shape}"
        )
    if not (np.all(np.isfinite(one)) and np.all(np.isfinite(other))):
        raise ConnectomeBenchError("feature vectors must be finite")
    return one, other
