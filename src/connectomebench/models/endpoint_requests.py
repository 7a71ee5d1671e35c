"""Requests to OpenAI-compatible servers and validation of their responses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from connectomebench.core.retry_policy import TransientError
from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.endpoint_errors import Refusal, refusal_of
from connectomebench.models.endpoint_scoring import PromptToken, read_prompt_tokens
from connectomebench.models.images import StoredImage, decode

UNFINISHED = ("length", "content_filter")
"""Finish reasons of replies that were cut or withheld."""

_PNG = b"\x89PNG\r\n\x1a\n"
_OLD_LENGTH, _NEW_LENGTH = "max_tokens", "max_completion_tokens"
# not for values out of range or prompts that are too long
_NOT_TAKEN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra (input|field|param)|not permitted|not allowed"
    r"|deprecated",
    re.IGNORECASE,
)


def chat_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """Convert turns to `chat/completions` messages.

    Parameters
    ----------
    conversation
        Images become PNG ``data:`` URLs at their places between the texts; stored PNG bytes stay as they
        are. Text-only turns of other roles are sent as one string, since not all servers accept parts there.
    """
    images = iter(conversation.images)
    turns: list[dict[str, Any]] = []
    for turn in conversation.messages:
        parts = [
            {"type": "image_url", "image_url": {"url": _data_url(next(images))}}
            if part["type"] == "image"
            else {"type": "text", "text": part["text"]}
            for part in turn["content"]
        ]
        plain = turn["role"] != "user" and all(part["type"] == "text" for part in parts)
        content = "".join(str(part["text"]) for part in parts) if plain else parts
        turns.append({"role": turn["role"], "content": content})
    return turns


def _data_url(image: StoredImage) -> str:
    content = image.get("bytes") if isinstance(image, Mapping) else None
    if content is None or not content.startswith(_PNG):
        stream = BytesIO()
        decode(image).save(stream, "PNG")
        content = stream.getvalue()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Dialect:
    """Parameters of `chat/completions` that a server accepts, learnt from its refusals.

    Attributes
    ----------
    length
        Name of the maximum-tokens parameter. Local servers accept ``max_tokens``; reasoning models of OpenAI
        accept only ``max_completion_tokens``.
    left_out
        Parameters to leave out.
    """

    length: str = _OLD_LENGTH
    left_out: frozenset[str] = frozenset()

    def parameters(self, sampling: Sampling, seed: int) -> dict[str, Any]:
        """Return the sampling parameters of a request; a seed only if the reply is sampled."""
        wanted: dict[str, Any] = {self.length: sampling.max_new_tokens, "temperature": sampling.temperature}
        if sampling.temperature:
            wanted |= {"top_p": 1.0, "seed": seed % 2**31}
        return {name: value for name, value in wanted.items() if name not in self.left_out}

    def learn(self, refusal: Refusal) -> Dialect | None:
        """Return an adapted dialect; None if the refusal is not about an optional parameter."""
        if refusal.status not in (400, 422) or not _NOT_TAKEN.search(refusal.message):
            return None
        if self.length == _OLD_LENGTH and self._is_about(_OLD_LENGTH, refusal):
            return replace(self, length=_NEW_LENGTH)
        spared = [name for name in ("temperature", "top_p", "seed") if self._is_about(name, refusal)]
        learnt = replace(self, left_out=self.left_out | set(spared))
        return learnt if learnt != self else None

    @staticmethod
    def _is_about(name: str, refusal: Refusal) -> bool:
        if refusal.param:
            return refusal.param == name
        return re.search(rf"\b{name}\b", refusal.message) is not None


@dataclass(frozen=True)
class Completion:
    """A server's response.

    Attributes
    ----------
    text
        Reply text; empty if there is none.
    finish
        Finish reason: ``stop``, ``length``, ``content_filter`` or another value.
    model, fingerprint
        Model and system fingerprint reported by the server; None if not given.
    prompt_tokens, tokens
        Prompt tokens and generated tokens, including reasoning.
    cost_usd
        Cost reported by the server (OpenRouter).
    prompt
        Tokens of the prompt with their log-probabilities, where they were asked for.
    """

    text: str
    finish: str
    model: str | None = None
    fingerprint: str | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    prompt: tuple[PromptToken, ...] | None = None


def read_completion(body: str) -> Completion | Refusal:
    """Parse the response to a request.

    Parameters
    ----------
    body
        JSON of a `chat.completion`.

    Returns
    -------
    Completion or Refusal
        A Refusal if an error came with status 200, as from gateways whose upstream failed.

    Raises
    ------
    TransientError
        If it is not valid JSON or has no choice.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise TransientError("a response that is not valid JSON") from None
    if not isinstance(payload, dict):
        raise TransientError("a response that is not a chat completion")
    if payload.get("error"):
        code = payload["error"].get("code") if isinstance(payload["error"], dict) else None
        return refusal_of(code if isinstance(code, int) else 502, payload)
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise TransientError("a response without a choice")
    usage: dict[str, Any] = payload["usage"] if isinstance(payload.get("usage"), dict) else {}
    read, written, total = (_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if read is not None and written is not None and total is not None:
        written = max(written, total - read)  # Gemini counts and bills reasoning only in the total
    cost: Any = usage.get("cost")
    return Completion(
        text=_text(message),
        finish=str(choice.get("finish_reason") or ""),
        model=_word(payload.get("model")),
        fingerprint=_word(payload.get("system_fingerprint")),
        prompt_tokens=read,
        tokens=written,
        cost_usd=float(cost) if _is_number(cost) and 0 <= cost < float("inf") else None,
        prompt=read_prompt_tokens(payload),
    )


def _text(message: Mapping[str, Any]) -> str:
    """Return the text of a reply or refusal, without lone surrogates, which cannot be stored."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    text = content if isinstance(content, str) and content else message.get("refusal")
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and 0 <= value < 2**53 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
