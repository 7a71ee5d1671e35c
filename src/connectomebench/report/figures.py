"""Figures of the report as reproducible SVG in the page's colours, light and dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from connectomebench.cards.calibration_plot import reliability_figure
from connectomebench.cards.plotting import BLUE, IDEAL, INK, LINE, PAGE, SOFT, page_svg, tidy
from connectomebench.evaluation.calibration import ReliabilityBins
from connectomebench.evaluation.statistics import Estimate

_KINDS = {"probe": BLUE, "trivial": "#8a5a00", "grey": "#5f6873"}
# colours of the figures -> those of report.css
_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", PAGE: "var(--card)"} | {
    colour: f"var(--{kind})" for kind, colour in _KINDS.items()
}


def reliability_diagram(bins: ReliabilityBins, name: str, label: str, of: str = "“yes”") -> Markup:
    """Plot observed frequency against predicted probability, with sample counts per bin.

    Parameters
    ----------
    bins
        From :func:`connectomebench.evaluation.calibration.reliability_bins`.
    name
        Unique in the page; begins the ids that the drawing needs.
    label
        Read out instead of the drawing.
    of
        What the stated probability is of.
    """
    return page_svg(reliability_figure(bins, of), name, label, _COLOURS, "figure")


def interval_plot(
    rows: Sequence[tuple[str, str, Estimate]],
    name: str,
    label: str,
    metric: str = "balanced accuracy",
    chance: float | None = 0.5,
) -> Markup:
    """Plot values with intervals on an axis from 0 to 1, with chance as a dashed line.

    Parameters
    ----------
    rows
        Name of the row, kind of its mark (probe, trivial or grey), and the estimate; what is undefined is left out.
    name, label
        As for :func:`reliability_diagram`.
    metric
        What the values are.
    chance
        Value of guessing; None where there is no such number.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 0.34 * len(rows) + 0.6), facecolor=PAGE, layout="constrained")
    axes = figure.add_subplot()
    if chance is not None:
        axes.axvline(chance, **IDEAL)
    for place, (_, kind, estimate) in enumerate(rows):
        if np.isfinite(estimate.lower) and np.isfinite(estimate.upper):
            axes.hlines(place, estimate.lower, estimate.upper, color=_KINDS[kind], linewidth=2, clip_on=False)
        if np.isfinite(estimate.value):
            axes.plot(estimate.value, place, "o", markersize=9, color=_KINDS[kind], clip_on=False)
    tidy(axes, "x")
    axes.set_xlim(0, 1)
    axes.set_xticks((0.0, 0.25, 0.5, 0.75, 1.0), ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [title for title, _, _ in rows], fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    guessing = "" if chance is None else f" ({chance:.2g} is chance)"
    axes.set_xlabel(f"{metric}{guessing}", color=INK, fontsize=10)
    return page_svg(figure, name, label, _COLOURS, "figure")
