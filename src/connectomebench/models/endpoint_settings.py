"""Where an endpoint is, what it costs, and the client that talks to it."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    from openai import OpenAI


@dataclass(frozen=True)
class EndpointSettings:
    """How to reach a model, and what it costs.

    Attributes
    ----------
    url
        Of the server, up to what stands before ``/chat/completions``: ``http://127.0.0.1:8000/v1``.
    model
        Name of the model there.
    key_variable
        Environment variable that holds the key. It is read from there alone and never written. Servers of this machine
        and those without TLS are asked without a key where the variable is not set.
    timeout_s
        How long the server may be silent, s.
    retries
        How often to ask again where it fails, with pauses that double from 1 s to 60 s, or are as long as the server
        says.
    usd_per_million_prompt, usd_per_million_reply
        Prices of a million tokens, both or neither. Where the server itself says what a reply cost, that counts.
    extra_body
        More fields for every request, such as ``{"reasoning_effort": "low"}``; they enter the revision.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = 120.0
    retries: int = 5
    usd_per_million_prompt: float | None = None
    usd_per_million_reply: float | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        split = _split(self.url)
        if not self.model.strip():
            raise ConnectomeBenchError("name the model that the endpoint serves (--model)")
        if not re.fullmatch(r"[A-Za-z_]\w*", self.key_variable, re.ASCII):
            # whatever stands here instead may be the key itself
            raise ConnectomeBenchError(
                "the key variable is no name of an environment variable; put the key into one and name that"
            )
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)) or self.retries < 0:
            raise ConnectomeBenchError("the time-out must be above 0 s, and retries at least 0")
        prices = (self.usd_per_million_prompt, self.usd_per_million_reply)
        if (prices[0] is None) != (prices[1] is None):
            raise ConnectomeBenchError("give both prices, of tokens read and of tokens written, or neither")
        if any(price is not None and not (price >= 0 and math.isfinite(price)) for price in prices):
            raise ConnectomeBenchError(f"prices must be at least 0 USD, not {prices[0]} and {prices[1]}")
        if split.scheme == "http" and not _is_here(split) and os.environ.get(self.key_variable):
            raise ConnectomeBenchError(
                f"the key in {self.key_variable} would go to {split.hostname} unencrypted; use https, or name a "
                "--key-variable that is not set"
            )

    @property
    def host(self) -> str:
        """Name of the server without its port; ``localhost`` for this machine."""
        split = _split(self.url)
        return "localhost" if _is_here(split) else str(split.hostname)


def _split(url: str) -> SplitResult:
    """Take an address apart; no error may quote it, since it may hold a key."""
    try:
        split = urlsplit(url)
        _ = split.port  # raises where it is no number
    except ValueError:
        raise ConnectomeBenchError("the endpoint is no address; give one such as http://127.0.0.1:8000/v1") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ConnectomeBenchError("the endpoint must begin with http:// or https:// and name a server")
    if split.username is not None or split.password is not None or split.query or split.fragment:
        raise ConnectomeBenchError(
            "leave user, password and anything behind ? or # out of the endpoint; a key goes into the environment "
            "variable that --key-variable names"
        )
    if split.path.rstrip("/").endswith("/completions"):
        raise ConnectomeBenchError("leave /chat/completions out of the endpoint; it mostly ends with /v1")
    return split


def _is_here(split: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(str(split.hostname)).is_loopback
    except ValueError:
        return split.hostname == "localhost"


def read_key(settings: EndpointSettings) -> str | None:
    """Return the key from its environment variable; None where the server is asked without one.

    Raises
    ------
    ConnectomeBenchError
        If there is none and the server is another machine's, or it cannot be a key.
    """
    split = _split(settings.url)
    key = os.environ.get(settings.key_variable, "").strip() or None
    if key is None and split.scheme == "https" and not _is_here(split):
        raise ConnectomeBenchError(
            f"{settings.host} needs a key: put it into the environment variable {settings.key_variable}, or name "
            "another one with --key-variable"
        )
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConnectomeBenchError(f"the key in {settings.key_variable} holds characters no key has; set it anew")
    return key


def key_headers(key: str | None) -> dict[str, Any]:
    """Return headers for every request: those of the client send something as a key even where there is none."""
    import openai

    return {} if key else {"Authorization": openai.omit}


def make_client(settings: EndpointSettings, key: str | None) -> OpenAI:
    """Make a client that does not retry unseen, and tells a server nothing that is meant for another.

    Raises
    ------
    ConnectomeBenchError
        If `openai` is not installed.
    """
    try:
        import openai
    except ImportError:
        raise ConnectomeBenchError("asking a server needs a package: pip install 'connectomebench[endpoint]'") from None

    split = _split(settings.url)
    # the client reads these from environment variables of its own
    account: dict[str, Any] = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
    return openai.OpenAI(
        api_key=key or "none",
        base_url=settings.url,
        timeout=settings.timeout_s,
        max_retries=0,
        default_headers=None if split.hostname == "api.openai.com" else account,
        # a proxy for the outside world does not lead to this machine
        http_client=openai.DefaultHttpxClient(trust_env=not _is_here(split)),
    )


def without_folders(name: str) -> str:
    """Return the name of a model; of a folder on the server's machine, its last part."""
    kept = name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", ".", "~")) else name
    words = [re.sub(r"[^\w.@:+-]", "-", part).lstrip(".-") for part in kept.split("/")]
    return "/".join(word for word in words if word) or "model"
