"""A small Hub on 127.0.0.1, for the tests alone: what huggingface_hub and datasets ask for, and nothing else.

It speaks the protocol that huggingface_hub 2.4 and datasets 5.2 use: whoami, repositories of three kinds, trees in
pages, paths-info, preupload, large files by LFS batch (transfer `basic`), commits as NDJSON, resolve with Range, ETag
and a redirect of large files to another host, branches and tags. What it does not know is answered with 404 and kept in
`unknown`, so that a test can fail on it. `faults` says what goes wrong.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import uvicorn
from hub_protocol import READER, ROUTES, WRITER, Hub, Refusal
from hub_store import File, Repo
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = ["READER", "WRITER", "Fault", "HubServer", "hub_server"]


@dataclass
class Fault:
    """What goes wrong with some requests.

    Attributes
    ----------
    request
        Regular expression on ``METHOD /path``.
    what
        An HTTP status; ``cut``: the connection ends before anything is done; ``lost``: it is done, and the answer is
        lost; ``body``: the connection ends after ``n_bytes`` of what is sent either way; ``hang``: no answer at all.
    skip
        Let so many such requests pass first.
    times
        How often; for ever by default.
    """

    request: str
    what: int | Literal["cut", "lost", "body", "hang"]
    skip: int = 0
    times: int | None = None
    n_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def strikes(self, line: str) -> bool:
        if self.times == 0 or not re.match(self.request, line):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class HubServer(Hub):
    """The Hub; ``url`` is what HF_ENDPOINT must say.

    Attributes
    ----------
    requests
        ``METHOD /path`` of all that was asked, in order.
    unknown
        Those of them that this server does not know.
    faults
        What goes wrong.
    before
        Called with each request before it is answered: what other people do meanwhile.
    """

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.faults: list[Fault] = []
        self.before: Callable[[str], None] = lambda line: None
        self.requests: list[str] = []
        self.unknown: list[str] = []

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        return self.store.repos[kind, name]

    def files(self, name: str, revision: str = "main", kind: str = "dataset") -> dict[str, File]:
        commit = self.repo(name, kind).find(revision)
        assert commit is not None
        return dict(commit.files)

    def content(self, name: str, path: str, kind: str = "dataset") -> bytes:
        return self.store.content(self.files(name, kind=kind)[path])

    def count(self, request: str) -> int:
        return sum(bool(re.match(request, line)) for line in self.requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        request = Request(scope, receive)
        path = scope["raw_path"].decode().partition("?")[0]
        line = f"{request.method} {path}"
        self.requests.append(line)
        self.before(line)
        fault = next((f for f in self.faults if f.strikes(line)), None)
        if fault is not None and fault.what == "hang":
            await asyncio.sleep(3600)
        if fault is not None and fault.what == "body":
            await self._cut_body(request, path, fault.n_bytes, send)
            return
        if fault is not None and fault.what == "cut":
            await _close_half_way(send)
            return
        if fault is not None and isinstance(fault.what, int):
            response: Response = JSONResponse({"error": "on purpose"}, fault.what, fault.headers)
        else:
            response = await self._respond(request, path)
        if fault is not None and fault.what == "lost":
            await _close_half_way(send)
            return
        await response(scope, receive, send)

    async def _cut_body(self, request: Request, path: str, n_bytes: int, send: Send) -> None:
        if request.method == "GET":
            response = await self._respond(request, path)
            await _close_half_way(send, bytes(response.body)[:n_bytes], len(response.body), response.status_code)
            return
        seen = 0
        async for chunk in request.stream():
            seen += len(chunk)
            if seen >= n_bytes:
                break
        await _close_half_way(send)

    async def _respond(self, request: Request, path: str) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        for known_method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == known_method:
                words = {name: unquote(value or "") for name, value in found.groupdict().items()}
                try:
                    return await handler(self, request, **words)
                except Refusal as refusal:
                    return refusal.response
        self.unknown.append(f"{request.method} {path}")
        return JSONResponse({"error": "unknown route"}, 404)


async def _close_half_way(send: Send, body: bytes = b"", announced: int = 1, status: int = 200) -> None:
    """Announce more than is sent: uvicorn then closes the connection."""
    length = str(max(announced, len(body) + 1)).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})


@contextmanager
def hub_server(folder: Path) -> Iterator[HubServer]:
    """Serve until the block ends; contents are kept in ``folder``."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        hub = HubServer(folder, listening.getsockname()[1])
        config = uvicorn.Config(hub, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.should_exit = True
            thread.join()
