"""Draw the figures of the tab "Compare" as SVG text, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from connectomebench.cards.calibration_plot import reliability_figure
from connectomebench.cards.plotting import BLUE, IDEAL, INK, LINE, PAGE, SOFT, page_svg, tidy
from connectomebench.evaluation.calibration import ReliabilityBins
from connectomebench.evaluation.statistics import Estimate

# colours of the figures -> those of page.css
_COLOURS = {colour: f"var(--cb-{name})" for name, colour in (("ink", INK), ("soft", SOFT), ("line", LINE))} | {
    PAGE: "var(--cb-page)",
    BLUE: "var(--cb-mark)",
}
# smallest distance of two marks, as a share of the axis
_APART = 0.07


@dataclass(frozen=True)
class Mark:
    """A model in a scatter plot: number in the legend, position, balanced accuracy."""

    number: int
    x: float
    estimate: Estimate


def scatter(marks: Sequence[Mark], x_title: str, name: str, title: str) -> Markup:
    """Plot balanced accuracy with 95% intervals against a positive quantity on a logarithmic axis.

    Parameters
    ----------
    marks
        At least one, ``x`` above 0. Marks that would cover each other are moved apart sideways.
    x_title
        Label of ``x``, with its unit.
    name, title
        Unique in the page, and read out instead of the drawing.
    """
    from matplotlib.figure import Figure

    low = math.floor(math.log10(min(mark.x for mark in marks)))
    high = max(math.ceil(math.log10(max(mark.x for mark in marks))), low + 1)
    figure = Figure(figsize=(4.4, 3.2), facecolor=PAGE, layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0.5, **IDEAL)
    for mark, place in zip(marks, _places([(math.log10(m.x) - low) / (high - low) for m in marks]), strict=True):
        x = 10 ** (low + place * (high - low))
        if math.isfinite(mark.estimate.lower) and math.isfinite(mark.estimate.upper):
            axes.vlines(x, mark.estimate.lower, mark.estimate.upper, color=BLUE, linewidth=2, clip_on=False)
        axes.plot(x, mark.estimate.value, "o", markersize=13, color=BLUE, clip_on=False)
        at = (x, mark.estimate.value)
        axes.annotate(str(mark.number), at, ha="center", va="center_baseline", color=PAGE, fontsize=9, weight="bold")
    tidy(axes)
    axes.set_xscale("log")
    axes.set_xlim(10.0**low, 10.0**high)
    powers = [10.0**power for power in range(low, high + 1)]
    axes.set_xticks(powers, [f"{power:g}" for power in powers])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1)
    axes.set_yticks((0.0, 0.25, 0.5, 0.75, 1.0), ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_xlabel(x_title, color=INK, fontsize=10)
    axes.set_ylabel("balanced accuracy (0.5 is guessing)", color=INK, fontsize=10)
    return page_svg(figure, name, title, _COLOURS, "cb-plot")


def reliability(bins: ReliabilityBins, name: str, title: str) -> Markup:
    """Plot the observed share of yes against the stated probability, with 95% Wilson intervals.

    Parameters
    ----------
    bins
        From :func:`connectomebench.evaluation.calibration.reliability_bins` on P(yes).
    name, title
        Unique in the page, and read out instead of the drawing.
    """
    return page_svg(reliability_figure(bins), name, title, _COLOURS, "cb-plot")


def _places(shares: Sequence[float]) -> list[float]:
    """Return the positions of marks on the axis, from 0 to 1, moved aside where they would overlap."""
    places = list(shares)
    taken: list[float] = []
    for i in sorted(range(len(shares)), key=lambda i: shares[i]):
        while any(abs(places[i] - other) < _APART for other in taken):
            places[i] += _APART / 2
        taken.append(places[i])
    return places
