"""Figures of the report: the marks stand where the numbers say, and the drawing fits into a page."""

from __future__ import annotations

import re

from lxml import etree

from connectomebench.evaluation.calibration import reliability_bins
from connectomebench.evaluation.statistics import Estimate
from connectomebench.report.figures import interval_plot, reliability_diagram

_NAN = float("nan")
_XLINK = "{http://www.w3.org/1999/xlink}href"


def test_a_figure_has_a_title_and_ids_of_its_own() -> None:
    bins = reliability_bins([0.2, 0.7, 0.9], [0, 1, 1])
    drawn = str(reliability_diagram(bins, "x", "a <b> & c"))
    svg = etree.fromstring(drawn)
    assert svg[0].text == "a <b> & c" and svg[0].get("id") == svg.get("aria-labelledby") == "x-title"
    ids = svg.xpath("//@id")
    assert len(ids) == len(set(ids)) and all(name.startswith("x-") for name in ids)
    used = {use.get(_XLINK).removeprefix("#") for use in svg.iter("{*}use")}
    assert used and used <= set(ids)
    assert "stated probability of “yes”" in svg.xpath("//text()")
    assert drawn == str(reliability_diagram(bins, "x", "a <b> & c"))


def test_a_figure_takes_all_colours_from_the_page_and_asks_for_nothing() -> None:
    rows = [(name, name, Estimate(0.7, 0.6, 0.8, 10, 5, 2000)) for name in ("probe", "trivial", "grey")]
    for drawn in (str(interval_plot(rows, "x", "y")), str(reliability_diagram(reliability_bins([0.2], [1]), "x", "y"))):
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawn)) <= {
            "none",
            *(f"var(--{name})" for name in ("ink", "soft", "line", "card", "probe", "trivial", "grey")),
        }
        assert set(re.findall(r"https?://[^\"]+", drawn)) == {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert "<style" not in drawn and "url(" not in drawn and "font-family" not in drawn


def test_interval_plot_leaves_out_what_is_undefined() -> None:
    known, unknown = Estimate(0.75, 0.5, 1.0, 10, 5, 2000), Estimate(_NAN, _NAN, _NAN, 10, 1, 0)
    drawn = str(interval_plot([("a", "probe", known), ("b", "grey", unknown)], "x", "label"))
    svg = etree.fromstring(drawn)
    (mark,) = [u for u in svg.iter("{*}use") if "var(--probe)" in u.get("style")]
    (whisker,) = [p for p in svg.iter("{*}path") if "stroke: var(--probe)" in p.get("style", "") and "L" in p.get("d")]
    (chance,) = [p for p in svg.iter("{*}path") if "stroke-dasharray" in p.get("style", "")]
    left, right = (float(x) for x in re.findall(r"[ML] ([0-9.]+) ", whisker.get("d")))
    assert abs(left - float(re.findall(r"M ([0-9.]+) ", chance.get("d"))[0])) < 0.01
    assert abs(float(mark.get("x")) - (left + right) / 2) < 0.01
    assert "var(--grey)" not in drawn and "nan" not in drawn
