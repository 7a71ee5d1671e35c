"""Two models one after the other: the second is asked only where the first is not sure."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.models.base import Answer, Batch, Model

if TYPE_CHECKING:
    pass

_REPORTED_DIGITS = 6


class Cascade:
    """A model that sends rows on to a second one, a :class:`connectomebench.models.base.Model`.

    How sure the first is, is the probability of its answer; a row without an answer or without probabilities is sent
    on. The answer of a row that was sent on is the second's, with its question, reply and probabilities.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`; both hold the threshold.
    first, second, below
        The models, and how sure is not sure enough: rows below it are sent on.
    local_first
        The first is computed here: it costs nothing, so that a budget can be kept on the second alone, and is asked by
        one thread at a time, while the second may be an endpoint that several ask. False where it is an endpoint too.

    Parameters
    ----------
    first, second, below, local_first
        As above.

    Raises
    ------
    ConnectomeBenchError
        If the threshold lies outside (0, 1].
    """

    def __init__(self, first: Model, second: Model, below: float, *, local_first: bool = True) -> None:
        if not 0 < below <= 1:
            raise ConnectomeBenchError(f"the threshold is {below}; it must lie in (0, 1]")
        self.first = first
        self.second = second
        self.below = below
        self.local_first = local_first
        self._turn: AbstractContextManager[Any] = threading.Lock() if local_first else nullcontext()

    @property
    def name(self) -> str:  # noqa: D102
        return f"{self.first.name}-then-{self.second.name}-below-{self.below:.{_REPORTED_DIGITS}g}"

    @property
    def revision(self) -> str:  # noqa: D102
        models = (self.first, self.second)
        return content_key([[model.name, model.revision] for model in models], self.below)[:16]

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row.

        Parameters
        ----------
        batch
            Columns of stored rows, as both models take them.

        Returns
        -------
        list of Answer
            Where the second was asked, ``votes`` and ``replies`` begin with what the first said, so that
            :func:`sent_on` can tell; tokens, seconds and costs are those of both.
        """
        with self._turn:
            answers = list(self.first.predict(batch))
        if self.local_first:
            answers = [replace(answer, cost_usd=answer.cost_usd or 0.0) for answer in answers]
        unsure = [number for number, answer in enumerate(answers) if not self._is_sure(answer)]
        if unsure:
            rest: dict[str, Any] = {name: [values[i] for i in unsure] for name, values in batch.items()}
            for number, second in zip(unsure, self.second.predict(rest), strict=True):
                answers[number] = _both(answers[number], second)
        return answers

    def _is_sure(self, answer: Answer) -> bool:
        return answer.prediction is not None and max(answer.probabilities.values(), default=0.0) >= self.below


def _both(first: Answer, second: Answer) -> Answer:
    """Return the second answer with what the first said before it, and what both took."""
    replies = second.replies or ((second.reply,) if second.reply is not None else ())
    return replace(
        second,
        votes=(first.prediction, *(second.votes or (second.prediction,))),
        replies=(first.reply or "", *replies) if first.reply is not None or replies else (),
        latency_s=_sum(first.latency_s, second.latency_s),
        # a model that is no language model reads and writes none
        prompt_tokens=_sum(first.prompt_tokens or 0, second.prompt_tokens),
        tokens=_sum(first.tokens or 0, second.tokens),
        cost_usd=_sum(first.cost_usd, second.cost_usd),
    )


def _sum(first: Any, second: Any) -> Any:
    return None if first is None or second is None else first + second
