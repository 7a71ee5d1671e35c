"""How far cheap cues lead: learnt on one partition of a dataset, judged on another, with an interval over groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import NONE
from connectomebench.evaluation.statistics import Estimate, balanced_accuracy_statistic, bootstrap_interval
from connectomebench.models.choice_cues import CHOICE_CUES
from connectomebench.models.choices import is_choice, letters_of
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
    predictions
        Answers to the judged rows, in their order.
    """

    cue: str
    estimate: Estimate
    n_train: int
    numbers: int
    inherent: bool
    predictions: tuple[str, ...] = field(default=(), repr=False)


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
    inherent = task in cue.inherent_in
    return CueScore(cue.name, estimate, len(features), len(names), inherent, tuple(predicted))


def score_cues(
    train: Dataset, test: Dataset, cache: Path | None = None, *, seed: int = 0, progress: bool = False
) -> Iterator[CueScore]:
    """Score every cue that can be measured on the rows, the plainest first.

    Parameters and errors are those of :func:`score_cue`.
    """
    if len(test) == 0:
        raise ConnectomeBenchError("there are no rows to judge; build the dataset again or choose another partition")
    if is_choice(test):
        yield from (score_choice_cue(cue, train, test, cache, seed=seed, progress=progress) for cue in CHOICE_CUES)
        return
    for cue in cues_of(test.select_columns(["views"])[0]["views"]):
        yield score_cue(cue, train, test, cache, seed=seed, progress=progress)


def score_choice_cue(
    cue: CheapCue, train: Dataset, test: Dataset, cache: Path | None = None, *, seed: int = 0, progress: bool = False
) -> CueScore:
    """Learn which candidate a cue speaks for, and judge it on another partition.

    Boosting tells for each candidate whether it is right; the likeliest of a row is chosen, or none where all are
    likelier wrong than right (with both kinds weighted alike).

    Parameters and errors are those of :func:`score_cue`.
    """
    names, features = cue_features(train, cue, cache, progress=progress)
    _, judged = cue_features(test, cue, cache, progress=progress)
    right = [answer == letter for answer, letter in _candidates(train)]
    model = _boosting(features, ["yes" if one else "no" for one in right], seed)
    likely = model.predict_proba(judged)[:, list(model.classes_).index("yes")]
    best: dict[int, tuple[float, str]] = {}
    rows = [(i, letter) for i, views in enumerate(test["views"]) for letter in letters_of(views)]
    for (i, letter), chance in zip(rows, likely.tolist(), strict=True):
        best[i] = max(best.get(i, (0.5, NONE)), (chance, letter), key=lambda found: found[0])
    predicted = [best[i][1] for i in range(len(test))]
    statistic = balanced_accuracy_statistic(predicted, list(test["answer"]))
    estimate = bootstrap_interval(statistic, list(test["group"]), seed=seed, bounds=(0.0, 1.0))
    task = str(train.select_columns(["task"])[0]["task"])
    return CueScore(cue.name, estimate, len(train), len(names), task in cue.inherent_in, tuple(predicted))


def _candidates(rows: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the answer of the row and the letter of every candidate."""
    for answer, views in zip(rows["answer"], rows["views"], strict=True):
        yield from ((answer, letter) for letter in letters_of(views))


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
    return [str(answer) for answer in _boosting(features, answers, seed).predict(judged)]


def _boosting(features: NDArray[np.floating], answers: Sequence[str], seed: int) -> Any:
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
    return model.fit(features, list(answers))
