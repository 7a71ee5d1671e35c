"""Draw a centre mark and scale bar over images for people, never into stored images, which models see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.view_layout import plane

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_INK, _HALO = (20, 20, 20), (255, 255, 255)
# shares of the edge of an image
_GAP, _TICK, _MARGIN = 0.03, 0.035, 0.04
_LONGEST = 0.35  # of a scale bar


@dataclass(frozen=True)
class ScaleBar:
    """Scale bar of a round length.

    Attributes
    ----------
    length_nm
        1, 2 or 5 times a power of ten, nm.
    share
        Length as a share of the edge of the view.
    text
        With its unit: nm, or µm from 1,000 nm on.
    """

    length_nm: float
    share: float
    text: str


def scale_bar(extent_nm: float) -> ScaleBar:
    """Choose the longest round length that is at most about a third of a view.

    Parameters
    ----------
    extent_nm
        Edge of the view, nm.

    Raises
    ------
    ValueError
        If the edge is not a positive number.

    Examples
    --------
    >>> scale_bar(5600.0)
    ScaleBar(length_nm=1000.0, share=0.17857142857142858, text='1 µm')
    """
    if not (math.isfinite(extent_nm) and extent_nm > 0):
        raise ValueError(f"a view is {extent_nm} nm wide")
    longest = _LONGEST * extent_nm
    unit = 10.0 ** math.floor(math.log10(longest))
    length = max(step * unit for step in (1, 2, 5) if step * unit <= longest)
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    return ScaleBar(length, length / extent_nm, text)


def has_overlay(view: str, extent_nm: float | None) -> bool:
    """Check whether an image has a known centre and width: a view or slice of a row with a known extent."""
    return plane(view) is not None and extent_nm is not None and math.isfinite(extent_nm) and extent_nm > 0


def overlay_svg(extent_nm: float, mark: tuple[float, float] | None = (0.5, 0.5)) -> str:
    """Return the overlay as an SVG element of class ``overlay`` that a page lays over the image.

    Parameters
    ----------
    extent_nm
        Edge of the view, nm.
    mark
        Where the mark lies, as shares of the edge from the left and from the top; None for none.
    """
    bar = scale_bar(extent_nm)
    near, far = 100 * _GAP, 100 * (_GAP + _TICK)
    ticks = ""
    if mark is not None:
        a, b = (100 * share for share in mark)
        ticks = " ".join(
            f"M{a + x * near:g} {b + y * near:g}L{a + x * far:g} {b + y * far:g}"
            for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))
        )
    left, right, foot = 100 * (1 - _MARGIN - bar.share), 100 * (1 - _MARGIN), 100 * (1 - _MARGIN)
    line = f"M{left:.4g} {foot:g}L{right:g} {foot:g}"
    # strokes have the same width on small and large images
    strokes = "".join(
        f'<path d="{ticks} {line}" fill="none" stroke="{colour}" stroke-width="{width}" '
        'vector-effect="non-scaling-stroke"/>'
        for colour, width in (("#fff", 4), ("#141414", 1.6))
    )
    return (
        '<svg class="overlay" viewBox="0 0 100 100" aria-hidden="true" style="position:absolute;inset:0;width:100%;'
        f'height:100%;pointer-events:none">{strokes}<text x="{right:g}" y="{foot - 2:g}" text-anchor="end" '
        'font-size="5.5" fill="#141414" stroke="#fff" stroke-width="1.4" paint-order="stroke" '
        f'font-family="system-ui,sans-serif">{bar.text}</text></svg>'
    )


def draw_overlay(picture: Image.Image, extent_nm: float) -> Image.Image:
    """Draw the overlay onto a copy of an image.

    Parameters
    ----------
    picture
        RGB, square; a view or slice.
    extent_nm
        Edge of the view, nm.
    """
    from PIL import ImageDraw

    marked = picture.convert("RGB")
    draw = ImageDraw.Draw(marked)
    edge = picture.width
    middle, near, far = edge / 2, edge * _GAP, edge * (_GAP + _TICK)
    bar = scale_bar(extent_nm)
    foot, right = edge * (1 - _MARGIN), edge * (1 - _MARGIN)
    lines = [((middle + x * near, middle + y * near), (middle + x * far, middle + y * far))
             for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))]  # fmt: skip
    lines.append(((right - edge * bar.share, foot), (right, foot)))
    for colour, width in ((_HALO, 3), (_INK, 1)):
        for line in lines:
            draw.line(line, colour, width)
    font = _font(max(9, round(edge * 0.07)))
    draw.text((right, foot - 3), bar.text, _INK, font, anchor="rs", stroke_width=1, stroke_fill=_HALO)
    return marked


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Open the font that comes with matplotlib: Pillow's own has no µ and draws a box."""
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
