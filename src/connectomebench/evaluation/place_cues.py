"""Lazy rules for places as cheap cues: what they score on rows, beside naming a node at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.place_score import score_row
from connectomebench.core.task_explanations import PLACE_RULE_TITLES
from connectomebench.evaluation.cue_scores import CueScore
from connectomebench.evaluation.place_metrics import place_statistics
from connectomebench.evaluation.statistics import bootstrap_interval
from connectomebench.models.place_baselines import INHERENT_RULES, PlaceBaseline, best_score, chance_score

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMNS = ("task", "question", "answer", "target_nm", "location_nm", "extent_nm", "group")


@dataclass(frozen=True)
class PlaceCues:
    """What lazy rules score.

    Attributes
    ----------
    scores
        One a rule: mean place score with its interval over groups.
    chance
        Mean score of naming a node (of a cut, a pair of nodes) at random.
    best
        Mean score of naming the best node or pair: the most that naming nodes can reach.
    """

    scores: tuple[CueScore, ...]
    chance: float
    best: float


def score_place_cues(rows: Dataset, *, seed: int = 0) -> PlaceCues:
    """Score every lazy rule on stored rows; nothing is learnt.

    Parameters
    ----------
    rows
        Stored rows of a task that asks for places.
    seed
        Of the bootstrap.

    Raises
    ------
    ConnectomeBenchError
        If there are no rows, or a question lists no nodes.
    """
    if len(rows) == 0:
        raise ConnectomeBenchError("there are no rows to judge; build the dataset again or choose another partition")
    columns: dict[str, Any] = rows.select_columns(list(_COLUMNS))[:]
    listed = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    found = []
    for rule in PLACE_RULE_TITLES:
        given = PlaceBaseline(rule).predict(columns)
        scores = np.array([score_row(answer.prediction, row) for answer, row in zip(given, listed, strict=True)])
        statistic = place_statistics(scores)["place_score"]
        estimate = bootstrap_interval(statistic, columns["group"], seed=seed, bounds=(0.0, 1.0))
        answers = tuple(str(answer.prediction) for answer in given)
        found.append(CueScore(rule, estimate, 0, 0, rule in INHERENT_RULES, answers))
    chance, best = (float(np.mean([value(row) for row in listed])) for value in (chance_score, best_score))
    return PlaceCues(tuple(found), chance, best)
