"""Search for the assignment of cubes to partitions that drops the fewest sites.

The measure is the proportionally fair one: the sum over classes (task and answer) and partitions of
``wanted share * log(kept sites)``. It grows with every site kept, is greatest at the wanted shares for a given number
of sites, and punishes an empty partition hardest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

TRAIN, VALIDATION, TEST = 0, 1, 2

_MOST_STEPS = 3000  # of a search: small problems are looked through by then


@dataclass(frozen=True)
class Problem:
    """Sites in cubes, and the ids and overlaps that link them.

    Attributes
    ----------
    cube
        int64, shape (n_sites,): cube of each site.
    cube_center
        float64, shape (n_cubes, 3): place of each cube, in cube edges.
    site_class
        int64, shape (n_sites,): class (task and answer) of each site.
    wanted
        float64, shape (n_classes, 3): sites wanted in train, validation, test.
    caps
        float64, shape (n_classes, 3): most sites allowed there.
    id_index, id_site
        int64, shape (n,): pairs of an id (segment or body, numbered from 0) and a site that shows it.
    pairs
        int64, shape (n_pairs, 2): sites of different cubes whose views overlap.
    allowed
        bool, shape (n_cubes, 3): partitions that each cube may go to, at least one.
    """

    cube: NDArray[np.int64]
    cube_center: NDArray[np.float64]
    site_class: NDArray[np.int64]
    wanted: NDArray[np.float64]
    caps: NDArray[np.float64]
    id_index: NDArray[np.int64]
    id_site: NDArray[np.int64]
    pairs: NDArray[np.int64]
    allowed: NDArray[np.bool_]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Wanted share of each class in each partition; float64, shape (n_classes, 3)."""
        return self.wanted / self.wanted.sum(axis=1, keepdims=True)

    def counts(self, part: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count kept sites by class and partition; int64, shape (n_classes, 3)."""
        flat = np.bincount((self.site_class * 3 + part)[kept], minlength=3 * len(self.wanted))
        return flat.reshape(-1, 3)


def conflicts(
    problem: Problem, part: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the sites that conflict with a kept site of another partition, by shared id and by overlap of views.

    Returns
    -------
    tuple of ndarray
        Two bool arrays, shape (n_sites,): by id, by overlap.
    """
    n_ids = int(problem.id_index.max()) + 1 if len(problem.id_index) else 0
    alive = kept[problem.id_site]
    present = np.bincount((problem.id_index * 3 + part[problem.id_site])[alive], minlength=3 * n_ids)
    present = present.reshape(-1, 3) > 0
    elsewhere = present.sum(axis=1)[problem.id_index] > present[problem.id_index, part[problem.id_site]]
    by_id = np.zeros(len(part), bool)
    by_id[problem.id_site[elsewhere]] = True

    left, right = problem.pairs[:, 0], problem.pairs[:, 1]
    across = part[left] != part[right]
    by_place = np.zeros(len(part), bool)
    by_place[left[across & kept[right]]] = True
    by_place[right[across & kept[left]]] = True
    return by_id, by_place


def trim(
    problem: Problem, part: NDArray[np.int64], kept: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Select sites above the caps, at random within each class; bool, shape (n_sites,)."""
    over = np.zeros(len(part), bool)
    order = rng.permutation(len(part))
    for side in (VALIDATION, TEST):
        for c in range(len(problem.caps)):
            members = order[(kept & (part == side) & (problem.site_class == c))[order]]
            if len(members) > problem.caps[c, side]:
                over[members[int(problem.caps[c, side]) :]] = True
    return over


def _start(problem: Problem, cube_weight: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Make a random start: compact regions around random points, or scattered cubes."""
    n_cubes = len(cube_weight)
    partition = problem.allowed.argmax(axis=1)  # train where that is allowed
    low, high = problem.cube_center.min(axis=0), problem.cube_center.max(axis=0)
    mean_share = problem.shares.mean(axis=0)
    scattered = rng.random() < 0.25
    margin = rng.uniform(0, 2)
    for side in rng.permutation([VALIDATION, TEST]):
        if scattered:
            rank = rng.random(n_cubes)
        else:
            center = rng.uniform(low - margin * (high - low), high + margin * (high - low))
            rank = np.linalg.norm(problem.cube_center - center, axis=1) + 1e-6 * rng.random(n_cubes)
        free = np.flatnonzero((partition == TRAIN) & problem.allowed[:, side])
        if not len(free):
            continue
        free = free[np.argsort(rank[free], kind="stable")]
        target = mean_share[side] * rng.uniform(0.8, 2.0)
        taken = int(np.searchsorted(np.cumsum(cube_weight[free]), target)) + 1
        partition[free[: min(taken, len(free) - 1)]] = side
    return partition


def best_assignment(problem: Problem, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Search for the best assignment.

    Random starts, then simulated annealing from the best of them, one cube at a time. The number of steps depends on
    the size of the problem alone, so the result is the same on every machine.

    Parameters
    ----------
    problem
        Sites and what ties them.
    seed
        Of the search.

    Returns
    -------
    tuple of ndarray
        Partition of each site (int64: 0 train, 1 validation, 2 test); the sites kept (bool); the sites dropped only
        because their partition was full (bool). Shape (n_sites,) each.
    """
    from connectomebench.partition.kernel import resolve

    rng = np.random.default_rng(seed)
    totals = problem.wanted.sum(axis=1)
    cube_weight = np.bincount(problem.cube, weights=1 / totals[problem.site_class], minlength=len(problem.cube_center))
    cube_weight /= len(totals)
    work = len(problem.cube) + len(problem.id_site) + len(problem.pairs)
    steps = int(np.clip(2e8 / work, 40, _MOST_STEPS))
    n_starts = max(20, steps // 5)

    n_ids = int(problem.id_index.max()) + 1 if len(problem.id_index) else 0

    # in one layout, for which the kernel is compiled once
    ids, owners = np.ascontiguousarray(problem.id_index), np.ascontiguousarray(problem.id_site)
    left, right = np.ascontiguousarray(problem.pairs[:, 0]), np.ascontiguousarray(problem.pairs[:, 1])

    def keep(part: NDArray[np.int64]) -> tuple[float, NDArray[np.bool_]]:
        return resolve(part, problem.site_class, problem.wanted, problem.caps, ids, owners, n_ids, left, right)

    def measure(cube_partition: NDArray[np.int64]) -> float:
        return keep(cube_partition[problem.cube])[0]

    starts = [_start(problem, cube_weight, rng) for _ in range(n_starts)]
    bar = tqdm(total=steps, desc="divide into partitions", unit="try", delay=1)
    scores = []
    for start in starts:
        scores.append(measure(start))
        bar.update()
    ranked = sorted(range(n_starts), key=lambda i: (-scores[i], i))[:3]
    best, best_score = starts[ranked[0]], scores[ranked[0]]
    movable = np.flatnonzero(problem.allowed.sum(axis=1) > 1)
    moves = max(0, steps - n_starts) // len(ranked) if len(movable) else 0
    for i in ranked:
        current, current_score = starts[i].copy(), scores[i]
        for step in range(moves):
            heat = 0.2 * (1 - step / moves) ** 2 + 1e-9
            cube = int(movable[rng.integers(len(movable))])
            changed = current.copy()
            others = [
                side for side in ((current[cube] + 1) % 3, (current[cube] + 2) % 3) if problem.allowed[cube, side]
            ]
            changed[cube] = others[rng.integers(len(others))]
            new = measure(changed)
            if new >= current_score or rng.random() < math.exp(max(-700.0, (new - current_score) / heat)):
                current, current_score = changed, new
                if new > best_score:
                    best, best_score = changed, new
            bar.update()
    bar.close()

    part = best[problem.cube]
    _, kept = keep(part)
    over = trim(problem, part, kept, rng)
    kept = kept & ~over
    by_id, by_place = conflicts(problem, part, kept)
    kept = kept | ((part == TRAIN) & ~by_id & ~by_place)
    return part, kept, over
