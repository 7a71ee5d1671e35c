"""Endpoint settings, prices and client."""

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
class EndpointConfig:
    """Address, credentials and prices of an endpoint.

    Attributes
    ----------
    url
        Base URL, the part before ``/chat/completions``: ``http://127.0.0.1:8000/v1``.
    model
        Name of the model on the server.
    key_variable
        Environment variable with the API key. It is read only from there and never written. Local servers
        and servers without TLS are used without a key if the variable is not set.
    timeout_s
        Timeout of a request, s.
    retries
        Number of retries after a failure, with pauses that double from 1 s to 60 s or follow the server's
        ``Retry-After``.
    usd_per_million_prompt, usd_per_million_reply
        Prices of a million tokens, both or neither. A cost reported by the server takes precedence.
    extra_body
        Extra fields of every request, such as ``{"reasoning_effort": "low"}``; part of the revision.
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
            # do not quote the value: it may be the key itself
            raise ConnectomeBenchError(
                "the key variable is not a valid environment variable name; set the key in one and name that"
            )
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)) or self.retries < 0:
            raise ConnectomeBenchError("the timeout must be above 0 s and retries at least 0")
        prices = (self.usd_per_million_prompt, self.usd_per_million_reply)
        if (prices[0] is None) != (prices[1] is None):
            raise ConnectomeBenchError("give both prices, of prompt and of generated tokens, or neither")
        if any(price is not None and not (price >= 0 and math.isfinite(price)) for price in prices):
            raise ConnectomeBenchError(f"prices must be at least 0 USD, not {prices[0]} and {prices[1]}")
        if split.scheme == "http" and not _is_here(split) and os.environ.get(self.key_variable):
            raise ConnectomeBenchError(
                f"the key in {self.key_variable} would go to {split.hostname} unencrypted; use https, or name a "
                "--key-variable that is not set"
            )

    @property
    def host(self) -> str:
        """Host name without port; ``localhost`` for a local server."""
        split = _split(self.url)
        return "localhost" if _is_here(split) else str(split.hostname)


def _split(url: str) -> SplitResult:
    """Split and check a URL; errors never quote it, since it may contain a key."""
    try:
        split = urlsplit(url)
        _ = split.port  # raises if it is not a number
    except ValueError:
        raise ConnectomeBenchError("the endpoint is not a URL; give one such as http://127.0.0.1:8000/v1") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ConnectomeBenchError("the endpoint must begin with http:// or https:// and name a server")
    if split.username is not None or split.password is not None or split.query or split.fragment:
        raise ConnectomeBenchError(
            "leave user, password, query and fragment out of the endpoint; a key goes into the environment "
            "variable that --key-variable names"
        )
    if split.path.rstrip("/").endswith("/completions"):
        raise ConnectomeBenchError("leave /chat/completions out of the endpoint; it usually ends with /v1")
    return split


def _is_here(split: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(str(split.hostname)).is_loopback
    except ValueError:
        return split.hostname == "localhost"


def read_key(settings: EndpointConfig) -> str | None:
    """Return the key from its environment variable; None if the server is used without one.

    Raises
    ------
    ConnectomeBenchError
        If a remote server needs a key and none is set, or the key is malformed.
    """
    split = _split(settings.url)
    key = os.environ.get(settings.key_variable, "").strip() or None
    if key is None and split.scheme == "https" and not _is_here(split):
        raise ConnectomeBenchError(
            f"{settings.host} needs a key: set the environment variable {settings.key_variable}, or name "
            "another one with --key-variable"
        )
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConnectomeBenchError(f"the key in {settings.key_variable} has invalid characters; set it again")
    return key


def key_headers(key: str | None) -> dict[str, Any]:
    """Return headers for every request; they suppress the client's placeholder key if there is none."""
    import openai

    return {} if key else {"Authorization": openai.omit}


def make_client(settings: EndpointConfig, key: str | None) -> OpenAI:
    """Create a client that does not retry silently and sends a server no credentials meant for another.

    Raises
    ------
    ConnectomeBenchError
        If `openai` is not installed.
    """
    try:
        import openai
    except ImportError:
        raise ConnectomeBenchError("endpoints need a package: pip install 'connectomebench[endpoint]'") from None

    split = _split(settings.url)
    # the client reads these from environment variables of its own
    account: dict[str, Any] = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
    return openai.OpenAI(
        api_key=key or "none",
        base_url=settings.url,
        timeout=settings.timeout_s,
        max_retries=0,
        default_headers=None if split.hostname == "api.openai.com" else account,
        # an outbound proxy does not lead to a local server
        http_client=openai.DefaultHttpxClient(trust_env=not _is_here(split)),
    )


def without_folders(name: str) -> str:
    """Return the name of a model; for a folder on the server, its last part."""
    kept = name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", ".", "~")) else name
    words = [re.sub(r"[^\w.@:+-]", "-", part).lstrip(".-") for part in kept.split("/")]
    return "/".join(word for word in words if word) or "model"
