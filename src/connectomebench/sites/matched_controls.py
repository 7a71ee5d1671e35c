"""Controls that resemble the cases in everything a trivial model could use, so that only the question decides.

Case-control matching: each case gets the control that is nearest in its covariates (optimal assignment), first on
sizes and distances before anything is drawn, then on the trivial features of the pictures and on the propensity score
learnt from them (Rosenbaum and Rubin, Biometrika 70, 1983).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


@dataclass(frozen=True)
class ControlRules:
    """How controls are chosen.

    Attributes
    ----------
    pool_per_case
        Controls drawn for each case before the final match.
    max_cases
        At most this many cases of a task enter, those with the most similar controls; 0 for all.
    caliper
        Largest accepted difference of propensity logits within a pair, in standard deviations; pairs further apart
        are dropped and counted.
    seed
        Of every random draw.
    """

    pool_per_case: int = 3
    max_cases: int = 0
    caliper: float = 0.5
    seed: int = 0


def standardise(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centre and scale columns by median and interquartile range, clipped to ±4; shape (n, k) is kept."""
    x = np.asarray(features, np.float64)
    low, middle, high = np.percentile(x, [25, 50, 75], axis=0)
    spread = np.where(high > low, high - low, np.maximum(x.std(axis=0), 1e-9))
    return np.clip((x - middle) / spread, -4, 4)


def assign_controls(
    cases: NDArray[np.floating], controls: NDArray[np.floating], per_case: int, block: int = 1000
) -> list[tuple[int, int]]:
    """Pair cases with distinct controls so that the summed distance is least.

    Parameters
    ----------
    cases
        Shape (n_cases, k), standardised covariates.
    controls
        Shape (n_controls, k).
    per_case
        Controls wanted for each case; fewer where there are not enough.
    block
        More cases than this are matched block by block, since the assignment is cubic in their number.

    Returns
    -------
    list of (case, control)
        Sorted; no control twice.
    """
    free = np.arange(len(controls))
    pairs: list[tuple[int, int]] = []
    for _ in range(per_case):
        if not len(cases) or not len(free):
            break
        taken: list[int] = []
        blocks = np.array_split(np.arange(len(cases)), -(-len(cases) // block))
        for i, own in enumerate(blocks):
            # each block chooses among its own share, so that no control is taken twice
            share = free[i :: len(blocks)]
            rows, columns = linear_sum_assignment(cdist(cases[own], controls[share]))
            pairs += [(int(own[r]), int(share[c])) for r, c in zip(rows, columns, strict=True)]
            taken += [int(share[c]) for c in columns]
        free = np.setdiff1d(free, taken)
    return sorted(pairs)


def match_rendered(
    features: NDArray[np.floating],
    is_case: NDArray[np.bool_],
    groups: NDArray[np.str_],
    rules: ControlRules,
) -> tuple[list[tuple[int, int]], int]:
    """Choose pairs of one case and one control that look alike to a trivial model.

    Parameters
    ----------
    features
        Trivial features of the pictures, shape (n, k).
    is_case
        bool, shape (n,).
    groups
        What the out-of-fold propensity keeps apart; shape (n,).
    rules
        Caliper and seed.

    Returns
    -------
    pairs
        (case, control) row indices, sorted; no row twice.
    dropped
        Pairs dropped for a propensity difference above the caliper.
    """
    if not is_case.any() or is_case.all():
        return [], 0
    x = standardise(features)
    logit = _propensity_logit(features, is_case, groups, rules.seed)
    # the propensity weighs as much as all other features together
    x = np.column_stack([x / np.sqrt(x.shape[1]), 2 * logit])
    cases, controls = np.flatnonzero(is_case), np.flatnonzero(~is_case)
    pairs = [(int(cases[c]), int(controls[k])) for c, k in assign_controls(x[cases], x[controls], 1)]
    near = [(c, k) for c, k in pairs if abs(logit[c] - logit[k]) <= rules.caliper]
    return sorted(near), len(pairs) - len(near)


def _propensity_logit(
    features: NDArray[np.floating], is_case: NDArray[np.bool_], groups: NDArray[np.str_], seed: int
) -> NDArray[np.float64]:
    """Out-of-fold logit of being a case given the trivial features, in standard deviations; float64, shape (n,)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = int(min(5, is_case.sum(), (~is_case).sum(), len(np.unique(groups))))
    if folds < 2:
        return np.zeros(len(is_case))
    forest = RandomForestClassifier(300, min_samples_leaf=5, class_weight="balanced", random_state=seed, n_jobs=2)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    probability = cross_val_predict(forest, features, is_case, groups=groups, cv=splitter, method="predict_proba")
    clipped = np.clip(np.asarray(probability)[:, 1], 0.02, 0.98)
    logit = np.log(clipped / (1 - clipped))
    return logit / max(float(logit.std()), 1e-9)
