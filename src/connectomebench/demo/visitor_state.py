"""State of one visitor: what was seen and answered, kept by the server while the page is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from connectomebench.core.tasks import get_task
from connectomebench.demo.answer_scores import is_right, visitor_score
from connectomebench.demo.html import tally
from connectomebench.demo.recorded_answers import RecordedAnswers
from connectomebench.demo.stored_samples import StoredSamples

Key = tuple[str, str]


@dataclass(frozen=True)
class VisitorState:
    """Progress of one visitor.

    Attributes
    ----------
    key
        Task and species.
    seed
        Seed of the sample order, different for every visitor.
    seen
        (task, species) -> number of samples passed.
    answered
        Whether the current sample has been answered.
    first
        First answers: (task, species, row) -> their score, 1 or 0 where an answer is right or wrong.
    """

    key: Key
    seed: int
    seen: Mapping[Key, int] = field(default_factory=dict)
    answered: bool = False
    first: Mapping[tuple[str, str, int], float] = field(default_factory=dict)

    def number(self, samples: StoredSamples) -> int:
        """Return the current row: all rows in the visitor's random order, then from the start again."""
        shown = samples.shown(self.key)
        order = np.random.default_rng(self.seed).permutation(len(shown))
        return shown[order[self.seen.get(self.key, 0) % len(shown)]]

    def after(self) -> VisitorState:
        """Move to the next sample."""
        return replace(self, seen={**self.seen, self.key: self.seen.get(self.key, 0) + 1}, answered=False)

    def switched(self, key: Key) -> VisitorState:
        """Switch to another task or species, skipping the sample that was shown there last."""
        seen = self.seen.get(key, -1) + 1
        return replace(self, key=key, seen={**self.seen, key: seen}, answered=False)

    def answer(self, samples: StoredSamples, said: str) -> VisitorState:
        """Record an answer; repeated samples and second answers are not counted."""
        number = self.number(samples)
        score = visitor_score(samples, self.key, number, said)
        return replace(self, answered=True, first={(*self.key, number): score, **self.first})

    def score(self, samples: StoredSamples, answers: RecordedAnswers) -> list[str]:
        """Return the visitor's score in this task, and every model's score on the same samples."""
        numbers = {number: score for (*key, number), score in self.first.items() if tuple(key) == self.key}
        if not numbers:
            return []
        models: dict[str, list[float]] = {}
        for number in numbers:
            for said in answers.of(samples.row(self.key, number)):
                models.setdefault(said.model, []).append(said.score)
        every = [("You", list(numbers.values())), *sorted(models.items())]
        return [f"{name}: {_summary(self.key[0], scores)}" for name, scores in every]


def _summary(task: str, scores: Sequence[float]) -> str:
    """Say how many answers were right; of places and masks, the mean score first."""
    right = tally(sum(is_right(task, score) for score in scores), len(scores))
    return right if get_task(task).scoring == "exact" else f"mean score {np.mean(scores):.2f}; {right}"
