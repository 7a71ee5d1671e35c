"""The edits of a proofreading in a real browser: ranked, with their evidence, and the way to their review."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from small_demo import free_port
from small_review import APPLIED, QUEUE, expected_gain, write_small_review

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.app_data import open_content
from connectomebench.proofreading.edit_log import read_edits
from connectomebench.review.edit_evidence import find_evidence
from connectomebench.review.review_session import ReviewSession

A, B, C, D = (edit.edit_id for edit in QUEUE)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that merged 1 and 2, which settles C; B was rejected by Ada."""
    folder = write_small_review(tmp_path_factory.mktemp("edits") / "out", applied=(APPLIED,))
    assert ReviewSession(folder).decide("ada", B, "reject", 1.0)
    return folder


@pytest.fixture
def address(out: Path) -> Iterator[str]:
    from connectomebench.demo.server import serve

    running = serve(None, "127.0.0.1", free_port(), wait=False, edits=out)
    yield running.address
    running.close()


def told(page: Any) -> list[str]:
    return [row.inner_text().replace("\n", " ") for row in page.query_selector_all(".cb-edit")]


def test_edits_are_ranked_shown_and_reviewed(address: str, out: Path):
    axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    gains = {
        "Merge waits for a decision 70% sure": expected_gain(0.7, 240, 600),
        "Merge applied by the run 95% sure": expected_gain(0.95, 200, 160),
        "Merge waits for a decision 30% sure": expected_gain(0.3, 360, 240),  # the run merged 1 and 2 before
        "Split rejected by ada 60% sure": expected_gain(0.6, 120, 120),
        "Merge settled by other edits 40% sure": expected_gain(0.4, 200, 160),
    }
    ranked = sorted(gains.items(), key=lambda item: -item[1])
    expected = [f"{rank}. {text} · {gain:.2g} bits" for rank, (text, gain) in enumerate(ranked, 1)]
    foreign, failed = [], []
    with chromium() as browser:
        for viewport in ({"width": 1440, "height": 900}, {"width": 390, "height": 844}):
            phone = viewport["width"] < 600
            context = browser.new_context(viewport=viewport, has_touch=phone)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("request", lambda r: r.url.startswith(("http://127.0.0.1:", "data:", "blob:")) or foreign.append(r))
            page.on("pageerror", lambda error: failed.append(str(error)))
            page.goto(address)
            page.wait_for_selector(".cb-3d canvas[data-view=front]", timeout=60_000)
            assert [tab.inner_text() for tab in page.get_by_role("tab").all()] == ["Edits"]
            assert told(page) == expected
            # the first is shown: what the model saw, a slice that it did not see, all of it in 3D
            captions = [one.inner_text() for one in page.query_selector_all("#cb-edit .cb-view figcaption")]
            assert captions[0].startswith("front") and captions[1].endswith("not shown to the model")
            buttons = [one.inner_text() for one in page.query_selector_all(".viewer-bar button")]
            assert buttons == ["front", "side", "top", "segment", "candidate", "slices"]
            boxes = [page.locator(at).first.bounding_box() for at in (".cb-edit img", ".cb-3d canvas")]
            assert boxes[0]["y"] < 0.6 * viewport["height"]
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= viewport["width"] for box in boxes)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            found = axe_api.Axe().run(page).response["violations"]
            assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
            page.click(f".cb-edit[data-edit='{B}']")
            page.wait_for_selector("#cb-edit h2:has-text('Split of one object into two')")
            page.wait_for_function("document.querySelector('#cb-edit h2').getBoundingClientRect().bottom < innerHeight")
            assert page.inner_text("#cb-edit h2 + p") == "Rejected by ada."
            assert page.inner_text(".cb-edit[aria-current]").startswith(f"{expected.index(expected[-2]) + 1}.")
            if phone:
                continue
            page.get_by_label("Show").first.click()
            page.get_by_role("option", name="waiting for a decision").click()
            page.wait_for_function("document.querySelectorAll('.cb-edit').length === 2")
            assert told(page) == [expected[0], expected[2]]
            with context.expect_page() as opened:
                page.get_by_role("link", name="Review the 2 that wait").click()
            review = opened.value
            review.wait_for_selector(".page[data-stage=cover]")
            assert review.title() == "Review of proposed edits"
            review.fill(".who input", "bob")
            review.keyboard.press("Enter")
            review.wait_for_selector(f".page[data-stage=work][data-edit='{A}']")
            review.wait_for_function("document.querySelector('canvas')?.dataset.view === 'front'")
            assert "%" not in review.locator(".work").inner_text()
            review.keyboard.press("a")
            review.wait_for_selector(f".page[data-edit='{D}']:not([aria-busy])")
            review.get_by_role("button", name="Stop").click()
            review.get_by_role("button", name="Finish").click()
            review.wait_for_selector("text=Edits and summary are written")
            assert [edit.edit_id for edit in read_edits(out / "review/edits.jsonl")] == [APPLIED.edit_id, A]
            page.reload()
            page.wait_for_selector(".cb-edit:has-text('accepted by bob')")
            assert ReviewSession(out).read(lambda state: state.decided()) == {B: "reject", A: "accept"}
            assert ReviewSession(out).decide("bob", A, "reject", 0.0) is False
            assert ReviewSession(out).undo("bob") is not None
            context.close()
    assert foreign == [] and failed == []


def test_evidence_lies_in_its_folder(out: Path):
    from dataclasses import replace

    kept = find_evidence(out, QUEUE[0])
    assert kept is not None and kept.views == ("front", "side", "top", "em_xy") and kept.extent_nm == 500
    for path in (
        "evidence/../edits.jsonl/x.png",
        "../evidence/a/front.png",
        "/etc/front.png",
        "evidence/a/b/front.png",
    ):
        assert find_evidence(out, replace(QUEUE[0], evidence=(path,))) is None, path
    assert find_evidence(out, replace(QUEUE[0], evidence=())) is None


def test_without_a_proofreading_it_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--edits", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "must be the folder of a finished connectomebench proofread" in said
    with pytest.raises(ConnectomeBenchError, match="nothing to show"):
        open_content(None)


def test_a_run_without_a_queue_shows_its_edits(tmp_path: Path):
    folder = write_small_review(tmp_path, pictures=False, applied=(APPLIED,))
    (folder / "queue.jsonl").write_text("")
    content = open_content(None, folder)
    assert content.edits is not None and [edit.edit_id for edit in content.edits.edits] == [APPLIED.edit_id]
