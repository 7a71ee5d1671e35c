"""A person looks around at a place in a real browser, and is scored against the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from chromium import chromium
from small_demo import free_port
from small_places import write_places

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")


def test_a_person_looks_around(tmp_path: Path):
    from connectomebench.demo.server import serve

    write_places(tmp_path / "data")
    running = serve(tmp_path / "data", "127.0.0.1", free_port(), wait=False)
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(60_000)
            failed: list[str] = []
            page.on("pageerror", lambda error: failed.append(str(error)))
            page.goto(running.address)
            page.wait_for_selector("#cb-sample img")
            page.get_by_role("tab", name="Look around").click()
            state, picture = page.locator("#cb-look-state"), page.locator("#cb-look-picture img")
            sync_api.expect(state).to_contain_text("Views so far: 0, spent: 0.00")
            first = picture.get_attribute("src")
            page.locator("#cb-look-side").click()
            sync_api.expect(state).to_contain_text("Views so far: 1, spent: 0.01")
            assert picture.get_attribute("src") != first
            page.locator("#cb-look-em_xy").click()
            sync_api.expect(state).to_contain_text("spent: 0.03")
            page.locator("#cb-look-em_xy").click()  # seen already
            page.get_by_text("nothing was charged").wait_for()
            sync_api.expect(state).to_contain_text("spent: 0.03")
            # picture and buttons beside each other
            boxes = [page.locator(at).bounding_box() for at in ("#cb-look-picture img", "#cb-look-previous_page")]
            assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"] and boxes[1]["y"] + boxes[1]["height"] < 900
            page.locator("#cb-look-answer-0").click()
            sync_api.expect(state).to_contain_text(re.compile(r"The answer is: (yes|no)\."))
            earned = re.search(r"You earned (-?\d\.\d\d) with 2 views", state.inner_text())
            right = "✓" in state.inner_text()
            assert earned is not None and float(earned[1]) == pytest.approx(0.97 if right else -0.03)
            assert not page.locator("#cb-look-answer-0").is_visible() and not failed
            assert not page.locator("#cb-look-side").is_visible()
            page.locator("#cb-look-next").click()
            sync_api.expect(state).to_contain_text("Views so far: 0")
            page.close()

            page = browser.new_page(viewport={"width": 390, "height": 844})
            page.set_default_timeout(60_000)
            page.goto(running.address)
            page.wait_for_selector("#cb-sample img")
            # every tab is in sight, none in a menu
            page.get_by_role("tab", name="Look around").click()
            state, picture = page.locator("#cb-look-state"), page.locator("#cb-look-picture img")
            sync_api.expect(state).to_contain_text("Views so far: 0")
            page.locator("#cb-look-next_page").scroll_into_view_if_needed()
            page.locator("#cb-look-em_xy").click()
            sync_api.expect(state).to_contain_text("spent: 0.02")
            # what a button shows is seen without scrolling back
            box = picture.bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] < page.locator("#cb-look-em_xy").bounding_box()["y"]
            page.locator("#cb-look-answer-0").click()
            sync_api.expect(state.locator(".cb-verdict")).to_be_in_viewport(ratio=1)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        running.close()
