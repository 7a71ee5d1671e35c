"""Inter-rater agreement: Cohen's kappa of two raters, Fleiss' kappa of several, with intervals over groups.

Raters are people (models named ``person-NAME``) or models; the true answers are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.pairing import paired_rows
from connectomebench.evaluation.result_records import predictions_and_answers
from connectomebench.evaluation.statistics import RESAMPLES, Estimate, bootstrap_intervals
from connectomebench.evaluation.weighted_statistics import OfSums, Statistic

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Agreement:
    """Agreement of two raters on the samples both answered.

    Attributes
    ----------
    first, second
        The raters (:func:`connectomebench.evaluation.result_records.label`).
    task, species, partition
        What both rated.
    left_out
        Samples shown to both that at least one left unanswered; excluded from both estimates.
    share
        Share of equal answers; NaN where no sample is left.
    kappa
        Cohen's kappa; NaN if both always gave one and the same answer.
    """

    first: str
    second: str
    task: str
    species: str
    partition: str
    left_out: int
    share: Estimate
    kappa: Estimate


def kappa_statistic(first: ArrayLike, second: ArrayLike) -> Statistic:
    """Return Cohen's kappa as a function of row weights (Cohen, Educational and Psychological Measurement 20, 1960).

    1 is full agreement, 0 the agreement expected by chance given how often each rater gives each answer. NaN if the
    chance agreement is 1, because both always give one and the same answer. Equals `sklearn.metrics.cohen_kappa_score`.

    Parameters
    ----------
    first, second
        Answers of the two raters, whole numbers or text, shape (rows,).

    Returns
    -------
    Statistic
        Weights of shape (resamples, rows) to values of shape (resamples,).

    Raises
    ------
    ConnectomeBenchError
        If the shapes differ or there are no rows.
    """
    one, other = _same_rows([first, second])
    names = np.unique([one, other])[:, np.newaxis]
    of_one, of_other = (one == names).astype(np.float64), (other == names).astype(np.float64)
    equal = (one == other).astype(np.float64)
    classes = len(names)

    def kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        total = sums[:, 0]
        expected = (sums[:, 2 : 2 + classes] * sums[:, 2 + classes :]).sum(axis=1)
        return _beyond_chance(sums[:, 1] * total, expected, total**2)

    return OfSums(np.concatenate([[np.ones(len(equal)), equal], of_one, of_other]), kappa)


def fleiss_kappa_statistic(answers: Sequence[ArrayLike]) -> Statistic:
    """Return Fleiss' kappa of two or more raters as a function of row weights (Psychological Bulletin 76, 1971).

    Chance agreement uses the pooled answers of all raters. NaN if only one answer occurs.

    Parameters
    ----------
    answers
        One array per rater, shape (rows,), all on the same rows.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than two raters, the shapes differ or there are no rows.
    """
    if len(answers) < 2:
        raise ConnectomeBenchError("agreement takes at least two raters")
    given = np.stack(_same_rows(answers))
    raters = len(given)
    counts = (given == np.unique(given)[:, np.newaxis, np.newaxis]).sum(axis=1).astype(np.float64)  # (answers, rows)
    equal = (counts * (counts - 1)).sum(axis=0) / (raters * (raters - 1))

    def kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        total = sums[:, 0]
        return _beyond_chance(sums[:, 1] * total, (sums[:, 2:] ** 2).sum(axis=1), total**2)

    return OfSums(np.concatenate([[np.ones(len(equal)), equal], counts / raters]), kappa)


def agreement(
    frame: pd.DataFrame, first: str, second: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Agreement]:
    """Measure the agreement of two raters on every task, species and partition both answered.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.result_records.read_results`.
    first, second
        The raters, as :func:`connectomebench.evaluation.result_records.label` names them.
    resamples, seed
        Number and seed of the bootstrap resamples over groups.

    Returns
    -------
    list[Agreement]
        One for each task, species and partition, sorted.

    Raises
    ------
    ConnectomeBenchError
        If a rater is not in the records, or they share no samples.
    """
    found = []
    for (task, species, partition), rows in paired_rows(frame, first, second, shared=True).items():
        answers = [predictions_and_answers(own)[0] for own in rows]
        given = np.all([answer != "" for answer in answers], axis=0)
        left_out = int(np.count_nonzero(~given))
        if not given.any():
            nothing = Estimate(float("nan"), float("nan"), float("nan"), 0, 0, 0)
            found.append(Agreement(first, second, task, species, partition, left_out, nothing, nothing))
            continue
        one, other = (answer[given] for answer in answers)
        groups = rows[0]["group"].to_numpy(dtype=str)[given]
        both = {"share": _share_statistic(one == other), "kappa": kappa_statistic(one, other)}
        both = bootstrap_intervals(both, groups, resamples=resamples, seed=seed, bounds=(-1.0, 1.0))
        found.append(Agreement(first, second, task, species, partition, left_out, both["share"], both["kappa"]))
    return found


def pairwise_agreement(
    frame: pd.DataFrame, raters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Agreement]:
    """Measure :func:`agreement` for every pair of raters, in their order.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than two raters, or a pair shares no samples.
    """
    if len(raters) < 2:
        raise ConnectomeBenchError("agreement takes at least two raters")
    return [
        found
        for first, second in combinations(raters, 2)
        for found in agreement(frame, first, second, resamples=resamples, seed=seed)
    ]


def _share_statistic(equal: NDArray[np.bool_]) -> Statistic:
    terms = equal.astype(np.float64)[np.newaxis]
    return OfSums(np.concatenate([terms, np.ones_like(terms)]), lambda sums: sums[:, 0] / sums[:, 1])


def _beyond_chance(
    observed: NDArray[np.float64], expected: NDArray[np.float64], most: NDArray[np.float64]
) -> NDArray[np.float64]:
    room = most - expected
    return np.divide(observed - expected, room, out=np.full_like(room, np.nan), where=room > 0)


def _same_rows(answers: Sequence[ArrayLike]) -> list[NDArray]:
    arrays = [np.asarray(given) for given in answers]
    if arrays[0].ndim != 1 or not len(arrays[0]) or any(given.shape != arrays[0].shape for given in arrays):
        shapes = " and ".join(str(given.shape) for given in arrays)
        raise ConnectomeBenchError(f"raters answer the same rows, at least one: shapes are {shapes}")
    if len({given.dtype.kind == "U" for given in arrays}) > 1:
        raise ConnectomeBenchError("answers of all raters must be numbers, or text")
    return arrays
