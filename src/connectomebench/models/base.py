"""The one protocol of all models: a batch of stored rows in, one answer with probabilities a row out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectomebench.core.errors import ConnectomeBenchError

Batch = Mapping[str, Sequence[Any]]
"""Columns of stored rows (:mod:`connectomebench.dataset.schema`), as ``datasets.Dataset[i:j]`` gives them."""


@dataclass(frozen=True)
class Answer:
    """What a model says about one row.

    Attributes
    ----------
    prediction
        The answer, one of the keys of ``probabilities`` where those are known. None where the reply held none, which
        counts as wrong.
    probabilities
        Probability of every possible answer; they add up to 1. Empty where a model gives none (places in nm).
    question
        All text that was asked, where it is more than the row's question.
    reply
        What was replied in words; of several votes, the first that gave the answer.
    votes, replies
        Answer and words of every vote, where there was more than one.
    derived
        The answer read again from the reasoning alone, where there is reasoning.
    latency_s
        Seconds for this row alone; None where rows were answered together.
    prompt_tokens, tokens
        Tokens that were read and written, of all votes together.
    cost_usd
        What the row cost, where the price is known.
    """

    prediction: str | None
    probabilities: dict[str, float]
    question: str | None = None
    reply: str | None = None
    votes: tuple[str | None, ...] = ()
    replies: tuple[str, ...] = ()
    derived: str | None = None
    latency_s: float | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class Model(Protocol):
    """What every model offers.

    Attributes
    ----------
    name
        Short name, the folder of its result records.
    revision
        Changes whenever its answers may change: weights, training data, settings.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def revision(self) -> str: ...  # noqa: D102

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row of a batch, in order.

        Parameters
        ----------
        batch
            Columns of stored rows. No model may read ``answer``, ``label``, ``teacher_replies``, ``group`` or the ids.
        """
        ...


def column(batch: Batch, name: str) -> Sequence[Any]:
    """Return one column of a batch.

    Raises
    ------
    ConnectomeBenchError
        If the batch has no such column.
    """
    try:
        return batch[name]
    except KeyError:
        known = ", ".join(batch.keys())
        raise ConnectomeBenchError(
            f"rows have no column {name!r} (only {known}); load the dataset without dropping that column"
        ) from None


def check_views(images: Sequence[Sequence[Any]], views: int) -> None:
    """Raise ConnectomeBenchError where a row has another number of images than the ``views`` a model was trained on."""
    wrong = next((len(row) for row in images if len(row) != views), None)
    if wrong is not None:
        raise ConnectomeBenchError(
            f"this model was trained on {views} images a row and got {wrong}; use it on the task it was trained for"
        )
