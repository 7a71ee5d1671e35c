"""Middleware that lets a page be used by those who have its address, and by no page of another site.

A browser sends requests to this machine for any page that is open in it. Each request is checked before the app sees
it: its ``Host`` (DNS rebinding), its ``Origin`` and ``Sec-Fetch-Site`` (forged requests), the secret, and the size of
its body.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from connectomebench.web.access import KEY, Access

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        # Gradio writes its settings into the page and compiles templates there
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "worker-src 'self' blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
"""Content-Security-Policy of every page: the browser contacts no other server."""

# Gradio calls it from this process while it starts; it begins to work through the queue, and no more
_STARTUP = "/gradio_api/startup-events"


class TooLarge(Exception):
    """The body of a request has more bytes than its path takes."""


class Guard:
    """Middleware: see the module.

    Parameters
    ----------
    app
        What is guarded.
    access
        The rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with the reason why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = _Headers(scope)
        reply = self._reply(scope, headers)
        if scope["type"] != "http":
            if reply is not None:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return
        sender = _Sender(send, frames=self.access.secret is None)
        if reply is not None:
            await sender.answer(*reply)
            return
        # the app may make an answer of its own of the error, which is then not sent
        with suppress(TooLarge):
            await self.app(scope, _Limited(receive, sender, self.access.largest_body(scope["path"])), sender)

    def _reply(self, scope: Scope, headers: _Headers) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        """Return status, text and headers of a refusal, or of the redirect that takes the secret out of the address."""
        host, origin = headers.one("host"), headers.one("origin")
        if host is None or not self.access.knows_host(host):
            return 403, "this server does not know the name in your address; see the option --allow-host", []
        if origin is not None and not self.access.knows_origin(origin, host):
            return 403, "pages of other sites may not use this one", []
        if headers.one("sec-fetch-site") == "cross-site" and not _is_visit(scope, headers):
            return 403, "pages of other sites may not use this one", []
        length = headers.one("content-length")
        if length is not None and not (length.isascii() and length.isdigit()):
            return 400, "the length of the request is no number", []
        if length is not None and int(length[:20]) > self.access.largest_body(scope["path"]):
            return 413, _LARGE, []
        return self._identify(scope, headers)

    def _identify(self, scope: Scope, headers: _Headers) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        access = self.access
        if access.secret is None or scope["path"] == _STARTUP:
            return None
        if any(_same(value, access.secret) for value in headers.cookies(access.cookie)):
            return None
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        if not any(name == KEY and _same(value, access.secret) for name, value in query):
            return 401, "open the address that the command printed: it holds a key, and each start makes a new one", []
        # the browser keeps the key as a cookie, which other sites cannot send along; Lax, so that a link works
        cookie = f"{access.cookie}={access.secret}; HttpOnly; SameSite=Lax; Path=/"
        rest = urlencode([(name, value) for name, value in query if name != KEY])
        # relative, since a proxy may serve the page below another path
        place = "./" + (f"?{rest}" if rest else "")
        return 303, "", [(b"location", place.encode()), (b"set-cookie", cookie.encode())]


_LARGE = "the request is too large"


def _is_visit(scope: Scope, headers: _Headers) -> bool:
    """Return whether a person follows a link, or a page shows this one in a frame."""
    return scope.get("method") in ("GET", "HEAD") and headers.one("sec-fetch-mode") == "navigate"


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


class _Headers:
    """Headers of a request; one that occurs twice counts as a wrong one."""

    def __init__(self, scope: Scope) -> None:
        self._found: dict[str, list[str]] = {}
        for name, value in scope.get("headers", ()):
            self._found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def one(self, name: str) -> str | None:
        values = self._found.get(name, [])
        return ", ".join(values) if values else None

    def cookies(self, name: str) -> list[str]:
        found = []
        for value in self._found.get("cookie", []):
            try:
                jar = SimpleCookie(value)
            except CookieError:
                continue
            if name in jar:
                found.append(jar[name].value)
        return found


class _Limited:
    """Body of a request that is answered, and ends with `TooLarge`, as soon as it is longer than allowed."""

    def __init__(self, receive: Receive, sender: _Sender, largest: int) -> None:
        self._receive = receive
        self._sender = sender
        self._left = largest

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                await self._sender.answer(413, _LARGE)
                raise TooLarge
        return message


class _Sender:
    """Adds headers to every answer: no other servers, no guessing of file types, no address in ``Referer``."""

    def __init__(self, send: Send, *, frames: bool) -> None:
        self._send = send
        self._begun = self._answered = False
        # the Hub shows a Space in a frame; any other page could lay this one below its own buttons
        policy = POLICY if frames else f"{POLICY}; frame-ancestors 'self'"
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]

    async def __call__(self, message: Message) -> None:
        if self._answered:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            message["headers"] = [*message.get("headers", []), *self._headers]
        await self._send(message)

    async def answer(self, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        if self._begun:
            return
        body = text.encode()
        own = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        own.append((b"cache-control", b"no-store"))
        await self({"type": "http.response.start", "status": status, "headers": [*own, *(headers or [])]})
        await self({"type": "http.response.body", "body": body})
        self._answered = True
