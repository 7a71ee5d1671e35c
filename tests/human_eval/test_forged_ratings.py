"""Pages of other sites try to rate in a person's name: the real command, a real browser and forged requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from chromium import chromium
from forked import forked_command
from page_address import address

CALL = "gradio_api/component_server"


@dataclass(frozen=True)
class Sitting:
    """A running command: address with the secret, server, and the file of the ratings."""

    address: str
    url: str
    folder: Path

    def rated(self) -> int:
        """Count the ratings on disk."""
        files = list(self.folder.rglob("*.ratings.jsonl"))
        return sum(len(file.read_text().splitlines()) - 1 for file in files if file.stat().st_size)


@pytest.fixture(scope="module")
def sitting(rated_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sitting]:
    pytest.importorskip("gradio", reason="needs gradio")
    folder = tmp_path_factory.mktemp("ratings")
    words = ["human-eval", "--dataset", str(rated_dataset), "--species", "fly", "--rater", "ada", "--all"]
    words += ["--no-browser", "--out", str(folder), "--allow-host", "lab.example.org"]
    log = tmp_path_factory.mktemp("log") / "log"
    with forked_command(words, log), open(log) as printed:
        found = address(printed.read)
        yield Sitting(found, found.partition("?")[0], folder)


def rating(number: int, component: int) -> str:
    """Write what the page sends when somebody rates."""
    data = {"number": number, "choices": ["yes", "5"], "seconds": 1.0}
    return json.dumps({"session_hash": "x", "component_id": component, "fn_name": "rate", "data": data})


def component_of(client: httpx.Client) -> int:
    config = client.get("config").json()
    return next(one["id"] for one in config["components"] if one["type"] == "html")


@pytest.fixture
def person(sitting: Sitting) -> Iterator[httpx.Client]:
    """Somebody who opened the address: a client with its cookie."""
    with httpx.Client(base_url=sitting.url, timeout=30) as client:
        assert client.get(sitting.address, follow_redirects=True).status_code == 200
        yield client


def test_requests_of_other_sites_rate_nothing(sitting: Sitting, person: httpx.Client) -> None:
    component = component_of(person)
    body, before = rating(sitting.rated(), component), sitting.rated()
    own = sitting.url.removesuffix("/")
    port = own.rpartition(":")[2]
    foreign = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://127.0.0.1:{int(port) - 1}"},
        {"origin": f"http://evil.example:{port}", "host": f"evil.example:{port}"},
        {"host": f"evil.example:{port}"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ]
    for headers in foreign:
        for kind in ("text/plain", "application/json"):
            answer = person.post(CALL, content=body, headers={**headers, "content-type": kind})
            assert answer.status_code == 403, headers
        assert person.get("config", headers=headers).status_code == 403
        assert person.post("gradio_api/upload", files={"files": ("a", b"a")}, headers=headers).status_code in (403, 413)
    with httpx.Client(base_url=sitting.url) as stranger:  # of this machine, without the secret
        assert stranger.post(CALL, content=body, headers={"origin": own}).status_code == 401
        assert stranger.get("config").status_code == 401
    assert person.post("gradio_api/upload", files={"files": ("a", b"0" * 1000)}).status_code == 413
    assert person.post(CALL, content=b" " * 200_000, headers={"origin": own}).status_code == 413
    assert sitting.rated() == before
    # the same request from the page itself rates
    for number, origin in enumerate((own, "https://lab.example.org"), before):
        headers = {"origin": origin, "content-type": "application/json"}
        assert person.post(CALL, content=rating(number, component), headers=headers).status_code == 200
    assert sitting.rated() == before + 2


ATTACK = """<script>
const send = async () => {
  const tries = [];
  for (const mode of ["no-cors", "cors"])
    tries.push(fetch(%(url)s + "gradio_api/component_server", {
      method: "POST", mode, credentials: "include", headers: {"content-type": "text/plain"}, body: %(body)s,
    }).catch(() => null));
  await Promise.all(tries);
  document.title = "sent";
};
send();
</script><iframe src=%(url)s></iframe>"""


def test_a_page_of_another_site_in_the_same_browser_rates_nothing(sitting: Sitting, person: httpx.Client) -> None:
    before = sitting.rated()
    body = rating(before, component_of(person))
    page_text = (ATTACK % {"url": json.dumps(sitting.url), "body": json.dumps(body)}).encode()

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page_text)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    # a name of somebody else that leads to this machine, as after DNS rebinding
    with chromium("--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        context = browser.new_context()
        page = context.new_page()
        page.goto(sitting.address)
        page.wait_for_function("document.querySelector('.page')?.ariaBusy === null")
        for name in (f"http://127.0.0.1:{port}", f"http://evil.example:{port}"):
            attacker = context.new_page()
            answers: list[int] = []
            attacker.on("response", lambda reply, to=answers: to.append(reply.status) if CALL in reply.url else None)
            attacker.goto(name)
            attacker.wait_for_function("document.title === 'sent'")
            assert answers and set(answers) == {403}, name
        rebound = context.new_page()
        own_port = sitting.url.rstrip("/").rpartition(":")[2]
        assert rebound.goto(f"http://evil.example:{own_port}/").status == 403
    server.shutdown()
    assert sitting.rated() == before
