"""Protocol of all models: a batch of stored rows in, one answer per row out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectomebench.core.errors import ConnectomeBenchError

Batch = Mapping[str, Sequence[Any]]
"""Columns of stored rows (:mod:`connectomebench.dataset.schema`), as returned by ``datasets.Dataset[i:j]``."""


@dataclass(frozen=True)
class Answer:
    """A model's answer to one row.

    Attributes
    ----------
    prediction
        The answer, a key of ``probabilities`` if those are known. None for an unparsed reply, which
        counts as wrong.
    probabilities
        Probability of every possible answer, summing to 1. Empty if the model gives none (places in nm).
    question
        Full prompt text, if it is more than the row's question.
    reply
        Reply text; with several votes, the first that gave the answer.
    votes, replies
        Answer and text of every vote, if there are several.
    derived
        Answer derived from the analysis alone, if there is one.
    latency_s
        Seconds for this row; None if rows were answered as a batch.
    prompt_tokens, tokens
        Prompt tokens and generated tokens, summed over all votes.
    cost_usd
        Cost of the row, if the price is known.
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
    """Protocol of every model.

    Attributes
    ----------
    name
        Short name; also the folder of its result records.
    revision
        Changes whenever answers may change: weights, training data, settings.
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
    """Raise ConnectomeBenchError if a row does not have the ``views`` images a model was trained on."""
    wrong = next((len(row) for row in images if len(row) != views), None)
    if wrong is not None:
        raise ConnectomeBenchError(
            f"this model was trained on {views} images per row and got {wrong}; use it on the task it was trained for"
        )
