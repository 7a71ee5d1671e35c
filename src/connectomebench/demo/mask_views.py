"""Show and read answers that are masks: loops drawn round what a split takes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.sample_pictures import data_uri
from connectomebench.demo.texts import view_title
from connectomebench.human_eval.loops import masks_of, read_loops
from connectomebench.rendering.overlay import has_overlay, overlay_svg


def loop_pictures(row: Mapping[str, Any], files: Sequence[bytes]) -> Markup:
    """Show the pictures of a row for drawing: ``page.js`` keeps the loops in the field of the answer.

    Parameters
    ----------
    row
        Small columns of the row.
    files
        Its image files, in the order of its views.
    """
    figures = "".join(
        _figure(view, file, float(row["extent_nm"])) for view, file in zip(row["views"], files, strict=True)
    )
    return Markup(
        f'<div class="cb-views cb-loops">{figures}</div>'
        '<p><button type="button" class="cb-enlarge cb-undo" disabled>Undo the last loop</button></p>'
    )


def _figure(view: str, file: bytes, extent_nm: float) -> str:
    title = escape(view_title(view))
    overlay = overlay_svg(extent_nm) if has_overlay(view, extent_nm) else ""
    return (
        f'<figure class="cb-view"><div class="cb-canvas" data-view="{escape(view)}"><img src="{data_uri(file)}" '
        f'alt="{title}" draggable="false">{overlay}<svg class="cb-marks" viewBox="0 0 1 1" preserveAspectRatio="none" '
        f'aria-hidden="true"></svg></div><figcaption>{title}</figcaption></figure>'
    )


def loop_hint() -> Markup:
    """Say how to draw."""
    return Markup(
        '<p class="cb-hint">How to answer: with the mouse, a pen or a finger, draw a loop round the smaller part, in '
        "every view that shows it. Several loops of a view count together, and only the segment counts.</p>"
    )


def read_drawn(text: str, row: Mapping[str, Any], files: Sequence[bytes]) -> str:
    """Read loops, and return the masks that they stand for.

    Parameters
    ----------
    text
        As :func:`connectomebench.human_eval.loops.read_loops` takes it.
    row, files
        As for :func:`loop_pictures`.

    Returns
    -------
    str
        In the form of answers (:func:`connectomebench.core.part_masks.encode_masks`).

    Raises
    ------
    ConnectomeBenchError
        If there is no loop, or the text is none of the page's.
    """
    if not text.strip():
        raise ConnectomeBenchError("draw a loop round the part that the split takes away")
    views = list(row["views"])
    return masks_of(read_loops(text, views), views, [{"bytes": file} for file in files])
