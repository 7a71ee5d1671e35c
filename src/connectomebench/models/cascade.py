"""Cascade of two models: the fallback answers only rows where the first is not confident."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.models.base import Answer, Batch, Model

_REPORTED_DIGITS = 6


class Cascade:
    """A two-model cascade, itself a :class:`connectomebench.models.base.Model`.

    The confidence of the first model is the probability of its answer; a row without an answer or probabilities is
    deferred. A deferred row takes the answer, question, reply and probabilities of the second model.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`; both include the threshold.
    first, second, min_confidence
        The models, and the confidence below which rows are deferred.
    local_first
        Whether the first model runs locally: it costs nothing, so the budget covers the second model alone, and one
        thread at a time calls it, while the second may be an endpoint with concurrent calls. False for two endpoints.

    Parameters
    ----------
    first, second, min_confidence, local_first
        As above.
    names
        Names of the two models within the cascade's name; None takes their own.

    Raises
    ------
    ConnectomeBenchError
        If the threshold lies outside (0, 1].
    """

    def __init__(
        self,
        first: Model,
        second: Model,
        min_confidence: float,
        *,
        local_first: bool = True,
        names: tuple[str, str] | None = None,
    ) -> None:
        if not 0 < min_confidence <= 1:
            raise ConnectomeBenchError(f"the threshold is {min_confidence}; it must lie in (0, 1]")
        self.first = first
        self.second = second
        self.min_confidence = min_confidence
        self.local_first = local_first
        self._names = names or (first.name, second.name)
        self._turn: AbstractContextManager[Any] = threading.Lock() if local_first else nullcontext()

    @property
    def name(self) -> str:  # noqa: D102
        first, second = self._names
        return f"{first}-then-{second}-below-{self.min_confidence:.{_REPORTED_DIGITS}g}"

    @property
    def revision(self) -> str:  # noqa: D102
        models = (self.first, self.second)
        return content_key([[model.name, model.revision] for model in models], self.min_confidence)[:16]

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row.

        Parameters
        ----------
        batch
            Columns of stored rows, as both models expect.

        Returns
        -------
        list of Answer
            For deferred rows, ``votes`` and ``replies`` begin with the first model's, so that
            :func:`connectomebench.evaluation.cascade_threshold.deferred_rows` finds them; tokens,
            seconds and costs are sums over both models.
        """
        with self._turn:
            answers = list(self.first.predict(batch))
        if self.local_first:
            answers = [replace(answer, cost_usd=answer.cost_usd or 0.0) for answer in answers]
        deferred = [number for number, answer in enumerate(answers) if not is_sure(answer, self.min_confidence)]
        if deferred:
            rest: dict[str, Any] = {name: [values[i] for i in deferred] for name, values in batch.items()}
            for number, second in zip(deferred, self.second.predict(rest), strict=True):
                answers[number] = _both(answers[number], second)
        return answers


def is_sure(answer: Answer, min_confidence: float) -> bool:
    """Tell whether a model gave an answer, with at least this probability."""
    return answer.prediction is not None and max(answer.probabilities.values(), default=0.0) >= min_confidence


def _both(first: Answer, second: Answer) -> Answer:
    """Return the second answer with the first model's vote and reply prepended and costs added."""
    replies = second.replies or ((second.reply,) if second.reply is not None else ())
    return replace(
        second,
        votes=(first.prediction, *(second.votes or (second.prediction,))),
        replies=(first.reply or "", *replies) if first.reply is not None or replies else (),
        latency_s=_sum(first.latency_s, second.latency_s),
        # models other than language models use no tokens
        prompt_tokens=_sum(first.prompt_tokens or 0, second.prompt_tokens),
        tokens=_sum(first.tokens or 0, second.tokens),
        cost_usd=_sum(first.cost_usd, second.cost_usd),
    )


def _sum(first: Any, second: Any) -> Any:
    return None if first is None or second is None else first + second
