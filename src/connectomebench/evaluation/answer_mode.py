"""The ways in which a model that talks can be had to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.models.chat import MAX_NEW_TOKENS, Sampling

Kind = Literal["scored", "generated", "votes", "confidence"]


@dataclass(frozen=True)
class AnswerMode:
    """A way to answer.

    Attributes
    ----------
    kind
        ``scored``: how probable is each allowed answer, nothing is written. ``generated``: one greedy reply, read.
        ``votes``: the majority of several drawn replies. ``confidence``: one greedy reply that also says how likely it
        is right.
    votes
        Replies to a row, of ``votes`` alone.
    temperature
        Of ``votes`` alone: all others are greedy.
    max_new_tokens
        Where a reply is cut off; of no use to ``scored``.
    """

    kind: Kind
    votes: int = 1
    temperature: float = 0.0
    max_new_tokens: int = MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown_name("way to answer", self.kind, get_args(Kind))
        if self.kind == "votes":
            if self.votes < 2:
                raise ConnectomeBenchError(f"{self.votes} vote has no majority; draw at least 2, or use generated")
            if not self.temperature > 0:
                raise ConnectomeBenchError("votes at temperature 0 would all be the same; give a temperature above 0")
        elif self.votes != 1 or self.temperature:
            raise ConnectomeBenchError(f"{self.kind} answers once and greedily; leave votes and temperature to votes")
        if self.kind == "scored" and self.max_new_tokens != MAX_NEW_TOKENS:
            raise ConnectomeBenchError("scored answers write nothing; leave max_new_tokens out")
        _ = self.sampling  # checks temperature and length

    @property
    def sampling(self) -> Sampling:
        """How replies are drawn."""
        return Sampling(self.temperature, self.max_new_tokens)

    @property
    def name(self) -> str:
        """Short name without spaces, for example ``votes5-t0.7``."""
        name = f"votes{self.votes}-t{self.temperature:g}" if self.kind == "votes" else self.kind
        return name if self.max_new_tokens == MAX_NEW_TOKENS else f"{name}-n{self.max_new_tokens}"
