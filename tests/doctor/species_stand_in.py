"""A local stand-in for the servers of a species, and token files that are plainly recognised."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from connectomebench.core.species import Species, get_species
from connectomebench.doctor.checks import CheckResult

TOKEN = "0123456789abcdef0123456789abcdef"
SECRETS = Path(".cloudvolume", "secrets")
DATASTACK = "/info/api/v2/datastack/full/flywire_fafb_public"
GRAPH = "/segmentation/api/version"
LABELS = "/segmentation/table/flywire_public/info"
IMAGES = "/flywire/fafbv14/info"


@dataclass
class LocalServer:
    """Answers 200 but where ``statuses`` says otherwise, and writes down who asked with which token."""

    url: str
    statuses: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    delay_s: float = 0.0


@contextmanager
def local_server() -> Iterator[LocalServer]:
    """Run a server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            local.asked.append((self.command, self.path, self.headers.get("Authorization")))
            if closing.wait(local.delay_s):
                return
            status = local.statuses.get(self.path, 200)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{local.url}/login?token={self.headers.get('Authorization')}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    closing = threading.Event()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    local = LocalServer(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield local
    finally:
        closing.set()
        listening.shutdown()
        thread.join()
        listening.server_close()


def keep(home: Path, name: str = "cave-secret.json", token: str = TOKEN) -> None:
    """Write a token file."""
    (home / SECRETS / name).write_text(json.dumps({"token": token}))


def own(server: LocalServer) -> str:
    """Return the name of the token file of a server that is not one of ours."""
    return f"{server.url.removeprefix('http://')}-cave-secret.json"


def local_fly(url: str) -> Species:
    """The fly, with everything on one local server."""
    labels = f"graphene://{url}/segmentation/1.0/flywire_public"
    return replace(get_species("fly"), server=url, segmentation=labels, em=f"precomputed://{url}/flywire/fafbv14")


def by_name(findings: list[CheckResult]) -> dict[str, CheckResult]:
    """Look up findings by name; each is one line, and says what to do about what is missing."""
    assert len({f.name for f in findings}) == len(findings)
    assert all(f.todo for f in findings if f.mark == "missing")
    assert not any("\n" in f.found + f.todo for f in findings)
    return {f.name: f for f in findings}
