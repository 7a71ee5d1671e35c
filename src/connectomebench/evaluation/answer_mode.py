"""Answer modes for chat models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.models.chat import MAX_NEW_TOKENS, Sampling

Kind = Literal["scored", "generated", "votes", "confidence"]


@dataclass(frozen=True)
class AnswerMode:
    """How a chat model answers.

    Attributes
    ----------
    kind
        ``scored``: probability of each allowed answer, no text is generated. ``generated``: one greedy reply, parsed.
        ``votes``: majority of several sampled replies. ``confidence``: one greedy reply that also states the
        probability of being right.
    votes
        Replies per row; ``votes`` only.
    temperature
        Sampling temperature; ``votes`` only, all others are greedy.
    max_new_tokens
        Maximum reply length in tokens; unused by ``scored``.
    """

    kind: Kind
    votes: int = 1
    temperature: float = 0.0
    max_new_tokens: int = MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown_name("answer mode", self.kind, get_args(Kind))
        if self.kind == "votes":
            if self.votes < 2:
                raise ConnectomeBenchError(f"{self.votes} vote has no majority; draw at least 2, or use generated")
            if not self.temperature > 0:
                raise ConnectomeBenchError("votes at temperature 0 are all the same; give a temperature above 0")
        elif self.votes != 1 or self.temperature:
            raise ConnectomeBenchError(
                f"{self.kind} gives one greedy answer; use votes and temperature with votes only"
            )
        if self.kind == "scored" and self.max_new_tokens != MAX_NEW_TOKENS:
            raise ConnectomeBenchError("scored answers generate no text; leave max_new_tokens out")
        _ = self.sampling  # checks temperature and length

    @property
    def sampling(self) -> Sampling:
        """Sampling parameters of the replies."""
        return Sampling(self.temperature, self.max_new_tokens)

    @property
    def name(self) -> str:
        """Short name without spaces, for example ``votes5-t0.7``."""
        name = f"votes{self.votes}-t{self.temperature:g}" if self.kind == "votes" else self.kind
        return name if self.max_new_tokens == MAX_NEW_TOKENS else f"{name}-n{self.max_new_tokens}"


def can_score(model: object) -> bool:
    """Check whether a chat model gives the probability of given answers; one that thinks before it answers does not."""
    return hasattr(model, "score") and bool(getattr(model, "can_score", True))


def scores_by_default(model: object) -> bool:
    """Check whether a chat model is scored where no answer mode is asked for."""
    return can_score(model) and bool(getattr(model, "scored_by_default", True))
