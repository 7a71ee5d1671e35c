"""Figures: the marks stand where the numbers say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from scipy.stats import binomtest

from connectomebench.evaluation.calibration import expected_calibration_error, reliability_bins
from connectomebench.evaluation.statistics import Estimate
from connectomebench.report.figures import bin_rows, interval_plot, reliability_diagram, wilson_interval

answers = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(case: tuple[int, int]) -> None:
    successes, n = case
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(successes, n), (expected.low, expected.high), atol=1e-12)


@given(answers)
def test_bins_of_the_table_give_the_calibration_error(rows: list[tuple[float, int]]) -> None:
    stated, truth = np.array([p for p, _ in rows]), np.array([t for _, t in rows])
    filled = bin_rows(reliability_bins(stated, truth))
    assert sum(r.count for r in filled) == len(rows)
    gap = sum(r.count * abs(r.stated - r.found) for r in filled) / len(rows)
    np.testing.assert_allclose(gap, expected_calibration_error(stated, truth), atol=1e-12)
    assert all(r.found_lower <= r.found + 1e-12 and r.found <= r.found_upper + 1e-12 for r in filled)


@given(answers)
def test_diagram_has_a_mark_and_a_bar_for_each_filled_bin(rows: list[tuple[float, int]]) -> None:
    bins = reliability_bins([p for p, _ in rows], [t for _, t in rows])
    svg = etree.fromstring(str(reliability_diagram(bins, "x", "a <b> & c")))
    assert svg[0].text == "a <b> & c"
    filled = bin_rows(bins)
    marks, bars = svg.findall("circle"), svg.findall("rect")
    assert len(marks) == len(bars) == len(filled)
    # heights of marks rise with the share found, heights of bars with the count
    y = np.array([float(m.get("cy", "nan")) for m in marks])
    found = np.array([r.found for r in filled])
    np.testing.assert_allclose((y.max() - y) / 300, found - found.min(), atol=1e-3)
    height = np.array([float(b.get("height", "nan")) for b in bars])
    count = np.array([r.count for r in filled])
    np.testing.assert_allclose(height / height.max(), count / count.max(), atol=2e-3)
    _, _, wide, high = (float(v) for v in svg.get("viewBox", "").split())
    assert all(0 <= float(m.get("cx", "nan")) <= wide and 0 <= float(m.get("cy", "nan")) <= high for m in marks)


def test_interval_plot_leaves_out_what_is_undefined() -> None:
    nan = float("nan")
    known, unknown = Estimate(0.75, 0.5, 1.0, 10, 5, 2000), Estimate(nan, nan, nan, 10, 1, 0)
    svg = etree.fromstring(str(interval_plot([("a", "probe", known), ("b", "grey", unknown)], "x", "label")))
    (mark,) = svg.findall("circle")
    (whisker,) = (line for line in svg.findall("line") if line.get("class") == "whisker probe")
    (chance,) = (line for line in svg.findall("line") if line.get("class") == "ideal")
    left, right = float(whisker.get("x1", "nan")), float(whisker.get("x2", "nan"))
    assert left == float(chance.get("x1", "nan"))
    assert abs(float(mark.get("cx", "nan")) - (left + right) / 2) < 0.11
    assert "nan" not in str(interval_plot([("b", "grey", unknown)], "x", "label"))
