"""Error responses of OpenAI-compatible servers: transient, adaptable, or for the user to fix."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectomebench.core.retry_policy import retry_after_s

MAX_MESSAGE = 200
"""Maximum number of characters quoted from a server's message."""

_TRANSIENT = (408, 409, 425, 429)
# the account is empty or blocked: retrying does not help
_UNPAID = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_BLOCKED = ("content_filter", "content_policy_violation", "invalid_prompt")
# letters of a key in a row that no other text has by chance
_PART = 4
_CUT = "output limit was reached"
# what is read of a message; all that says what is wrong stands at its beginning
_READ_LETTERS = 4000
_MARKUP = re.compile(rf"<(style|script)\b.{{0,{_READ_LETTERS}}}?</\1>|<[^>]{{0,{_READ_LETTERS}}}>", re.DOTALL)


@dataclass(frozen=True)
class Refusal:
    """An error response of a server.

    Attributes
    ----------
    status
        HTTP status; also one reported inside a response of status 200.
    message
        The server's message on one line; may contain anything, including the key.
    code, param
        Kind of error and the parameter concerned; empty if not given.
    wait_s
        Requested wait, s.
    """

    status: int
    message: str
    code: str = ""
    param: str = ""
    wait_s: float | None = None

    @property
    def transient(self) -> bool:
        """Whether a retry may succeed."""
        return (self.status in _TRANSIENT or self.status >= 500) and self.code not in _UNPAID

    @property
    def blocked(self) -> bool:
        """Whether a content filter refused the request; the row has no answer then."""
        return self.status == 400 and self.code in _BLOCKED

    @property
    def cut(self) -> bool:
        """Whether a reasoning model used all tokens without a reply (OpenAI answers 400 then)."""
        return self.status == 400 and _CUT in self.message


def read_refusal(status: int, body: str, headers: Mapping[str, str]) -> Refusal:
    """Parse an error response.

    Parameters
    ----------
    status
        HTTP status.
    body
        ``{"error": {"message", "code", "param"}}`` (OpenAI, vLLM), a list of one such (Gemini), ``{"detail": ...}``
        (FastAPI, used by transformers serve), or any other text.
    headers
        Response headers; ``Retry-After`` is read.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal(status, _one_line(body), wait_s=retry_after_s(headers))
    return refusal_of(status, payload, retry_after_s(headers))


def refusal_of(status: int, payload: Any, wait_s: float | None = None) -> Refusal:
    """Parse a decoded error; see :func:`read_refusal`."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    if not isinstance(error, dict):
        return Refusal(status, _one_line(error), wait_s=wait_s)
    message = next((error[key] for key in ("message", "detail", "msg") if error.get(key)), error)
    code, param = (str(error.get(key) or "") for key in ("code", "param"))
    return Refusal(status, _one_line(message), code, param, wait_s)


def masked(text: str, key: str | None) -> str:
    """Replace a key, and any part of it that may be payload from other words, by ``***``.

    Servers quote the key that they refuse, often only its beginning and end. A part is masked from `_PART` characters
    on; of a key that is hardly longer, the whole alone, since it is a word like ``none``.

    Parameters
    ----------
    text
        Message of a server.
    key
        The key that was sent; None for none.
    """
    if not key:
        return text
    if len(key) < 2 * _PART:
        return text.replace(key, "***")
    parts = {key[i : i + _PART].lower() for i in range(len(key) - _PART + 1)}
    # one for one: a few letters have a small form of two
    lowered = "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)
    found, end = [], 0
    for i in range(len(text)):
        if lowered[i : i + _PART] in parts:
            if i > end or not found:
                found.append([i, i + _PART])
            found[-1][1] = end = i + _PART
    for start, stop in reversed(found):
        text = f"{text[:start]}***{text[stop:]}"
    return text


def _one_line(message: Any) -> str:
    try:
        text = message if isinstance(message, str) else json.dumps(message)
    except RecursionError:
        text = "an error that is nested too deeply"
    text = text.lstrip()[:_READ_LETTERS]
    if text.startswith("<"):
        text = _MARKUP.sub(" ", text)  # the page of a proxy
    # drop control characters that could move a terminal's cursor
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
