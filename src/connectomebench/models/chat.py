"""Protocol of chat models: conversations with images in, text replies out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectomebench.core.errors import ConnectomeBenchError

MAX_NEW_TOKENS = 512
"""Default maximum reply length, as in the published runs."""


class UnansweredError(ConnectomeBenchError):
    """A request got no answer in time, and may be billed nevertheless.

    Attributes
    ----------
    requests
        Number of requests sent.
    cost_usd
        At most what they cost together; None if unknown.
    """

    def __init__(self, message: str, requests: int, cost_usd: float | None) -> None:
        super().__init__(message)
        self.requests = requests
        self.cost_usd = cost_usd


@dataclass(frozen=True)
class Conversation:
    """Messages and images for a model.

    Attributes
    ----------
    messages
        Turns as built by :func:`connectomebench.models.prompt.messages`: ``role`` and ``content``, a list of
        ``{"type": "text", "text": ...}`` and ``{"type": "image"}``.
    images
        One per ``{"type": "image"}``, in order: PIL images or stored ones (``{"bytes": ...}``).
    seed
        Sampling seed, so that a reply does not depend on other conversations.
    """

    messages: Sequence[dict[str, Any]]
    images: Sequence[Any]
    seed: int = 0

    def __post_init__(self) -> None:
        places = sum(part["type"] == "image" for turn in self.messages for part in turn["content"])
        if places != len(self.images):
            raise ConnectomeBenchError(f"a conversation has {places} image placeholders but {len(self.images)} images")


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters of a reply.

    Attributes
    ----------
    temperature
        0 is greedy decoding.
    max_new_tokens
        Maximum reply length in tokens.
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
    """A model's reply to one conversation.

    Attributes
    ----------
    text
        Reply text without special tokens.
    prompt_tokens, tokens
        Prompt tokens (including images) and generated tokens; None if unknown.
    cost_usd
        Cost of the reply; None if the price is unknown.
    whole
        False if the reply was cut at its maximum length or withheld by a filter: it has no answer then, whatever its
        text holds so far.
    """

    text: str
    prompt_tokens: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    whole: bool = True


class ChatModel(Protocol):
    """Protocol of a chat model.

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
            Repeat an object to request several samples (votes); the ``k``-th differs from the first.
        sampling
            Sampling parameters.

        Raises
        ------
        ConnectomeBenchError
            If the model fails.
        """
        ...
