"""Two models one after the other: the second is asked only where the first is not sure."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.errors import ConnectomeBenchError
from connectomebench.evaluation.statistics import (
    Estimate,
    balanced_accuracy_statistic,
    bootstrap_interval,
)
from connectomebench.files import content_key
from connectomebench.models.base import Answer, Batch, Model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_REPORTED_DIGITS = 6


class Cascade:
    """A model that sends rows on to a second one, a :class:`connectomebench.models.base.Model`.

    How sure the first is, is the probability of its answer; a row without an answer or without probabilities is sent
    on. The answer of a row that was sent on is the second's, with its question, reply and probabilities.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`; both hold the threshold.
    first, second, below
        The models, and how sure is not sure enough: rows below it are sent on.
    local_first
        The first is computed here: it costs nothing, so that a budget can be kept on the second alone, and is asked by
        one thread at a time, while the second may be an endpoint that several ask. False where it is an endpoint too.

    Parameters
    ----------
    first, second, below, local_first
        As above.

    Raises
    ------
    ConnectomeBenchError
        If the threshold lies outside (0, 1].
    """

    def __init__(self, first: Model, second: Model, below: float, *, local_first: bool = True) -> None:
        if not 0 < below <= 1:
            raise ConnectomeBenchError(f"the threshold is {below}; it must lie in (0, 1]")
        self.first = first
        self.second = second
        self.below = below
        self.local_first = local_first
        self._turn: AbstractContextManager[Any] = threading.Lock() if local_first else nullcontext()

    @property
    def name(self) -> str:  # noqa: D102
        return f"{self.first.name}-then-{self.second.name}-below-{self.below:.{_REPORTED_DIGITS}g}"

    @property
    def revision(self) -> str:  # noqa: D102
        models = (self.first, self.second)
        return content_key([[model.name, model.revision] for model in models], self.below)[:16]

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row.

        Parameters
        ----------
        batch
            Columns of stored rows, as both models take them.

        Returns
        -------
        list of Answer
            Where the second was asked, ``votes`` and ``replies`` begin with what the first said, so that
            :func:`sent_on` can tell; tokens, seconds and costs are those of both.
        """
        with self._turn:
            answers = list(self.first.predict(batch))
        if self.local_first:
            answers = [replace(answer, cost_usd=answer.cost_usd or 0.0) for answer in answers]
        unsure = [number for number, answer in enumerate(answers) if not self._is_sure(answer)]
        if unsure:
            rest: dict[str, Any] = {name: [values[i] for i in unsure] for name, values in batch.items()}
            for number, second in zip(unsure, self.second.predict(rest), strict=True):
                answers[number] = _both(answers[number], second)
        return answers

    def _is_sure(self, answer: Answer) -> bool:
        return answer.prediction is not None and max(answer.probabilities.values(), default=0.0) >= self.below


def _both(first: Answer, second: Answer) -> Answer:
    """Return the second answer with what the first said before it, and what both took."""
    replies = second.replies or ((second.reply,) if second.reply is not None else ())
    return replace(
        second,
        votes=(first.prediction, *(second.votes or (second.prediction,))),
        replies=(first.reply or "", *replies) if first.reply is not None or replies else (),
        latency_s=_sum(first.latency_s, second.latency_s),
        # a model that is no language model reads and writes none
        prompt_tokens=_sum(first.prompt_tokens or 0, second.prompt_tokens),
        tokens=_sum(first.tokens or 0, second.tokens),
        cost_usd=_sum(first.cost_usd, second.cost_usd),
    )


def _sum(first: Any, second: Any) -> Any:
    return None if first is None or second is None else first + second


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
