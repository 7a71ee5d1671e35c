"""Two people review at once in a real browser, the program is killed, they go on, and the files hold all of it."""

from __future__ import annotations

import json
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from chromium import chromium
from forked import forked_command
from page_address import address
from small_review import QUEUE, write_small_review

from connectomebench.cli import main
from connectomebench.proofreading.edit_log import read_edits, replay
from connectomebench.proofreading.graph_files import read_supervoxels
from connectomebench.proofreading.segmentation_graph import SegmentationGraph

A, B, C, D = (edit.edit_id for edit in QUEUE)


def ready(page, stage: str, edit_id: str | None = None) -> None:
    there = f"&& document.querySelector('.page').dataset.edit === '{edit_id}'" if edit_id else ""
    page.wait_for_function(
        f"document.querySelector('.page')?.dataset.stage === '{stage}' && document.querySelector('.page').ariaBusy "
        f"=== null {there}"
    )


def test_two_people_at_once_a_kill_and_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("gradio", reason="needs gradio")
    out = write_small_review(tmp_path / "out")
    asked: list[str] = []
    words = ["review", str(out), "--no-browser"]
    log = tmp_path / "log"
    with forked_command(words, log) as process, open(log) as printed, chromium() as browser:
        contexts = [
            browser.new_context(viewport={"width": 1280, "height": 800}),
            browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True),
        ]
        ada, bob = (context.new_page() for context in contexts)
        url = address(printed.read)
        try:
            for page, name in ((ada, "ada"), (bob, "bob")):
                page.set_default_timeout(60_000)
                page.on("request", lambda request: asked.append(request.url))
                page.goto(url)
                ready(page, "cover")
                page.keyboard.press("Enter")
                assert "Give a name" in page.locator(".wrong").inner_text()
                page.fill(".who input", name)
                page.keyboard.press("Enter")
            # the most valuable edit is A; who came second gets the next
            ready(ada, "work", A)
            ready(bob, "work", B)
            ada.wait_for_function("document.querySelector('canvas')?.dataset.view === 'front'")
            state = ada.evaluate("document.querySelector('.page').viewer.state()")
            assert [part["segment"] for part in state["parts"]] == ["3", "4"] and state["planes"] == 1
            ada.keyboard.press("2")
            ada.wait_for_function("document.querySelector('canvas').dataset.view === 'side'")
            assert ada.locator("figure").count() == 4
            assert "not shown to the model" in ada.locator("figcaption").nth(1).inner_text()
            assert "%" not in ada.locator(".work").inner_text()  # no hint of the model's answer before the decision
            ada.keyboard.press("a")
            ready(ada, "work", D)  # A united 3 and 4, so D is worth more than C now
            assert "accepted; the model said 70%" in ada.locator(".last").inner_text()
            bob.locator(".reject").click()
            ready(bob, "work", C)
            assert "kappa with the model" in bob.locator(".kappa").inner_text()
            assert bob.locator(".facts b").count() == 0 and ada.locator(".facts b").count() == 1
            picture = bob.locator("figure img").first.bounding_box()
            assert picture["y"] < 300 and picture["width"] > 100  # on a phone the picture comes first
            bob.keyboard.press("Backspace")
            ready(bob, "work", B)
            bob.keyboard.press("r")
            ready(bob, "work", C)
        finally:
            process.kill()
            process.join()
        lines = (out / "review/decisions.jsonl").read_text().splitlines()
        assert [json.loads(line)["action"] for line in lines if '"open"' not in line] == [
            "accept", "reject", "undo", "reject",
        ]  # fmt: skip

        ended: Queue[int] = Queue()
        # a daemon, so that a failure below is no endless wait for a person
        Thread(target=lambda: ended.put(main(words)), daemon=True).start()
        said = ""

        def told() -> str:
            nonlocal said
            said += (new := capsys.readouterr().out)
            return new

        url = address(told)
        ada.goto(url)
        ready(ada, "cover")
        ada.fill(".who input", "ada")
        ada.keyboard.press("Enter")
        ready(ada, "work", D)
        assert ada.locator(".progress").inner_text() == "2 of 4 decided, 1 accepted"
        ada.keyboard.press("s")
        ready(ada, "work", C)
        ada.keyboard.press("a")
        ready(ada, "cover")
        assert "the 1 that you skipped" in ada.locator(".words").inner_text()
        ada.keyboard.press("Enter")
        ready(ada, "work", D)
        ada.keyboard.press("r")
        ready(ada, "cover")
        root = url.split("?")[0]
        for path in ("evidence/../edits.jsonl", "evidence/a/..%2F..%2Frun.json", "evidence/a/none.png", "viewer/x"):
            assert ada.request.get(root + path).status == 404, path
        assert contexts[1].request.get(root + "evidence/a/front.png").status == 401  # the key is a new one
        ada.get_by_role("button", name="Finish").click()
        assert ended.get(timeout=120) == 0
    told()
    assert "2 accepted, 2 rejected, 0 left of 4; 0 could not be applied; kappa with the model" in said
    edits = read_edits(out / "review/edits.jsonl")
    assert [edit.edit_id for edit in edits] == [A, C]
    replay(SegmentationGraph(read_supervoxels(out)), edits)
    summary = json.loads((out / "review/summary.json").read_text())
    assert summary["reviewers"]["ada"]["decisions"] == 3 and summary["reviewers"]["bob"]["decisions"] == 1
    assert 0 < summary["median_seconds"] < 1000  # not milliseconds
    assert not [one for one in asked if not one.startswith(("http://127.0.0.1:", "data:", "blob:"))]


def test_export_writes_without_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = write_small_review(tmp_path, pictures=False)
    assert main(["review", str(out), "--export"]) == 0
    assert "0 accepted, 0 rejected, 4 left of 4" in capsys.readouterr().out
    assert (out / "review/mapping.parquet").exists()
    assert main(["review", str(out / "nothing"), "--export"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "must be the folder of a finished connectomebench proofread" in said
    assert not (out / "nothing").exists()
    assert main(["review", str(out), "--reviewer", "a b", "--export"]) == 2
