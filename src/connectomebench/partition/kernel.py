"""Inner loop of the partition search, compiled: which sites to keep, given the partition of each."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# rounds in which each shared id goes to the partition where it is worth most, given what was lost in the round before
ROUNDS = 4
# factor on a site's vote for each other conflict that it has lost: it will probably be dropped anyway
LOST_DISCOUNT = 0.3
# factor on the worth of a site of a class above its cap: one site more is cut again afterwards
OVER_CAP_DISCOUNT = 0.05
# added to counts inside logarithms, so that the score of an empty class is low but finite
LOG_OFFSET = 0.1
# a class below this many sites costs extra: nothing can be measured on it
FEW = 8.0
FEW_WEIGHT = 0.3
# an empty class makes the partition useless, so it outweighs everything else
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
    costs less; then every site that conflicts with no kept one is restored. Worth depends on what is kept, so this is
    done in a few rounds, and the best of them counts.

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
    # Only pairs across partitions conflict. They are counted first: arrays of the exact size are cheaper than lists.
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
                value[i] *= OVER_CAP_DISCOUNT
        # Each site votes for its own partition at each of its ids.
        weight = np.zeros((n_ids, 3))
        for e in range(len(id_site)):
            site = id_site[e]
            # `lost - bad`: the conflicts lost at other ids, without the one that is decided here
            weight[id_index[e], part[site]] += value[site] * LOST_DISCOUNT ** (lost[site] - bad[e])
        lost[:] = 0
        for e in range(len(id_site)):
            d, p = id_index[e], part[id_site[e]]
            owner = 2  # on a tie train loses: it has most sites to spare
            if weight[d, 1] > weight[d, 2]:
                owner = 1
            if weight[d, 0] > weight[d, owner]:
                owner = 0
            bad[e] = owner != p
            lost[id_site[e]] += bad[e]
        kept = lost == 0
        _resolve_overlaps(kept, value, part, a.copy(), b.copy())
        # A site lost to an overlap counts as lost in the votes of the next round.
        for i in range(n_sites):
            if lost[i] == 0 and not kept[i]:
                lost[i] = 1
        _restore(kept, part, id_index, id_site, n_ids, a, b)
        _count(part, site_class, kept, counts)
        score = _score(counts, wanted, caps)
        if score > best_score:
            best_score, best_kept = score, kept.copy()
        # half way, or the rounds alternate between two solutions
        expected = (expected + counts) / 2
    return best_score, best_kept


@njit(cache=True)
def _count(
    part: NDArray[np.int64], site_class: NDArray[np.int64], kept: NDArray[np.bool_], counts: NDArray[np.float64]
) -> None:
    """Count the kept sites of each class in each partition."""
    counts[:] = 0
    for i in range(len(part)):
        if kept[i]:
            counts[site_class[i], part[i]] += 1


@njit(cache=True)
def _score(counts: NDArray[np.float64], wanted: NDArray[np.float64], caps: NDArray[np.float64]) -> float:
    """Sum wanted share times log(kept sites), minus the cost of empty and nearly empty classes."""
    score = 0.0
    for c in range(len(counts)):
        total = wanted[c].sum()
        for p in range(3):
            n = min(counts[c, p], caps[c, p])
            score += wanted[c, p] / total * np.log(n + LOG_OFFSET)
            few = min(FEW, wanted[c, p])
            if n < few:
                score -= FEW_WEIGHT * (np.log(few + LOG_OFFSET) - np.log(n + LOG_OFFSET))
            if n == 0:
                score -= EMPTY_COST
    return score


@njit(cache=True)
def _resolve_overlaps(
    kept: NDArray[np.bool_],
    value: NDArray[np.float64],
    part: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> None:
    """Drop sites until no two kept views of different partitions overlap.

    The load of a site is the worth of its conflicting neighbours over its own. In each round every site that has the
    larger load in all of its conflicts is dropped, so that the loads are not computed again for every single site.
    ``kept``, ``left`` and ``right`` are written over.
    """
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
                # pairs that are left move to the front, so that later rounds are short
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
                i_loses = part[i] < part[j]  # equal loads: train (0) loses
            else:
                i_loses = i > j  # any fixed rule: without one equal sites would never be decided
            if i_loses:
                loses[i] = wins[j] = True
            else:
                loses[j] = wins[i] = True
        for i in range(n_sites):
            if loses[i] and not wins[i]:
                kept[i] = False


@njit(cache=True)
def _restore(
    kept: NDArray[np.bool_],
    part: NDArray[np.int64],
    id_index: NDArray[np.int64],
    id_site: NDArray[np.int64],
    n_ids: int,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> None:
    """Restore dropped sites that conflict with no kept one; ``kept`` is written over.

    Sites of one partition never conflict, so all of them are restored together. Validation and test come first: they
    are small, and each restored site may block others.
    """
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
