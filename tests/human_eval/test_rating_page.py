"""A person's whole way: rate by keyboard in a real browser, be cut off without warning, go on, finish."""

from __future__ import annotations

import re
import time
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from chromium import chromium, needs_chromium
from forked import forked_command
from page_address import address

from connectomebench.cli import main
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.results import read_results

pytestmark = [needs_chromium, pytest.mark.usefixtures("gradio")]  # imported before the process is copied

READY = "document.querySelector('.page')?.ariaBusy === null"
PAUSE_S = 0.5


def wait_for(page, stage: str, progress: str) -> None:
    there = f"document.querySelector('.progress')?.textContent === '{progress}'"
    page.wait_for_function(f"document.querySelector('.page')?.dataset.stage === '{stage}' && {there} && {READY}")


def rate(page, *keys: str, then: str = "", stage: str = "work") -> None:
    for key in keys:
        page.keyboard.press(key)
    wait_for(page, stage, then)


def test_four_rows_by_keyboard_with_a_crash_between(rows: Rows, rated_dataset: Path, tmp_path: Path, capsys) -> None:
    words = ["human-eval", "--dataset", str(rated_dataset), "--species", "fly", "--rater", "ada", "--all"]
    words += ["--no-browser", "--out", str(tmp_path)]
    asked: list[str] = []
    replies: list = []
    bodies: list[bytes] = []

    def read_replies() -> None:
        # the redirect that takes the key out of the address has no body
        read = [reply for reply in replies if reply.request.resource_type in ("document", "fetch") and reply.ok]
        bodies.extend(reply.body() for reply in read)
        replies.clear()

    with (
        forked_command(words, tmp_path / "log") as process,
        open(tmp_path / "log") as printed,
        chromium() as browser,
    ):
        try:
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("response", lambda reply: replies.append(reply))
            reply = page.goto(address(printed.read))
            assert "default-src 'self'" in reply.headers["content-security-policy"]
            wait_for(page, "cover", "0 of 4 done")
            rate(page, "Enter", then="1 of 4")
            page.keyboard.press("5")  # how sure, before there is an answer: nothing happens
            assert page.locator("fieldset").nth(1).locator("button").first.is_disabled()
            rate(page, "n", "y", "4", then="2 of 4")  # an answer can be changed until then
            began = time.perf_counter()
            page.keyboard.press("p")
            page.wait_for_timeout(1000 * PAUSE_S)
            rate(page, "Enter", "n", "1", then="3 of 4")
            second_took = time.perf_counter() - began
            rate(page, "n", "2", then="4 of 4")
            rate(page, "Backspace", then="3 of 4")
            read_replies()
        finally:
            process.kill()
            process.join()

        capsys.readouterr()
        ended: Queue[int] = Queue()
        # a daemon, so that a failure below is no endless wait for a person
        Thread(target=lambda: ended.put(main(words)), daemon=True).start()
        page.goto(address(lambda: capsys.readouterr().out))
        wait_for(page, "cover", "2 of 4 done")
        assert "You have rated 2 of 4" in page.locator(".words").inner_text()
        rate(page, "Enter", then="3 of 4")
        rate(page, "y", "3", then="4 of 4")
        rate(page, "n", "5", then="4 of 4 done", stage="cover")
        read_replies()
        page.keyboard.press("Enter")
        assert ended.get(timeout=60) == 0

    said = capsys.readouterr().out
    assert re.search(r"person-ada on merge_action/fly/test: balanced accuracy 0\.\d+ \[.*n=4, 4 groups", said)
    frame = read_results(tmp_path)
    assert set(frame["condition"]) == {"default"}
    assert frame["prediction"].tolist() == ["yes", "no", "yes", "no"]
    assert frame["probability"].tolist() == pytest.approx([0.9, 0.5, 0.75, 0.01])
    assert (frame["latency_s"] > 0).all()
    assert frame["latency_s"][1] < second_took - PAUSE_S

    assert not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    assert sum(b"data:image/png" in body for body in bodies) >= 6
    hidden = [*rows.dataset["sample_id"], *rows.dataset["group"]]
    assert not [text for text in hidden for body in bodies if text.encode() in body]
