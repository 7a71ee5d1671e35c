"""Figures of edits and cost: one a sample, sample check, patterns, cost landscape, and a compact one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.cards.plotting import BLUE, IDEAL, INK, LINE, PAGE, SETTINGS, SOFT, tidy
from connectomebench.economics.assumptions import Assumptions
from connectomebench.economics.cost import SCENARIOS, Totals, cost
from connectomebench.economics.distribution import Distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORANGE, GREEN = "#d55e00", "#009e73"
_PALETTE = (BLUE, ORANGE, GREEN, "#cc79a7", "#8a5a00")
_FASTEST_S, _SLOWEST_S = 1.0, 5.0
_STEPS = 81
_RULE: Any = {"linewidth": 1.4, "zorder": 3}


def draw_sample(d: Distribution) -> Figure:
    """Draw one sample in four panels: histogram, merges and splits, box with percentiles, rank with the heavy tail."""
    figure, panels = _grid(2, 2, (9.4, 7.2), _title(d.table.name, d.table.simulated, len(d.table)))
    (first, second), (third, fourth) = panels
    _histogram(first, d)
    _kinds(second, d)
    _box(third, d)
    _rank(fourth, d)
    return figure


def draw_check(groups: Sequence[Sequence[Distribution]]) -> Figure:
    """Draw whether samples were large enough: mean, extrapolated total, and share of the heavy tail, with intervals.

    Parameters
    ----------
    groups
        Samples of one population each, from the smallest to the largest.
    """
    simulated = any(d.table.simulated for group in groups for d in group)
    figure, [panels] = _grid(1, 3, (11.0, 4.2), _title("Was the sample large enough?", simulated))
    titles = {
        "mean": ("Mean", "edits a neuron"),
        "total": ("Extrapolated total", "extrapolated edits"),
        "tail_share": ("Heavy tail", "share of edits above the 95th percentile"),
    }
    for axes, (name, (title, label)) in zip(panels, titles.items(), strict=True):
        _series(axes, groups, name)
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_ylabel(label, fontsize=9, color=INK)
        axes.set_xlabel("neurons in the sample (log axis)", fontsize=9, color=INK)
        drawn = [d.estimates[name].value for group in groups for d in group if name in d.estimates]
        if name == "tail_share" or not drawn or min(drawn) <= 0:
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            axes.set_ylabel(f"{label} (log axis)", fontsize=9, color=INK)
    panels[0].legend(fontsize=8.5, frameon=False, title="bars: 95% intervals", title_fontsize=8)
    return figure


def draw_patterns(distributions: Sequence[Distribution]) -> Figure:
    """Draw histograms above, and what the heavy tail holds below, one column a population.

    A histogram whose largest value is over ten times its median has a logarithmic axis.
    """
    simulated = any(d.table.simulated for d in distributions)
    figure, panels = _grid(2, len(distributions), (4.7 * len(distributions), 7.2), _title("Edits a neuron", simulated))
    for column, d in enumerate(distributions):
        _histogram(panels[0][column], d, log=d.largest > 10 * max(d.estimates["median"].value, 1))
        panels[0][column].set_title(f"{d.table.name} ({len(d.table):,} neurons)", fontsize=10, color=INK)
        _tail_bars(panels[1][column], d)
    return figure


def draw_cost(totals: Sequence[Totals], a: Assumptions) -> Figure:
    """Draw what the model costs: maps over seconds a merge and a split, and GPU-hours by kind.

    Maps show the main model with all places it looks at; the white square is the middle range (1.5 to 2.5 s a merge,
    2 to 3 s a split), the cross the assumption. Bars show the hours, once as if only errors were looked at.

    Parameters
    ----------
    totals
        One map each.
    a
        Assumptions.
    """
    simulated = any(t.simulated for t in totals)
    columns = len(totals) + 2
    title = _title(
        f"What the main model costs at {a.gpus:g} GPUs and ${a.gpu_usd_hour:g} a GPU-hour, for all places looked at\n"
        f"(precision {a.merge_precision:.3g} for merges, {a.split_precision:.3g} for splits). "
        "Square: middle range. Cross: as assumed.",
        simulated,
    )
    figure, [panels] = _grid(1, columns, (4.4 * len(totals) + 2 * 2.9, 4.9), title, [4.4] * len(totals) + [2.9] * 2)
    for axes, of in zip(panels[:-2], totals, strict=True):
        _landscape(figure, axes, of, a)
    alone = next(s for s in SCENARIOS if s.name == "edits_only")
    _stacked_hours(
        panels[-2], totals, dataclasses.replace(a, **alone.changes), "GPU-hours if only\nerrors were looked at"
    )
    _stacked_hours(
        panels[-1], totals, dataclasses.replace(a, pricing="hardware"), "GPU-hours with all\nplaces looked at"
    )
    return figure


def draw_compact(distributions: Sequence[Distribution]) -> Figure:
    """Draw all populations in two panels: neurons ranked by edits with thresholds, and shares of merges and splits."""
    simulated = any(d.table.simulated for d in distributions)
    figure, [[first, second]] = _grid(1, 2, (9.6, 4.2), _title("Edits a neuron, by species", simulated))
    for colour, d in zip(_colours(len(distributions)), distributions, strict=True):
        ordered = np.sort(d.table.edits)[::-1]
        place = 100 * (np.arange(len(ordered)) + 1) / len(ordered)
        first.plot(place, ordered, color=colour, linewidth=1.8, label=f"{d.table.name} ({len(ordered):,} neurons)")
        first.axhline(d.tail.threshold, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        first.annotate(
            f"95th percentile: {d.tail.threshold:,.0f}",
            (60, d.tail.threshold),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
        )
    first.set_yscale("symlog", linthresh=1)
    first.set_ylim(bottom=0)
    _name(first, "Neurons ranked by edits", "neurons, from the most edited (%)", "edits (log axis)")
    first.legend(fontsize=8.5, frameon=False, loc="lower left")
    names = [f"{d.table.name}\nmean {d.estimates['mean'].value:,.1f}" for d in distributions]
    shares = np.array([d.estimates["merge_share"].value for d in distributions]) * 100
    _stack(second, names, shares, 100 - shares, "{:.1f}%")
    second.set_ylim(0, 100)
    _name(second, "Kinds of edits", "", "share of edits (%)")
    return figure


def _grid(
    rows: int, columns: int, size: tuple[float, float], title: str, widths: Sequence[float] | None = None
) -> tuple[Figure, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=size, facecolor=PAGE)
        panels = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
        figure.suptitle(title, color=INK, fontsize=11.5)
    for axes in panels.flat:
        tidy(axes, "y")
    return figure, panels


def _title(name: str, simulated: bool, n: int | None = None) -> str:
    text = name if n is None else f"{name}: edits of {n:,} neurons"
    return f"SIMULATED DATA · {text}" if simulated else text


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)


def _colours(n: int) -> list[str]:
    return [_PALETTE[i % len(_PALETTE)] for i in range(n)]


def _histogram(axes: Axes, d: Distribution, *, log: bool = False) -> None:
    edits = d.table.edits
    if log:
        bins = np.asarray(_widening_edges(d.largest))
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, max(d.largest, 1) * 1.4)
        axes.xaxis.set_major_formatter(_whole_numbers)
    else:
        bins = np.linspace(d.smallest, max(d.largest, d.smallest + 1), 31)
    axes.hist(edits, bins=bins.tolist(), color=BLUE, alpha=0.75, edgecolor=PAGE, linewidth=0.5)
    for name, style, colour in (("mean", "-", ORANGE), ("median", "--", INK)):
        value = d.estimates[name].value
        axes.axvline(value, color=colour, linestyle=style, label=f"{name} {value:,.1f}", **_RULE)
    axes.legend(fontsize=8.5, frameon=False)
    _name(axes, "Distribution", f"edits a neuron{' (log axis)' if log else ''}", "neurons")


def _widening_edges(largest: int) -> list[int]:
    """Return whole bin edges, each bin at least as wide as the one before; the first is for neurons without edits."""
    edges = [0, 1]
    while edges[-1] <= largest:
        edges.append(max(edges[-1] + 1, math.ceil(edges[-1] * 1.3)))
    return edges


def _whole_numbers(value: float, _: float) -> str:
    return f"{value:,.0f}"


def _kinds(axes: Axes, d: Distribution) -> None:
    counts = [int(d.table.merges.sum()), int(d.table.splits.sum())]
    bars = axes.bar(["merges", "splits"], counts, color=[BLUE, ORANGE], width=0.55)
    whole = max(sum(counts), 1)
    for bar, count in zip(bars, counts, strict=True):
        label = f"{count:,}\n({count / whole:.1%})"
        axes.annotate(
            label, (bar.get_x() + bar.get_width() / 2, count), ha="center", va="bottom", fontsize=9, color=INK
        )
    axes.set_ylim(0, max(*counts, 1) * 1.2)
    axes.yaxis.set_major_formatter(_whole_numbers)
    _name(axes, "Kinds of edits in the sample", "", "edits")


def _box(axes: Axes, d: Distribution) -> None:
    axes.boxplot(
        d.table.edits, widths=0.3, whis=(5, 95), patch_artist=True,
        boxprops={"facecolor": "#cfe3f1", "edgecolor": BLUE}, medianprops={"color": INK, "linewidth": 1.6},
        whiskerprops={"color": BLUE}, capprops={"color": BLUE},
        flierprops={"marker": ".", "markersize": 4, "markeredgecolor": SOFT},
    )  # fmt: skip
    shown = [(q, d.estimates[f"p{q}"].value) for q in (25, 50, 75, 90, 95, 99)]
    low, high = axes.get_ylim()
    least = (high - low) * 0.055
    place = -np.inf
    for q, value in shown:  # labels that would overlap are moved up and joined to their value by a line
        place = max(value, place + least)
        axes.annotate(
            f"{q}th percentile: {value:,.1f}" if q != 50 else f"median: {value:,.1f}",
            (1.17, value), xytext=(1.32, place), fontsize=8.5, color=INK, va="center",
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.7},
        )  # fmt: skip
    axes.set_xlim(0.7, 1.95)
    axes.set_ylim(low, max(high, place + least))
    axes.set_xticks([])
    _name(axes, "Percentiles (whiskers: 5th and 95th)", "", "edits a neuron")


def _rank(axes: Axes, d: Distribution) -> None:
    ordered = np.sort(d.table.edits)[::-1]
    rank = np.arange(1, len(ordered) + 1)
    in_tail = ordered > d.tail.threshold
    axes.scatter(rank[~in_tail], ordered[~in_tail], s=9, color=BLUE)
    label = f"heavy tail: {d.tail.neurons:,} neurons ({d.tail.neuron_share:.1%}),\n{d.tail.edit_share:.1%} of edits"
    axes.scatter(rank[in_tail], ordered[in_tail], s=14, color=ORANGE, label=label)
    axes.axhline(d.tail.threshold, label=f"95th percentile: {d.tail.threshold:,.1f}", **IDEAL)
    axes.legend(fontsize=8.5, frameon=False)
    _name(axes, "Neurons ranked by edits", "rank (1: most edits)", "edits")


def _tail_bars(axes: Axes, d: Distribution) -> None:
    shares = np.array([d.tail.neuron_share, d.tail.edit_share]) * 100
    interval = d.estimates["tail_share"]
    bars = axes.bar(["of neurons", "of edits"], shares, color=[SOFT, ORANGE], width=0.5)
    tops = [shares[0], shares[1]]
    if np.isfinite(interval.lower):
        below, above = interval.value - interval.lower, interval.upper - interval.value
        axes.errorbar([1], [shares[1]], yerr=[[100 * below], [100 * above]], color=INK, capsize=4, linewidth=1.2)
        tops[1] = 100 * interval.upper
    for bar, share, top in zip(bars, shares, tops, strict=True):
        x = bar.get_x() + bar.get_width() / 2
        axes.annotate(f"{share:.1f}%", (x, top), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=9)
    axes.set_ylim(0, max(tops) * 1.18 if max(tops) > 0 else 1)
    title = f"Heavy tail: more than {d.tail.threshold:,.0f} edits (95th percentile)"
    _name(axes, title, "share of the heavy tail (bar: 95% interval)", "share (%)")


def _series(axes: Axes, groups: Sequence[Sequence[Distribution]], name: str) -> None:
    sizes = sorted({len(d.table) for group in groups for d in group})
    for number, (colour, group) in enumerate(zip(_colours(len(groups)), groups, strict=True)):
        shown = [d for d in group if name in d.estimates]
        values = [d.estimates[name] for d in shown]
        if not values:
            continue
        at = np.array([len(d.table) for d in shown]) * (1 + 0.04 * number)  # side by side
        bars = [[max(v.value - v.lower, 0) if np.isfinite(v.lower) else 0 for v in values]]
        bars.append([max(v.upper - v.value, 0) if np.isfinite(v.upper) else 0 for v in values])
        axes.errorbar(
            at, [v.value for v in values], yerr=bars, color=colour, marker="o", capsize=3, label=_population_name(group)
        )
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.4)


def _population_name(group: Sequence[Distribution]) -> str:
    return group[-1].table.name.rsplit(" n=", 1)[0]


def _landscape(figure: Figure, axes: Axes, of: Totals, a: Assumptions) -> None:
    from matplotlib.patches import Rectangle

    merge_s, split_s = np.meshgrid(
        np.linspace(_FASTEST_S, _SLOWEST_S, _STEPS), np.linspace(_FASTEST_S, _SLOWEST_S, _STEPS)
    )
    per_merge, per_split = (
        cost(
            of.merges * one, of.splits * (1 - one), dataclasses.replace(a, merge_s=1.0, split_s=1.0, pricing="hardware")
        )
        for one in (1.0, 0.0)
    )
    usd = per_merge["model_usd"] * merge_s + per_split["model_usd"] * split_s
    shown = axes.pcolormesh(merge_s, split_s, usd, cmap="viridis", shading="gouraud", rasterized=True)
    lines = axes.contour(merge_s, split_s, usd, levels=5, colors="white", linewidths=0.7)
    axes.clabel(lines, fmt=lambda value: f"${value:,.0f}", fontsize=8)
    axes.add_patch(Rectangle((1.5, 2.0), 1.0, 1.0, fill=False, edgecolor="white", linewidth=1.8))
    if _FASTEST_S <= a.merge_s <= _SLOWEST_S and _FASTEST_S <= a.split_s <= _SLOWEST_S:
        axes.plot(a.merge_s, a.split_s, marker="+", markersize=11, markeredgewidth=2, color="white")
    bar = figure.colorbar(shown, ax=axes, shrink=0.9, use_gridspec=False)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"${value:,.0f}")
    bar.ax.tick_params(labelsize=8)
    axes.grid(visible=False)
    _name(axes, f"{of.name},\nfor {of.population:,} neurons", "seconds a merge", "seconds a split")


def _stacked_hours(axes: Axes, totals: Sequence[Totals], a: Assumptions, title: str) -> None:
    found = [cost(of.merges, of.splits, a) for of in totals]
    merges = np.array([f["merge_gpu_hours"] for f in found])
    splits = np.array([f["split_gpu_hours"] for f in found])
    _stack(axes, [of.name.rsplit(" n=", 1)[0] for of in totals], merges, splits, "")
    for at, (merge, whole) in enumerate(zip(merges, merges + splits, strict=True)):
        label = f"{whole:,.0f} h\n({merge / whole:.0%} merges)" if whole else "0 h"
        axes.annotate(label, (at, whole), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8)
    axes.set_ylim(0, max((merges + splits).max(), 1) * 1.45)
    axes.set_xlim(-0.7, len(totals) - 0.3)
    axes.yaxis.set_major_formatter(_whole_numbers)
    _name(axes, title, "", "GPU-hours")


def _stack(axes: Axes, names: Sequence[str], merges: Any, splits: Any, label: str) -> None:
    names = [name.replace(" (", "\n(") for name in names]  # two lines: names of neighbours would run into each other
    lower = axes.bar(names, merges, color=BLUE, width=0.55, label="merges")
    upper = axes.bar(names, splits, bottom=merges, color=ORANGE, width=0.55, label="splits")
    if label:
        for bars in (lower, upper):
            axes.bar_label(bars, label_type="center", fmt=label, color=PAGE, fontsize=9)
    axes.legend(fontsize=8.5, frameon=True, framealpha=0.9, edgecolor=LINE)
