"""Show and read answers that are places: numbered nodes to choose in pictures and list, coordinates, marks."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.place_score import NONE_AT, full_credit_nm
from connectomebench.core.places import nodes_in, read_places, relative, write_places
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS, Task, get_task
from connectomebench.demo.sample_pictures import data_uri
from connectomebench.demo.texts import view_title
from connectomebench.models.reply_parsing import parse_answer
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.overlay import has_overlay, overlay_svg

_MOST_TEXT = 400
_DARK = 30  # of 255: the dot of a node is black, and no part of a segment is
GIVEN, TRUE = "given", "true"
"""Kinds of marks, which are classes of the page."""


def read_typed(text: str, row: Mapping[str, Any]) -> str:
    """Read what a visitor typed or chose, in the form in which places are stored.

    Parameters
    ----------
    text
        Node numbers or coordinates, as :mod:`connectomebench.models.reply_parsing` takes them.
    row
        Small columns of the row.

    Raises
    ------
    ConnectomeBenchError
        If it is no answer to the row.
    """
    task, nodes = get_task(row["task"]), nodes_in(row["question"])
    tagged = f"<answer>{text}</answer>" if len(text) <= _MOST_TEXT else ""
    found = read_places(parse_answer(tagged, task))
    if found is None:
        raise ConnectomeBenchError(f"choose {_wanted(task)}, or type {how_to_type(task)}")
    if found.points(nodes) is None:
        raise ConnectomeBenchError(f"there is no such node here; they have the numbers 1 to {max(nodes, default=0)}")
    return write_places(found)


def _wanted(task: Task) -> str:
    return "a node on either side of the cut" if task.answer_kind == "points" else "a node"


def how_to_type(task: Task) -> str:
    """Say how an answer is typed."""
    if task.answer_kind == "points":
        return "two places, such as “node 3; node 7” or “(120, -40, 30); (60, -40, 0)”"
    return "a place, such as “node 7” or “120, -40, 30”"


def place_hint(row: Mapping[str, Any]) -> Markup:
    """Say how to answer a row, and what the score depends on."""
    task = get_task(row["task"])
    full_nm = full_credit_nm(float(row["extent_nm"]))
    return Markup(
        '<p class="cb-hint">How to answer: choose {}, in the pictures or in the list below them, or type {}, in nm '
        "from the middle of the pictures. Within {:,.0f} nm of a right place the score is 1, from {:,.0f} nm on 0.</p>"
    ).format(_wanted(task), how_to_type(task), full_nm, NONE_AT * full_nm)


def place_words(answer: str, row: Mapping[str, Any]) -> str:
    """Write places for people; of points also the nodes nearest to them, whose numbers stand in the pictures.

    Parameters
    ----------
    answer
        Places in the form in which they are stored; other text is returned as it is.
    row
        Small columns of the row.
    """
    places = read_places(answer)
    nodes = nodes_in(row["question"])
    if places is None or not nodes:
        return answer
    sides = (" and ".join(_words(place, nodes) for place in side) for side in (places.sources, places.sinks) if side)
    return ", against ".join(sides)


def _words(place: Point | int, nodes: Mapping[int, Point]) -> str:
    if isinstance(place, int):
        return f"node {place}"
    nearest = min(nodes, key=lambda number: math.dist(nodes[number], place))
    return f"({', '.join(f'{c:.0f}' for c in place)}) nm, nearest to node {nearest}"


def right_places(row: Mapping[str, Any]) -> list[Point]:
    """Return all places that are right, nm relative to the centre of the views."""
    return [relative(place, row["location_nm"]) for place in row["target_nm"]]


def given_places(answer: str, row: Mapping[str, Any]) -> list[Point]:
    """Return the places of an answer as points, nm relative to the centre of the views; none where it has none."""
    places = read_places(answer)
    found = places and places.points(nodes_in(row["question"]))
    points = (*found.sources, *found.sinks) if found else ()
    return [place for place in points if not isinstance(place, int)]


def place_pictures(
    row: Mapping[str, Any], files: Sequence[bytes], marks: Sequence[tuple[str, Sequence[Point]]] = ()
) -> Markup:
    """Show the pictures of a row whose nodes can be chosen, or with marks where an answer was given.

    Parameters
    ----------
    row
        Small columns of the row.
    files
        Its image files, in the order of its views.
    marks
        Kind (:data:`GIVEN`, :data:`TRUE`) -> points, nm relative to the centre of the views. Without any, ``page.js``
        lets the visitor choose.
    """
    extent_nm = float(row["extent_nm"])
    nodes = nodes_in(row["question"])
    choose = "" if marks else f' data-nodes="{escape(json.dumps(nodes))}" data-wanted="{_count(row)}"'
    figures = "".join(
        _figure(view, file, extent_nm, nodes, marks) for view, file in zip(row["views"], files, strict=True)
    )
    legend = Markup("").join(
        Markup('<li><span class="cb-key cb-mark-{}"></span>{}</li>').format(kind, words)
        for kind, words in ((GIVEN, "your answer"), (TRUE, "right"))
        if any(kind == own for own, points in marks if points)
    )
    below = Markup('<ul class="cb-legend">{}</ul>').format(legend) if legend else Markup("")
    return Markup(f'<div class="cb-views cb-places"{choose}>{figures}</div>') + below


def _count(row: Mapping[str, Any]) -> int:
    return 2 if get_task(row["task"]).answer_kind == "points" else 1


def _figure(
    view: str,
    file: bytes,
    extent_nm: float,
    nodes: Mapping[int, Point],
    marks: Sequence[tuple[str, Sequence[Point]]],
) -> str:
    title = escape(view_title(view))
    overlay = overlay_svg(extent_nm) if has_overlay(view, extent_nm) else ""
    points = np.array([nodes[n] for n in nodes], np.float64).reshape(-1, 3)
    numbers = list(nodes)
    seen = [numbers[i] for i in np.flatnonzero(drawn_nodes(file, _shares(points, view, extent_nm)))]
    frame = (view_frame(view)[:2] / extent_nm).tolist() if view in MESH_VIEWS else None
    rings = "".join(
        f'<circle class="cb-mark-{kind}" cx="{100 * x:.2f}" cy="{100 * y:.2f}" r="3.6"/>'
        for kind, own in marks
        for x, y in _shares(np.array(own, np.float64).reshape(-1, 3), view, extent_nm).tolist()
        if 0 <= x <= 1 and 0 <= y <= 1
    )
    return (
        f'<figure class="cb-view"><div class="cb-canvas" data-frame="{escape(json.dumps(frame))}" '
        f'data-seen="{escape(json.dumps(seen))}"><img src="{data_uri(file)}" alt="{title}" draggable="false">{overlay}'
        f'<svg class="cb-marks" viewBox="0 0 100 100" aria-hidden="true">{rings}</svg></div>'
        f'<figcaption>{title} <button type="button" class="cb-enlarge" aria-label="Enlarge: {title}">Enlarge</button>'
        "</figcaption></figure>"
    )


def _shares(points: NDArray[np.float64], view: str, extent_nm: float) -> NDArray[np.float64]:
    """Return column and row of points in a view, as shares of its edge; shape (n, 2)."""
    return points @ view_frame(view)[:2].T / extent_nm + 0.5


def drawn_nodes(file: bytes, shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find the nodes whose dot is drawn in a picture: hidden ones are left out there.

    Parameters
    ----------
    file
        The picture.
    shares
        Column and row of each node, shares of the edge, shape (n, 2).

    Returns
    -------
    bool, shape (n,)
    """
    from PIL import Image

    with Image.open(io.BytesIO(file)) as picture:
        brightest = np.asarray(picture.convert("RGB")).max(axis=2)
    edge = np.array(brightest.shape[::-1])
    column, line = np.clip((shares * edge).astype(np.int64), 0, edge - 1).T
    inside = ((shares >= 0) & (shares < 1)).all(axis=1)
    return inside & (brightest[line, column] < _DARK)


def node_list(row: Mapping[str, Any]) -> Markup:
    """List the numbered nodes with their coordinates, as the question does; each is a button."""
    items = Markup("").join(
        Markup(
            '<li><button type="button" class="cb-node" data-node="{}" aria-pressed="false" '
            'aria-label="Node {}: x {:.0f}, y {:.0f}, z {:.0f} nm"><b>{}</b> {:.0f}, {:.0f}, {:.0f}</button></li>'
        ).format(number, number, *place, number, *place)
        for number, place in nodes_in(row["question"]).items()
    )
    return Markup(
        '<p class="cb-soft">Numbered nodes: x, y, z in nm from the middle of the pictures</p>'
        '<ul class="cb-nodes">{}</ul>'
    ).format(items)
