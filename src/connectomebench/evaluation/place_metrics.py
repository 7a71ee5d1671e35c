"""Mean score and hit rate of answers that are places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.place_score import FULL_NM, credit, full_credit_nm, score_answer, score_text
from connectomebench.core.places import read_places
from connectomebench.evaluation.weighted_statistics import Statistic, check_weights, weighted_sums

PLACE_METRICS = ("place_score", "hit_rate")
"""Mean score, and share of answers with full credit."""


@dataclass(frozen=True)
class PlaceScores:
    """Scores of some answers.

    Attributes
    ----------
    place_score
        Mean score.
    hit_rate
        Share of answers with full credit.
    """

    place_score: float
    hit_rate: float


def place_scores(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    questions: Sequence[str] | None = None,
    extent_nm: Sequence[float] | None = None,
    sample_weight: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Score answers one by one; see :func:`connectomebench.core.place_score.score_answer`.

    Parameters
    ----------
    predictions
        Answers as :func:`connectomebench.core.places.write_places` writes them; anything else scores 0.
    references
        A right answer of each row, or all of them: the nearest counts.
    questions
        Questions with their nodes, where answers may name nodes.
    extent_nm
        Edge of each view, nm: smaller views have a smaller scale. 5000 nm or more where left out.
    sample_weight
        Checked only; see :func:`mean_place_score`.

    Returns
    -------
    float64, shape (rows,)
        Between 0 and 1.

    Raises
    ------
    ConnectomeBenchError
        If columns differ in length, there are no rows, or a reference is no place.
    """
    rows = len(predictions)
    if not rows:
        raise ConnectomeBenchError("there are no rows; give at least one prediction with its reference")
    for name, given in (("references", references), ("questions", questions), ("extent_nm", extent_nm)):
        if given is not None and len(given) != rows:
            raise ConnectomeBenchError(f"{len(given)} {name} for {rows} predictions; give one for each")
    asked = [""] * rows if questions is None else questions
    full = [FULL_NM] * rows if extent_nm is None else [full_credit_nm(float(extent)) for extent in extent_nm]
    if not np.all(np.asarray(full) > 0):
        raise ConnectomeBenchError("extent_nm must be above 0")
    scores = np.empty(rows)
    for row, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        right = [reference] if isinstance(reference, str) else list(reference)
        if not right or any(read_places(one) is None for one in right):
            raise ConnectomeBenchError(f"{reference!r:.60} is no place; write it as 'x, y, z' or 'node n', or as a cut")
        worth = partial(credit, full_nm=full[row])
        scores[row] = max(score_answer(prediction, one, [], asked[row], worth) for one in right)
    if sample_weight is not None:
        check_weights(sample_weight, rows)
    return scores


def mean_place_score(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    questions: Sequence[str] | None = None,
    extent_nm: Sequence[float] | None = None,
    sample_weight: Sequence[float] | None = None,
) -> PlaceScores:
    """Return the mean score of answers and their hit rate.

    Parameters
    ----------
    predictions, references, questions, extent_nm
        See :func:`place_scores`.
    sample_weight
        Weight of each row, not negative.

    Raises
    ------
    ConnectomeBenchError
        As :func:`place_scores`, or if weights are no weights.

    Examples
    --------
    >>> mean_place_score(["0, 0, 0", "1250, 0, 0"], ["0, 0, 0", "0, 0, 0"])
    PlaceScores(place_score=0.75, hit_rate=0.5)
    """
    scores = place_scores(predictions, references, questions, extent_nm, sample_weight)
    weights = np.ones(len(scores)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    return PlaceScores(float(np.average(scores, weights=weights)), float(np.average(scores >= 1, weights=weights)))


def score_places(predictions: Sequence[str], truths: Sequence[str]) -> NDArray[np.float64]:
    """Score the answers of result records.

    Parameters
    ----------
    predictions
        Answers; empty where unparsed, which scores 0.
    truths
        From :func:`connectomebench.core.place_score.write_truth`.

    Returns
    -------
    float64, shape (rows,)
    """
    return np.array([score_text(str(one), str(truth)) for one, truth in zip(predictions, truths, strict=True)])


def place_statistics(scores: NDArray[np.float64]) -> dict[str, Statistic]:
    """Return the statistics in `PLACE_METRICS` of scores, shape (rows,), as functions of row weights."""
    return {"place_score": _mean(scores), "hit_rate": _mean((scores >= 1).astype(np.float64))}


def _mean(values: NDArray[np.float64]) -> Statistic:
    terms = np.stack([values, np.ones(len(values))])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total, mass = weighted_sums(weights, terms).T
        return np.divide(total, mass, out=np.full(len(total), np.nan), where=mass > 0)

    return statistic
