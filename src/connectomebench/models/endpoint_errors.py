"""What an OpenAI-compatible server refuses: worth asking again, to be asked in other words, or the user's to mend."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectomebench.core.retry_policy import retry_after_s

MAX_MESSAGE = 200
"""Characters of a server's message that are quoted."""

_TRANSIENT = (408, 409, 425, 429)
# the account is empty or blocked: asking again changes nothing
_UNPAID = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_BLOCKED = ("content_filter", "content_policy_violation", "invalid_prompt")
_CUT = "output limit was reached"


@dataclass(frozen=True)
class Refusal:
    """An answer of a server that is no success.

    Attributes
    ----------
    status
        Of HTTP; also one that a server reports inside an answer of status 200.
    message
        What the server says, on one line; may hold anything, the key included.
    code, param
        What kind of error, and the parameter it is about; empty where the server does not say.
    wait_s
        How long the server asks to wait, s.
    """

    status: int
    message: str
    code: str = ""
    param: str = ""
    wait_s: float | None = None

    @property
    def transient(self) -> bool:
        """Whether it may be gone when the same is asked again."""
        return (self.status in _TRANSIENT or self.status >= 500) and self.code not in _UNPAID

    @property
    def blocked(self) -> bool:
        """Whether a filter refused what was asked; the row has no answer then."""
        return self.status == 400 and self.code in _BLOCKED

    @property
    def cut(self) -> bool:
        """Whether a reasoning model wrote all the tokens it was given and no reply (OpenAI answers 400 then)."""
        return self.status == 400 and _CUT in self.message


def read_refusal(status: int, body: str, headers: Mapping[str, str]) -> Refusal:
    """Read an answer that is no success.

    Parameters
    ----------
    status
        Of HTTP.
    body
        ``{"error": {"message", "code", "param"}}`` (OpenAI, vLLM), a list of one such (Gemini), ``{"detail": ...}``
        (FastAPI, which transformers serve builds on), or any other text.
    headers
        Of which ``Retry-After`` is read.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal(status, _one_line(body), wait_s=retry_after_s(headers))
    return refusal_of(status, told, retry_after_s(headers))


def refusal_of(status: int, told: Any, wait_s: float | None = None) -> Refusal:
    """Read a decoded error; see :func:`read_refusal`."""
    if isinstance(told, list) and told:
        told = told[0]
    error = told.get("error", told) if isinstance(told, dict) else told
    if not isinstance(error, dict):
        return Refusal(status, _one_line(error), wait_s=wait_s)
    message = next((error[key] for key in ("message", "detail", "msg") if error.get(key)), error)
    code, param = (str(error.get(key) or "") for key in ("code", "param"))
    return Refusal(status, _one_line(message), code, param, wait_s)


def _one_line(message: Any) -> str:
    text = message if isinstance(message, str) else json.dumps(message)
    if text.lstrip().startswith("<"):
        text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)  # the page of a proxy
    # nothing that moves the cursor of a terminal
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
