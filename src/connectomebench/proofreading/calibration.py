"""Turn answers of models into the probability that an edit is right, learnt on a place with truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.proofreading.proposals import Proposal

_LEAST_RIGHT = 5  # fewer right or wrong corrections teach nothing
_LEAST_EDITS = 5  # a threshold that fewer edits pass says nothing of its precision
_FOLDS = 5
_ANSWERS = 2  # of the features, those that models give


@dataclass(frozen=True)
class OperationCalibration:
    """Logistic regression for merges or splits.

    Attributes
    ----------
    weights
        One for each feature of :func:`features`, after standardising.
    mean, scale
        Of the features.
    intercept
        Of the regression.
    value_weights, value_intercept
        Of a second regression, in which each correction counts as much as it gains if it is right: an expected gain is
        a sum over bits, and few large objects hold most of them.
    contact_weights, contact_intercept
        A third one, as the second but without the answers of models: what they add is seen beside it.
    threshold
        Edits from this confidence on reach the wanted precision; None: no threshold does.
    corrections, right
        Corrections of the validation place, and how many of them are right.
    edits, precision
        Edits of the validation place beyond the threshold, a merge that is seen from both of its sides once, and the
        share of right ones, each judged by a regression that did not see it.
    """

    weights: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    intercept: float
    value_weights: tuple[float, ...]
    value_intercept: float
    contact_weights: tuple[float, ...]
    contact_intercept: float
    threshold: float | None
    corrections: int
    right: int
    edits: int
    precision: float | None

    def predict(self, values: NDArray[np.float64], weights: Sequence[float], intercept: float) -> float:
        """Compute the probability that one of the regressions gives to :func:`features`."""
        standard = (values - np.asarray(self.mean)) / np.asarray(self.scale)
        return float(1 / (1 + np.exp(-(standard @ np.asarray(weights) + intercept))))


@dataclass(frozen=True)
class Calibration:
    """Calibration of merges and of splits; None where the validation place had too few corrections to learn from."""

    merge: OperationCalibration | None
    split: OperationCalibration | None
    wanted_precision: float

    def _of(self, operation: str) -> OperationCalibration | None:
        return self.merge if operation == "merge" else self.split

    def threshold(self, operation: str) -> float | None:
        """Return the confidence from which edits are applied; None: none is."""
        own = self._of(operation)
        return None if own is None else own.threshold

    def confidence(self, proposal: Proposal, identification: float | None, correction: float | None) -> float:
        """Compute the probability that an edit is right; without anything learnt, the product of both answers."""
        own = self._of(proposal.operation)
        if own is None:
            return combine(identification, correction)
        return own.predict(features(proposal, identification, correction), own.weights, own.intercept)

    def chance(self, proposal: Proposal, identification: float | None, correction: float | None) -> float:
        """Compute the same for the expected gain of a decision, learnt with corrections weighted by what they gain."""
        own = self._of(proposal.operation)
        if own is None:
            return combine(identification, correction)
        return own.predict(features(proposal, identification, correction), own.value_weights, own.value_intercept)

    def chance_by_contact(self, proposal: Proposal) -> float:
        """Compute the chance without what models say; 1 without anything learnt."""
        own = self._of(proposal.operation)
        if own is None:
            return combine(None, None)
        return own.predict(features(proposal, None, None), own.contact_weights, own.contact_intercept)


def combine(identification: float | None, correction: float | None) -> float:
    """Combine two probabilities into the confidence of an edit.

    Returns
    -------
    float
        Their product: an edit is right if there is an error and this corrects it. None (not asked) counts as 1.
    """
    return (1.0 if identification is None else identification) * (1.0 if correction is None else correction)


def features(proposal: Proposal, identification: float | None, correction: float | None) -> NDArray[np.float64]:
    """Return what the confidence is computed from.

    Returns
    -------
    float64, shape (9,)
        Logit of either answer (0 where nobody was asked), log of the contact (faces, or cost of the cut), log of the
        gain of a right edit, and the cues of :class:`.proposals.Proposal`. None of it needs the truth.
    """
    return np.array(
        [
            _logit(identification),
            _logit(correction),
            math.log1p(max(proposal.contact, 0.0)),
            math.log(max(proposal.gain, 1e-12)),
            *proposal.cues,
        ]
    )


def _logit(p: float | None) -> float:
    if p is None:
        return 0.0
    clipped = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(clipped / (1 - clipped))


def calibrate(
    values: NDArray[np.float64],
    right: NDArray[np.bool_],
    gains: NDArray[np.float64],
    groups: NDArray[np.int64],
    candidates: NDArray[np.int64],
    edits: NDArray[np.int64],
    wanted_precision: float,
) -> OperationCalibration | None:
    """Learn the probability that a correction is right, and choose the threshold.

    Parameters
    ----------
    values
        float64, shape (n, features): see :func:`features`.
    right
        bool, shape (n,).
    gains
        float64, shape (n,), above 0: bits that each gains if it is right.
    groups
        int64, shape (n,): corrections of one group are predicted by a regression that saw none of it.
    candidates
        int64, shape (n,): number of the candidate; only the most confident correction of each can be applied.
    edits
        int64, shape (n,): number of what is done, such as the merge of two objects, which the ends of both may propose
        and which is applied once.
    wanted_precision
        Share of right edits beyond the threshold.

    Returns
    -------
    OperationCalibration or None
        None where there are fewer than five right or five wrong corrections, or groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(int(right.sum()), int((~right).sum())) < _LEAST_RIGHT or len(np.unique(groups)) < _FOLDS:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = GroupKFold(_FOLDS)
    if any(len(np.unique(right[train])) < 2 for train, _ in folds.split(values, right, groups)):
        return None
    unseen = np.asarray(cross_val_predict(model, values, right, groups=groups, cv=folds, method="predict_proba"))[:, 1]
    best = _best_of_each(edits, unseen, _best_of_each(candidates, unseen, np.arange(len(unseen))))
    threshold, beyond, precision = choose_threshold(unseen[best], right[best], wanted_precision)
    scaler: Any = StandardScaler().fit(values)
    standard = scaler.transform(values)
    regression: Any = LogisticRegression().fit(standard, right)
    valued: Any = LogisticRegression().fit(standard, right, gains / gains.mean())
    silent = standard.copy()
    silent[:, :_ANSWERS] = 0.0  # as the penalty pulls weights to 0, those of a constant 0 are 0
    by_contact: Any = LogisticRegression().fit(silent, right, gains / gains.mean())
    return OperationCalibration(
        tuple(regression.coef_[0].tolist()),
        tuple(scaler.mean_.tolist()),
        tuple(scaler.scale_.tolist()),
        float(regression.intercept_[0]),
        tuple(valued.coef_[0].tolist()),
        float(valued.intercept_[0]),
        tuple(by_contact.coef_[0].tolist()),
        float(by_contact.intercept_[0]),
        threshold,
        len(right),
        int(right.sum()),
        beyond,
        precision,
    )


def _best_of_each(numbers: NDArray[np.int64], confidence: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Keep the most confident of the rows of each number."""
    order = rows[np.lexsort((-confidence[rows], numbers[rows]))]
    return order[np.unique(numbers[order], return_index=True)[1]]


def choose_threshold(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], wanted: float, least: int = _LEAST_EDITS
) -> tuple[float | None, int, float | None]:
    """Choose the lowest threshold whose edits are expected to be as often right as wanted elsewhere.

    Expected is (right + 1) / (edits + 2), the mean after these edits of a share of which nothing was known before: the
    lowest of many thresholds is reached by luck, too, and a few right edits do not promise more of them.

    Returns
    -------
    threshold, edits, precision
        None, 0 and None where no threshold with at least ``least`` edits reaches it.
    """
    if not len(confidence):
        return None, 0, None
    order = np.argsort(-confidence, kind="stable")
    sure, good = confidence[order], np.cumsum(right[order])
    counts = np.arange(1, len(order) + 1)
    # a threshold lies between two different values
    last = np.append(sure[1:] < sure[:-1], True)
    enough = last & (counts >= least) & (good + 1 >= wanted * (counts + 2))
    if not enough.any():
        return None, 0, None
    at = int(np.flatnonzero(enough)[-1])
    return float(sure[at]), int(counts[at]), float(good[at] / counts[at])


def group_of(segment_ids: Sequence[int]) -> int:
    """Return the group of a correction: its largest object, which comes first."""
    return int(segment_ids[0]) & 0x7FFFFFFFFFFFFFFF
