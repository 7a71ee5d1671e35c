"""Draw masks in a real browser, and choose among the candidates of a row."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
from chromium import chromium, needs_chromium
from datasets import Dataset
from mask_rows import TASK, row
from page_address import address
from PIL import Image
from stored_rows import row as choice_row
from test_rating_page import wait_for

from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN, decode_masks, read_mask
from connectomebench.core.tasks import MESH_VIEWS, get_task
from connectomebench.dataset.rows import DataRecord, Rows
from connectomebench.dataset.schema import features
from connectomebench.evaluation.mask_scores import score_masks
from connectomebench.evaluation.results import read_results, summarise
from connectomebench.human_eval.app import AppPage
from connectomebench.human_eval.rating import Rater, rate, summary_line

pytestmark = [needs_chromium, pytest.mark.usefixtures("gradio")]

CHOICES = "merge_action_multiple_choice"


def table(task: str, rows: list[dict[str, Any]]) -> Rows:
    source = {"name": "bars", "version": "1", "license": "cc0-1.0", "citation": ""}
    data = DataRecord(task, "fly", "test", None, None, "f" * 32, {"any": len(rows)}, source)
    return Rows(Dataset.from_list(rows, features=features(get_task(task))), data)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def served(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Open the rating page of some rows; gives the page and a queue with the file of records."""
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:

        def serve(rows: Rows) -> tuple[Any, Queue[Path]]:
            ended: Queue[Path] = Queue()
            work = lambda: ended.put(rate(rows, Rater("ada"), tmp_path, AppPage(browser=False)))  # noqa: E731
            Thread(target=work, daemon=True).start()
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(address(lambda: capsys.readouterr().out))
            return page, ended

        yield serve


def draw(page: Any, view: str, corners: list[tuple[float, float]]) -> None:
    """Draw a loop with the mouse; corners are shares of the picture."""
    box = page.locator(f".loops[data-view={view}]").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of the part taken away, shares of the picture."""
    rows, columns = np.nonzero(mask == TAKEN)
    height, width = mask.shape
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def test_masks_are_drawn_and_scored_like_those_of_a_model(served: Any) -> None:
    rows = table(TASK, [row(1), row(2)])
    page, ended = served(rows)
    wait_for(page, "cover", "0 of 2 done")
    assert "draw a loop" in page.locator(".words").inner_text()
    page.keyboard.press("Enter")
    for number in (1, 2):
        wait_for(page, "work", f"{number} of 2")
        assert page.locator(".done-loops").is_disabled()
        page.mouse.click(*[page.locator(".loops").first.bounding_box()[side] + 20 for side in ("x", "y")])
        assert page.locator(".loops path").count() == 0  # a click is no loop
        if number == 1:
            draw(page, "side", [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)])
            page.keyboard.press("z")
            assert page.locator(".loops path").count() == 0
            page.keyboard.press("3")  # how sure, before anything is drawn: nothing happens
        shown = shown_row(page, rows)
        for view, target in zip(MESH_VIEWS, rows.dataset[shown]["target_images"], strict=True):
            left, upper, right, lower = box_of(read_mask(target))
            draw(page, view, [(left, upper), (right, upper), (right, lower), (left, lower)])
        assert page.locator(".loops path").count() == 3
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('.done-loops').getAttribute('aria-pressed') === 'true'")
        page.keyboard.press("4")
    wait_for(page, "cover", "2 of 2 done")
    page.keyboard.press("Enter")
    path = ended.get(timeout=60)

    frame = read_results(path)
    stored = {one["sample_id"]: one for one in rows.dataset}
    scores = []
    for sample, said in zip(frame["sample_id"], frame["prediction"], strict=True):
        truth = {v: read_mask(m) for v, m in zip(MESH_VIEWS, stored[sample]["target_images"], strict=True)}
        found = decode_masks(said)
        for view, mask in found.items():
            np.testing.assert_array_equal(mask != NOTHING, truth[view] != NOTHING)
            assert np.mean(mask[truth[view] == TAKEN] == TAKEN) > 0.9
            assert np.mean(mask[truth[view] == STAYS] == STAYS) > 0.8
        scores.append(score_masks(found, truth).miou)
    [summary] = summarise(frame)
    assert summary.estimates["miou"].value == pytest.approx(np.mean(scores)) and min(scores) > 0.7
    assert frame["probability"].isna().all() and (frame["latency_s"] > 0).all()
    assert "mean IoU of both parts" in summary_line(path)


def shown_row(page: Any, rows: Rows) -> int:
    """Find the row whose first picture the page shows."""
    source = page.locator(".pictures img").first.get_attribute("src")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        pixels = np.asarray(picture)
    [number] = [i for i, one in enumerate(rows.dataset) if np.array_equal(np.asarray(one["images"][0]), pixels)]
    return number


def test_only_the_candidates_of_the_row_are_offered(served: Any) -> None:
    task = get_task(CHOICES)
    whole = choice_row(1, "b", CHOICES)
    few = whole | {"sample_id": "0" * 16, "views": list(task.views_of(2)), "images": whole["images"][:6]}
    few |= {"segment_ids": [1, 2, 3], "body_ids": [1], "choices": [2, 3]}
    page, ended = served(table(CHOICES, [few]))
    wait_for(page, "cover", "0 of 1 done")
    page.keyboard.press("Enter")
    wait_for(page, "work", "1 of 1")
    answers, sure = (page.locator("fieldset").nth(step) for step in (0, 1))
    assert answers.locator("button").all_inner_texts() == ["a", "b", "nonen"]  # with the key n
    page.keyboard.press("d")
    assert sure.locator("button").first.is_disabled()
    page.keyboard.press("b")
    page.keyboard.press("1")
    wait_for(page, "cover", "1 of 1 done")
    page.keyboard.press("Enter")
    frame = read_results(ended.get(timeout=60))
    assert frame["prediction"].tolist() == ["b"]
    assert frame["probability"].tolist() == pytest.approx([1 / 3])
