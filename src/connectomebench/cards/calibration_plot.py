"""Reliability diagrams for pages and model cards."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from connectomebench.cards.plotting import BLUE, IDEAL, INK, PAGE, SOFT, render, tidy
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.card_template import LEVEL, estimate_text
from connectomebench.evaluation.calibration import ReliabilityBins, bin_rows, reliability_bins
from connectomebench.evaluation.results import YES_NO, Summary, default_rows, stated_events, summarise

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

BINS = 15
DPI = 144
# a panel, in inches: the square of the diagram, the bars below it, and what is around them
WIDTH, LEFT, SQUARE, GAP, BARS, FOOT = 4.1, 0.78, 3.1, 0.32, 0.75, 0.5
TITLES = 0.62
_MARGIN = 0.12
_PER_LINE = 3
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability_figure(bins: ReliabilityBins, of: str = "“yes”") -> Figure:
    """Draw the reliability diagram of one model; see :func:`draw_reliability`. ``of`` names what is predicted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, _height(_MARGIN)), facecolor=PAGE)
    draw_reliability(figure, bins, _MARGIN, of)
    return figure


def draw_reliability(panel: FigureBase, bins: ReliabilityBins, head: float, of: str = "“yes”") -> tuple[Axes, Axes]:
    """Plot observed frequency against predicted probability, with row counts per bin below.

    Each mark is a bin that holds rows; the more it holds, the larger it is. On the dashed line, stated probabilities
    are true. Whiskers are the 95% Wilson intervals of the shares found, which take rows as independent.

    Parameters
    ----------
    panel
        Figure or part of one, ``WIDTH`` inches wide and as high as the constants of this module add up to.
    bins
        From :func:`connectomebench.evaluation.calibration.reliability_bins` on P(yes).
    head
        Space above the diagram, inches.

    Returns
    -------
    tuple of Axes
        The diagram, and the bars.
    """
    rows = bin_rows(bins)
    counts = np.array([row.count for row in rows])
    height = _height(head)
    upper = panel.add_axes((LEFT / WIDTH, 1 - (head + SQUARE) / height, SQUARE / WIDTH, SQUARE / height))
    lower = panel.add_axes((LEFT / WIDTH, FOOT / height, SQUARE / WIDTH, BARS / height), sharex=upper)
    upper.plot((0, 1), (0, 1), **IDEAL)
    stated, found = [row.stated for row in rows], [row.found for row in rows]
    low, high = [row.found_lower for row in rows], [row.found_upper for row in rows]
    upper.vlines(stated, low, high, color=BLUE, linewidth=1.5, clip_on=False)
    radius = 2.5 + 3 * np.sqrt(counts / counts.max())
    upper.scatter(stated, found, (2 * radius) ** 2, BLUE, edgecolors=PAGE, linewidths=1, clip_on=False, zorder=3)
    edges = np.array([(row.lower_edge, row.upper_edge) for row in rows])
    centres = edges.mean(axis=1)
    lower.bar(centres, counts, 0.9 * (edges[:, 1] - edges[:, 0]), color=BLUE, alpha=0.55)
    for centre, count in zip(centres, counts.tolist(), strict=True):
        shown = str(count) if count < 1000 else f"{count / 1000:.1f}k"
        lower.annotate(shown, (centre, count), (0, 2), textcoords="offset points", ha="center", color=SOFT, fontsize=7)
    _label(upper, lower, int(counts.sum()), int(counts.max()), of)
    return upper, lower


def calibration_figure(results: pd.DataFrame) -> bytes:
    """Draw reliability diagrams of one model for its card; see :func:`draw_reliability`.

    P(yes) is in 15 bins of equal width. The title has the expected calibration error with its interval over groups.

    Parameters
    ----------
    results
        Result records of one model, from :func:`connectomebench.evaluation.results.read_results`; only
        those of the default condition are drawn.

    Returns
    -------
    bytes
        A PNG file: one panel a task, species and partition, three beside each other. A panel says so where the model
        states no probability.

    Raises
    ------
    ConnectomeBenchError
        If there are no rows.
    """
    from matplotlib.figure import Figure

    results = default_rows(results)
    summaries = summarise(results)
    if not summaries:
        raise ConnectomeBenchError("there are no results to draw; evaluate the model first")
    columns = min(len(summaries), _PER_LINE)
    lines = -(-len(summaries) // _PER_LINE)
    figure = Figure(figsize=(columns * WIDTH, lines * _height(TITLES)), facecolor=PAGE)
    panels: Any = figure.subfigures(lines, columns, squeeze=False)
    for panel, summary in zip(panels.flat, summaries, strict=False):
        _draw_panel(panel, results, summary)
    with Image.open(io.BytesIO(render(figure, "png", DPI))) as drawn:
        few = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)  # a quarter of the size
    stream = io.BytesIO()
    few.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _height(head: float) -> float:
    return head + SQUARE + GAP + BARS + FOOT


def _draw_panel(panel: FigureBase, results: pd.DataFrame, summary: Summary) -> None:
    here = (results["task"] == summary.task) & (results["species"] == summary.species)
    rows = results[here & (results["partition"] == summary.partition) & results["probability"].notna()]
    of = "“yes”" if set(rows["answer"]) <= set(YES_NO) else "the answer given"
    if rows.empty:
        known = f"n = {summary.n}, none with a probability"
    else:
        ece = summary.estimates["ece"]
        known = f"ECE {estimate_text(ece.value, ece.lower, ece.upper)}; n = {ece.n}, {ece.n_groups} groups"
        bins = reliability_bins(rows["probability"].to_numpy(dtype=np.float64), stated_events(rows), BINS)
        draw_reliability(panel, bins, TITLES, of)
    height = _height(TITLES)
    place = f"{summary.species}, {summary.partition}"
    if results["task"].nunique() == 1:
        panel.text(LEFT / WIDTH, 1 - 0.24 / height, place, color=INK, fontsize=12)
    else:
        panel.text(LEFT / WIDTH, 1 - 0.24 / height, f"{get_task(summary.task).title}, {place}", color=INK, fontsize=9)
    panel.text(LEFT / WIDTH, 1 - 0.46 / height, known, color=SOFT, fontsize=9)


def _label(upper: Axes, lower: Axes, n: int, most: int, of: str) -> None:
    for axes in (upper, lower):
        tidy(axes)
        axes.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.tick_params(labelbottom=False)
    upper.set_yticks(_TICKS, [f"{share:g}" for share in _TICKS])
    upper.set_ylabel("share that really is “yes”" if of == "“yes”" else "share that is right", color=INK, fontsize=10)
    lower.set_ylim(0, 1.3 * most)
    lower.set_yticks([])
    lower.spines["left"].set_visible(False)
    lower.grid(False)
    lower.set_xticks(_TICKS, [f"{share:g}" for share in _TICKS])
    lower.set_xlabel(f"stated probability of {of}", color=INK, fontsize=10)
    lower.set_ylabel(f"rows\n(n = {n})", color=INK, fontsize=9)
    note = f"lines: {LEVEL:.0%} intervals; bars: rows in each bin"
    upper.annotate(note, (0.5, 0), (0, -14), "axes fraction", "offset points", ha="center", color=SOFT, fontsize=8.5)
