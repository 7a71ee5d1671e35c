"""A person's whole way: rate by keyboard in a real browser, be cut off without warning, go on, finish."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest

from connectomebench.cli import main
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.results import read_results

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium in /usr/bin")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

READY = "document.querySelector('.page')?.ariaBusy === null"
PAUSE_S = 0.5


def address(told: Callable[[], str]) -> str:
    """Wait for the address of the page among what the command prints."""
    text = ""
    for _ in range(600):
        text += told()
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?key=[\w-]+", text):
            return found.group()
        time.sleep(0.05)
    raise AssertionError(text)


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

    command = [sys.executable, "-m", "connectomebench", *words]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        sync_api.sync_playwright() as playwright,
    ):
        try:
            # needed below; imported while the process starts
            pytest.importorskip("gradio", reason="needs gradio")
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(15_000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("response", lambda reply: replies.append(reply))
            assert process.stdout is not None
            reply = page.goto(address(process.stdout.readline))
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
            process.send_signal(signal.SIGKILL)
            process.wait()

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
        assert ended.get(timeout=20) == 0
        browser.close()

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
