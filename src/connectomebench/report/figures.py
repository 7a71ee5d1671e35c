"""Figures as SVG text: they scale, take the colours of the page (light and dark) and are the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape
from scipy.stats import norm

from connectomebench.evaluation.calibration import ReliabilityBins
from connectomebench.evaluation.statistics import Estimate

_SIZE, _LEFT, _TOP, _BARS, _BOTTOM = 300, 58, 14, 74, 40


@dataclass(frozen=True)
class BinRow:
    """One filled bin of a reliability diagram; shares between 0 and 1, bounds by Wilson's interval."""

    lower_edge: float
    upper_edge: float
    count: int
    stated: float
    found: float
    found_lower: float
    found_upper: float


def wilson_interval(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927).

    Parameters
    ----------
    successes
        How many of ``n``.
    n
        At least 1.
    level
        Coverage.
    """
    z = float(norm.ppf(0.5 + level / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


def bin_rows(bins: ReliabilityBins) -> list[BinRow]:
    """List the bins that hold samples, with 95% Wilson intervals of the share found."""
    rows = []
    for i, (low, high) in enumerate(pairwise(bins.edges.tolist())):
        count = int(bins.count[i])
        if count:
            found = float(bins.accuracy[i])
            rows.append(
                BinRow(low, high, count, float(bins.confidence[i]), found, *wilson_interval(found * count, count))
            )
    return rows


def reliability_diagram(bins: ReliabilityBins, name: str, label: str) -> Markup:
    """Draw stated against found shares, and how many samples each bin holds.

    Parameters
    ----------
    bins
        From :func:`connectomebench.evaluation.calibration.reliability_bins` on P(yes).
    name
        Unique in the page; becomes part of the ids that the drawing needs.
    label
        Read out instead of the drawing.
    """
    rows = bin_rows(bins)
    total, tallest = sum(r.count for r in rows), max((r.count for r in rows), default=1)
    foot = _TOP + _SIZE + 34 + _BARS
    parts = [_open(_LEFT + _SIZE + 18, foot + _BOTTOM, name, label)]

    def x(share: float) -> float:
        return _LEFT + share * _SIZE

    def y(share: float) -> float:
        return _TOP + (1 - share) * _SIZE

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        tick = f"{share:g}"
        parts.append(_line(x(share), _TOP, x(share), _TOP + _SIZE, "grid"))
        parts.append(_line(_LEFT, y(share), _LEFT + _SIZE, y(share), "grid"))
        parts.append(_text(_LEFT - 7, y(share) + 4, tick, "end"))
        parts.append(_text(x(share), foot + 16, tick, "middle"))
    parts.append(_line(x(0), y(0), x(1), y(1), "ideal"))
    for row in rows:
        parts.append(_line(x(row.stated), y(row.found_lower), x(row.stated), y(row.found_upper), "whisker"))
    for row in rows:
        radius = 3 + 6 * float(np.sqrt(row.count / tallest))
        parts.append(f'<circle class="mark" cx="{x(row.stated):.1f}" cy="{y(row.found):.1f}" r="{radius:.1f}"/>')
    for row in rows:
        height = (_BARS - 14) * row.count / tallest
        left, width = x(row.lower_edge) + 1, (row.upper_edge - row.lower_edge) * _SIZE - 2
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{foot - height:.1f}" '
            f'width="{max(width, 1):.1f}" height="{height:.1f}"/>'
        )
        parts.append(_text(left + width / 2, foot - height - 3, str(row.count), "middle", "small"))
    parts.append(_line(_LEFT, foot, _LEFT + _SIZE, foot, "axis"))
    parts.append(_text(_LEFT + _SIZE / 2, foot + 34, "probability of “yes” that the probe states", "middle"))
    parts.append(_text(0, 0, "share that really is “yes”", "middle", turn=(13, _TOP + _SIZE / 2)))
    parts.append(_text(4, foot - 2, f"n = {total}", "start", "small"))
    parts.append("</svg>")
    return Markup("".join(parts))


def interval_plot(rows: Sequence[tuple[str, str, Estimate]], name: str, label: str) -> Markup:
    """Draw values with their intervals on an axis from 0 to 1, with chance at 0.5.

    Parameters
    ----------
    rows
        Name of the row, CSS class of its mark, and the estimate.
    name, label
        As for :func:`reliability_diagram`.
    """
    left, width, step, top = 112, 268, 30, 8
    foot = top + step * len(rows) + 4
    parts = [_open(left + width + 22, foot + _BOTTOM, name, label)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = left + share * width
        parts.append(_line(at, top, at, foot, "ideal" if share == 0.5 else "grid"))
        parts.append(_text(at, foot + 16, f"{share:g}", "middle"))
    for i, (title, kind, estimate) in enumerate(rows):
        at = top + step * (i + 0.5)
        parts.append(_text(left - 10, at + 4, title, "end"))
        if np.isfinite(estimate.lower) and np.isfinite(estimate.upper):
            ends = left + estimate.lower * width, left + estimate.upper * width
            parts.append(_line(ends[0], at, ends[1], at, f"whisker {kind}"))
        if np.isfinite(estimate.value):
            parts.append(f'<circle class="mark {kind}" cx="{left + estimate.value * width:.1f}" cy="{at:.1f}" r="6"/>')
    parts.append(_text(left + width / 2, foot + 34, "balanced accuracy (0.5 is chance)", "middle"))
    parts.append("</svg>")
    return Markup("".join(parts))


def _open(width: float, height: float, name: str, label: str) -> str:
    return (
        f'<svg class="figure" viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{escape(name)}-title">'
        f'<title id="{escape(name)}-title">{escape(label)}</title>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "", turn: tuple[float, float] | None = None) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"'
    if turn:
        place += f' transform="translate({turn[0]:g} {turn[1]:g}) rotate(-90)"'
    classes = f' class="{kind}"' if kind else ""
    return f'<text{classes} {place} text-anchor="{anchor}">{escape(text)}</text>'
