"""Find views that overlap across cubes: a cube goes to one partition as a whole, so no others can conflict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

# 3 GB in the search
MAX_PAIRS = 100_000_000
# up to here all pairs are found at once, which is faster than cube by cube
_AT_ONCE = 2_000_000


def overlapping_views(
    location_nm: NDArray[np.float64],
    extent_nm: NDArray[np.float64],
    cube: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Find pairs of sites in different cubes with overlapping view cubes.

    Parameters
    ----------
    location_nm
        float64, shape (n, 3): centres x, y, z, nm.
    extent_nm
        float64, shape (n,): edges of the views, nm.
    cube
        int64, shape (n,): number of the cube of each site; every number up to the largest occurs.

    Returns
    -------
    ndarray
        int64, shape (m, 2), columns contiguous: indices of each pair, smaller first, sorted.

    Raises
    ------
    ConnectomeBenchError
        If the views overlap so much that the pairs do not fit in memory.
    """
    from scipy.spatial import KDTree

    tree = KDTree(location_nm)
    if tree.count_neighbors(tree, float(extent_nm.max()), p=np.inf) <= 2 * _AT_ONCE:
        pairs = tree.query_pairs(float(extent_nm.max()), p=np.inf, output_type="ndarray").astype(np.int64)
        left, right = pairs.reshape(-1, 2)[cube[pairs[:, 0]] != cube[pairs[:, 1]]].T
        parts = [_keys(left, right, location_nm, extent_nm)]
    else:
        parts, total = [], 0
        for found in _pairs_by_cube(location_nm, extent_nm, cube):
            parts.append(found)
            total += len(found)
            if total > MAX_PAIRS:
                raise ConnectomeBenchError(
                    f"more than {MAX_PAIRS} pairs of views overlap across cubes: too many sites for this volume; keep "
                    "fewer, or use a smaller extent or a larger cube_nm"
                )
    keys = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
    pairs = np.empty((2, len(keys)), np.int64)
    np.divmod(keys, len(location_nm), out=(pairs[0], pairs[1]))
    return pairs.T


def _pairs_by_cube(
    location_nm: NDArray[np.float64], extent_nm: NDArray[np.float64], cube: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs of each two neighbouring cubes; only sites that reach the other cube are looked at."""
    from scipy.spatial import KDTree

    order = np.argsort(cube, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cube))[:-1])
    reach = float(extent_nm.max())
    low = np.array([location_nm[own].min(axis=0) for own in members])
    high = np.array([location_nm[own].max(axis=0) for own in members])
    # neighbours by their boxes of sites, whatever the edge of the cubes is against the width of the views
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    for first, near in enumerate(KDTree(middle).query_ball_point(middle, 2 * half + reach, p=np.inf)):
        for second in sorted(near):
            apart = np.maximum(low[first], low[second]) - np.minimum(high[first], high[second])
            if second <= first or apart.max() > reach:
                continue
            a = _reaching(members[first], location_nm, low[second] - reach, high[second] + reach)
            b = _reaching(members[second], location_nm, low[first] - reach, high[first] + reach)
            if len(a) and len(b):
                trees = KDTree(location_nm[a]), KDTree(location_nm[b])
                found = trees[0].sparse_distance_matrix(trees[1], reach, p=np.inf, output_type="ndarray")
                yield _keys(a[found["i"]], b[found["j"]], location_nm, extent_nm)


def _reaching(
    own: NDArray[np.int64], location_nm: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.int64]:
    places = location_nm[own]
    return own[((places > low) & (places < high)).all(axis=1)]


def _keys(
    one: NDArray[np.int64], other: NDArray[np.int64], location_nm: NDArray[np.float64], extent_nm: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return smaller index * n + larger index of the pairs that do overlap, one number a pair."""
    gap = np.abs(location_nm[one] - location_nm[other]).max(axis=1)
    near = gap < (extent_nm[one] + extent_nm[other]) / 2
    one, other = one[near], other[near]
    return np.minimum(one, other) * len(location_nm) + np.maximum(one, other)
