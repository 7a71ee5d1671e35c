"""Classification heads of probe and baselines: grouped cross-validation, fit, calibrated probabilities.

Each candidate head is scored by stratified cross-validation without a ``group`` on both sides. The best is refitted on
all rows; a scale and a bias per class, learnt from the out-of-fold scores, turn its scores into probabilities (Platt
1999, in the multi-class form of Guo et al. 2017), with Platt's smoothed targets.

Heads are fitted with balanced class weights. Probabilities follow the answer frequencies of the training data; the
*prediction* is the answer whose probability is most above its training frequency, which maximises balanced accuracy.
For equally frequent answers this is the most probable answer.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, TooFewRows
from connectomebench.models import streamed_fit
from connectomebench.models.base import Answer

FLOOR = 1e-6


@dataclass(frozen=True)
class HeadCandidate:
    """A candidate head.

    Attributes
    ----------
    settings
        Its settings, JSON-serialisable.
    pipeline
        Unfitted scikit-learn pipeline; its last step is named ``head``, one that standardises ``scale``.
    scale_floor
        Columns whose deviation is below this share of the median column's are divided by that share instead. For
        columns in one unit, such as the features of an encoder. A feature that is nearly constant in the training rows
        would otherwise be hundreds of deviations off in some others, and decide them alone.
    """

    settings: dict[str, Any]
    pipeline: Any
    scale_floor: float = 0.0


@dataclass(frozen=True)
class Head:
    """A fitted head with calibrated probabilities.

    Attributes
    ----------
    classes
        Answers, sorted.
    pipeline
        Fitted scikit-learn pipeline.
    scale, bias
        Probabilities are softmax(scale * log(scores) + bias).
    prior
        Share of each answer in the training data.
    cross_validation
        Scores of every candidate and of the chosen one, JSON-serialisable.
    """

    classes: tuple[str, ...]
    pipeline: Any
    scale: float
    bias: tuple[float, ...]
    prior: tuple[float, ...]
    cross_validation: dict[str, Any]

    def probabilities(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return calibrated probabilities, shape (rows, classes), from features of shape (rows, dim)."""
        return _softmax(self.scale * self.log_scores(features) + np.array(self.bias))

    def log_scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score rows before calibration, shape (rows, classes): they order rows even where the scale is 0."""
        return _log_scores(self.pipeline, features)

    def answers(self, features: NDArray[np.floating]) -> list[Answer]:
        """Answer every row of features, shape (rows, dim)."""
        probabilities = self.probabilities(features)
        chosen = decide(probabilities, np.array(self.prior))
        return [
            Answer(self.classes[c], {name: float(p) for name, p in zip(self.classes, row, strict=True)})
            for c, row in zip(chosen, probabilities, strict=True)
        ]


def decide(probabilities: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the class most above its prior for each row of probabilities, shape (rows, classes)."""
    # rounded, so that an uninformative model always gives one answer instead of following rounding errors
    return np.argmax(np.round(np.log(probabilities) - np.log(prior), 9), axis=1)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.maximum(powers / powers.sum(axis=1, keepdims=True), np.finfo(float).tiny)


def _log_scores(pipeline: Any, features: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.clip(pipeline.predict_proba(features).astype(np.float64), FLOOR, 1))


def _balanced_weights(codes: NDArray[np.intp]) -> NDArray[np.float64]:
    counts = np.bincount(codes)
    return (len(codes) / (len(counts) * counts))[codes]


def floor_scale(scaler: Any, share: float) -> None:
    """Raise the deviations that a fitted `StandardScaler` divides by to a share of their median; 0 leaves them."""
    if share:
        # the numbers of columns that do not vary at all are 1 there
        varying = scaler.var_ > 0
        if varying.any():
            least = share * float(np.median(np.sqrt(scaler.var_[varying])))
            scaler.scale_ = np.where(varying, np.maximum(scaler.scale_, least), scaler.scale_)


def _fit(candidate: HeadCandidate, features: NDArray[np.floating], codes: NDArray[np.intp]) -> Any:
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # the perceptron stops after a fixed number of passes by design; cross-validation judges the result
        warnings.simplefilter("ignore", ConvergenceWarning)
        fresh: Any = clone(candidate.pipeline)
        weights = _balanced_weights(codes)
        floor = candidate.scale_floor
        if features.nbytes > streamed_fit.IN_MEMORY_BYTES:
            return streamed_fit.fit_streamed(fresh, features, codes, weights, lambda s: floor_scale(s, floor))
        if not floor:
            return fresh.fit(features, codes, head__sample_weight=weights)
        scaler = fresh.named_steps["scale"].fit(features)
        floor_scale(scaler, floor)
        fresh.named_steps["head"].fit(scaler.transform(features), codes, sample_weight=weights)
        return fresh


def balanced_accuracy(truth: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
    """Return the mean recall over the classes present in ``truth``."""
    return float(np.mean([np.mean(predicted[truth == c] == c) for c in np.unique(truth)]))


def grouped_folds(
    answers: Sequence[str], groups: Sequence[str], folds: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split rows into folds without shared groups, each training side with every answer.

    Parameters
    ----------
    answers, groups
        One per row.
    folds
        Number of folds; fewer are used (with a warning) if there are too few groups.
    seed
        Seed of the assignment of groups to folds.

    Returns
    -------
    list of (training rows, held-out rows)
        The held-out rows cover all rows exactly once.

    Raises
    ------
    TooFewRows
        If not even two folds are possible.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, codes = np.unique(np.asarray(answers), return_inverse=True)
    group_codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(names) < 2:
        raise TooFewRows(
            f"training needs two different answers, but all {len(codes)} rows have {names.tolist()}; build more samples"
        )
    groups_per_answer = [len(np.unique(group_codes[codes == c])) for c in range(len(names))]
    most = min(folds, *groups_per_answer)
    for count in range(most, 1, -1):
        splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows of an answer than folds: checked here
            pairs = [(a, b) for a, b in splitter.split(np.zeros(len(codes)), codes, group_codes)]
        if all(len(held) and len(np.unique(codes[kept])) == len(names) for kept, held in pairs):
            if count < folds:
                message = f"cross-validation uses {count} folds instead of {folds}: too few groups for more"
                warnings.warn(message, stacklevel=2)
            return pairs
    short = str(names[int(np.argmin(groups_per_answer))])
    raise TooFewRows(
        f"cannot cross-validate: the rows with answer {short!r} come from {min(groups_per_answer)} group(s), and at "
        "least 2 are needed for each answer; build more samples or smaller groups"
    )


def _calibrate(log_scores: NDArray[np.float64], codes: NDArray[np.intp]) -> tuple[float, tuple[float, ...]]:
    """Learn scale and bias from out-of-fold log scores, shape (rows, classes), and the true classes."""
    from scipy.optimize import minimize

    classes = log_scores.shape[1]
    counts = np.bincount(codes, minlength=classes)
    targets = np.tile(1 / (counts[codes] + classes)[:, None], (1, classes))
    targets[np.arange(len(codes)), codes] = (counts[codes] + 1) / (counts[codes] + classes)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = parameters[0] * log_scores + np.append(parameters[1:], 0.0)
        probabilities = _softmax(logits)
        error = (probabilities - targets) / len(codes)
        value = -float(np.sum(targets * np.log(probabilities))) / len(codes)
        return value, np.append(np.sum(error * log_scores), error.sum(axis=0)[:-1])

    # the scale is never negative: anticorrelated held-out scores mean that nothing was learnt
    start = np.append(1.0, np.zeros(classes - 1))
    bounds = [(0.0, None), *[(None, None)] * (classes - 1)]
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    return float(best[0]), (*map(float, best[1:]), 0.0)


def sample_of_groups(groups: Sequence[str], most: int, seed: int) -> NDArray[np.intp]:
    """Draw whole groups at random until they have so many rows; return the rows, in order.

    Parameters
    ----------
    groups
        One per row.
    most
        Maximum number of rows.
    seed
        Of the draw.
    """
    of_row = np.unique(np.asarray(groups), return_inverse=True)[1]
    counts = np.bincount(of_row)
    order = np.random.default_rng(seed).permutation(len(counts))
    chosen = order[np.cumsum(counts[order]) <= most]
    return np.flatnonzero(np.isin(of_row, chosen))


def fit_head(
    features: NDArray[np.floating],
    answers: Sequence[str],
    groups: Sequence[str],
    candidates: Sequence[HeadCandidate],
    folds: int = 5,
    seed: int = 0,
    progress: str | None = None,
) -> Head:
    """Choose a head by grouped cross-validation, fit it on all rows and calibrate it.

    Features above :data:`connectomebench.models.streamed_fit.IN_MEMORY_BYTES` are never copied: the head is chosen and
    calibrated on whole groups drawn at random, as many as fit, and fitted on all rows in blocks.

    Parameters
    ----------
    features
        Shape (rows, dim).
    answers, groups
        One per row.
    candidates
        Candidate heads, simplest first; ties go to the first.
    folds, seed
        See :func:`grouped_folds`.
    progress
        Label of the progress bar; None for no bar.

    Raises
    ------
    TooFewRows
        If there are too few answers or groups.
    """
    from tqdm.auto import tqdm

    if features.nbytes > streamed_fit.IN_MEMORY_BYTES:
        return _fit_on_disk(features, answers, groups, candidates, folds, seed, progress)
    pairs = grouped_folds(answers, groups, folds, seed)
    names, codes = np.unique(np.asarray(answers), return_inverse=True)

    def out_of_fold(candidate: HeadCandidate) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for kept, held in pairs:
            yield held, _log_scores(_fit(candidate, features[kept], codes[kept]), features[held])

    tried: list[tuple[float, NDArray[np.float64], dict[str, Any]]] = []
    steps = len(candidates) * len(pairs) + 1
    with tqdm(total=steps, desc=progress, unit="fit", disable=progress is None, delay=1) as bar:
        for candidate in candidates:
            scores = np.empty((len(codes), len(names)))
            per_fold = []
            for held, log_scores in out_of_fold(candidate):
                scores[held] = log_scores
                per_fold.append(round(balanced_accuracy(codes[held], log_scores.argmax(axis=1)), 6))
                bar.update(1)
            overall = balanced_accuracy(codes, scores.argmax(axis=1))
            report = {**candidate.settings, "balanced_accuracy": round(overall, 6), "folds": per_fold}
            tried.append((overall, scores, report))
        best = max(range(len(tried)), key=lambda i: tried[i][0])
        fitted = _fit(candidates[best], features, codes)
        bar.update(1)
    scale, bias = _calibrate(tried[best][1], codes)
    prior = np.bincount(codes) / len(codes)
    probabilities = _softmax(scale * tried[best][1] + np.array(bias))
    own = probabilities[np.arange(len(codes)), codes]
    cross_validation = {
        "folds": len(pairs),
        "groups": len(set(groups)),
        "samples": len(codes),
        "chosen": candidates[best].settings,
        "balanced_accuracy": round(balanced_accuracy(codes, decide(probabilities, prior)), 6),
        "log_loss": round(float(-np.log(own).mean()), 6),
        "candidates": [report for _, _, report in tried],
    }
    return Head(tuple(names.tolist()), fitted, scale, bias, tuple(prior.tolist()), cross_validation)


def _fit_on_disk(
    features: NDArray[np.floating],
    answers: Sequence[str],
    groups: Sequence[str],
    candidates: Sequence[HeadCandidate],
    folds: int,
    seed: int,
    progress: str | None,
) -> Head:
    """See :func:`fit_head`."""
    row_bytes = features.nbytes // len(features)
    rows = sample_of_groups(groups, streamed_fit.IN_MEMORY_BYTES // row_bytes, seed)
    some: list[Any] = [answers[row] for row in rows]
    names, codes = np.unique(np.asarray(answers), return_inverse=True)
    if len(set(some)) < len(names):
        raise ConnectomeBenchError(
            f"a sample of {len(rows)} of {len(answers)} rows, whole groups, lacks an answer; build smaller groups"
        )
    own: list[Any] = [groups[row] for row in rows]
    head = fit_head(np.asarray(features[rows]), some, own, candidates, folds, seed, progress)
    chosen = next(c for c in candidates if c.settings == head.cross_validation["chosen"])
    fitted = _fit(chosen, features, codes)
    found = {**head.cross_validation, "of_samples": len(codes)}
    return dataclasses.replace(
        head, pipeline=fitted, prior=tuple((np.bincount(codes) / len(codes)).tolist()), cross_validation=found
    )
