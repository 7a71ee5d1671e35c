"""Figures of the tab "Compare" as SVG text, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from connectomebench.demo.recorded_answers import wilson
from connectomebench.evaluation.calibration import ReliabilityBins
from connectomebench.evaluation.statistics import Estimate

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 420, 300, 56, 12, 44
_APART = 22.0


@dataclass(frozen=True)
class Mark:
    """A model in a scatter plot: its number in the legend, where it stands, its balanced accuracy."""

    number: int
    x: float
    estimate: Estimate


def scatter(marks: Sequence[Mark], x_title: str, title: str) -> Markup:
    """Draw balanced accuracy with its 95% intervals against a positive quantity on a logarithmic axis.

    Parameters
    ----------
    marks
        At least one, ``x`` above 0. Marks that would cover each other are moved apart sideways.
    x_title
        What ``x`` is, with its unit.
    title
        Read out instead of the drawing.
    """
    low = math.floor(math.log10(min(mark.x for mark in marks)))
    high = max(math.ceil(math.log10(max(mark.x for mark in marks))), low + 1)
    parts = [_open(title), *_axes(x_title, "balanced accuracy (0.5 is guessing)")]
    for power in range(low, high + 1):
        at = _x((power - low) / (high - low))
        parts += [_line(at, _TOP, at, _y(0), "grid"), _text(at, _y(0) + 16, f"{10.0**power:g}", "middle")]
    parts.append(_line(_x(0), _y(0.5), _x(1), _y(0.5), "ideal"))
    taken: list[float] = []
    for mark in sorted(marks, key=lambda one: (one.x, one.number)):
        at = _x((math.log10(mark.x) - low) / (high - low))
        while any(abs(at - other) < _APART for other in taken):
            at += _APART / 2
        taken.append(at)
        if math.isfinite(mark.estimate.lower) and math.isfinite(mark.estimate.upper):
            parts.append(_line(at, _y(mark.estimate.lower), at, _y(mark.estimate.upper), "whisker"))
        parts.append(f'<circle class="mark" cx="{at:.1f}" cy="{_y(mark.estimate.value):.1f}" r="9"/>')
        parts.append(_text(at, _y(mark.estimate.value) + 4, str(mark.number), "middle", "on-mark"))
    return Markup("".join([*parts, "</svg>"]))


def reliability(bins: ReliabilityBins, title: str) -> Markup:
    """Draw how often the answer is yes against the probability stated for it, with 95% Wilson intervals.

    The number of samples stands at each mark; on the dashed line a model is well calibrated.

    Parameters
    ----------
    bins
        From :func:`connectomebench.evaluation.calibration.reliability_bins` on P(yes).
    title
        Read out instead of the drawing.
    """
    parts = [_open(title), *_axes("probability it gave to “yes”", "share that really is “yes”")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            _line(_x(share), _TOP, _x(share), _y(0), "grid"),
            _text(_x(share), _y(0) + 16, f"{share:g}", "middle"),
        ]
    parts.append(_line(_x(0), _y(0), _x(1), _y(1), "ideal"))
    for i, _ in enumerate(pairwise(bins.edges.tolist())):
        if n := int(bins.count[i]):
            found, at = float(bins.accuracy[i]), _x(float(bins.confidence[i]))
            lower, upper = wilson(round(found * n), n)
            parts.append(_line(at, _y(lower), at, _y(upper), "whisker"))
            parts.append(f'<circle class="mark" cx="{at:.1f}" cy="{_y(found):.1f}" r="5"/>')
            parts.append(_text(at + 8, _y(found) + 4, str(n), "start"))
    return Markup("".join([*parts, "</svg>"]))


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - 24)


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _FOOT)


def _axes(x_title: str, y_title: str) -> list[str]:
    parts = [_text(_x(0.5), _HEIGHT - 6, x_title, "middle")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            _line(_x(0), _y(share), _x(1), _y(share), "grid"),
            _text(_x(0) - 6, _y(share) + 4, f"{share:g}", "end"),
        ]
    middle = _y(0.5)
    parts.append(
        f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">{y_title}</text>'
    )
    return parts


def _open(title: str) -> str:
    return f'<svg class="cb-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    classes = f' class="{kind}"' if kind else ""
    return f'<text{classes} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
