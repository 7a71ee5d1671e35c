"""The report page of tasks that are scored by place and by mask."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import html
from mask_rows import row as mask_row
from PIL import Image
from report_run import SPECIES
from scored_run import MASKS, PLACES, SIZES, write_scored_run

from connectomebench.core.part_masks import TAKEN, read_mask
from connectomebench.evaluation.results import compare, read_results, summarise
from connectomebench.quickstart import report


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scored_run(tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def page(scored: Path) -> Any:
    return html.fromstring(report(scored).read_text(encoding="utf-8"))


def words(element: Any) -> str:
    return " ".join(element.text_content().split())


@pytest.mark.parametrize(
    ("task", "models", "metrics"),
    [
        (PLACES, ("probe", "random_node", "lonely_node"), ("place_score", "hit_rate")),
        (MASKS, ("mask_unet", "plane", "watershed"), ("miou", "iou")),
    ],
)
def test_numbers_are_those_of_the_records(
    scored: Path, page: Any, task: str, models: tuple[str, ...], metrics: tuple[str, ...]
) -> None:
    records = read_results(scored / "results")
    expected = {s.model: s.estimates for s in summarise(records) if s.task == task}
    table = page.xpath(f"//section[@id='{task}']//table[./caption[contains(., '8 samples')]]")[0]
    for row, model in zip(table.xpath("./tbody/tr"), models, strict=True):
        for cell, metric in zip(row[1:3], metrics, strict=True):
            e = expected[model][metric]
            assert words(cell) == f"{e.value:.2f} {e.lower:.2f} to {e.upper:.2f}"
        if model != models[0]:
            [d] = [c.difference for c in compare(records, models[0], model) if c.task == task]
            assert words(row[3]) == f"{d.value:+.2f} {d.lower:+.2f} to {d.upper:+.2f}"
    glance = page.xpath(f"//section[@id='glance']//tr[.//a[@href='#{task}']]")[0]
    main = expected[models[0]][metrics[0]]
    assert words(glance[2]) == f"{main.value:.2f} {main.lower:.2f} to {main.upper:.2f}"
    assert not page.xpath(f"//section[@id='{task}']//*[contains(., 'Calibration error')]")


def test_a_typical_sample_shows_the_truth(page: Any) -> None:
    [places] = page.xpath(f"//section[@id='{PLACES}']//figure[@class='sample']")
    assert words(places.xpath(".//*[@class='answer']")[0]) == "Answer: node 2."
    [masks] = page.xpath(f"//section[@id='{MASKS}']//figure[@class='sample']")
    number = int(masks.xpath("./footer/code/text()")[0], 16)
    assert number in range(sum(SIZES.values()))
    for column, target in zip(masks.xpath(".//div[@class='plane']"), mask_row(number)["target_images"], strict=True):
        plain, drawn = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))).convert("RGB"))
            for source in column.xpath(".//img/@src")
        )
        changed = (plain != drawn).any(axis=2)
        assert np.array_equal(changed, read_mask(target) == TAKEN)


def test_the_page_is_whole(scored: Path, page: Any) -> None:
    before = (scored / "report" / "index.html").read_bytes()
    assert report(scored, SPECIES).read_bytes() == before
    for table in page.xpath("//table"):
        columns = table.xpath("./thead/tr/th")
        assert all(len(row) == len(columns) for row in table.xpath("./tbody/tr"))
    counts = page.xpath(f"//section[@id='{MASKS}']//table[./caption[contains(., 'by partition')]]//tbody/tr")
    assert [[words(cell) for cell in row] for row in counts] == [
        ["train", "4", "2"],
        ["validation", "2", "1"],
        ["test", "8", "4"],
    ]
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
