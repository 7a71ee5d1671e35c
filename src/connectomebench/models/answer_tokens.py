"""Tokens of the replies that are scored: each label through its last token, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.reply_parsing import ANSWER_CLOSE, ANSWER_OPEN

Tokens = tuple[int, ...]


def answer_endings(tokenizer: Any, labels: Sequence[str]) -> tuple[Tokens, list[Tokens]]:
    """Tokenise the reply ``<answer>label</answer>`` of every label, as far as it is scored.

    A reply is scored through the token that holds the last letter of its label, so that a label of several tokens
    counts as a whole: with the tokenizer of Qwen3 ``>a`` is one token, ``>`` and ``none`` are two, and the bare ``>``
    begins many other replies. Where one label begins another, the shorter is scored until they differ.

    Parameters
    ----------
    tokenizer
        A fast tokenizer of transformers.
    labels
        At least two, all different.

    Returns
    -------
    tuple, list of tuple
        The tokens that all replies begin with; and of each reply those that follow and are scored.

    Raises
    ------
    ConnectomeBenchError
        If the tokenizer cannot say which letters a token holds.
    """
    replies, ends = [], []
    for label in labels:
        reply = f"{ANSWER_OPEN}{label}{ANSWER_CLOSE}"
        try:
            encoded = tokenizer(reply, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError:
            raise ConnectomeBenchError(
                "the tokenizer of this model does not say which letters a token holds, so answers cannot be scored; "
                "use generated"
            ) from None
        last = len(ANSWER_OPEN) + len(label)
        replies.append(tuple(encoded["input_ids"]))
        ends.append(1 + next(n for n, (_, end) in enumerate(encoded["offset_mapping"]) if end >= last))
    return scored_endings(replies, ends)


def scored_endings(replies: Sequence[Tokens], ends: Sequence[int]) -> tuple[Tokens, list[Tokens]]:
    """Truncate replies to the tokens that are scored.

    Parameters
    ----------
    replies
        Tokens of at least two replies, none a prefix of another.
    ends
        Number of tokens of each reply that hold its label and what comes before it.

    Returns
    -------
    tuple, list of tuple
        The shared prefix; and of each reply what follows, through its label and until it differs from all others.
    """
    lengths = []
    for number, (reply, end) in enumerate(zip(replies, ends, strict=True)):
        others = [other for k, other in enumerate(replies) if k != number]
        lengths.append(next(n for n in range(end, len(reply) + 1) if all(reply[:n] != other[:n] for other in others)))
    # the last scored token of a reply is never shared
    most = min(min(lengths) - 1, *map(len, replies))
    shared = max(n for n in range(most + 1) if len({reply[:n] for reply in replies}) == 1)
    return replies[0][:shared], [reply[shared:length] for reply, length in zip(replies, lengths, strict=True)]


def forced_tokens(endings: Sequence[Tokens]) -> list[Tokens]:
    """Return the minimal set of forced sequences that scores every token of every ending."""
    needed = {ending[:-1] for ending in endings}
    return sorted(one for one in needed if not any(one != other and other[: len(one)] == one for other in needed))
