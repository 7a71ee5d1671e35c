"""The one protocol of all models that talk: conversations with images in, a reply in words out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectomebench.core.errors import ConnectomeBenchError

MAX_NEW_TOKENS = 512
"""Where a reply is cut off, as in the published runs."""


@dataclass(frozen=True)
class Conversation:
    """What a model is told and shown.

    Attributes
    ----------
    messages
        Turns as :func:`connectomebench.models.prompt.messages` writes them: ``role`` and ``content``, a list of
        ``{"type": "text", "text": ...}`` and ``{"type": "image"}``.
    images
        One for every ``{"type": "image"}``, in their order: PIL images, or stored ones (``{"bytes": ...}``).
    seed
        Of the draws where the reply is sampled, so that it depends on nothing that is asked before or beside it.
    """

    messages: Sequence[dict[str, Any]]
    images: Sequence[Any]
    seed: int = 0

    def __post_init__(self) -> None:
        places = sum(part["type"] == "image" for turn in self.messages for part in turn["content"])
        if places != len(self.images):
            raise ConnectomeBenchError(f"a conversation has {places} places for images and {len(self.images)} images")


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn.

    Attributes
    ----------
    temperature
        0 takes the likeliest token each time (greedy).
    max_new_tokens
        Where a reply is cut off.
    """

    temperature: float = 0.0
    max_new_tokens: int = MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise ConnectomeBenchError(f"the temperature is {self.temperature}; it must lie in [0, 2]")
        if self.max_new_tokens < 1:
            raise ConnectomeBenchError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")


@dataclass(frozen=True)
class Reply:
    """What a model replied to one conversation.

    Attributes
    ----------
    text
        Its words, special tokens left out.
    prompt_tokens, tokens
        Read (images among them) and written; None where unknown.
    cost_usd
        None where the price is unknown.
    """

    text: str
    prompt_tokens: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class ChatModel(Protocol):
    """A model that talks.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def revision(self) -> str: ...  # noqa: D102

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        """Reply to every conversation, in order.

        Parameters
        ----------
        conversations
            The same object several times asks for several draws (votes); the ``k``-th differs from the first.
        sampling
            How replies are drawn.

        Raises
        ------
        ConnectomeBenchError
            If the model cannot be asked.
        """
        ...
