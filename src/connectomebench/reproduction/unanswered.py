"""Samples without any answer: wrong, counted as "no", or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.reproduction.published_records import PublishedSample, Run, majority, word


@dataclass(frozen=True)
class UnansweredScores:
    """Scores of the majorities of a run under three rules for samples whose votes all lack an answer.

    Attributes
    ----------
    answered, samples
        Numbers of samples.
    wrong, as_no, left_out
        (accuracy, balanced accuracy): such a sample is wrong (as everywhere in this package); every vote without an
        answer is a "no" (as the publication counts); only samples with an answer count.
    """

    answered: int
    samples: int
    wrong: tuple[float, float]
    as_no: tuple[float, float]
    left_out: tuple[float, float]


def unanswered_scores(run: Run) -> UnansweredScores | None:
    """Score a run under each rule; None if every sample has an answer."""
    answered = [s for s in run.samples if any(vote is not None for vote in s.votes)]
    if len(answered) == len(run.samples):
        return None
    return UnansweredScores(
        answered=len(answered),
        samples=len(run.samples),
        wrong=_scores(run.samples, as_no=False),
        as_no=_scores(run.samples, as_no=True),
        left_out=_scores(answered, as_no=False),
    )


def _scores(samples: Sequence[PublishedSample], *, as_no: bool) -> tuple[float, float]:
    if not samples:
        return float("nan"), float("nan")
    given = [majority([bool(v) for v in s.votes] if as_no else s.votes) for s in samples]
    right = sum(answer == s.truth for answer, s in zip(given, samples, strict=True)) / len(samples)
    predictions = [word(answer) or "" for answer in given]
    return right, float(balanced_accuracy(predictions, ["yes" if s.truth else "no" for s in samples]))
