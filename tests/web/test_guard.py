"""Forged requests, one rule at a time, at an app that counts what reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.web.access import Access, checked_names
from connectomebench.web.guard import Guard

OWN = "http://127.0.0.1:7860"
PROXY = "lab.example.org"
SECRET = "s3cret-of-this-run"
ACCESS = Access((PROXY,), SECRET, 1000, {"/gradio_api/upload": 3000})


class Client:
    """Sends requests to a guarded app in this process; ``reached`` holds the bodies that came through."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.reached: list[bytes] = []

        async def take(request: Request) -> PlainTextResponse:
            body = await request.body()
            self.reached.append(body)
            return PlainTextResponse("here")

        paths = ("/", "/gradio_api/component_server", "/gradio_api/upload", "/gradio_api/startup-events")
        self._app = Guard(Starlette(routes=[Route(path, take, methods=["GET", "POST"]) for path in paths]), access)

    def __call__(self, method: str, path: str, *, cookie: bool = True, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if cookie and self.access.secret:
            headers["cookie"] = f"theme=dark; {self.access.cookie}={self.access.secret}"

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(send())


@pytest.fixture
def client() -> Client:
    return Client(ACCESS)


POST = ("POST", "/gradio_api/component_server")


def test_the_page_itself_comes_through(client: Client) -> None:
    assert client(*POST, content=b"{}", headers={"origin": OWN}).status_code == 200
    assert client("GET", "/").status_code == 200
    assert client(*POST, headers={"host": PROXY, "origin": f"https://{PROXY}"}).status_code == 200
    assert client(*POST, headers={"origin": f"https://{PROXY}"}).status_code == 200  # the proxy names itself only here
    assert client(*POST, headers={"host": "localhost:7860", "origin": "http://localhost:7860"}).status_code == 200
    assert client("GET", "/", headers={"host": "[::1]:7860"}).status_code == 200
    assert len(client.reached) == 6


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:7861",  # another program of this machine
        "http://127.0.0.1",
        "http://127.0.0.1:7860.evil.example",
        "http://127.0.0.1:7860@evil.example",
        f"https://{PROXY}.evil.example",
        f"https://evil-{PROXY}",
        "file://",
        "",
    ],
)
def test_no_other_origin_does(client: Client, origin: str) -> None:
    answer = client(*POST, content=b"{}", headers={"origin": origin, "content-type": "text/plain"})
    assert answer.status_code == 403 and client.reached == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example:7860", f"x.{PROXY}"]
)
def test_a_rebound_name_reads_and_writes_nothing(client: Client, host: str) -> None:
    # such a page is of the same origin as itself, which its browser believes to be here
    assert client(*POST, headers={"host": host, "origin": f"http://{host}"}).status_code == 403
    assert client("GET", "/", headers={"host": host}).status_code == 403
    assert client.reached == []


def test_two_hosts_are_none(client: Client) -> None:
    app_headers = [("host", "127.0.0.1:7860"), ("host", "evil.example"), ("cookie", f"{ACCESS.cookie}={SECRET}")]

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(client._app), base_url=OWN) as sender:
            return await sender.send(httpx.Request("GET", f"{OWN}/", headers=app_headers))

    assert asyncio.run(send()).status_code == 403


def test_pictures_and_scripts_of_other_sites_get_nothing_but_links_work(client: Client) -> None:
    told = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client("GET", "/", headers=told).status_code == 403
    assert client("GET", "/", headers={**told, "sec-fetch-mode": "navigate"}).status_code == 200
    assert client(*POST, headers={**told, "sec-fetch-mode": "navigate"}).status_code == 403


def test_the_secret_is_in_the_address_once_and_then_a_cookie(client: Client) -> None:
    for path in ("/", "/?key=", "/?key=wrong", f"/?other={SECRET}", "/gradio_api/component_server"):
        assert client("GET", path, cookie=False).status_code == 401
    wrong = {"cookie": f"{ACCESS.cookie}={SECRET}x"}
    assert client("GET", "/", cookie=False, headers=wrong).status_code == 401
    assert client.reached == []
    answer = client("GET", f"/?a=b&key={SECRET}", cookie=False)
    assert answer.status_code == 303 and answer.headers["location"] == "./?a=b"
    cookie = answer.headers["set-cookie"]
    assert SECRET in cookie and {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert client("GET", "/", cookie=False, headers={"cookie": cookie.split(";")[0]}).status_code == 200
    # Gradio asks its own server, which has no cookie, whether it is up
    assert client("GET", "/gradio_api/startup-events", cookie=False).status_code == 200


def test_every_start_has_a_secret_of_its_own() -> None:
    made = {Access().secret for _ in range(20)}
    assert len(made) == 20 and all(secret and len(secret) >= 32 for secret in made)
    assert ACCESS.address("http://127.0.0.1:1/") == f"http://127.0.0.1:1/?key={SECRET}"
    assert SECRET not in repr(ACCESS)


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(0, total, 100):
        yield b"0" * 100


async def slowly(total: int) -> Any:
    for chunk in chunks(total):
        yield chunk


@pytest.mark.parametrize(("path", "largest"), [("/gradio_api/component_server", 1000), ("/gradio_api/upload", 3000)])
def test_every_route_has_a_largest_body(client: Client, path: str, largest: int) -> None:
    own = {"origin": OWN}
    assert client("POST", path, content=b"0" * largest, headers=own).status_code == 200
    assert client("POST", path, content=slowly(largest), headers=own).status_code == 200
    before = len(client.reached)
    assert client("POST", path, content=b"0" * (largest + 1), headers=own).status_code == 413
    # a body that comes in pieces says nothing of its length
    assert client("POST", path, content=slowly(largest + 100), headers=own).status_code == 413
    assert len(client.reached) == before


def test_a_public_page_needs_no_secret_but_keeps_origins_and_sizes() -> None:
    client = Client(Access(("org-demo.hf.space",), None, 1000))
    assert client("GET", "/", headers={"host": "10.0.0.7:7860"}).status_code == 200
    assert client(*POST, headers={"host": "x.example", "origin": "https://org-demo.hf.space"}).status_code == 200
    assert client(*POST, headers={"origin": "https://evil.example"}).status_code == 403
    assert client(*POST, content=b"0" * 1001).status_code == 413
    assert "frame-ancestors" not in client("GET", "/").headers["content-security-policy"]


def test_every_answer_tells_the_browser_to_stay_here(client: Client) -> None:
    for cookie in (True, False):
        headers = client("GET", "/", cookie=cookie).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_websockets_are_checked_as_well() -> None:
    sent: list[Any] = []

    async def app(*_: Any) -> None:
        sent.append("reached")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"evil.example")]}
    asyncio.run(Guard(app, ACCESS)(scope, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


@given(st.text(max_size=60))
def test_no_other_name_is_this_server(name: str) -> None:
    known = ACCESS.knows_host(name)
    host = name.rpartition(":")[0] if ":" in name and not name.endswith("]") else name
    numbers = host.strip("[]").replace(".", "").replace(":", "")
    own = host.lower() in ("localhost", PROXY) or all(letter in "0123456789abcdefABCDEF" for letter in numbers)
    assert not known or own


@pytest.mark.parametrize("name", ["https://lab.example.org", "lab.example.org:80", "*", "a b", "", "a/b", "-.-"])
def test_names_of_proxies_are_plain(name: str) -> None:
    with pytest.raises(ConnectomeBenchError, match="no name of a server"):
        checked_names([name])
    assert checked_names(["Lab.Example.org"]) == ("lab.example.org",)
