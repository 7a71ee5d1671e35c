"""Scores: one metric of one method on one task, for tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.evaluation.results import DEFAULT, KEYS, label, summarise
from connectomebench.evaluation.statistics import RESAMPLES, bootstrap_interval
from connectomebench.evaluation.sweep import sweep_run
from connectomebench.evaluation.weighted_statistics import Statistic, weighted_sums

if TYPE_CHECKING:
    import pandas as pd

Metric = Literal["balanced_accuracy", "vote_share", "ece"]
GROUPS = "95% interval, bootstrap over groups"
_NAN = float("nan")
_SEPARATOR = "\n"


@dataclass(frozen=True)
class Score:
    """A score with its metadata.

    Attributes
    ----------
    method
        Who answered; :mod:`.methods` has titles and colours.
    task, species
        Our names.
    metric
        ``balanced_accuracy``; ``vote_share``, the mean over both answers of the share of votes that are right (a vote
        without an answer is wrong); or ``ece``.
    value
        Between 0 and 1.
    lower, upper
        Interval; NaN where there is none.
    interval
        Description of the interval; empty if there is none.
    n
        Number of test samples; None if unknown.
    n_groups
        Groups of samples; None where single samples are not known.
    train_samples
        Number of training samples; None if there are none or it is unknown.
    how
        Description of the computation.
    source
        Files it comes from, or the name of the model in result records.
    """

    method: str
    task: str
    species: str
    metric: Metric
    value: float
    n: int | None
    how: str
    source: str
    lower: float = _NAN
    upper: float = _NAN
    interval: str = ""
    n_groups: int | None = None
    train_samples: int | None = None


Naming = Callable[[str, str], str]
"""Model and condition of result records to a method."""


def record_scores(
    frame: pd.DataFrame,
    naming: Naming = label,
    train_samples: Mapping[tuple[str, str], int] | None = None,
    *,
    resamples: int = RESAMPLES,
) -> list[Score]:
    """Compute scores from result records, ours or published.

    Balanced accuracy and ECE are those of :func:`connectomebench.evaluation.results.summarise`: a reply without an
    answer is wrong, the ECE compares P(yes) with the truth in 15 bins of equal width. Where there are votes, their
    share is scored as well.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.results.read_results`.
    naming
        Names the method of a model in a condition; `connectomebench.evaluation.results.label` by default.
    train_samples
        (method, task) -> samples trained on.
    resamples
        Of the bootstrap.

    Returns
    -------
    list[Score]
        Sorted as the summaries are; undefined values are left out.
    """
    known = train_samples or {}
    scores: list[Score] = []
    parts: dict[tuple[str, ...], pd.DataFrame] = dict(iter(frame.groupby(list(KEYS), sort=False)))  # type: ignore[arg-type]
    for summary in summarise(frame, resamples=resamples):
        method = naming(summary.model, summary.condition)
        rows = parts[summary.model, summary.task, summary.species, summary.partition, summary.condition]
        votes = [len(v) for v in rows["votes"] if v is not None]
        found = [
            ("balanced_accuracy", summary.estimates["balanced_accuracy"], _answer_words(summary.condition, votes)),
            ("ece", summary.estimates["ece"], _probability_words(votes)),
        ]
        if len(votes) == len(rows):
            share = bootstrap_interval(
                class_mean_statistic(
                    [_share(v, a) for v, a in zip(rows["votes"], rows["answer"], strict=True)], rows["answer"]
                ),
                rows["group"].to_numpy(dtype=str),
                resamples=resamples,
                bounds=(0.0, 1.0),
            )
            found.append(("vote_share", share, f"mean share of {max(votes)} votes that are right"))
        for metric, estimate, how in found:
            if np.isfinite(estimate.value):
                scores.append(
                    Score(
                        method=method,
                        task=summary.task,
                        species=summary.species,
                        metric=metric,  # type: ignore[arg-type]
                        value=estimate.value,
                        n=estimate.n,
                        how=how,
                        source=label(summary.model, summary.condition),
                        lower=estimate.lower,
                        upper=estimate.upper,
                        interval=GROUPS if np.isfinite(estimate.lower) else "",
                        n_groups=estimate.n_groups,
                        train_samples=known.get((method, summary.task)),
                    )
                )
    return scores


def swept_scores(frame: pd.DataFrame, naming: Naming = label) -> list[Score]:
    """Compute the scores of sweeps: mean and standard deviation over seeds for each number of training samples.

    Parameters
    ----------
    frame
        Result records of :func:`connectomebench.evaluation.sweep.run_sweep`; those of other conditions are left out.
    naming
        Names the method of a model; the condition it is given is that of an evaluation.

    Returns
    -------
    list[Score]
        Of balanced accuracy and ECE, fewest training samples first.
    """
    runs = {condition: sweep_run(condition) for condition in set(frame["condition"])}
    found: dict[tuple[str, str, str, str, int], list[Score]] = {}
    # the spread over seeds is what is shown, so that no interval of a single run is needed
    for score in record_scores(frame[frame["condition"].map(runs).notna()], _separate, resamples=2):
        model, condition = score.method.split(_SEPARATOR)
        size, _ = runs[condition] or (0, 0)
        found.setdefault((model, score.task, score.species, score.metric, size), []).append(score)
    scores = []
    for (model, task, species, metric, size), of in sorted(found.items()):
        mean, lower, upper = mean_and_deviation([score.value for score in of])
        scores.append(
            Score(
                method=naming(model, DEFAULT),
                task=task,
                species=species,
                metric=metric,  # type: ignore[arg-type]
                value=mean,
                n=of[0].n,
                how=f"mean of {len(of)} seeds",
                source=f"{model}, {species}",
                lower=lower,
                upper=upper,
                interval=f"standard deviation of {len(of)} seeds" if len(of) > 1 else "",
                train_samples=size,
            )
        )
    return scores


def class_mean_statistic(values: ArrayLike, answers: ArrayLike) -> Statistic:
    """Return the class-averaged mean as a function of row weights.

    Balanced accuracy where values are 1 for right and 0 for wrong. NaN for weights under which an answer has no rows.

    Parameters
    ----------
    values
        One number a row, shape (rows,).
    answers
        True answers, shape (rows,).
    """
    numbers = np.asarray(values, dtype=np.float64)
    truth = np.asarray(answers, dtype=str)
    members = (truth == np.unique(truth)[:, np.newaxis]).astype(np.float64)  # (answers, rows)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mass = weighted_sums(weights, members)
        sums = weighted_sums(weights, members * numbers)
        return np.divide(sums, mass, out=np.full_like(mass, np.nan), where=mass > 0).mean(axis=1)

    return statistic


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, and mean minus and plus the standard deviation of repeats (ddof = 1)."""
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else _NAN
    return mean, mean - spread, mean + spread


def _separate(model: str, condition: str) -> str:
    return f"{model}{_SEPARATOR}{condition}"


def _share(votes: Sequence[str | None], answer: str) -> float:
    return sum(vote == answer for vote in votes) / len(votes)


def _answer_words(condition: str, votes: Sequence[int]) -> str:
    return f"majority of {max(votes)} votes" if votes else "one answer a sample"


def _probability_words(votes: Sequence[int]) -> str:
    return "share of votes as P(yes)" if votes else "stated probability of yes"
