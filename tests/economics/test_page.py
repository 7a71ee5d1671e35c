"""The page in a browser: the same numbers as Python, for any assumptions, without any request."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from lxml import html
from matplotlib.figure import Figure

from connectomebench.economics import page as economics_page
from connectomebench.economics.analysis import Analysis, cost_line, costs
from connectomebench.economics.assumptions import Assumptions, read_assumptions
from connectomebench.economics.cost import RESULTS, SCENARIOS, cost, estimate
from connectomebench.economics.page import page as draw_page
from connectomebench.economics.page import write_analysis


@pytest.fixture(scope="module")
def figures(analysis: Analysis) -> dict[str, tuple[Figure, str]]:
    return economics_page.draw(analysis)


@pytest.fixture(scope="module")
def written(
    analysis: Analysis, figures: dict[str, tuple[Figure, str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(economics_page, "draw", lambda found: figures)
        return write_analysis(analysis, tmp_path_factory.mktemp("economics"))


@pytest.fixture(scope="module")
def page(written: Path) -> Iterator[Any]:
    with chromium() as browser:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(written.as_uri())
        yield page
        assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def some_assumptions(seed: int) -> Assumptions:
    draw = random.Random(seed)
    values: dict[str, Any] = {"pricing": draw.choice(["hardware", "tokens"])}
    for f in dataclasses.fields(Assumptions):
        if f.name != "pricing":
            values[f.name] = draw.uniform(max(f.metadata["low"], 0.01), min(f.metadata["high"], 100))
    return Assumptions(**values)


def test_the_script_computes_what_python_computes(page: Any) -> None:
    for seed in range(30):
        a = some_assumptions(seed)
        found = page.evaluate("a => economics.cost(1234.5, 678, a)", dataclasses.asdict(a))
        assert list(found) == list(RESULTS)
        assert found == pytest.approx(cost(1234.5, 678.0, a), rel=1e-12)


def test_intervals_are_those_of_python(page: Any, analysis: Analysis) -> None:
    a = some_assumptions(99)
    for number, totals in enumerate(analysis.totals):
        for scenario in SCENARIOS:
            found = page.evaluate(
                "([i, a, c]) => economics.estimate(economics.data.totals[i], a, c)",
                [number, dataclasses.asdict(a), dict(scenario.changes)],
            )
            expected = estimate(totals, a, scenario)["total_usd"]
            assert found["value"]["total_usd"] == pytest.approx(expected.value)
            if len(totals.draws):
                assert found["bounds"] == pytest.approx([expected.lower, expected.upper])
            else:
                assert found["bounds"] is None


def test_a_change_is_shown_at_once_and_can_be_taken_back(page: Any, analysis: Analysis, tmp_path: Path) -> None:
    cell = page.locator("table.costs").first.locator("[data-scenario=stated]")
    name = analysis.totals[0].name
    stated = cost_line(costs(analysis)[name]["stated"])
    assert cell.inner_text() == stated
    page.fill("#a-merge_precision", "0.1")
    page.select_option("#a-pricing", "tokens")
    a = dataclasses.replace(analysis.sourced.values, merge_precision=0.1, pricing="tokens")
    assert cell.inner_text() == cost_line(estimate(analysis.totals[0], a)) != stated
    assert page.locator("[data-origin=merge_precision]").inner_text() == "changed on this page"
    (tmp_path / "mine.yaml").write_text(page.locator("#yaml").input_value())
    assert read_assumptions(tmp_path / "mine.yaml", analysis.sourced).values == a
    page.fill("#a-recall", "2")
    assert "recall must be a number, between 0 and 1" in page.locator("#problem").inner_text()
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('problem').hidden")
    assert cell.inner_text() == stated


def test_without_a_script_it_shows_the_stated_costs(written: Path, analysis: Analysis) -> None:
    tree = html.fromstring(written.read_text(encoding="utf-8"))
    expected = [cost_line(by[s.name]) for by in costs(analysis).values() for s in SCENARIOS]
    assert [cell.text for cell in tree.xpath("//td[@data-scenario]")] == expected
    assert "simulated" in tree.text_content()
    assert all(source.startswith("data:image/png;base64,") for source in tree.xpath("//img/@src"))
    assert not tree.xpath("//script[@src] | //link | //iframe") and all(tree.xpath("//img/@alt"))
    assert {label.get("for") for label in tree.xpath("//label")} <= set(tree.xpath("//@id"))


def test_every_figure_of_simulated_data_says_so(figures: dict[str, tuple[Figure, str]]) -> None:
    for figure, label in figures.values():
        assert "SIMULATED DATA" in figure.get_suptitle() and label


def test_every_figure_is_written(written: Path) -> None:
    names = {p.relative_to(written.parent).as_posix() for p in written.parent.rglob("*") if p.is_file()}
    figures = ("sample-mouse-40", "sample-mouse-100", "sample-fly-120", "sample-check", "patterns", "compact", "cost")
    drawn = {f"figures/{name}.{ending}" for name in figures for ending in ("png", "pdf")}
    assert names == {"index.html", "economics.json", *drawn}


def test_same_results_same_bytes(analysis: Analysis, tmp_path: Path) -> None:
    fewer = dataclasses.replace(analysis, populations={}, totals=analysis.totals[:1], checks=[])
    for name in ("first", "second"):
        write_analysis(fewer, tmp_path / name)
    names = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*") if p.is_file())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_names_cannot_end_the_script(analysis: Analysis) -> None:
    evil = "</script><b>x</b>"
    totals = [dataclasses.replace(analysis.totals[0], name=evil)]
    text = draw_page(dataclasses.replace(analysis, populations={}, totals=totals, checks=[]), {})
    assert evil not in text and not html.fromstring(text).xpath("//b")
