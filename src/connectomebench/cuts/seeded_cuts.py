"""Cuts between named places: their sides, and whether the rule calls them good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.cut import CutGraph, ProposalConfig, Verdict
from connectomebench.core.site import Cut, Point
from connectomebench.cuts.min_cut import SeedsTouch, apply_cut, cut_place_nm, judge_cut

if TYPE_CHECKING:
    from connectomebench.core.source import Source

Sides = tuple[CutGraph, NDArray[np.int8]]
"""Pieces of a segment, and the side of each: int8, shape (n_pieces,), +1 source, -1 sink, 0 neither."""


def cheapest_sides(graph: CutGraph, cut: Cut) -> NDArray[np.int8] | str:
    """Return the sides of the minimum cut between seeds, or the reason why there is none."""
    if not len(graph.points_nm):
        return "the segment does not reach the place"
    try:
        return apply_cut(graph, cut)
    except SeedsTouch:
        return "seeds of both sides in one piece"


def minimum_cut_sides(source: Source, segment_id: int, cut: Cut) -> Sides | str:
    """Return pieces and sides of the minimum cut of a segment; see :meth:`Source.cut_sides`."""
    graph = source.cut_graph(segment_id, cut.center_nm, cut.cutout_nm)
    sides = cheapest_sides(graph, cut)
    return sides if isinstance(sides, str) else (graph, sides)


def judge_seeds(
    source: Source,
    segment_id: int,
    sources_nm: tuple[Point, ...],
    sinks_nm: tuple[Point, ...],
    center_nm: Point,
    rules: ProposalConfig,
) -> Verdict | str:
    """Cut a segment between seeds and judge the cut by the rule, as a proposed cut is.

    Parameters
    ----------
    source
        Cuts the segment, by its own method.
    segment_id
        What is cut.
    sources_nm, sinks_nm
        Seeds of both sides (x, y, z), nm.
    center_nm
        Centre of the cube of edge ``rules.reach_nm`` in which the segment is cut, nm.
    rules
        k, t and e, and the edge of the cube.

    Returns
    -------
    Verdict or str
        Or the reason why there is no such cut.
    """
    found = source.cut_sides(segment_id, Cut(sources_nm, sinks_nm, center_nm, rules.reach_nm))
    if isinstance(found, str):
        return found
    graph, sides = found
    where = cut_place_nm(graph, sides)
    return "the two sides do not touch" if where is None else judge_cut(graph, sides, where, rules.cuts)
