"""What one visitor has seen and answered; kept by the server for as long as the page is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from connectomebench.demo.html import tally
from connectomebench.demo.recorded_answers import RecordedAnswers
from connectomebench.demo.stored_samples import StoredSamples

Key = tuple[str, str]


@dataclass(frozen=True)
class VisitorState:
    """Where a visitor is.

    Attributes
    ----------
    key
        Task and species.
    seed
        Of the order of the samples, another one for every visitor.
    seen
        By task and species: how many samples were gone past.
    answered
        Whether the sample that is shown has been answered.
    first
        First answers: (task, species, row) -> whether it was right.
    """

    key: Key
    seed: int
    seen: Mapping[Key, int] = field(default_factory=dict)
    answered: bool = False
    first: Mapping[tuple[str, str, int], bool] = field(default_factory=dict)

    def number(self, samples: StoredSamples) -> int:
        """Return the row that is shown: all of them in an order drawn for the visitor, then again from the start."""
        shown = samples.shown(self.key)
        order = np.random.default_rng(self.seed).permutation(len(shown))
        return shown[order[self.seen.get(self.key, 0) % len(shown)]]

    def after(self) -> VisitorState:
        """Go on to the next sample."""
        return replace(self, seen={**self.seen, self.key: self.seen.get(self.key, 0) + 1}, answered=False)

    def switched(self, key: Key) -> VisitorState:
        """Go to another task or species; the sample that was shown there last is passed over."""
        seen = self.seen.get(key, -1) + 1
        return replace(self, key=key, seen={**self.seen, key: seen}, answered=False)

    def answer(self, samples: StoredSamples, said: str) -> VisitorState:
        """Keep an answer; a sample that comes again is not counted twice, nor is a second answer."""
        number = self.number(samples)
        right = samples.row(self.key, number)["answer"] == said
        return replace(self, answered=True, first={(*self.key, number): right, **self.first})

    def score(self, samples: StoredSamples, answers: RecordedAnswers) -> list[str]:
        """Tell the visitor's score in this task, and that of every model on the same samples."""
        numbers = {number: right for (*key, number), right in self.first.items() if tuple(key) == self.key}
        if not numbers:
            return []
        lines = [f"You: {tally(sum(numbers.values()), len(numbers))}"]
        models: dict[str, list[bool]] = {}
        for number in numbers:
            for said in answers.of(samples.row(self.key, number)):
                models.setdefault(said.model, []).append(said.right)
        lines += [f"{model}: {tally(sum(right), len(right))}" for model, right in sorted(models.items())]
        return lines
