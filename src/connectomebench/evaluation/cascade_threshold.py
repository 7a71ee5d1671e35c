"""Choose the threshold of a cascade from validation records."""

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


def sent_on(records: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows of a cascade's result records the second model answered, shape (rows,).

    Parameters
    ----------
    records
        As :func:`connectomebench.evaluation.results.read_results` reads them. ``votes`` is null where the first model
        answered alone; it must not be one that votes itself.
    """
    return records["votes"].notna().to_numpy()


@dataclass(frozen=True)
class CascadePoint:
    """What a cascade of two models does at one threshold.

    Attributes
    ----------
    below
        The threshold.
    share
        Of the rows that are sent on.
    balanced_accuracy
        Of the answers that stand in the end.
    """

    below: float
    share: float
    balanced_accuracy: float


@dataclass(frozen=True)
class ChosenThreshold:
    """The threshold that did best on validation records.

    Attributes
    ----------
    point
        The threshold, and what it does.
    balanced_accuracy
        The same with its interval over groups. It was chosen as the best of the curve, so it is too good: evaluate the
        cascade on the test partition.
    curve
        All thresholds that make a difference, from the lowest; the first sends on no row that has a probability.
    """

    point: CascadePoint
    balanced_accuracy: Estimate
    curve: tuple[CascadePoint, ...]


def choose_threshold(
    first: pd.DataFrame, second: pd.DataFrame, *, max_share: float = 1.0, seed: int = 0
) -> ChosenThreshold:
    """Choose how sure the first model must be, from what both said about the same validation rows.

    Parameters
    ----------
    first, second
        Result records (:func:`connectomebench.evaluation.results.read_results`) of one model, task and species each,
        of the partition ``validation``. The first need probabilities of yes and no; a row without one is sent on.
    max_share
        Of the rows that may be sent on.
    seed
        Of the bootstrap.

    Returns
    -------
    ChosenThreshold
        The best balanced accuracy; of equals, the one that sends on fewest rows.

    Raises
    ------
    ConnectomeBenchError
        If the records are not of the same validation rows, the first holds no probabilities, or nothing lies within
        ``max_share``.
    """
    _check(first, second)
    ours = first.set_index("sample_id").sort_index()
    theirs = second.set_index("sample_id").sort_index()
    yes = ours["probability"].to_numpy(dtype=np.float64)
    said = ours["prediction"].fillna("").to_numpy(dtype=str)
    # -1 lies below every threshold: such a row has no probability to compare
    sure = np.where(np.isfinite(yes) & (said != ""), np.maximum(yes, 1 - yes), -1.0)
    instead = theirs["prediction"].fillna("").to_numpy(dtype=str)
    truth = ours["answer"].to_numpy(dtype=str)
    if not np.any(sure >= 0):
        raise ConnectomeBenchError("the first model gave no probabilities, so nothing can be sent on by them")

    curve = _curve(sure, said == truth, instead == truth, truth)
    allowed = [point for point in curve if point.share <= max_share]
    if not allowed:
        raise ConnectomeBenchError(
            f"{curve[0].share:.0%} of the rows have no probability and are always sent on; allow that share or more"
        )
    best = max(allowed, key=lambda point: (point.balanced_accuracy, -point.share))
    statistic = balanced_accuracy_statistic(np.where(sure < best.below, instead, said), truth)
    estimate = bootstrap_interval(statistic, ours["group"].to_numpy(), seed=seed, bounds=(0, 1))
    return ChosenThreshold(best, estimate, curve)


def _curve(
    sure: NDArray[np.float64], said_right: NDArray[np.bool_], instead_right: NDArray[np.bool_], truth: NDArray[np.str_]
) -> tuple[CascadePoint, ...]:
    """Return what happens at every threshold that makes a difference; all arrays have shape (rows,)."""
    levels = np.unique(sure[sure >= 0])
    # between two levels, so that rounding sends no row the other way; 1 sends on all but the wholly sure
    between = (levels[:-1] + levels[1:]) / 2
    thresholds = np.concatenate([levels[:1], between, [1.0] if levels[-1] < 1 else []])
    order = np.argsort(sure, kind="stable")
    sent = np.searchsorted(sure[order], thresholds)
    recalls = []
    for label in np.unique(truth):
        member = truth == label
        gained = np.cumsum((member * (instead_right.astype(int) - said_right))[order])
        hits = np.count_nonzero(member & said_right) + np.concatenate([[0], gained])[sent]
        recalls.append(hits / np.count_nonzero(member))
    shares = sent / len(sure)
    points = zip(thresholds.tolist(), shares.tolist(), np.mean(recalls, axis=0).tolist(), strict=True)
    return tuple(CascadePoint(*point) for point in points)


def _check(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Refuse records from which no threshold can be chosen."""
    for name, records in (("first", first), ("second", second)):
        runs = records[["model", "condition", "task", "species"]].drop_duplicates()
        if len(runs) != 1:
            raise ConnectomeBenchError(f"the {name} records hold {len(runs)} evaluations; give those of one")
        if set(records["partition"]) != {"validation"}:
            raise ConnectomeBenchError(
                f"the {name} records are not all of the partition validation; a threshold chosen on test rows is none"
            )
    if set(first["sample_id"]) != set(second["sample_id"]) or len(first) != len(second):
        raise ConnectomeBenchError("the two models answered different rows; evaluate both on the same partition")
    if set(first["dataset_fingerprint"]) != set(second["dataset_fingerprint"]):
        raise ConnectomeBenchError("the two models answered different builds of the dataset; evaluate both on one")
