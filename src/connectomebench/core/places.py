"""Answers that are places: how they are written, read and listed in a question.

A place is a point in nm relative to the centre of the views, ``x, y, z``, or a node drawn in them, ``node 7``.
A cut is a set of places on either side, ``sources=[(x, y, z), node 7];sinks=[(x, y, z)]``. The nodes stand in the
question (:func:`list_nodes`), so that people, models and scores read them from one place (:func:`nodes_in`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectomebench.core.site import Point

Place = Point | int
"""A point (x, y, z), nm, or the number of a node, from 1."""

MOST_PLACES = 8
"""Places that one side of a cut may name."""

_NUMBER = r"[+-]?\d{1,12}"
_POINT = re.compile(rf"({_NUMBER}), ({_NUMBER}), ({_NUMBER})", re.ASCII)
_NODE = re.compile(r"node (\d{1,4})", re.ASCII)
_CUT = re.compile(r"sources=\[([^\[\]]{1,600})\];sinks=\[([^\[\]]{1,600})\]")
_ITEM = re.compile(rf"\((?:{_NUMBER}, ){{2}}{_NUMBER}\)|node \d{{1,4}}", re.ASCII)
_LISTED = re.compile(rf"(?:^|\n)(\d{{1,4}}: \({_NUMBER}, {_NUMBER}, {_NUMBER}\))", re.ASCII)


@dataclass(frozen=True)
class PlaceAnswer:
    """A place, or the places on both sides of a cut.

    Attributes
    ----------
    sources
        The place, or the places on one side.
    sinks
        The places on the other side; empty where a single place is asked for.
    """

    sources: tuple[Place, ...]
    sinks: tuple[Place, ...] = ()

    def points(self, nodes: Mapping[int, Point]) -> PlaceAnswer | None:
        """Replace numbers of nodes by their points.

        Parameters
        ----------
        nodes
            Number -> point, from :func:`nodes_in`.

        Returns
        -------
        PlaceAnswer or None
            The same places as points; None if a node is not among ``nodes``.
        """
        sides: list[tuple[Place, ...]] = []
        for side in (self.sources, self.sinks):
            found = [nodes.get(place) if isinstance(place, int) else place for place in side]
            if any(place is None for place in found):
                return None
            sides.append(tuple(place for place in found if place is not None))
        return PlaceAnswer(*sides)


def write_places(answer: PlaceAnswer) -> str:
    """Write places in the one form in which answers are stored, in whole nm.

    Examples
    --------
    >>> write_places(PlaceAnswer(((10.2, -20.0, 0.0),)))
    '10, -20, 0'
    >>> write_places(PlaceAnswer((3, (1.0, 2.0, 3.0)), (7,)))
    'sources=[node 3, (1, 2, 3)];sinks=[node 7]'
    """
    if not answer.sinks:
        return _item(answer.sources[0]).strip("()")
    sides = (", ".join(_item(place) for place in side) for side in (answer.sources, answer.sinks))
    return "sources=[{}];sinks=[{}]".format(*sides)


def _item(place: Place) -> str:
    if isinstance(place, int):
        return f"node {place}"
    return f"({', '.join(str(round(number)) for number in place)})"


def read_places(text: str | None) -> PlaceAnswer | None:
    """Read what :func:`write_places` wrote; None for anything else.

    Examples
    --------
    >>> read_places("10, -20, 0")
    PlaceAnswer(sources=((10.0, -20.0, 0.0),), sinks=())
    >>> read_places("somewhere") is None
    True
    """
    if text is None:
        return None
    if cut := _CUT.fullmatch(text):
        sides = [_side(side) for side in cut.groups()]
        return PlaceAnswer(sides[0], sides[1]) if sides[0] and sides[1] else None
    place = _place(text)
    return None if place is None else PlaceAnswer((place,))


def _side(text: str) -> tuple[Place, ...]:
    """Read a list of places; empty where it is not one."""
    items = _ITEM.findall(text)
    if ", ".join(items) != text or len(items) > MOST_PLACES:
        return ()
    places = [_place(item.strip("()")) for item in items]
    return tuple(place for place in places if place is not None)


def _place(text: str) -> Place | None:
    if found := _POINT.fullmatch(text):
        x, y, z = (float(number) for number in found.groups())
        return (x, y, z)
    return int(node[1]) if (node := _NODE.fullmatch(text)) else None


def list_nodes(nodes_nm: Sequence[Point], center_nm: Point) -> str:
    r"""List numbered nodes for a question, one a line: ``7: (x, y, z)`` in whole nm relative to the centre.

    Parameters
    ----------
    nodes_nm
        Points (x, y, z), nm; the first has number 1.
    center_nm
        Centre of the views (x, y, z), nm.

    Examples
    --------
    >>> list_nodes([(100.0, 200.0, 300.0), (90.0, 200.0, 310.0)], (100.0, 180.0, 300.0))
    '1: (0, 20, 0)\n2: (-10, 20, 10)'
    """
    relative = [tuple(a - b for a, b in zip(node, center_nm, strict=True)) for node in nodes_nm]
    return "\n".join(f"{n}: ({', '.join(str(round(c)) for c in node)})" for n, node in enumerate(relative, 1))


def nodes_in(question: str) -> dict[int, Point]:
    r"""Read the nodes that a question lists.

    Returns
    -------
    dict
        Number -> point (x, y, z), nm relative to the centre of the views; empty where none are listed.

    Examples
    --------
    >>> nodes_in("Where is it?\n1: (0, 20, 0)\n2: (-10, 20, 10)\nAnswer.")
    {1: (0.0, 20.0, 0.0), 2: (-10.0, 20.0, 10.0)}
    """
    found: dict[int, Point] = {}
    for line in _LISTED.findall(question):
        number, _, place = line.partition(": ")
        x, y, z = (float(part) for part in place.strip("()").split(","))
        found[int(number)] = (x, y, z)
    return found


def relative(point_nm: Sequence[float], center_nm: Sequence[float]) -> Point:
    """Return a point relative to the centre of the views (x, y, z), nm."""
    x, y, z = (float(a) - float(b) for a, b in zip(point_nm, center_nm, strict=True))
    return (x, y, z)
