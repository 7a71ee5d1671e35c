"""The replayed server fails as it is told to, counts, waits, and runs as a program."""

from __future__ import annotations

import http.client
import runpy
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import replay_server as replay
import requests
from forked import forked
from graph_truth import FIXTURE
from replay_answers import API, INFO, Request
from replay_server import Faults, ReplayServer
from replay_volumes import layer_files


def statuses(server: ReplayServer, times: int, path: str = f"{API}/node/72057594037927937/root") -> list[int | str]:
    found: list[int | str] = []
    for _ in range(times):
        try:
            found.append(requests.get(server.url + path, timeout=10).status_code)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError):
            found.append("truncated")
    return found


def test_faults_follow_from_the_seed() -> None:
    runs = []
    for seed in (1, 1, 2):
        with replay.replay_server(FIXTURE, faults=Faults(rate=0.5, seed=seed)) as server:
            runs.append(statuses(server, 30))
            assert sum(server.faulted.values()) == sum(s != 200 for s in runs[-1])
    assert runs[0] == runs[1] != runs[2]
    assert {429, 500, "truncated", 200} == set(runs[0])


@pytest.mark.parametrize("most", [1, 3])
def test_faults_end(most: int) -> None:
    with replay.replay_server(FIXTURE, faults=Faults(rate=1.0, max_consecutive=most)) as server:
        found = statuses(server, 2 * (most + 1))
    assert [s == 200 for s in found] == 2 * ([False] * most + [True])


def test_rate_is_the_share_of_faults() -> None:
    with replay.replay_server(FIXTURE, faults=Faults(rate=0.2, kinds=("429",))) as server:
        path = "/segmentation/api/v1/table/x/{}"
        found = [server.count(Request("GET", path.format(i), (), b"")) for i in range(2000)]
    assert 340 < found.count("429") < 460  # three standard deviations round 400


def test_a_busy_server_says_when_to_come_back() -> None:
    with replay.replay_server(FIXTURE, faults=Faults(rate=1.0, kinds=("429",))) as server:
        answer = requests.get(server.url + INFO, timeout=10)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "0")


def test_truncated_bodies_are_truncated() -> None:
    faults = Faults(rate=1.0, kinds=("truncated",))
    with replay.replay_server(FIXTURE, faults=faults) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        connection.request("GET", INFO)
        answer = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        connection.close()
        announced = int(answer.headers["Content-Length"])
        assert len(caught.value.partial) == announced // 2
        # an empty body is cut as well
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.post(f"{server.url}{API}/roots_binary", timeout=10)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_status_can_be_forced_on_part_of_the_addresses(status: int) -> None:
    with replay.replay_server(FIXTURE, faults=Faults(force={"roots_binary": status})) as server:
        ids = np.asarray([72057594037927937], np.uint64).tobytes()
        for _ in range(5):
            assert requests.post(f"{server.url}{API}/roots_binary", data=ids, timeout=10).status_code == status
        assert requests.get(server.url + INFO, timeout=10).status_code == 200
        assert server.faulted == {str(status): 5}


# ------------------------------------------------------------------ counters, latency, program


def test_requests_are_counted_by_endpoint() -> None:
    layer_files("ws")  # which takes its time
    with replay.replay_server(FIXTURE) as server:
        requests.get(f"{server.url}{API}/node/288230376151712097/leaves", timeout=10)
        requests.get(f"{server.url}{API}/node/288230376151712415/leaves", timeout=10)
        requests.get(f"{server.url}/data/ws/info", timeout=10)
        assert (server.requests, server.endpoints) == (3, {"node/leaves": 2, "data/ws": 1})
        server.reset()
        assert (server.requests, dict(server.endpoints)) == (0, {})


def test_requests_wait_side_by_side() -> None:
    with replay.replay_server(FIXTURE, latency_s=0.2) as server, ThreadPoolExecutor(10) as pool:
        start = time.monotonic()
        answers = list(pool.map(lambda _: requests.get(server.url + INFO, timeout=10).status_code, range(10)))
        taken = time.monotonic() - start
    assert answers == [200] * 10
    assert 0.2 <= taken < 1.5  # two seconds one after another


def test_program_prints_its_address(server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fork, which has the volumes of the other server."""
    script, log = Path(replay.__file__), tmp_path / "log"
    monkeypatch.setattr(sys, "argv", [str(script), "--latency-ms", "1"])
    with forked(lambda: runpy.run_path(str(script), run_name="__main__"), log) as program:
        while not (printed := log.read_text()).endswith("\n"):
            assert program.is_alive(), printed
            time.sleep(0.02)
        url = printed.strip()
        assert url != server.url
        assert requests.get(url + INFO, timeout=10).status_code == 200
