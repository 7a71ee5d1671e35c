"""Probabilities of given answers from a vLLM server: log-probabilities of the tokens of a prompt that ends with one.

Written for vLLM's documented interface (`prompt_logprobs`, `add_generation_prompt` and `continue_final_message` of
`chat/completions`); it has not been run against a real vLLM here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.answer_tokens import scored_endings
from connectomebench.models.reply_parsing import ANSWER_CLOSE, ANSWER_OPEN

FIELDS: Mapping[str, Any] = {
    # of each token of the prompt, not of others that might stand there
    "prompt_logprobs": 0,
    # the last message is a reply that has begun, without a mark that it ended
    "add_generation_prompt": False,
    "continue_final_message": True,
}
"""Fields of a request beside those of OpenAI."""
# where a template puts thoughts before a reply, at most so many tokens before it
_BEFORE = 8


@dataclass(frozen=True)
class PromptToken:
    """A token of a prompt: its number, its text, and its log-probability after those before it."""

    number: int
    text: str
    log_probability: float


def read_prompt_tokens(payload: Mapping[str, Any]) -> tuple[PromptToken, ...] | None:
    """Read `prompt_logprobs` of a response; None if there are none, or they are not one token a place.

    The first token of a prompt has no log-probability and is left out.
    """
    stated = payload.get("prompt_logprobs")
    if not isinstance(stated, list) or not stated:
        return None
    tokens = []
    for place in stated:
        if place is None:
            continue
        if not isinstance(place, dict) or len(place) != 1:
            return None
        [(number, known)] = place.items()
        try:
            tokens.append(PromptToken(int(number), str(known["decoded_token"] or ""), float(known["logprob"])))
        except (KeyError, TypeError, ValueError):
            return None
    return tuple(tokens)


def reply_of(label: str) -> str:
    """Return the reply that is scored for a label."""
    return f"{ANSWER_OPEN}{label}{ANSWER_CLOSE}"


def label_probabilities(
    prompts: Sequence[tuple[PromptToken, ...] | None], labels: Sequence[str], where: str
) -> dict[str, float]:
    """Compute the probability of each label among all.

    Parameters
    ----------
    prompts
        Tokens of the prompt that ends with the reply of each label, see :func:`read_prompt_tokens`.
    labels
        At least two.
    where
        Model and server, for messages.

    Returns
    -------
    dict
        Label -> probability, as :meth:`connectomebench.models.vlm.VisionLanguageModel.score` gives it.

    Raises
    ------
    ConnectomeBenchError
        If the server gave no log-probabilities, did not end the prompt with the reply, or thinks before it answers.
    """
    replies, ends = [], []
    for prompt, label in zip(prompts, labels, strict=True):
        if prompt is None:
            raise ConnectomeBenchError(f"{where} gives no prompt_logprobs, so answers cannot be scored; use generated")
        tokens, before = _split(prompt, reply_of(label), where)
        if before.rstrip().endswith(("<think>", "</think>")):
            raise ConnectomeBenchError(f"{where} thinks before it answers and cannot be scored; use generated")
        replies.append(tokens)
        ends.append(_end_of_label(tokens))
    shared, endings = scored_endings([tuple(token.number for token in reply) for reply in replies], ends)
    logs = [
        sum(token.log_probability for token in reply[len(shared) : len(shared) + len(ending)])
        for reply, ending in zip(replies, endings, strict=True)
    ]
    most = max(logs)
    if not math.isfinite(most):
        raise ConnectomeBenchError(f"{where} gives no finite prompt_logprobs; use generated")
    weights = [math.exp(log - most) for log in logs]
    return {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}


def _split(prompt: tuple[PromptToken, ...], reply: str, where: str) -> tuple[tuple[PromptToken, ...], str]:
    """Return the last tokens of a prompt, which hold the reply, and the text of some before them."""
    start, text = len(prompt), ""
    while start and len(text) < len(reply):
        start -= 1
        text = prompt[start].text + text
    # the first token may begin before the reply
    if not text.endswith(reply):
        raise ConnectomeBenchError(
            f"{where} does not take a reply that has begun (continue_final_message), so answers cannot be scored; use "
            "generated"
        )
    return prompt[start:], "".join(token.text for token in prompt[max(0, start - _BEFORE) : start])


def _end_of_label(tokens: Sequence[PromptToken]) -> int:
    """Count the tokens through the one with the last letter of the label."""
    last = sum(len(token.text) for token in tokens) - len(ANSWER_CLOSE)
    ends = accumulate(len(token.text) for token in tokens)
    return next(number for number, end in enumerate(ends, start=1) if end >= last)
