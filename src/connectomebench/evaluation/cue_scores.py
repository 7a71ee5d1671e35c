"""How far cheap cues lead: learnt on one partition of a dataset, judged on another, with an interval over groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.statistics import Estimate, balanced_accuracy_statistic, bootstrap_interval
from connectomebench.models.cues import CheapCue, cue_features, cues_of

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class CueScore:
    """How far a cue leads.

    Attributes
    ----------
    cue
        Name of the cue.
    estimate
        Balanced accuracy on the judged rows with its interval over groups, n rows and groups.
    n_train
        Rows it was learnt from.
    numbers
        How many numbers a row was turned into.
    inherent
        The cue is part of what the task asks.
    """

    cue: str
    estimate: Estimate
    n_train: int
    numbers: int
    inherent: bool


def score_cue(
    cue: CheapCue, train: Dataset, test: Dataset, cache: Path | None = None, *, seed: int = 0, progress: bool = False
) -> CueScore:
    """Learn a cue on one partition and judge it on another.

    Parameters
    ----------
    cue
        One of :data:`CUES`.
    train, test
        Stored rows with `answer` and `group`; of the same task.
    cache, progress
        See :func:`cue_features`.
    seed
        Of the bootstrap and of gradient boosting.

    Raises
    ------
    ConnectomeBenchError
        If rows are missing, the training rows have one answer only, or the two have other views.
    """
    names, features = cue_features(train, cue, cache, progress=progress)
    test_names, test_features = cue_features(test, cue, cache, progress=progress)
    if names != test_names:
        raise ConnectomeBenchError("training and test rows differ in their views; give two partitions of one dataset")
    task = str(train.select_columns(["task"])[0]["task"]) if "task" in train.column_names else ""
    predicted = predict_answers(features, list(train["answer"]), test_features, seed)
    statistic = balanced_accuracy_statistic(predicted, list(test["answer"]))
    estimate = bootstrap_interval(statistic, list(test["group"]), seed=seed, bounds=(0.0, 1.0))
    return CueScore(cue.name, estimate, len(features), len(names), task in cue.inherent_in)


def score_cues(
    train: Dataset, test: Dataset, cache: Path | None = None, *, seed: int = 0, progress: bool = False
) -> Iterator[CueScore]:
    """Score every cue that can be measured on the rows, the plainest first.

    Parameters and errors are those of :func:`score_cue`.
    """
    if len(test) == 0:
        raise ConnectomeBenchError("there are no rows to judge; build the dataset again or choose another partition")
    for cue in cues_of(test.select_columns(["views"])[0]["views"]):
        yield score_cue(cue, train, test, cache, seed=seed, progress=progress)


def predict_answers(
    features: NDArray[np.floating], answers: Sequence[str], judged: NDArray[np.floating], seed: int = 0
) -> list[str]:
    """Answer rows by gradient boosting on others.

    Parameters
    ----------
    features, answers
        Shape (rows, numbers), and the answer of each row.
    judged
        Shape (other rows, numbers).
    seed
        Of the boosting.

    Raises
    ------
    ConnectomeBenchError
        If all rows have the same answer.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if len(set(answers)) < 2:
        raise ConnectomeBenchError("the training rows have one answer only; build a dataset with both")
    # small trees, slowly: some hundred rows are the usual case. Settings are fixed, never chosen on the judged rows.
    model = HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_iter=150,
        max_leaf_nodes=8,
        min_samples_leaf=min(8, max(2, len(features) // 20)),
        l2_regularization=1.0,
        class_weight="balanced",
        early_stopping=False,  # pyright: ignore[reportArgumentType]
        random_state=seed,
    )
    model.fit(features, list(answers))
    return [str(answer) for answer in model.predict(judged)]
