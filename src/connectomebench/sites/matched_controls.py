"""Match controls to cases in everything a trivial model could use, so that only the question decides.

Case-control matching: each case gets the control that is nearest in its covariates (optimal assignment), first on
sizes and distances before rendering, then on the trivial features of the images and on the propensity score
learnt from them (Rosenbaum and Rubin, Biometrika 70, 1983).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TREE_ROWS = 10_000  # most that one tree of the propensity is grown from
_THREAD_ROWS = 2_000  # fewer are grown in one thread
_AGREE = 10.0  # more than rows within a caliper differ by otherwise
_ALL_PAIRS = 1_000_000  # problems with more pairs than this are thinned


@dataclass(frozen=True)
class ControlConfig:
    """How controls are chosen.

    Attributes
    ----------
    pool_per_case
        Controls rendered for each case before the final match.
    max_cases
        Largest number of cases per task, those with the most similar controls; 0 for all.
    caliper
        Largest accepted difference of propensity logits within a pair, in standard deviations.
    hard_caliper
        The same for a hard negative (a merge that was taken back). It is wider: such controls are few, and worth more
        than an exact match.
    seed
        Seed of every random draw.
    """

    pool_per_case: int = 3
    max_cases: int = 0
    caliper: float = 0.5
    hard_caliper: float = 2.0
    seed: int = 0


def standardise(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centre and scale columns by median and interquartile range, clipped to ±4; shape (n, k) is kept."""
    x = np.asarray(features, np.float64)
    low, middle, high = np.percentile(x, [25, 50, 75], axis=0)
    spread = np.where(high > low, high - low, np.maximum(x.std(axis=0), 1e-9))
    return np.clip((x - middle) / spread, -4, 4)


def assign_controls(
    cases: NDArray[np.floating],
    controls: NDArray[np.floating],
    per_case: int,
    *,
    scores: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    caliper: float = np.inf,
    neighbours: int = 64,
    first: NDArray[np.bool_] | None = None,
    first_caliper: float | None = None,
) -> list[tuple[int, int]]:
    """Pair cases with distinct controls: as many pairs as the caliper allows, at the least summed distance.

    Parameters
    ----------
    cases
        Shape (n_cases, k), standardised covariates.
    controls
        Shape (n_controls, k).
    per_case
        Controls wanted for each case; fewer if there are not enough. Each round of one control per case is optimal
        by itself.
    scores
        Shapes (n_cases,) and (n_controls,): the scores that the caliper applies to.
    caliper
        Largest difference of scores within a pair.
    neighbours
        In large problems only this many nearest controls of a case, and as many nearest cases of a control, are
        candidates for distance; of the larger side, fewer in proportion. The number of pairs does not depend on it.
    first
        bool, shape (n_controls,): controls to use before others. There are as many pairs as without it, as many as
        possible with these controls, and then the least summed distance.
    first_caliper
        Caliper of pairs with these controls; that of all where left out.

    Returns
    -------
    list of (case, control)
        Sorted; no control twice.
    """
    own, other = (np.zeros(len(cases)), np.zeros(len(controls))) if scores is None else scores
    free = np.arange(len(controls))
    preferred = np.zeros(len(controls), np.bool_) if first is None else np.asarray(first)
    calipers = np.where(preferred, caliper if first_caliper is None else first_caliper, caliper)
    pairs: list[tuple[int, int]] = []
    for _ in range(per_case):
        if not len(cases) or not len(free):
            break
        scores_left = np.asarray(own), np.asarray(other)[free]
        made = _assign_once(cases, controls[free], *scores_left, calipers[free], neighbours, preferred[free])
        pairs += [(case, int(free[control])) for case, control in made]
        free = np.delete(free, [control for _, control in made])
    return sorted(pairs)


def _assign_once(
    cases: NDArray[np.floating],
    controls: NDArray[np.floating],
    own: NDArray[np.floating],
    other: NDArray[np.floating],
    calipers: NDArray[np.floating],
    neighbours: int,
    first: NDArray[np.bool_],
) -> list[tuple[int, int]]:
    """Solve one round: a full matching in which each case may also take a costly dummy partner."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    a, b = _allowed_pairs(cases, controls, own, other, calipers, neighbours)
    distance = np.linalg.norm(np.asarray(cases, np.float64)[a] - np.asarray(controls, np.float64)[b], axis=1)
    n, m = len(cases), len(controls)
    if first.any():
        # a control that is not preferred costs more than any difference of summed distances
        distance = distance + np.where(first[b], 0.0, 1.0 + n * float(distance.max(initial=0.0)))
    # costs more than any difference between the other pairs; 1 is added since zeros are no edges
    none = 2.0 + (n + 1) * float(distance.max(initial=0.0))
    rows, columns = np.append(a, np.arange(n)), np.append(b, m + np.arange(n))
    weights = np.append(1.0 + distance, np.full(n, none))
    graph = coo_array((weights, (rows, columns)), shape=(n, m + n)).tocsr()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    case, control = min_weight_full_bipartite_matching(graph)
    real = control < m
    return list(zip(case[real].tolist(), control[real].tolist(), strict=True))


def _allowed_pairs(
    cases: NDArray[np.floating],
    controls: NDArray[np.floating],
    own: NDArray[np.floating],
    other: NDArray[np.floating],
    calipers: NDArray[np.floating],
    neighbours: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs within the caliper of the control: all, or in large problems the nearest and a largest matching."""
    n, m = len(cases), len(controls)
    if n * m <= _ALL_PAIRS:
        a, b = np.nonzero(np.abs(own[:, None] - other[None]) <= calipers[None])
        return a, b
    from scipy.spatial import KDTree

    # the larger side has fewer each: a thousand cases and a million controls are no 64 million candidates
    k = max(1, min(neighbours, n, m) * min(n, m) // n)
    k_back = max(1, min(neighbours, n, m) * min(n, m) // m)
    near = KDTree(controls).query(cases, k)[1].reshape(n, k)
    back = KDTree(cases).query(controls, k_back)[1].reshape(m, k_back)
    a = np.concatenate([np.repeat(np.arange(n), k), back.ravel()])
    b = np.concatenate([near.ravel(), np.repeat(np.arange(m), k_back)])
    kept = np.abs(own[a] - other[b]) <= calipers[b]
    largest = _largest_matching(own, other, float(calipers.min()))
    codes = np.unique(np.append(a[kept] * m + b[kept], largest[:, 0] * m + largest[:, 1]))
    return codes // m, codes % m


def _largest_matching(own: NDArray[np.floating], other: NDArray[np.floating], caliper: float) -> NDArray[np.int64]:
    """Find a largest matching within the caliper: from left to right, each case takes the first control left.

    Returns
    -------
    int64, shape (pairs, 2): case and control.
    """
    pairs = []
    controls = np.argsort(other, kind="stable")
    at = 0
    for case in np.argsort(own, kind="stable").tolist():
        while at < len(controls) and other[controls[at]] < own[case] - caliper:
            at += 1
        if at < len(controls) and other[controls[at]] <= own[case] + caliper:
            pairs.append((case, int(controls[at])))
            at += 1
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def match_rendered(
    features: NDArray[np.floating],
    is_case: NDArray[np.bool_],
    groups: NDArray[np.str_],
    rules: ControlConfig,
    strata: NDArray[np.str_] | None = None,
    first: NDArray[np.bool_] | None = None,
    agree: NDArray[np.bool_] | None = None,
) -> tuple[list[tuple[int, int]], int]:
    """Choose pairs of one case and one control that a trivial model cannot distinguish.

    Parameters
    ----------
    features
        Image features (brightness, areas, silhouettes), shape (n, k).
    is_case
        bool, shape (n,).
    groups
        Groups that the folds of the propensity never split; shape (n,).
    rules
        Caliper and seed.
    strata
        Pairs are made within a stratum; shape (n,). None for a single stratum.
    first
        bool, shape (n,): controls to use before others; see :func:`assign_controls`.
    agree
        bool, shape (n, j): what the rows of a pair agree in wherever there are as many pairs with that.

    Returns
    -------
    pairs
        (case, control) row indices, sorted; no row twice.
    apart
        Number of pairs that could not be made: the number of cases or controls, whichever is smaller, minus the pairs.
    """
    if not is_case.any() or is_case.all():
        return [], 0
    x = standardise(features)
    logit = _propensity_logit(features, is_case, groups, rules.seed)
    # the propensity has as much weight as all other features together
    x = np.column_stack([x / np.sqrt(x.shape[1]), 2 * logit])
    if agree is not None:
        x = np.column_stack([x, _AGREE * agree])
    pairs: list[tuple[int, int]] = []
    wanted = 0
    strata = np.zeros(len(is_case), "U1") if strata is None else strata
    preferred = np.zeros(len(is_case), np.bool_) if first is None else first
    for stratum in np.unique(strata):
        cases, controls = (np.flatnonzero((is_case == case) & (strata == stratum)) for case in (True, False))
        made = assign_controls(
            x[cases],
            x[controls],
            1,
            scores=(logit[cases], logit[controls]),
            caliper=rules.caliper,
            first=preferred[controls],
            first_caliper=max(rules.caliper, rules.hard_caliper),
        )
        pairs += [(int(cases[c]), int(controls[k])) for c, k in made]
        wanted += min(len(cases), len(controls))
    return sorted(pairs), wanted - len(pairs)


def _propensity_logit(
    features: NDArray[np.floating], is_case: NDArray[np.bool_], groups: NDArray[np.str_], seed: int
) -> NDArray[np.float64]:
    """Estimate out-of-fold logits of being a case from trivial features, in standard deviations; float64, (n,)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    folds = int(min(5, is_case.sum(), (~is_case).sum(), len(np.unique(groups))))
    if folds < 2:
        return np.zeros(len(is_case))
    # a tree of more rows tells cases from controls no better, and takes as much longer as there are rows
    share = _TREE_ROWS / len(is_case) if len(is_case) > _TREE_ROWS else None
    # trees of few rows are grown faster than they are handed to threads
    threads = -1 if len(is_case) > _THREAD_ROWS else None
    settings: dict[str, Any] = {"min_samples_leaf": 5, "class_weight": "balanced", "max_samples": share}
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    probability = np.zeros(len(is_case))
    for train, held_out in splitter.split(features, is_case, groups):
        forest = RandomForestClassifier(100, **settings, random_state=seed, n_jobs=threads)
        forest.fit(features[train], is_case[train])
        # threads would add up the trees in any order, and sums would differ in their last digits from run to run
        forest.set_params(n_jobs=None)
        found = np.asarray(forest.predict_proba(features[held_out]))
        # of few groups a fold may hold all cases, or all controls
        for column in np.flatnonzero(forest.classes_):
            probability[held_out] = found[:, column]
    clipped = np.clip(probability, 0.02, 0.98)
    logit = np.log(clipped / (1 - clipped))
    return logit / max(float(logit.std()), 1e-9)
