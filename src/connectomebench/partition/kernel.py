"""The inner loop of the partition search, compiled: which sites to keep, given the partition of each."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# rounds of handing each shared id to the partition where it is worth most, given what the others have lost
ROUNDS = 4
# weight of a site's vote for each other conflict that it has lost: it will probably be dropped anyway
LOST = 0.3
# added to counts inside logarithms, so that an empty class is dear but finite
EMPTY = 0.1
# classes with fewer sites than FEW weigh more than their share: nothing can be measured on them
FEW = 8.0
FEW_WEIGHT = 0.3
EMPTY_COST = 1000.0


@njit(cache=True)
def resolve(
    part: NDArray[np.int64],
    site_class: NDArray[np.int64],
    wanted: NDArray[np.float64],
    caps: NDArray[np.float64],
    id_index: NDArray[np.int64],
    id_site: NDArray[np.int64],
    n_ids: int,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> tuple[float, NDArray[np.bool_]]:
    """Choose which sites to keep so that no two kept sites of different partitions conflict.

    Each shared id goes to the partition where its sites are worth most; each overlap of views is lost by the side that
    costs less; then every site is taken back that conflicts with none that is kept. Worth depends on what is kept, so
    this is done in a few rounds, and the best of them counts.

    Parameters
    ----------
    part
        int64, shape (n_sites,): 0 train, 1 validation, 2 test.
    site_class
        int64, shape (n_sites,): class (task and answer) of each site.
    wanted, caps
        float64, shape (n_classes, 3): sites wanted, and most sites allowed, of each class in each partition.
    id_index, id_site
        int64, shape (n,): pairs of an id and a site that shows it.
    n_ids
        Number of ids.
    left, right
        int64, shape (n_pairs,): the two sites of each pair whose views overlap.

    Returns
    -------
    tuple
        The measure (see :mod:`connectomebench.partition.search`) and the sites kept (bool, shape (n_sites,)).
    """
    n_sites = len(part)
    n_across = 0
    for k in range(len(left)):
        if part[left[k]] != part[right[k]]:
            n_across += 1
    a, b = np.empty(n_across, np.int64), np.empty(n_across, np.int64)
    n_across = 0
    for k in range(len(left)):
        if part[left[k]] != part[right[k]]:
            a[n_across], b[n_across] = left[k], right[k]
            n_across += 1

    kept = np.ones(n_sites, np.bool_)
    best_kept, best_score = kept, -np.inf
    lost = np.zeros(n_sites, np.int64)
    bad = np.zeros(len(id_site), np.bool_)
    counts = np.zeros(wanted.shape)
    _count(part, site_class, kept, counts)
    expected = counts.copy()
    value = np.empty(n_sites)
    for _ in range(ROUNDS):
        for i in range(n_sites):
            c, p = site_class[i], part[i]
            value[i] = wanted[c, p] / max(expected[c, p] - 0.5, 0.5)  # slope of the logarithm from n - 1 to n
            if expected[c, p] > caps[c, p]:
                value[i] *= 0.05
        weight = np.zeros((n_ids, 3))
        for e in range(len(id_site)):
            site = id_site[e]
            weight[id_index[e], part[site]] += value[site] * LOST ** (lost[site] - bad[e])
        lost[:] = 0
        for e in range(len(id_site)):
            d, p = id_index[e], part[id_site[e]]
            owner = 2  # where all weigh the same, train loses
            if weight[d, 1] > weight[d, 2]:
                owner = 1
            if weight[d, 0] > weight[d, owner]:
                owner = 0
            bad[e] = owner != p
            lost[id_site[e]] += bad[e]
        kept = lost == 0
        _resolve_places(kept, value, part, a.copy(), b.copy())
        for i in range(n_sites):
            if lost[i] == 0 and not kept[i]:
                lost[i] = 1
        _take_back(kept, part, id_index, id_site, n_ids, a, b)
        _count(part, site_class, kept, counts)
        score = _score(counts, wanted, caps)
        if score > best_score:
            best_score, best_kept = score, kept.copy()
        # half way, or the rounds swing between two sides
        expected = (expected + counts) / 2
    return best_score, best_kept


@njit(cache=True)
def _count(part, site_class, kept, counts):
    """Count the kept sites of each class in each partition."""
    counts[:] = 0
    for i in range(len(part)):
        if kept[i]:
            counts[site_class[i], part[i]] += 1


@njit(cache=True)
def _score(counts, wanted, caps):
    """Sum wanted share times logarithm of the kept sites, less what empty and nearly empty classes cost."""
    score = 0.0
    for c in range(len(counts)):
        total = wanted[c].sum()
        for p in range(3):
            n = min(counts[c, p], caps[c, p])
            score += wanted[c, p] / total * np.log(n + EMPTY)
            few = min(FEW, wanted[c, p])
            if n < few:
                score -= FEW_WEIGHT * (np.log(few + EMPTY) - np.log(n + EMPTY))
            if n == 0:
                score -= EMPTY_COST
    return score


@njit(cache=True)
def _resolve_places(kept, value, part, left, right):
    """Drop sites until no two kept views of different partitions overlap, the worst bargain first."""
    n_sites = len(kept)
    n_pairs = len(left)
    load = np.empty(n_sites)
    wins = np.empty(n_sites, np.bool_)
    loses = np.empty(n_sites, np.bool_)
    while True:
        n_still = 0
        load[:] = 0
        for k in range(n_pairs):
            i, j = left[k], right[k]
            if kept[i] and kept[j]:
                left[n_still], right[n_still] = i, j
                n_still += 1
                load[i] += value[j]
                load[j] += value[i]
        n_pairs = n_still
        if n_pairs == 0:
            return
        for i in range(n_sites):
            load[i] /= value[i]
        wins[:] = False
        loses[:] = False
        for k in range(n_pairs):
            i, j = left[k], right[k]
            if load[i] != load[j]:
                i_loses = load[i] > load[j]
            elif part[i] != part[j]:
                i_loses = part[i] < part[j]  # equal bargains: train (0) loses
            else:
                i_loses = i > j
            if i_loses:
                loses[i] = wins[j] = True
            else:
                loses[j] = wins[i] = True
        for i in range(n_sites):
            if loses[i] and not wins[i]:
                kept[i] = False


@njit(cache=True)
def _take_back(kept, part, id_index, id_site, n_ids, left, right):
    """Keep what conflicts with nothing kept; sites of one partition never conflict, so they come back together."""
    for side in (1, 2, 0):
        elsewhere = np.zeros(n_ids, np.bool_)
        for e in range(len(id_site)):
            site = id_site[e]
            if kept[site] and part[site] != side:
                elsewhere[id_index[e]] = True
        free = part == side
        for e in range(len(id_site)):
            if elsewhere[id_index[e]]:
                free[id_site[e]] = False
        for k in range(len(left)):
            i, j = left[k], right[k]
            if kept[i]:
                free[j] = False
            if kept[j]:
                free[i] = False
        for i in range(len(part)):
            if free[i]:
                kept[i] = True
