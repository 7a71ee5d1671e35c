"""A person as the one who answers a task, alone or where a model is not sure: such questions wait in the queue."""

from __future__ import annotations

from dataclasses import replace

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.models.base import Answer, Batch, Model
from connectomebench.models.cascade import is_sure

NAME = "person"


class Person:
    """A person, itself a :class:`connectomebench.models.base.Model` that leaves questions open.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`; with a first model both include it and the threshold.
    alone
        Whether no model answers first.
    free
        Whether no answer costs anything.

    Parameters
    ----------
    first
        Model that answers what it is sure of; None leaves every question to the person.
    min_confidence
        Of the first model.
    free
        Whether the first model runs locally.

    Raises
    ------
    ConnectomeBenchError
        If the threshold lies outside (0, 1].
    """

    def __init__(self, first: Model | None = None, min_confidence: float = 1.0, *, free: bool = True) -> None:
        if not 0 < min_confidence <= 1:
            raise ConnectomeBenchError(f"the threshold is {min_confidence}; it must lie in (0, 1]")
        self._first = first
        self._min_confidence = min_confidence
        self.alone = first is None
        self.free = free

    @property
    def name(self) -> str:  # noqa: D102
        return NAME if self._first is None else f"{self._first.name}-then-{NAME}-below-{self._min_confidence:.6g}"

    @property
    def revision(self) -> str:  # noqa: D102
        first = self._first
        return "1" if first is None else content_key([first.name, first.revision], NAME, self._min_confidence)[:16]

    def predict(self, batch: Batch) -> list[Answer]:
        """Return the answers of the first model, or none; which of them hold is said by :meth:`must_decide`."""
        if self._first is None:
            return [Answer(None, {}, cost_usd=0.0) for _ in next(iter(batch.values()))]
        answers = self._first.predict(batch)
        return [replace(one, cost_usd=one.cost_usd or 0.0) for one in answers] if self.free else list(answers)

    def must_decide(self, answer: Answer) -> bool:
        """Tell whether a question waits for the person, after this answer of the first model."""
        return self._first is None or not is_sure(answer, self._min_confidence)
