"""A stranger's whole way in a real browser: by keyboard, on every tab, small and large, light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from chromium import chromium, needs_chromium
from place_rows import EXTENT, NODES
from small_demo import REPLY, evaluated_rows

from connectomebench.demo.server import Demo
from connectomebench.models.node_probe import node_positions

pytestmark = needs_chromium
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

SAMPLE = "#cb-sample img"
VERDICT = "#cb-truth .cb-verdict"
LARGE, SMALL = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# what the queue sends is a stream, which only the page itself can keep
KEEP = """
window.told = [];
const parse = JSON.parse;
JSON.parse = (text, ...more) => { window.told.push(String(text)); return parse(text, ...more); };
"""


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """One browser for several visits, so that it loads scripts once."""
    with chromium() as browser:
        yield browser.new_context(viewport=LARGE, color_scheme="light")


@contextmanager
def opening(context: Any, demo: Demo) -> Iterator[Callable[..., Any]]:
    """Open the demo; afterwards nothing may have been asked of another server, and no script may have failed."""
    pages, foreign, failed = [], [], []

    def opened(viewport: dict[str, int] = LARGE, scheme: str = "light", script: str = "") -> Any:
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        page.set_default_timeout(30_000)
        page.add_init_script(script)
        page.on("request", lambda r: r.url.startswith((demo.url, "data:", "blob:")) or foreign.append(r.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("dialog", lambda dialog: (failed.append(dialog.message), dialog.dismiss()))
        page.goto(demo.address)
        page.wait_for_selector(SAMPLE)
        return page

    yield opened
    for page in pages:
        page.close()
    assert foreign == [] and failed == []


@pytest.fixture
def open_page(context: Any, demo: Demo) -> Iterator[Callable[..., Any]]:
    """Open the demo in pages of one test."""
    with opening(context, demo) as opened:
        yield opened


@pytest.fixture(scope="module", params=[LARGE, SMALL], ids=["large", "small"])
def page(request: pytest.FixtureRequest, context: Any, demo: Demo) -> Iterator[Any]:
    """One page of a size, which the tests of tasks and tabs walk through, in any order."""
    with opening(context, demo) as opened:
        yield opened(request.param)


only_large = pytest.mark.parametrize("page", [LARGE], ids=["large"], indirect=True)


def shown(page: Any) -> str:
    return page.get_attribute(SAMPLE, "src")


def wait_for_another(page: Any, before: str) -> None:
    page.wait_for_function(f"document.querySelector('{SAMPLE}')?.src !== {before!r}")
    page.wait_for_selector("#cb-answer-0:visible")


def open_tab(page: Any, name: str, there: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.wait_for_selector(there)


def choose(page: Any, label: str, option: str) -> None:
    """Choose in a list by typing: the list lies over the page, and stays behind where that moves."""
    field = page.get_by_label(label).first
    field.fill(option)
    page.get_by_role("option", name=option, exact=True).wait_for()
    field.press("Enter")


def choose_task(page: Any, name: str, there: str) -> None:
    open_tab(page, "Try it", SAMPLE)
    choose(page, "Task", name)
    page.wait_for_selector(there)


def serious(page: Any) -> list[str]:
    found = axe_api.Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in grave]


def test_two_samples_by_keys_alone(open_page) -> None:
    page = open_page()
    first = shown(page)
    assert page.is_visible("text=Are the blue and the orange piece parts of one neuron?")
    page.uncheck("#cb-keys input")  # a single key must not act where that was turned off
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("y")
    page.wait_for_timeout(200)
    assert not page.query_selector(VERDICT)
    page.check("#cb-keys input")
    page.keyboard.press("y")
    page.wait_for_selector(VERDICT)
    assert re.search(r"(Right|Not right)\. The answer is: (yes|no)\.", page.inner_text(VERDICT))
    page.wait_for_selector("#cb-score li")
    assert re.match(r"You: [01] of 1 right \(.*95% interval", page.inner_text("#cb-score li >> nth=0"))
    assert "as published: 29 of 31 right (94%, 95% interval 79% to 98%); 28 of 31" in page.inner_text("#cb-score")
    assert not page.is_visible("#cb-answer-0")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("n")  # the key of "no", and not that of the next sample
    page.wait_for_timeout(200)
    assert page.query_selector(VERDICT)
    page.keyboard.press("ArrowRight")
    wait_for_another(page, first)
    assert not page.query_selector(VERDICT)
    second = shown(page)
    page.keyboard.press("ArrowRight")
    wait_for_another(page, second)
    # the button that is pressed goes away: the next one has the focus, for those who go on with Tab and Enter
    page.focus("#cb-answer-1")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'cb-next'")
    assert " of 2 right" in page.inner_text("#cb-score li >> nth=0")


def test_the_answer_is_nowhere_before_one_is_given(open_page) -> None:
    page = open_page(script=KEEP)
    told = page.evaluate("window.told.join(' ')")
    assert "process_completed" in told and "data:image/png" in told
    sent = page.content() + told
    rows = evaluated_rows()
    secret = [row[name] for row in rows for name in ("sample_id", "group")]
    secret += [str(segment) for row in rows for segment in row["segment_ids"]]
    assert not [value for value in secret if value in sent] and "The answer is" not in sent
    names = page.eval_on_selector_all(SAMPLE, "all => all.map(one => one.src.slice(0, 22) + one.alt)")
    planes = {"Front": "xy", "Side": "yz", "Top": "xz"}
    assert names == [f"data:image/png;base64,{view} view, {plane} plane" for view, plane in planes.items()]
    page.keyboard.press("y")
    page.wait_for_selector(VERDICT)
    told = page.evaluate("window.told.join(' ')")
    assert "The answer is" in told and any(row["sample_id"] in told for row in rows)
    # words of a model are text, whatever they hold
    page.click("summary")
    assert page.inner_text(".cb-reply") == REPLY
    cells = page.inner_text("#cb-truth table")
    assert "organisation/talker-8b-instruct" in cells and "not stated" in cells and "a linear classifier" in cells
    assert re.search(r"0\.(10|90|20|30)", cells)


@pytest.mark.parametrize("size", [LARGE, SMALL], ids=["large", "small"])
def test_a_sample_turns_in_3d_and_the_truth_only_after_the_answer(open_page, size: dict[str, int]) -> None:
    page = open_page(viewport=size)
    # pictures come first, and nothing covers them
    boxes = [picture.bounding_box() for picture in page.locator(SAMPLE).all()]
    assert boxes[0]["y"] < 0.4 * size["height"]
    bar = page.locator("#cb-answers").bounding_box()
    first_row = [box for box in boxes if box["y"] == pytest.approx(boxes[0]["y"], abs=2)]
    assert all(box["y"] + box["height"] <= bar["y"] for box in first_row)
    page.click("#cb-turn")
    page.wait_for_selector(".cb-3d canvas[data-view=front]", timeout=60_000)
    names = [button.inner_text() for button in page.query_selector_all(".viewer-bar button")]
    assert names == ["front", "side", "top", "segment", "candidate"]
    assert "body" not in page.inner_text("#cb-scene") and page.inner_text("#cb-turn") == "Turn it in 3D"
    assert not [one for one in ("31", "32") if f"body {one}" in page.content()]
    page.keyboard.press("y")
    page.wait_for_selector(VERDICT)
    page.wait_for_selector(".cb-3d", state="detached")
    page.click("#cb-turn")
    page.wait_for_selector(".cb-3d canvas[data-view=front]", timeout=60_000)
    pressed = [button.get_attribute("aria-pressed") for button in page.query_selector_all(".viewer-bar button")]
    # both bodies are shown, both segments wait
    assert pressed == ["true", "false", "false", "true", "true", "false", "false"]
    assert page.inner_text(".cb-3d figcaption").startswith("They are two neurons. A wider cube")
    box = page.locator(".cb-3d canvas").bounding_box()
    assert box["width"] > 250 and box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
    before = shown(page)
    page.click("#cb-next")
    wait_for_another(page, before)
    assert not page.query_selector(".cb-3d")
    # other tasks have no scenes here
    choose(page, "Task", "Split error identification")
    page.wait_for_selector("#cb-turn", state="hidden")


def click_in_picture(page: Any, view: int, node: int) -> None:
    """Click beside a node, where it is drawn."""
    canvas = page.locator("#cb-sample .cb-canvas").nth(view)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = node_positions(np.array([NODES[node - 1]]), EXTENT, ("front", "side", "top")[view])[0]
    page.mouse.click(box["x"] + x * box["width"] + 4, box["y"] + y * box["height"] - 3)


def test_places_are_chosen_in_pictures_and_list_or_typed(page) -> None:
    choose_task(page, "Split error localization", ".cb-places[data-nodes]")
    field = page.get_by_label("Your answer")
    click_in_picture(page, 0, 1)
    assert field.input_value() == "node 1"
    click_in_picture(page, 1, 2)  # of one place the last choice counts
    assert field.input_value() == "node 2" and page.locator(".cb-marks circle").count() == 3
    assert page.locator('.cb-node[aria-pressed="true"]').inner_text().startswith("2")
    field.fill("520, -450, 300")
    assert page.locator(".cb-marks circle").count() == 3  # what is typed is shown, too
    field.press("Enter")
    page.wait_for_selector(VERDICT)
    assert "Score 1.00 of 1. The right place is (520, -450, 300) nm, nearest to node 2" in page.inner_text(VERDICT)
    assert page.locator("circle.cb-mark-true").count() == 3 and not page.is_visible("#cb-typed")
    assert "mean score 1.00; 1 of 1 right" in page.inner_text("#cb-score")
    assert serious(page) == []
    choose_task(page, "Split proposal", "text=a node on either side of the cut")
    page.click('.cb-node[data-node="3"]')
    sync_api.expect(field).to_have_value("node 3")
    page.focus('.cb-node[data-node="2"]')
    page.keyboard.press("Enter")
    sync_api.expect(field).to_have_value("node 3; node 2")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert serious(page) == []
    page.click("#cb-give")
    page.wait_for_selector(VERDICT)
    assert "Score 1.00" in page.inner_text(VERDICT)
    before = shown(page)
    page.click("#cb-next")
    page.wait_for_function(f"document.querySelector('{SAMPLE}')?.src !== {before!r}")
    page.wait_for_selector(".cb-places[data-nodes]")
    assert field.input_value() == ""
    field.fill("node 9; node 2")
    page.click("#cb-give")
    page.wait_for_selector("text=there is no such node here; they have the numbers 1 to 4")
    assert not page.query_selector(VERDICT)
    page.click(".toast-close")
    page.wait_for_selector(".toast-close", state="detached")
    page.click(".cb-enlarge")
    page.wait_for_selector("dialog[open] img")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")


@only_large
def test_masks_are_drawn_as_loops(page) -> None:
    choose_task(page, "Split mask generation", ".cb-loops")
    assert not page.is_visible("#cb-typed") and serious(page) == []
    page.click("#cb-give")
    page.wait_for_selector("text=draw a loop round the part")
    canvas = page.locator("#cb-sample .cb-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    corners = [(0.02, 0.02), (0.95, 0.02), (0.95, 0.2), (0.02, 0.2)]
    for _ in range(2):
        page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
        page.mouse.down()
        for x, y in corners[1:]:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        page.mouse.up()
    assert page.locator(".cb-loop").count() == 2
    page.click(".cb-undo")
    assert page.locator(".cb-loop").count() == 1
    page.click("#cb-give")
    page.wait_for_selector(VERDICT)
    assert "of 1, over both parts" in page.inner_text(VERDICT)
    assert page.locator("#cb-sample img").count() == 6


@only_large
def test_slices_stand_below_their_views_and_pictures_are_enlarged_by_keys(page) -> None:
    choose_task(page, "Split error identification", ".cb-plane:nth-child(3) .cb-view:nth-child(2)")
    assert page.is_visible("text=Simulated: the image data of these samples")
    box = "(e => { const b = e.getBoundingClientRect(); return [Math.round(b.left), Math.round(b.width), b.top]; })"
    figures = f"[...document.querySelectorAll('.cb-plane')].map(c => [...c.querySelectorAll('img')].map({box}))"
    for view, cut in page.evaluate(figures):
        assert view[:2] == cut[:2] and view[2] + view[1] < cut[2]
    page.focus(".cb-zoom")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] img")
    width = "document.querySelector('dialog img').getBoundingClientRect().width"
    before = page.evaluate(width)
    page.keyboard.press("+")
    assert page.evaluate(width) == pytest.approx(1.5 * before)
    page.keyboard.press("y")  # answers nothing while the picture is large
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert not page.query_selector(VERDICT)


@only_large
def test_explore_filters_and_shows_all_of_a_sample(page) -> None:
    open_tab(page, "Explore", ".cb-tile")
    assert "of 4." in page.inner_text("#cb-count")
    choose(page, "Models", "all models wrong")
    page.wait_for_function("document.querySelectorAll('.cb-tile').length === 1")
    row = evaluated_rows()[3]
    page.click(".cb-tile")
    page.wait_for_selector("#cb-detail img")
    hidden = page.inner_text("#cb-detail")
    assert row["sample_id"] in hidden and "hidden" in hidden and str(row["segment_ids"][0]) not in hidden
    assert page.inner_text(".cb-tile") == "answer hidden\ntest"
    page.check("#cb-answers-shown input")
    page.wait_for_selector(".cb-tile:has-text('answer yes')")
    page.focus(".cb-tile")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cb-detail table")
    told = page.inner_text("#cb-detail")
    assert row["sample_id"] in told and str(row["segment_ids"][0]) in told and "cc-by-4.0" in told
    assert "Neuroglancer" not in told


@pytest.mark.parametrize(("viewport", "scheme"), [(LARGE, "dark"), (SMALL, "light")])
def test_every_tab_can_be_used_by_all_and_fits(open_page, viewport: dict[str, int], scheme: str) -> None:
    page = open_page(viewport, scheme)
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")

    def check() -> None:
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]

    page.keyboard.press("y")
    page.wait_for_selector("#cb-score li")
    check()
    open_tab(page, "Explore", ".cb-tile")
    page.check("#cb-answers-shown input")
    page.wait_for_selector(".cb-tile:has-text('answer yes')")
    page.click(".cb-tile")
    page.wait_for_selector("#cb-detail table")
    check()
    open_tab(page, "Compare", "#cb-comparison svg")
    assert "0.75" in page.inner_text("#cb-comparison table >> nth=0")
    check()
