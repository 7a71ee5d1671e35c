"""Choose the confidence threshold of a cascade on validation records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.statistics import (
    Estimate,
    balanced_accuracy_statistic,
    bootstrap_interval,
)

if TYPE_CHECKING:
    import pandas as pd


def deferred_rows(records: pd.DataFrame) -> NDArray[np.bool_]:
    """Return a mask of the rows in a cascade's records that the fallback model answered, shape (rows,).

    Parameters
    ----------
    records
        From :func:`connectomebench.evaluation.results.read_results`. ``votes`` is null where the first model answered
        alone, so the first model must not use votes itself.
    """
    return records["votes"].notna().to_numpy()


@dataclass(frozen=True)
class CascadePoint:
    """Performance of a cascade at one threshold.

    Attributes
    ----------
    below
        The threshold.
    share
        Share of rows deferred to the fallback model.
    balanced_accuracy
        Balanced accuracy of the final answers.
    """

    min_confidence: float
    share: float
    balanced_accuracy: float


@dataclass(frozen=True)
class ChosenThreshold:
    """The best threshold on validation records.

    Attributes
    ----------
    point
        The threshold and its performance.
    balanced_accuracy
        Balanced accuracy with its interval over groups. It is the best of the curve, so it is optimistic: evaluate
        the cascade on the test partition.
    curve
        All distinct thresholds, increasing; the first defers no row that has a probability.
    """

    point: CascadePoint
    balanced_accuracy: Estimate
    curve: tuple[CascadePoint, ...]


def choose_threshold(
    first: pd.DataFrame, second: pd.DataFrame, *, max_share: float = 1.0, seed: int = 0
) -> ChosenThreshold:
    """Choose the minimum confidence of the first model, from both models' answers to the same validation rows.

    Parameters
    ----------
    first, second
        Result records (:func:`connectomebench.evaluation.results.read_results`) of one model, task and species each,
        of the ``validation`` partition. The first need probabilities of yes and no; a row without one is deferred.
    max_share
        Largest share of rows that may be deferred.
    seed
        Seed of the bootstrap.

    Returns
    -------
    ChosenThreshold
        The threshold of the best balanced accuracy; among ties, the one that defers fewest rows.

    Raises
    ------
    ConnectomeBenchError
        If the records are not of the same validation rows, the first has no probabilities, or no threshold satisfies
        ``max_share``.
    """
    _check(first, second)
    ours = first.set_index("sample_id").sort_index()
    theirs = second.set_index("sample_id").sort_index()
    yes = ours["probability"].to_numpy(dtype=np.float64)
    predicted = ours["prediction"].fillna("").to_numpy(dtype=str)
    # -1 lies below every threshold: the row has no probability to compare
    confidence = np.where(np.isfinite(yes) & (predicted != ""), np.maximum(yes, 1 - yes), -1.0)
    fallback = theirs["prediction"].fillna("").to_numpy(dtype=str)
    truth = ours["answer"].to_numpy(dtype=str)
    if not np.any(confidence >= 0):
        raise ConnectomeBenchError("the first model gave no probabilities, so no threshold can be chosen")

    curve = _curve(confidence, predicted == truth, fallback == truth, truth)
    allowed = [point for point in curve if point.share <= max_share]
    if not allowed:
        raise ConnectomeBenchError(
            f"{curve[0].share:.0%} of the rows have no probability and are always deferred; allow that share or more"
        )
    best = max(allowed, key=lambda point: (point.balanced_accuracy, -point.share))
    statistic = balanced_accuracy_statistic(np.where(confidence < best.min_confidence, fallback, predicted), truth)
    estimate = bootstrap_interval(statistic, ours["group"].to_numpy(), seed=seed, bounds=(0, 1))
    return ChosenThreshold(best, estimate, curve)


def _curve(
    confidence: NDArray[np.float64],
    first_right: NDArray[np.bool_],
    fallback_right: NDArray[np.bool_],
    truth: NDArray[np.str_],
) -> tuple[CascadePoint, ...]:
    """Return the performance at every distinct threshold; all arrays have shape (rows,)."""
    levels = np.unique(confidence[confidence >= 0])
    # midway between two levels, so that rounding flips no row; 1 defers all but rows with confidence 1
    between = (levels[:-1] + levels[1:]) / 2
    thresholds = np.concatenate([levels[:1], between, [1.0] if levels[-1] < 1 else []])
    order = np.argsort(confidence, kind="stable")
    n_deferred = np.searchsorted(confidence[order], thresholds)
    recalls = []
    for label in np.unique(truth):
        member = truth == label
        gained = np.cumsum((member * (fallback_right.astype(int) - first_right))[order])
        hits = np.count_nonzero(member & first_right) + np.concatenate([[0], gained])[n_deferred]
        recalls.append(hits / np.count_nonzero(member))
    shares = n_deferred / len(confidence)
    points = zip(thresholds.tolist(), shares.tolist(), np.mean(recalls, axis=0).tolist(), strict=True)
    return tuple(CascadePoint(*point) for point in points)


def _check(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Raise if no threshold can be chosen from the records."""
    for name, records in (("first", first), ("second", second)):
        runs = records[["model", "condition", "task", "species"]].drop_duplicates()
        if len(runs) != 1:
            raise ConnectomeBenchError(f"the {name} records hold {len(runs)} evaluations; give exactly one")
        if set(records["partition"]) != {"validation"}:
            raise ConnectomeBenchError(
                f"the {name} records are not all of the validation partition; do not choose a threshold on test rows"
            )
    if set(first["sample_id"]) != set(second["sample_id"]) or len(first) != len(second):
        raise ConnectomeBenchError("the two models answered different rows; evaluate both on the same partition")
    if set(first["dataset_fingerprint"]) != set(second["dataset_fingerprint"]):
        raise ConnectomeBenchError("the two models answered different builds of the dataset; evaluate both on one")
