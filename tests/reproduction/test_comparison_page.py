"""The report on published results: table, LaTeX, and the page as a browser would read it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from published_files import write_file

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.results import read_results
from connectomebench.reproduction.reproduce import report_published
from connectomebench.reproduction.table import escape


@pytest.fixture(scope="module")
def page(published_report: Path) -> Any:
    return html.fromstring((published_report / "index.html").read_text(encoding="utf-8"))


def words(element: Any) -> str:
    return " ".join(element.text_content().split())


def lines(page: Any) -> dict[tuple[str, str], list[str]]:
    """Method and line of the benchmark table -> its four cells."""
    found = {}
    for body in page.xpath("//table[contains(@class, 'bench')]/tbody"):
        method = words(body.xpath(".//th[contains(@class, 'method')]")[0])
        for row in body.xpath("./tr"):
            title = words(row.xpath("./th[@scope='row']")[0])
            found[method, title] = [words(cell) for cell in row.xpath("./td")]
    return found


def test_published_and_own_numbers_stand_beside_each_other(page: Any) -> None:
    table = lines(page)
    vlm = "VLM (with confidence)"
    assert table[vlm, "published"][1].startswith("83.3")
    assert table[vlm, "published, one answer"][1].startswith("75.0")
    assert re.fullmatch(r"83\.3 \[\d+\.\d, \d+\.\d\]", table[vlm, "ours"][1])
    assert table[vlm, "samples (groups)"][1].startswith("12 (11)")
    assert table["Linear probe", "ours"][1] == "74.0 ± 5.7"
    assert table["ResNet-50 (fine-tuned)", "published"][1].startswith("88.0 or 66.0")
    assert table["Person 1", "published"][1].startswith("87.5 ± 11.7")
    assert table["Person 1", "ours"][1].startswith("83.3 [")


def test_cells_without_records_stay_empty_and_are_listed(page: Any) -> None:
    assert lines(page)["VLM (with confidence)", "ours"][0] == ""
    assert words(page.xpath("//table[contains(@class, 'bench')]//tr[th='Gemini 3 Pro preview']/td")[0]) == (
        "no records in the folder"
    )
    missing = words(page.xpath("//section[@id='missing']")[0])
    assert "GPT-5, split action evaluation: no answers and no totals in the folder" in missing
    assert "GPT-5, split error correction:" not in missing


def test_every_note_leads_to_its_numbers(page: Any) -> None:
    ids = set(page.xpath("//@id"))
    links = page.xpath("//a/@href")
    assert links and all(link.startswith("#") and link[1:] in ids for link in links)
    marks = {words(a) for a in page.xpath("//table//sup/a")}
    assert marks == {words(s) for s in page.xpath("//ol/li/sup")} != set()


def test_nothing_is_fetched_and_no_machine_is_named(published_report: Path, page: Any) -> None:
    text = (published_report / "index.html").read_text(encoding="utf-8")
    assert not page.xpath("//script | //link | //iframe | //object | //embed")
    assert "@import" not in text and "url(" not in text
    sources = [*page.xpath("//img/@src"), *page.xpath("//source/@srcset")]
    assert len(sources) == 16 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    assert all(image.get("alt") for image in page.xpath("//img"))
    assert "/Users" not in text and "zoe" not in text and "/checkpoints" not in text


def test_captions_give_the_samples_behind_every_mark(published_report: Path, page: Any) -> None:
    captions = [" ".join(words(line) for line in c.xpath("./p")) for c in page.xpath("//figcaption")]
    assert len(captions) == 4
    assert "Samples tested, split error correction: Linear probe (40)" in captions[0]
    assert "VLM (with confidence) (12)" in captions[0] and "95% interval, bootstrap over groups" in captions[0]
    for name in ("scaling", "cross_species", "ece_scaling", "ece_cross_species"):
        text = (published_report / "figures" / f"{name}.txt").read_text(encoding="utf-8")
        assert " ".join(text.split()) in captions


def test_the_figure_is_there_as_a_table(page: Any) -> None:
    rows = [[words(cell) for cell in r] for r in page.xpath("//section[@id='cross_species']//details//tbody/tr")]
    fly = next(row for row in rows if row[1] == "fly")
    assert fly == ["Split error correction", "fly", "ResNet-50 (fine-tuned)", "", "0.600", "", "100", "as published"]


def test_files_and_hashes_are_listed(page: Any, published_folder: Path) -> None:
    rows = page.xpath("//div[contains(@class, 'files')]//tbody/tr")
    listed = {words(r.xpath("./th")[0]): words(r.xpath("./td")[1]) for r in rows}
    for path in published_folder.rglob("*.json"):
        assert listed[path.relative_to(published_folder).as_posix()] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_records_are_those_of_an_evaluation(published_report: Path) -> None:
    assert len(read_results(published_report / "results")) == 4 * 12 + 2 * 8


def test_the_latex_table_is_whole(published_report: Path) -> None:
    text = (published_report / "table.tex").read_text(encoding="utf-8")
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(" \\\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 5 for row in rows)
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    assert "majority\\_accuracy" in text and "95\\%" in text
    assert "VLM (with confidence) & published &  & 83.3\\textsuperscript{a,b}" in text


def test_latex_characters_are_escaped() -> None:
    assert escape("a_b & 5% {x} \\ ± “q”") == r"a\_b \& 5\% \{x\} \textbackslash{} $\pm$ ``q''"


def test_text_from_files_is_shown_as_text(published_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "human_eval").mkdir(parents=True)
    shutil.copy(published_folder / "model_metadata.json", folder)
    write_file(
        folder / "final_data/resnet_results.json", {"merge_action": {"<script>alert(1)</script>": {"accuracy": 1}}}
    )
    text = report_published(folder, tmp_path / "out", resamples=20).read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_the_folder_that_is_read_stays_as_it_is(published_folder: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="lies in the folder that is read"):
        report_published(published_folder, published_folder / "report")
