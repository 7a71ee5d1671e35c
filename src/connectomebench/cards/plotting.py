"""Figure style and output: reproducible files, and SVG that inherits the colours of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from connectomebench.core.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, PAGE = "#1c2128", "#545d68", "#d5dae1", "#ffffff"
BLUE = "#0072b2"
"""Colour of single-series data."""
IDEAL: Any = {"color": SOFT, "linewidth": 1.2, "linestyle": (0, (4, 3))}
"""Style of the ideal or chance line."""
PNG_DPI = 200
"""Dots an inch of PNG files."""
SETTINGS: Any = {"svg.hashsalt": "connectomebench", "font.family": "DejaVu Sans", "font.size": 9}

_DARK = {INK: "#e4e9ef", SOFT: "#a5b0bc", LINE: "#36404b", PAGE: "#1a2027"}
# settings of matplotlib are those of the whole process; pages are drawn in several threads
_RENDERING = Lock()


def tidy(axes: Axes, grid: Any = "both") -> None:
    """Show only the left and bottom axes, with a faint grid behind the data.

    Parameters
    ----------
    axes
        Of any figure.
    grid
        Direction of the faint lines: x, y or both.
    """
    axes.set_facecolor(PAGE)
    axes.grid(axis=grid, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, labelcolor=INK, labelsize=8.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)


def save(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG (200 dpi), PDF or SVG, by file extension; the output is reproducible."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(render(figure, path.suffix.removeprefix(".")))
    return path


def render(figure: Figure, kind: str, dpi: int = PNG_DPI, *, within_page: bool = False) -> bytes:
    """Render a figure as png, pdf or svg bytes.

    Parameters
    ----------
    figure
        The same figure gives the same bytes.
    kind
        Of file.
    dpi
        Dots an inch of a PNG.
    within_page
        Leave texts of an SVG as texts, and its background out.
    """
    from matplotlib import rc_context

    undated: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
    }
    colour = "none" if within_page else figure.get_facecolor()
    stream = io.BytesIO()
    with _RENDERING, rc_context({**SETTINGS, "svg.fonttype": "none" if within_page else "path"}):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=undated[kind], facecolor=colour, transparent=within_page)
    return stream.getvalue()


def dark(svg: bytes) -> bytes:
    """Return the SVG recoloured for a dark page; data colours stay."""
    for light, other in _DARK.items():
        svg = svg.replace(light.encode(), other.encode())
    return svg


def page_svg(figure: Figure, name: str, label: str, colours: Mapping[str, str], css_class: str) -> Markup:
    """Return a figure as an inline SVG element whose colours, font and width come from the page's CSS.

    Parameters
    ----------
    figure
        Drawn in points: a text of size 12 is as high as 12 px of a page that shows the figure at ``72 px`` an inch.
    name
        Unique in the page; begins all ids of the drawing.
    label
        Read out in place of the drawing.
    colours
        ``#rrggbb`` in the figure -> what CSS takes for a colour, such as ``var(--ink)``.
    css_class
        Of the element.
    """
    drawn = render(figure, "svg", within_page=True).decode()
    view = re.search(r'viewBox="[^"]*"', drawn)
    assert view is not None
    # what follows the metadata and the style sheet of matplotlib, which would hold for the whole page
    drawn = drawn[drawn.index("</defs>") + len("</defs>") :]
    drawn = re.sub(r"font-family: [^;]*; ", "", drawn)
    # nothing is drawn beyond the axes that should not be seen there
    drawn = re.sub(r' clip-path="[^"]*"|<defs>\s*<clipPath.*?</defs>', "", drawn, flags=re.DOTALL)
    for colour, shown in colours.items():
        drawn = drawn.replace(colour, shown)
    prefix = str(escape(name))
    for reference in ('id="', 'href="#'):
        drawn = drawn.replace(reference, f"{reference}{prefix}-")
    opened = (
        f'<svg class="{escape(css_class)}" {view[0]} xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" style="stroke-linejoin: round; stroke-linecap: butt" role="img" '
        f'aria-labelledby="{prefix}-title"><title id="{prefix}-title">{escape(label)}</title>'
    )
    return Markup(opened + drawn.strip())
