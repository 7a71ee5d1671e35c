"""Very many ask at once: some wait, the others are asked to come back, and nobody else notices."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import islice
from pathlib import Path

import httpx
import pytest
from test_ask_tab import served, visit

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo import ask_tab
from connectomebench.demo.ask_line import AT_ONCE, WAITING, AskLine

ASKS = 4 * (AT_ONCE + WAITING)


def test_the_line_is_as_long_as_it_says_and_empties() -> None:
    gate, running, most = threading.Event(), 0, 0
    lock = threading.Lock()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(60)
        with lock:
            running -= 1
        return "said"

    async def crowd(line: AskLine) -> tuple[list[object], object]:
        asked = [asyncio.create_task(line.run(work)) for _ in range(20)]
        until = time.monotonic() + 60
        while most < 2 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        refused = [one for one in asked if one.done()]
        assert len(refused) == 20 - 5
        gate.set()
        return await asyncio.gather(*asked, return_exceptions=True), await line.run(lambda: "later")

    said, later = asyncio.run(crowd(AskLine(2, 3)))
    assert said.count("said") == 5 and later == "later" and most == 2
    assert all("ask again in a minute" in str(one) for one in said if one != "said")


def test_a_failure_and_a_visitor_who_left_free_their_places() -> None:
    def fail() -> None:
        raise ConnectomeBenchError("no")

    async def leave(line: AskLine) -> str:
        for _ in range(5):
            with pytest.raises(ConnectomeBenchError, match=r"^no$"):
                await line.run(fail)
            gone = asyncio.create_task(line.run(lambda: "x"))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await free(line)
        return await line.run(lambda: "there")

    async def free(line: AskLine) -> None:
        """Wait until what the visitor left behind has ended."""
        while True:
            with suppress(ConnectomeBenchError):
                return await line.run(lambda: None)
            await asyncio.sleep(0.01)

    assert asyncio.run(leave(AskLine(1, 0))) == "there"


def test_very_many_asks_at_once_leave_the_page_to_the_others(
    asked_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), []

    def slow(*_: object) -> None:
        entered.append(1)
        gate.wait(120)
        raise ConnectomeBenchError("no place")

    monkeypatch.setattr(ask_tab, "_views_of", slow)
    with served(asked_folder, tmp_path, (60, 600)) as running, visit(running) as client:
        config = client.get("config").json()
        ids = {one["props"].get("elem_id"): one["id"] for one in config["components"]}

        def event(button: str) -> int:
            return next(d["id"] for d in config["dependencies"] if [ids[button], "click"] in map(list, d["targets"]))

        asked = config["dependencies"][[d["id"] for d in config["dependencies"]].index(event("cb-ask-go"))]
        values = ["merge_action", "Meshes", "1", 5.0, "", None, "", *([None] * (len(asked["inputs"]) - 7))]

        def join(number: int, button: str, data: list[object]) -> httpx.Response:
            call = {"data": data, "fn_index": event(button), "session_hash": f"s{number}", "trigger_id": ids[button]}
            return client.post("gradio_api/queue/join", json=call)

        def told(number: int) -> str:
            with client.stream("GET", "gradio_api/queue/data", params={"session_hash": f"s{number}"}) as stream:
                return next(line for line in stream.iter_lines() if "process_completed" in line)

        assert [join(number, "cb-ask-go", values).status_code for number in range(ASKS)] == [200] * ASKS
        # the last are refused at once, while the first wait
        assert "ask again in a minute" in told(ASKS - 1)
        until = time.monotonic() + 60
        while len(entered) < AT_ONCE and time.monotonic() < until:
            time.sleep(0.02)
        assert len(entered) == AT_ONCE
        # another visitor answers a sample meanwhile
        assert join(ASKS, "cb-answer-0", [None]).status_code == 200
        assert "reload it" in told(ASKS)
        # Gradio starts asks that come together in any order: the line opens when all but its places were refused
        with ThreadPoolExecutor(ASKS) as visitors:
            answers = [visitors.submit(told, number) for number in range(ASKS - 1)]
            refusals = islice(as_completed(answers, timeout=60), ASKS - 1 - AT_ONCE - WAITING)
            assert all("ask again in a minute" in one.result() for one in refusals)
            assert len(entered) == AT_ONCE
            gate.set()
        assert sum("No place" in one.result() for one in answers) == AT_ONCE + WAITING
