"""An OpenAI-compatible server on this machine that fails as it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.endpoint import Endpoint, EndpointConfig, open_endpoint

GREEDY = Sampling()

Answer = Callable[[dict[str, Any]], Response]


def completion(content: Any = "<answer>yes</answer>", finish: str = "stop", **more: Any) -> dict[str, Any]:
    """The JSON of a reply; ``more`` replaces its fields."""
    return {
        "id": "1",
        "object": "chat.completion",
        "model": "tiny-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    } | more


def error(status: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> Response:
    return JSONResponse({"error": {"message": message} | more}, status, headers)


@dataclass
class Server:
    """Where it is, what it was asked, and what it answers next.

    Attributes
    ----------
    requests, headers
        Of every `chat/completions` in turn.
    next
        Answers that are given once each, first of all; then ``usual`` answers.
    most
        Requests at the same time, at most.
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    next: deque[Response | dict[str, Any]] = field(default_factory=deque)
    usual: Answer = lambda body: JSONResponse(completion())
    models: Response | dict[str, Any] = field(
        default_factory=lambda: {"data": [{"id": "tiny", "root": "/weights/tiny-vl", "owned_by": "vllm"}]}
    )
    delay_s: float = 0.0
    most: int = 0
    _open: set[object] = field(default_factory=set)

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        # chosen on arrival: a request its sender has given up goes on here, and must not take the answer of a later one
        answer = self.next.popleft() if self.next else self.usual(body)
        requests, one = self._open, object()
        requests.add(one)
        self.most = max(self.most, len(requests))
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            requests.discard(one)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    async def listed(self, request: Request) -> Response:
        return self.models if isinstance(self.models, Response) else JSONResponse(self.models)

    def forget(self) -> None:
        """Begin anew at the same address."""
        self.__dict__ |= vars(Server(url=self.url))

    def asked(self) -> list[dict[str, Any]]:
        """What it was asked, without the greeting."""
        return [one for one in self.requests if "word ok" not in json.dumps(one["messages"])]


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server on a free port."""
    state = Server()
    routes = [
        Route("/v1/chat/completions", state.chat, methods=["POST"]),
        Route("/v1/models", state.listed),
    ]
    with running(Starlette(routes=routes)) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        yield state


@contextmanager
def running(app: Any) -> Iterator[int]:
    """Run an application in a thread; yields its port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until, "the server did not start"
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def talk(text: str = "What is it?", seed: int = 0) -> Conversation:
    return Conversation([{"role": "user", "content": [{"type": "text", "text": text}]}], [], seed)


def opened(server: Server, **settings: Any) -> Endpoint:
    endpoint = open_endpoint(EndpointConfig(server.url, **({"model": "tiny", "retries": 2} | settings)))
    return endpoint


def one(endpoint: Endpoint, sampling: Sampling = GREEDY) -> Any:
    (reply,) = endpoint.reply([talk()], sampling)
    return reply
