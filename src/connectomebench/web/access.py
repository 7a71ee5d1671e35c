"""Who may open a page: names of this server, and the secret in its address."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from connectomebench.core.errors import ConnectomeBenchError

KEY = "key"
"""Name of the secret in the address of a page: ``http://127.0.0.1:7860/?key=SECRET``."""

UPLOAD = "/gradio_api/upload"
"""Path at which Gradio takes files."""

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9])?", re.ASCII)
_REQUEST_BYTES = 100_000


@dataclass(frozen=True)
class Access:
    """Rules for requests to a page.

    Attributes
    ----------
    names
        Further names of this server: of this machine in its network, or of a proxy. Small letters, no port.
    secret
        Sent once in the address, then kept by the browser as a cookie; None for a page that is open to everyone.
    request_bytes
        Largest body of a request.
    upload_bytes
        By path: largest body of a request with files.
    """

    names: tuple[str, ...] = ()
    secret: str | None = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    request_bytes: int = _REQUEST_BYTES
    upload_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """Name of the cookie; different for every run, since cookies are shared by all ports of a machine."""
        return f"connectomebench-{(self.secret or '')[:6]}"

    def address(self, url: str) -> str:
        """Return the address to open: ``url`` with the secret."""
        return url if self.secret is None else f"{url}?{KEY}={self.secret}"

    def largest_body(self, path: str) -> int:
        """Return the number of bytes that a request to a path may have."""
        return self.upload_bytes.get(path.rstrip("/"), self.request_bytes)

    def knows_host(self, host: str) -> bool:
        """Return whether a ``Host`` is this server.

        Addresses in numbers are: a page of another site cannot make its own name point to them and keep its origin,
        which is what DNS rebinding does. A page open to everyone has nothing that would be reached in this way.
        """
        name = _host_name(host)
        if name is None:
            return False
        return self.secret is None or _is_own(name) or name in self.names

    def knows_origin(self, origin: str, host: str) -> bool:
        """Return whether an ``Origin`` is a page of this server, asked as ``host``.

        A page at another port of this machine is another page.
        """
        try:
            found = urlsplit(origin)
        except ValueError:
            return False
        if found.scheme not in ("http", "https") or not found.netloc:
            return False
        return found.netloc.lower() == host.lower() or _host_name(found.netloc) in self.names


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of servers in small letters.

    Raises
    ------
    ConnectomeBenchError
        If one is no name: it has a scheme, a port, a path or a wildcard.
    """
    for name in names:
        if not _NAME.fullmatch(name.lower()):
            raise ConnectomeBenchError(f"{name[:80]!r} is no name of a server; write it as in lab.example.org")
    return tuple(name.lower() for name in names)


def _host_name(host: str) -> str | None:
    """Return the name in a ``Host`` without its port; None if it is none."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@?#\s]+)(?::\d{1,5})?", host)
    return None if found is None else found[1].lower()


def _is_own(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
