"""Figures: what they write is what was computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from connectomebench.cards.plotting import render
from connectomebench.economics.analysis import Analysis
from connectomebench.economics.assumptions import Assumptions
from connectomebench.economics.cost import SCENARIOS, estimate
from connectomebench.economics.distribution import describe
from connectomebench.economics.edit_table import EditTable
from connectomebench.economics.figures import draw_check, draw_compact, draw_cost, draw_patterns, draw_sample


def texts(figure: Any) -> str:
    import matplotlib.text

    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def test_the_panels_of_a_sample(analysis: Analysis) -> None:
    d = analysis.populations["fly"][0]
    figure = draw_sample(d)
    histogram, kinds, _, rank = figure.axes
    assert sum(p.get_height() for p in histogram.patches) == len(d.table)
    assert [p.get_height() for p in kinds.patches] == [d.table.merges.sum(), d.table.splits.sum()]
    drawn = np.concatenate([np.asarray(c.get_offsets())[:, 1] for c in rank.collections])
    assert sorted(drawn.tolist()) == sorted(d.table.edits.tolist())
    assert len(np.asarray(rank.collections[1].get_offsets())) == d.tail.neurons
    assert f"99th percentile: {d.estimates['p99'].value:,.1f}" in texts(figure)


def test_histogram_of_patterns_holds_every_neuron_on_its_axis(analysis: Analysis) -> None:
    fly = analysis.populations["fly"][0]
    figure = draw_patterns([fly])
    axes = figure.axes[0]
    assert axes.get_xscale() == "symlog" and axes.get_xlim()[1] > fly.largest
    assert sum(p.get_height() for p in axes.patches) == len(fly.table)
    assert f"{fly.tail.edit_share:.1%}" in texts(figure)


def test_bars_of_the_check_are_the_intervals(analysis: Analysis) -> None:
    figure = draw_check(list(analysis.populations.values()))
    mean = figure.axes[0].containers[0]
    segments = mean.lines[2][0].get_segments()
    estimates = [d.estimates["mean"] for d in analysis.populations["mouse"]]
    for segment, e in zip(segments, estimates, strict=True):
        assert (segment[0][1], segment[1][1]) == pytest.approx((e.lower, e.upper))


def test_hours_in_the_cost_figure_are_those_of_the_costs(analysis: Analysis) -> None:
    a = Assumptions()
    shown = texts(draw_cost(analysis.totals, a))
    for totals in analysis.totals:
        for scenario in SCENARIOS[1:3]:
            assert f"{estimate(totals, a, scenario)['gpu_hours'].value:,.0f} h" in shown


def test_the_compact_figure_has_thresholds_and_shares(analysis: Analysis) -> None:
    largest = [group[-1] for group in analysis.populations.values()]
    shown = texts(draw_compact(largest))
    for d in largest:
        assert (
            f"95th percentile: {d.tail.threshold:,.0f}" in shown and f"{d.estimates['merge_share'].value:.1%}" in shown
        )


def test_one_neuron_and_no_edits_can_be_drawn() -> None:
    ids, none = np.array([1, 2], np.uint64), np.array([0, 0])
    for table in (EditTable("none", ids, none, none), EditTable("one", ids[:1], none[:1] + 3, none[:1])):
        d = describe(table, 10, resamples=10)
        for figure in (draw_sample(d), draw_patterns([d]), draw_check([[d]])):
            assert render(figure, "png", 40).startswith(b"\x89PNG")
