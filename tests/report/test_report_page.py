"""The report page, read as a browser would."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from PIL import Image
from report_run import SPECIES, TASK_NAMES, rows, write_answers

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.view_layout import plane_columns, view_caption
from connectomebench.evaluation.results import compare, read_results, summarise, write_results
from connectomebench.report.page import write_report


def report(out: Path, tasks: Sequence[str] = TASK_NAMES) -> Path:
    return write_report(out, {t: out / t for t in tasks}, SPECIES, out / "results")


@pytest.fixture(scope="session")
def written(run: Path) -> str:
    return report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(written: str) -> Any:
    return html.fromstring(written)


@pytest.fixture
def other_run(run: Path, written: str, tmp_path: Path) -> Path:
    """A run of its own with its report, to be changed."""
    shutil.copytree(run, tmp_path / "run", dirs_exist_ok=True)
    return tmp_path / "run"


def change_manifests(out: Path, **source: Any) -> None:
    for task in TASK_NAMES:
        path = out / task / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["species"][SPECIES]["source"].update(source)
        path.write_text(json.dumps(manifest))


def words(element: Any) -> str:
    return " ".join(element.text_content().split())


def test_same_input_same_bytes(run: Path, written: str) -> None:
    assert report(run).read_bytes() == written.encode()


def test_nothing_is_fetched(written: str, page: Any) -> None:
    assert not page.xpath("//script | //link | //iframe | //object | //embed")
    assert "@import" not in written and "@font-face" not in written and "url(" not in written
    for source in page.xpath("//img/@src"):
        assert source.startswith("data:image/png;base64,")
    assert all(h.startswith("#") for h in page.xpath("//a/@href"))


def test_pictures_are_the_stored_ones_with_their_views(run: Path, page: Any) -> None:
    for number, task in enumerate(TASK_NAMES):
        stored = {r["sample_id"]: r for r in rows(task, "test", 10 * number + 3)}
        figures = page.xpath(f"//section[@id='{task}']//figure[@class='sample']")
        assert [words(f.xpath(".//*[@class='answer']")[0]).lower() for f in figures] == ["yes.", "no."]
        for figure in figures:
            sample = stored[figure.xpath("./footer/code/text()")[0]]
            assert words(figure.xpath(".//*[@class='answer']")[0]).lower() == sample["answer"] + "."
            shown = [base64.b64decode(s.split(",", 1)[1]) for s in figure.xpath(".//img/@src")]
            columns = plane_columns(sample["views"])
            assert shown == [sample["images"][i]["bytes"] for column in columns for i in column]
            names = [[words(s) for s in c.xpath(".//span")] for c in figure.xpath(".//div[@class='plane']")]
            assert names == [[view_caption(sample["views"][i]) for i in column] for column in columns]
            assert len(figure.xpath(".//*[@class='overlay']")) == len(shown)


def test_every_picture_has_a_text_and_every_figure_a_title(page: Any) -> None:
    pictures = page.xpath("//img")
    assert len(pictures) == 2 * (3 + 6) and len(set(page.xpath("//img/@alt"))) == len(pictures)
    for figure in page.xpath("//svg[not(@class='overlay')]"):
        (title,) = figure.xpath("./title")
        assert title.get("id") == figure.get("aria-labelledby") and title.text
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {h.removeprefix("#") for h in page.xpath("//a/@href")} <= set(ids)


def test_tables_name_their_columns_and_rows(page: Any) -> None:
    tables = page.xpath("//table")
    assert tables
    for table in tables:
        columns = table.xpath("./thead/tr/th")
        assert columns and all(c.get("scope") == "col" for c in columns)
        for row in table.xpath("./tbody/tr"):
            assert len(row) == len(columns) and row[0].tag == "th" and row[0].get("scope") == "row"
    levels = [int(h.tag[1]) for h in page.xpath("//h1 | //h2 | //h3")]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))


def test_counts_are_those_of_the_files(page: Any) -> None:
    table = page.xpath(f"//section[@id='{TASK_NAMES[0]}']//table[./caption[contains(., 'by partition')]]")[0]
    found = [[words(c) for c in row] for row in table.xpath("./tbody/tr")]
    assert found == [
        ["train", "30", "30", "60", "20"],
        ["validation", "6", "6", "12", "4"],
        ["test", "20", "20", "40", "14"],
    ]


def test_cheap_cues_stand_beside_the_models(page: Any, other_run: Path) -> None:
    assert len(page.xpath("//p[contains(., 'Cheap cues are not measured')]")) == len(TASK_NAMES)
    cue = {"cue": "slice", "trained_on": "train", "partition": "test", "n": 40, "n_groups": 14, "n_train": 60}
    rows_of = [
        {**cue, "looks_at": "<grey>", "value": 0.71, "low": 0.63, "high": 0.78, "inherent": True, "matched": False},
        {**cue, "looks_at": "areas", "value": 0.5, "low": None, "high": None, "inherent": False, "matched": True},
    ]
    for task in TASK_NAMES:
        path = other_run / task / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["species"][SPECIES]["cues"] = rows_of
        path.write_text(json.dumps(manifest))
    measured = html.fromstring(report(other_run).read_text(encoding="utf-8"))
    for task in TASK_NAMES:
        table = measured.xpath(f"//section[@id='{task}']//table[./caption[contains(., 'Cheap cues')]]")[0]
        assert [[words(cell) for cell in line] for line in table.xpath("./tbody/tr")] == [
            ["<grey>", "0.71 0.63 to 0.78", "40 (14)", "part of what the task asks"],
            ["areas", "0.50 no interval", "40 (14)", "at chance by design"],
        ]
    assert not measured.xpath("//p[contains(., 'not measured')]")


def test_numbers_are_those_of_the_records(run: Path, page: Any) -> None:
    records = read_results(run / "results")
    for task in TASK_NAMES:
        expected = {s.model: s.estimates for s in summarise(records) if s.task == task}
        table = page.xpath(f"//section[@id='{task}']//table[.//th[contains(., 'Calibration')]]")[0]
        assert "40 samples in 14 groups" in words(table.xpath("./caption")[0])
        for row, model in zip(table.xpath("./tbody/tr"), ("probe", "trivial", "grey"), strict=True):
            for cell, metric in ((row[1], "balanced_accuracy"), (row[2], "ece")):
                e = expected[model][metric]
                assert words(cell) == f"{e.value:.2f} {e.lower:.2f} to {e.upper:.2f}"
            if model != "probe":
                d = next(c for c in compare(records, "probe", model) if c.task == task).difference
                assert words(row[3]) == f"{d.value:+.2f} {d.lower:+.2f} to {d.upper:+.2f}"


def test_an_ablation_is_not_the_result_of_a_model(run: Path, page: Any, other_run: Path) -> None:
    for path in list((other_run / "results").rglob("test.parquet")):
        rows = read_results(path).assign(condition="blank_images", prediction="yes", probability=0.9)
        write_results(path.with_name("test@blank_images.parquet"), plain_rows(rows))
    assert report(other_run).read_bytes() == (run / "report" / "index.html").read_bytes()


def plain_rows(frame: Any) -> list[dict[str, Any]]:
    """Result records with None in place of NaN."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def test_what_is_not_real_is_said_first_and_at_each_task(page: Any) -> None:
    top = words(page.xpath("//body/header")[0])
    assert "The errors on this page are simulated." in top and "The image data on this page are simulated." in top
    badges = {t: [words(b) for b in page.xpath(f"//section[@id='{t}']//ul[@class='badges']/li")] for t in TASK_NAMES}
    assert "Errors: simulated" in badges[TASK_NAMES[0]] and "Image data: simulated" not in badges[TASK_NAMES[0]]
    assert {"Errors: simulated", "Image data: simulated"} <= set(badges[TASK_NAMES[1]])


def test_real_data_are_called_real(other_run: Path) -> None:
    change_manifests(other_run, simulated_errors=False, simulated_em=False)
    page = html.fromstring(report(other_run).read_text(encoding="utf-8"))
    assert "The errors on this page are real." in words(page.xpath("//body/header")[0])
    assert "simulated" not in words(page.xpath("//body/header")[0])


def test_text_from_files_is_escaped(page: Any) -> None:
    left_out = page.xpath(f"//section[@id='{TASK_NAMES[0]}']//details[./summary[contains(., 'left out')]]//tbody/tr")
    assert [[words(c) for c in row] for row in left_out] == [
        ["labels", "at the border of the data", "17"],
        ["partition", "<b>odd</b>", "3"],
    ]


@pytest.mark.parametrize(
    ("skill", "short", "said"),
    [
        ({"probe": 0.95, "trivial": 0.5}, "Yes, by few groups", "The probe beats both baselines"),
        ({"probe": 0.6, "trivial": 0.6}, "Not distinguishable at this n", "not distinguishable at this n"),
        ({"probe": 0.3, "trivial": 0.95}, "No: a baseline wins (construction flaw)", "construction flaw"),
    ],
)
def test_verdict_follows_the_interval(other_run: Path, skill: dict[str, float], short: str, said: str) -> None:
    task = TASK_NAMES[0]
    test = rows(task, "test", 3)
    for model, value in ({"grey": 0.3} | skill).items():
        write_answers(other_run / "results", task, model, test, value, seed=5)
    page = html.fromstring(report(other_run, [task]).read_text(encoding="utf-8"))
    glance = page.xpath(f"//section[@id='glance']//tr[.//a[@href='#{task}']]")[0]
    assert words(glance[-1]) == short
    assert said in words(page.xpath(f"//section[@id='{task}']")[0])


def test_results_of_another_dataset_are_refused(other_run: Path) -> None:
    before = (other_run / "report" / "index.html").read_bytes()
    path = other_run / TASK_NAMES[0] / "manifest.json"
    path.write_text(path.read_text().replace('"fingerprint": "0', '"fingerprint": "f'))
    with pytest.raises(ConnectomeBenchError, match="another version of the dataset"):
        report(other_run)
    assert (other_run / "report" / "index.html").read_bytes() == before


def test_missing_results_are_named(other_run: Path) -> None:
    shutil.rmtree(other_run / "results" / "grey")
    with pytest.raises(ConnectomeBenchError, match="no results of grey"):
        report(other_run)
    (other_run / "empty").mkdir()
    with pytest.raises(ConnectomeBenchError, match="no result files"):
        write_report(other_run, {}, SPECIES, other_run / "empty")


def test_missing_dataset_is_named(other_run: Path) -> None:
    first = other_run / TASK_NAMES[0]
    (first / SPECIES / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(ConnectomeBenchError, match=r"no validation-\*\.parquet"):
        report(other_run)
    (first / "manifest.json").write_text("{}")
    with pytest.raises(ConnectomeBenchError, match="not a manifest"):
        report(other_run)
    (first / "manifest.json").unlink()
    with pytest.raises(ConnectomeBenchError, match=r"cannot read .*manifest\.json"):
        report(other_run)
    with pytest.raises(ConnectomeBenchError, match="no dataset to report"):
        write_report(other_run, {}, SPECIES, other_run / "results")


def test_colours_of_text_have_enough_contrast() -> None:
    """WCAG AA: 4.5 to 1 for every text colour on every background it can stand on, in both themes."""
    from importlib.resources import files

    css = files("connectomebench.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    for theme in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", theme))
        for text in ("ink", "soft", "link"):
            for ground in ("page", "card", "faint"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for ground in ("warn", "bad", "good", "note"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5, ground
        for mark in ("probe", "trivial", "grey"):
            assert contrast(colours[mark], colours["card"]) >= 3, mark


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_pictures_open(page: Any) -> None:
    for source in page.xpath("//img/@src"):
        with Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) as picture:
            picture.verify()
