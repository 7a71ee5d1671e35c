"""Verbalised confidences and the calibration error of published files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.evaluation.weighted_statistics import Statistic, weighted_sums
from connectomebench.reproduction.published_records import Run, stated_confidence

PUBLISHED_BINS = 10


@dataclass(frozen=True)
class StatedConfidences:
    """Stated confidences with answers and truths; arrays of shape (answers,).

    Attributes
    ----------
    confidence
        In the given answer, 0 to 1.
    answers, truth
        1 for yes, 0 for no.
    """

    confidence: NDArray[np.float64]
    answers: NDArray[np.int64]
    truth: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.float64]:
        """1 where the answer is correct, else 0."""
        return (self.answers == self.truth).astype(np.float64)

    @property
    def probability(self) -> NDArray[np.float64]:
        """P(yes) implied by answer and confidence."""
        return np.where(self.answers == 1, self.confidence, 1 - self.confidence)


def first_answers(run: Run) -> StatedConfidences:
    """Return the stated confidence of every sample's first answer, if both exist."""
    found = [
        (s.confidence, s.votes[0], s.truth) for s in run.samples if s.confidence is not None and s.votes[0] is not None
    ]
    return _confidences(found)


def all_answers(run: Run) -> StatedConfidences:
    """Return the verbalised confidence of every vote with an answer and a confidence."""
    found = [
        (confidence, vote, s.truth)
        for s in run.samples
        for vote, reply in zip(s.votes, s.replies, strict=True)
        if vote is not None and (confidence := stated_confidence(reply)) is not None
    ]
    return _confidences(found)


def open_bins_error(confidence: NDArray[np.float64], right: NDArray[np.float64], *, with_zero: bool = False) -> float:
    """Compute the ECE over ten equal-width bins, open below and closed above.

    A confidence of 0 then lies in no bin and counts as no error, though the mean is over all answers. ``with_zero``
    puts it into the lowest bin and changes nothing else.
    """
    error = 0.0
    for number in range(PUBLISHED_BINS):
        inside = (confidence > number / PUBLISHED_BINS) & (confidence <= (number + 1) / PUBLISHED_BINS)
        if with_zero and number == 0:
            inside |= confidence == 0
        if inside.any():
            error += abs(confidence[inside].mean() - right[inside].mean()) * inside.sum() / len(confidence)
    return error


def open_bins_statistic(confidence: NDArray[np.float64], right: NDArray[np.float64]) -> Statistic:
    """Return :func:`open_bins_error` as a function of row weights, for its interval by bootstrap."""
    edges = np.arange(1, PUBLISHED_BINS + 1) / PUBLISHED_BINS
    bins = np.where(confidence > 0, np.searchsorted(edges, confidence), -1)
    members = (bins == np.arange(PUBLISHED_BINS)[:, np.newaxis]).astype(np.float64)  # (bins, rows)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mass = weights.sum(axis=1)
        gaps = np.abs(weighted_sums(weights, members * (confidence - right))).sum(axis=1)
        return np.divide(gaps, mass, out=np.full_like(mass, np.nan), where=mass > 0)

    return statistic


def _confidences(found: Sequence[tuple[float, bool, bool]]) -> StatedConfidences:
    confidence = np.array([c for c, _, _ in found], dtype=np.float64)
    answers, truth = (np.array([row[i] for row in found], dtype=np.int64) for i in (1, 2))
    return StatedConfidences(confidence, answers, truth)
