"""The calibration plot of a model card: stated against found shares, one panel a species and partition, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.card_template import LEVEL, estimate_text
from connectomebench.evaluation.calibration import ReliabilityBins, reliability_bins
from connectomebench.evaluation.results import YES_NO, Summary, as_it_stands, summarise
from connectomebench.rendering.colours import BLUE

if TYPE_CHECKING:
    import pandas as pd

BINS = 15
# drawn larger and then reduced: smooth lines
_SCALE = 3
_PLOT, _LEFT, _TOP, _BARS = 270, 62, 78, 64
_WIDTH, _HEIGHT = _LEFT + _PLOT + 28, _TOP + _PLOT + 30 + _BARS + 52
_PER_LINE = 3
_INK, _FAINT, _GRID = (20, 20, 20), (95, 95, 95), (225, 225, 225)


@dataclass(frozen=True)
class _Panel:
    title: str
    told: str
    bins: ReliabilityBins | None


def calibration_figure(results: pd.DataFrame) -> bytes:
    """Draw reliability diagrams of one model.

    Each point is a bin of stated P(yes) (15 of equal width): where it lies on the diagonal, the model may be taken at
    its word. Its whisker is the 95% Wilson interval of the share of "yes", which takes rows as independent. Below are
    the numbers of rows in the bins; the title has the expected calibration error with its interval over groups.

    Parameters
    ----------
    results
        Result records of one model on one task, from :func:`connectomebench.evaluation.results.read_results`; only
        those of the default condition are drawn.

    Returns
    -------
    bytes
        A PNG file: one panel a species and partition, three beside each other. A panel says so where the model states
        no probability.

    Raises
    ------
    ConnectomeBenchError
        If there are no rows.
    """
    results = as_it_stands(results)
    panels = [_panel(results, summary) for summary in summarise(results)]
    if not panels:
        raise ConnectomeBenchError("there are no results to draw; evaluate the model first")
    columns = min(len(panels), _PER_LINE)
    lines = -(-len(panels) // _PER_LINE)
    sheet = Image.new("RGB", (columns * _WIDTH * _SCALE, lines * _HEIGHT * _SCALE), "white")
    draw = ImageDraw.Draw(sheet)
    for i, panel in enumerate(panels):
        _draw_panel(_Pen(draw, i % _PER_LINE * _WIDTH, i // _PER_LINE * _HEIGHT), panel)
    stream = io.BytesIO()
    sheet.reduce(_SCALE).quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _panel(results: pd.DataFrame, summary: Summary) -> _Panel:
    here = (results["species"] == summary.species) & (results["partition"] == summary.partition)
    rows = results[here & results["probability"].notna()]
    title = f"{summary.species}, {summary.partition}"
    if rows.empty or not set(rows["answer"]) <= set(YES_NO):
        return _Panel(title, f"n = {summary.n}, none with a probability of “yes”", None)
    ece = summary.estimates["ece"]
    told = f"ECE {estimate_text(ece.value, ece.lower, ece.upper)}; n = {ece.n}, {ece.n_groups} groups"
    label = (rows["answer"] == "yes").to_numpy(dtype=np.int64)
    return _Panel(title, told, reliability_bins(rows["probability"].to_numpy(dtype=np.float64), label, BINS))


class _Pen:
    """Draws in the coordinates of one panel."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: float, top: float) -> None:
        self._draw, self._left, self._top = draw, left, top

    def _at(self, points: Sequence[float]) -> list[float]:
        origin = (self._left, self._top)
        return [(value + origin[i % 2]) * _SCALE for i, value in enumerate(points)]

    def line(self, points: Sequence[float], colour: tuple[int, int, int], width: float = 1) -> None:
        self._draw.line(self._at(points), colour, round(width * _SCALE))

    def circle(self, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        self._draw.ellipse(self._at((x - radius, y - radius, x + radius, y + radius)), colour, "white", _SCALE)

    def box(self, points: Sequence[float], colour: tuple[int, int, int]) -> None:
        self._draw.rectangle(self._at(points), colour)

    def text(self, x: float, y: float, text: str, size: int = 12, anchor: str = "mm", faint: bool = False) -> None:
        font = ImageFont.load_default(size * _SCALE)
        place = self._at((x, y))
        self._draw.text((place[0], place[1]), text, _FAINT if faint else _INK, font, anchor)


def _draw_panel(pen: _Pen, panel: _Panel) -> None:
    from connectomebench.report.figures import bin_rows

    pen.text(_LEFT, 16, panel.title, 16, "lm")
    pen.text(_LEFT, 38, panel.told, 12, "lm", faint=True)
    if panel.bins is None:
        return
    foot = _TOP + _PLOT + 30 + _BARS

    def x(share: float) -> float:
        return _LEFT + share * _PLOT

    def y(share: float) -> float:
        return _TOP + (1 - share) * _PLOT

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        pen.line((x(share), y(0), x(share), y(1)), _GRID)
        pen.line((x(0), y(share), x(1), y(share)), _GRID)
        pen.text(_LEFT - 6, y(share), f"{share:g}", 11, "rm", faint=True)
        pen.text(x(share), foot + 12, f"{share:g}", 11, faint=True)
    for start, end in pairwise(np.linspace(0, 1, 41).tolist()[::2]):
        pen.line((x(start), y(start), x((start + end) / 2), y((start + end) / 2)), _FAINT)
    rows = bin_rows(panel.bins)
    tallest = max(row.count for row in rows)
    for row in rows:
        pen.line((x(row.stated), y(row.found_lower), x(row.stated), y(row.found_upper)), BLUE, 1.5)
    for row in rows:
        pen.circle(x(row.stated), y(row.found), 4.5, BLUE)
        height = (_BARS - 14) * row.count / tallest
        pen.box((x(row.lower_edge) + 1, foot - height, x(row.upper_edge) - 1, foot), BLUE)
        pen.text((x(row.lower_edge) + x(row.upper_edge)) / 2, foot - height - 6, _short(row.count), 10, faint=True)
    pen.line((x(0), foot, x(1), foot), _FAINT)
    pen.text(
        _LEFT + _PLOT / 2, _TOP + _PLOT + 14, f"whiskers: {LEVEL:.0%} intervals; bars: rows in each bin", 11, faint=True
    )
    pen.text(_LEFT + _PLOT / 2, foot + 32, "probability of “yes” that the model states", 12)
    pen.text(_LEFT, _TOP - 10, "share that really is “yes”", 12, "lm")


def _short(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.1f}k"
