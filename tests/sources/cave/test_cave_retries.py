"""Failures of the network: what is tried again, how often, when it ends, and that no token is told."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from graph_truth import FIXTURE, Truth
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_answers import TABLE
from replay_server import Faults, ReplayServer, replay_server

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.species import get_species
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig
from connectomebench.sources.cave.cloud_volumes import CloudLayer
from connectomebench.sources.cave.connect import Connection, connect
from connectomebench.sources.cave.graph import Graph
from connectomebench.sources.cave.retries import RetryAdapter, refused, with_retries

FINAL = datetime.fromtimestamp(1795399828, UTC)
TOKEN = "c0ffee5eed1234567890abcdefabcdef"
LOGIN = "https://login.example"
QUICK = RequestConfig(attempts=4, wait_s=0.001, longest_wait_s=0.01)


# ------------------------------------------------------------------ a server that follows a script


@dataclass(frozen=True)
class Reply:
    """One answer; a cut one ends after half of its body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"well": 1}'
    wait_s: float = 0.0
    cut: bool = False


class Script:
    """Answers in order, the last one for ever; counts, and keeps when each request came and with which headers."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.replies = replies
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    @property
    def requests(self) -> int:
        return len(self.times)


@contextmanager
def scripted(*replies: Reply) -> Iterator[Script]:
    script = Script(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body leave together
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            reply = script.replies[min(script.requests, len(script.replies) - 1)]
            script.times.append(time.monotonic())
            script.headers.append(dict(self.headers.items()))
            time.sleep(reply.wait_s)
            self.send_response(reply.status)
            for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
            self.close_connection = reply.cut

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that gave up is no error of the server."""

    with Server(("127.0.0.1", 0), Handler) as http:
        script.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield script
        http.shutdown()
        thread.join()


def retrying(rules: RequestConfig) -> requests.Session:
    session = requests.Session()
    session.mount("http://", RetryAdapter(rules, LOGIN))
    return session


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int) -> None:
    with scripted(Reply(status), Reply(status), Reply(status), Reply()) as script:
        answer = retrying(QUICK).get(script.url)
        assert (answer.status_code, answer.json(), script.requests) == (200, {"well": 1}, 4)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("attempts", [1, 3])
def test_after_the_last_attempt_the_answer_is_handed_on(status: int, attempts: int) -> None:
    with scripted(Reply(status)) as script:
        answer = retrying(RequestConfig(attempts=attempts, wait_s=0.001)).get(script.url)
        assert (answer.status_code, script.requests) == (status, attempts)


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_a_500_is_tried_four_times_at_most(attempts: int) -> None:
    with scripted(Reply(500)) as script:
        answer = retrying(RequestConfig(attempts=attempts, wait_s=0.001)).get(script.url)
        assert (answer.status_code, script.requests) == (500, min(4, attempts))
    with scripted(Reply(500), Reply()) as script:
        assert retrying(QUICK).get(script.url).status_code == 200


@pytest.mark.parametrize("status", [200, 204, 400, 404, 501])
def test_other_answers_are_final(status: int) -> None:
    with scripted(Reply(status, body=b"")) as script:
        assert retrying(QUICK).get(script.url).status_code == status
        assert script.requests == 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts, s, which then take no time."""
    found: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=found.append))
    return found


def test_the_server_says_when_to_come_back(waits: list[float]) -> None:
    asked = ("7", "0", "61", "Wed, 21 Oct 2065 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT")
    busy = [Reply(429 if i % 2 else 503, {"Retry-After": text}) for i, text in enumerate(asked)]
    with scripted(*busy, Reply()) as script:
        rules = RequestConfig(wait_s=1000, longest_wait_s=60)
        assert retrying(rules).get(script.url).status_code == 200
    assert waits == [7, 0, 60, 60, 0]


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "", "Wed, 99 Oct 2065"])
def test_a_time_that_cannot_be_used_is_none(waits: list[float], text: str) -> None:
    with scripted(Reply(429, {"Retry-After": text}), Reply()) as script:
        assert retrying(RequestConfig(wait_s=2, longest_wait_s=100)).get(script.url).status_code == 200
    assert len(waits) == 1 and 0 <= waits[0] <= 2


def test_waits_grow_to_the_longest_and_vary(waits: list[float]) -> None:
    rules = RequestConfig(attempts=10, wait_s=1, longest_wait_s=60)
    with scripted(Reply(503)) as script:
        for _ in range(20):
            retrying(rules).get(script.url)
    drawn = np.reshape(waits, (20, 9))
    most = np.minimum(2.0 ** np.arange(9), 60)
    assert (drawn >= 0).all() and (drawn <= most).all()
    # uniform below the largest: all 20 draws stay below a third of it once in 3**20 times
    assert (drawn.max(axis=0) > most / 3).all()
    assert all(len(set(column)) == 20 for column in drawn.T)


def test_a_body_cut_short_is_asked_for_again() -> None:
    with scripted(Reply(cut=True), Reply(cut=True), Reply()) as script:
        assert retrying(QUICK).get(script.url).json() == {"well": 1}
        assert script.requests == 3


def test_a_body_that_stays_short_raises() -> None:
    with scripted(Reply(cut=True)) as script:
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
            retrying(QUICK).get(script.url)
        assert script.requests == 4


def test_a_body_that_is_no_gzip_is_asked_for_again() -> None:
    with scripted(Reply(headers={"Content-Encoding": "gzip"}), Reply()) as script:
        assert retrying(QUICK).get(script.url).json() == {"well": 1}
        assert script.requests == 2


def test_a_slow_server_is_given_up_in_time() -> None:
    rules = RequestConfig(attempts=2, wait_s=0.001, timeout_s=0.5)
    with scripted(Reply(wait_s=60)) as script:
        start = time.monotonic()
        with pytest.raises(requests.Timeout):
            retrying(rules).get(script.url)
        assert time.monotonic() - start < 30
        assert script.requests == 2
    with scripted(Reply(wait_s=60), Reply()) as script:
        assert retrying(rules).get(script.url).status_code == 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_refused_connection_raises() -> None:
    with pytest.raises(requests.ConnectionError):
        retrying(QUICK).get(f"http://127.0.0.1:{free_port()}")


# ------------------------------------------------------------------ cloud storage


@given(failures=st.integers(0, 8), attempts=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_reading_is_tried_as_often_as_allowed(failures: int, attempts: int) -> None:
    calls = 0

    def read() -> int:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise OSError("the line is down")
        return 42

    rules = RequestConfig(attempts=attempts, wait_s=1e-6, longest_wait_s=1e-6)
    if failures < attempts:
        assert with_retries("voxels", read, rules, LOGIN) == 42
    else:
        with pytest.raises(SiteUnavailable, match=r"^voxels: OSError$"):
            with_retries("voxels", read, rules, LOGIN)
    assert calls == min(failures + 1, attempts)


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.url = f"https://data.example/part?token={TOKEN}"
    return requests.HTTPError(f"told {TOKEN}", response=response)


def raising(error: BaseException, counter: Counter[str]) -> Callable[[], None]:
    def read() -> None:
        counter["calls"] += 1
        raise error

    return read


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_not_tried_again(status: int) -> None:
    from cloudvolume.exceptions import AuthenticationError

    counter: Counter[str] = Counter()
    with pytest.raises(ConnectomeBenchError) as caught:
        with_retries("voxels", raising(http_error(status), counter), QUICK, LOGIN)
    assert str(caught.value) == str(refused("https://data.example/part", status, LOGIN))
    assert "https://data.example answered" in str(caught.value) and TOKEN not in str(caught.value)
    # cloud-volume found that the token is none, and asked nobody
    with pytest.raises(ConnectomeBenchError, match=f"token for {LOGIN} cannot be used") as caught:
        with_retries("voxels", raising(AuthenticationError("no token"), counter), QUICK, LOGIN)
    assert "answered" not in str(caught.value) and "setup_token" in str(caught.value)
    assert counter["calls"] == 2


def test_a_status_that_stays_is_the_reason() -> None:
    counter: Counter[str] = Counter()
    with pytest.raises(SiteUnavailable, match=r"^voxels: the server answered 503$"):
        with_retries("voxels", raising(http_error(503), counter), QUICK, LOGIN)
    assert counter["calls"] == QUICK.attempts


@pytest.mark.parametrize("error", [ConnectomeBenchError("mend this"), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_failure_of_the_network_ends_it_at_once(error: BaseException) -> None:
    counter: Counter[str] = Counter()
    with pytest.raises(type(error)) as caught:
        with_retries("voxels", raising(error, counter), QUICK, LOGIN)
    assert caught.value is error
    assert counter["calls"] == 1


# ------------------------------------------------------------------ the graph under faults


def connected(url: str, rules: RequestConfig = QUICK) -> Connection:
    return connect(CaveConfig(server=url, graph_table=TABLE, image="none", requests=rules), get_species("fly"))


def questions(truth: Truth) -> list[Callable[[Graph], Any]]:
    ids, final = truth.table["supervoxel_id"], truth.table["final_root"]
    roots = np.unique(final[final != truth.table["initial_root"]])
    stale = int(truth.told["operations"][0]["old_root_ids"][0])
    times = [datetime.fromtimestamp(t, UTC) for t in truth.told["read_times"].values()]
    return [
        lambda g: g.change_logs(roots.tolist()),
        lambda g: g.operation_details(truth.table["operation_ids"].tolist()),
        *[lambda g, when=when: g.roots(ids, when).tolist() for when in times],
        lambda g: g.roots(ids[::50], FINAL, level2=True).tolist(),
        lambda g: {k: v.tolist() for k, v in g.leaves(roots.tolist()).items()},
        lambda g: g.changed_roots(times[0], FINAL).tolist(),
        lambda g: g.are_latest(roots, FINAL).tolist(),
        lambda g: g.latest_of(stale, FINAL),
        lambda g: g.voxel_nm(),
    ]


SMALL = RequestConfig(
    attempts=8,
    wait_s=0.001,
    longest_wait_s=0.002,
    roots_per_request=50,
    operations_per_request=5,
    supervoxels_per_request=2000,
)


@pytest.fixture(scope="module")
def wanted(server: ReplayServer, truth: Truth) -> list[Any]:
    graph = connected(server.url, SMALL).graph
    return [ask(graph) for ask in questions(truth)]


@pytest.mark.parametrize("seed", range(4))
def test_answers_under_faults_are_those_without(truth: Truth, wanted: list[Any], seed: int) -> None:
    with replay_server(FIXTURE, faults=Faults(rate=0.3, seed=seed)) as server:
        graph = connected(server.url, SMALL).graph
        assert [ask(graph) for ask in questions(truth)] == wanted
        assert sum(server.faulted.values()) > 5


def test_errors_that_stay_are_a_reason_and_never_another_answer(truth: Truth, wanted: list[Any]) -> None:
    reasons = 0
    with replay_server(FIXTURE, faults=Faults(rate=0.8, kinds=("500",), max_consecutive=1000)) as server:
        graph = connected(server.url, RequestConfig(attempts=50, wait_s=1e-4, longest_wait_s=1e-3)).graph
        for ask, answer in zip(questions(truth)[1:], wanted[1:], strict=True):
            try:
                assert ask(graph) == answer
            except SiteUnavailable as reason:
                assert str(reason).endswith(": the server answered 500")
                reasons += 1
    assert reasons


def test_a_server_that_goes_away_is_a_reason(truth: Truth) -> None:
    with replay_server(FIXTURE) as server:
        graph = connected(server.url).graph
    with pytest.raises(SiteUnavailable, match=r"^roots: ConnectionError$"):
        graph.roots(truth.table["supervoxel_id"][:3], FINAL)


def test_a_server_that_is_too_slow_is_a_reason(truth: Truth) -> None:
    with replay_server(FIXTURE) as server:
        graph = connected(server.url, RequestConfig(attempts=2, wait_s=0.001, timeout_s=0.5)).graph
        server.http.RequestHandlerClass = slowed(server.http.RequestHandlerClass)
        with pytest.raises(SiteUnavailable, match=r"^roots: \w*Timeout$"):
            graph.roots(truth.table["supervoxel_id"][:3], FINAL)


def slowed(handler: Any) -> Any:
    class Slow(handler):
        def do_POST(self) -> None:
            time.sleep(1.2)

    return Slow


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectomeBenchError) as caught:
        connected(url)
    message = str(caught.value)
    assert url in message and "source.cave.server" in message and "\n" not in message


# ------------------------------------------------------------------ tokens


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that caveclient and cloud-volume look for tokens in."""
    folder = tmp_path / "home"
    (folder / ".cloudvolume" / "secrets").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def keep_token(home: Path, url: str) -> None:
    name = f"{url.removeprefix('http://')}-cave-secret.json"
    (home / ".cloudvolume" / "secrets" / name).write_text(json.dumps({"token": TOKEN}))


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def everything_said(error: BaseException | None) -> str:
    """The texts of an exception and of all those behind it."""
    said, seen = [], set()
    waiting = [error]
    while waiting:
        e = waiting.pop()
        if e is not None and id(e) not in seen:
            seen.add(id(e))
            said += [str(e), repr(e), *map(str, e.args)]
            waiting += [e.__cause__, e.__context__]
    return "\n".join(said)


def layer_of(connection: Connection, folder: Path, rules: RequestConfig = QUICK) -> CloudLayer:
    cache = BlobCache(folder, 10**8)
    return CloudLayer(connection.segmentation, 10, "labels", cache, rules, connection.login, connection.token)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("where", ["", "roots_binary", "tabular_change_log", "/info"])
def test_a_refused_token_names_the_server_and_the_way_to_one(
    home: Path, tmp_path: Path, truth: Truth, caplog: pytest.LogCaptureFixture, status: int, where: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with replay_server(FIXTURE, faults=Faults(force={where: status})) as server:
        keep_token(home, server.url)
        before = contents(home)
        with pytest.raises(ConnectomeBenchError) as caught:
            connection = connected(server.url)
            if where == "/info":
                layer_of(connection, tmp_path / "cache")
            elif where == "tabular_change_log":
                connection.graph.change_logs(truth.table["final_root"][:2].tolist())
            else:
                connection.graph.roots(truth.table["supervoxel_id"][:3], FINAL)
        assert sum(server.faulted.values()) <= 2
    message = str(caught.value)
    assert f"{server.url} answered {status}" in message
    assert f"CAVEclient.setup_token('{server.url}')" in message and "\n" not in message
    assert TOKEN not in everything_said(caught.value)
    assert TOKEN not in caplog.text
    assert contents(home) == before


def test_a_token_is_sent_to_its_server_and_told_to_nobody(
    home: Path, tmp_path: Path, truth: Truth, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    sent: dict[str, str | None] = {}
    with replay_server(FIXTURE, faults=Faults(rate=0.3, max_consecutive=1)) as server:
        keep_token(home, server.url)
        before = contents(home)
        server.http.RequestHandlerClass = listening(server.http.RequestHandlerClass, sent)
        connection = connected(server.url, SMALL)
        for ask in questions(truth):
            ask(connection.graph)
        layer = layer_of(connection, tmp_path / "cache", SMALL)
        layer.read((0, 0, 0), (70, 10, 10))
        assert sum(server.faulted.values()) > 5
    asked_of_graph = {path for path in sent if path.startswith("/segmentation/")}
    assert len(asked_of_graph) > 5
    assert {sent[path] for path in asked_of_graph} == {f"Bearer {TOKEN}"}
    assert connection.token == TOKEN
    assert TOKEN not in repr(connection)
    for said in (caplog.text, *capfd.readouterr()):
        assert TOKEN not in said
    for record in caplog.records:
        assert TOKEN not in repr(record.__dict__)
    assert contents(home) == before
    for name, data in contents(tmp_path / "cache").items():
        assert TOKEN.encode() not in (data or b""), name


def test_a_token_of_another_server_is_not_sent(home: Path, truth: Truth) -> None:
    keep_token(home, "http://another.example")
    sent: dict[str, str | None] = {}
    with replay_server(FIXTURE) as server:
        server.http.RequestHandlerClass = listening(server.http.RequestHandlerClass, sent)
        connection = connected(server.url)
        connection.graph.roots(truth.table["supervoxel_id"][:3], FINAL)
    assert connection.token is None
    assert sent and not any(TOKEN in (header or "") for header in sent.values())


def listening(handler: Any, sent: dict[str, str | None]) -> Any:
    class Listening(handler):
        def _serve(self) -> None:
            sent[self.path] = self.headers.get("Authorization")
            super()._serve()

    return Listening
