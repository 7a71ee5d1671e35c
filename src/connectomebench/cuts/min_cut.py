"""Minimum cut of a segment between seeds, and the rule for a good cut.

The rule is the published one: a cut is good if and only if ``good > k * bad`` for every relevant body, where, with the
side that holds most of the body taken as the body's side, *good* is what is split off from it that does not belong to
the body, and *bad* what is split off that does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.cut import CutConfig, CutGraph, Verdict
from connectomebench.core.geometry import Box
from connectomebench.core.site import Cut
from connectomebench.cuts.flow_kernels import part_by_flow

SOURCE_SIDE, SINK_SIDE, NEITHER = np.int8(1), np.int8(-1), np.int8(0)


class SeedsTouch(ValueError):
    """A source and a sink lie in the same piece, so no cut separates them."""


def apply_cut(graph: CutGraph, cut: Cut) -> NDArray[np.int8]:
    """Separate the pieces of a segment by the minimum cut between sources and sinks.

    Parameters
    ----------
    graph
        Pieces of the segment inside the cutout.
    cut
        Seed points (nm); each stands for the piece nearest to it.

    Returns
    -------
    NDArray[np.int8]
        Shape (n_pieces,): +1 connected to a source after the cut, -1 to a sink, 0 to neither.

    Raises
    ------
    SeedsTouch
        If a source and a sink are the same piece.
    """
    tree = KDTree(graph.points_nm)
    sources = np.asarray(tree.query(np.asarray(cut.sources_nm, np.float64))[1])
    sinks = np.asarray(tree.query(np.asarray(cut.sinks_nm, np.float64))[1])
    return separate(graph, sources, sinks)


def separate(graph: CutGraph, sources: NDArray[np.integer], sinks: NDArray[np.integer]) -> NDArray[np.int8]:
    """Separate source pieces from sink pieces by the minimum cut.

    Parameters
    ----------
    graph
        Pieces of a segment.
    sources, sinks
        Rows of seed pieces; integers, shapes (k,) and (l,).

    Returns
    -------
    NDArray[np.int8]
        As :func:`apply_cut`.

    Raises
    ------
    SeedsTouch
        If a source is also a sink.
    """
    sources, sinks = np.unique(sources).astype(np.int64), np.unique(sinks).astype(np.int64)
    if np.intersect1d(sources, sinks).size:
        raise SeedsTouch("a source and a sink lie in the same piece")
    # whole numbers between 1 and 10,000, so that sums of flow are exact
    scaled = np.maximum(np.rint(graph.capacities / max(float(graph.capacities.max(initial=0.0)), 1e-9) * 1e4), 1)
    return part_by_flow(len(graph.points_nm), graph.edges, scaled.astype(np.int64), sources, sinks)


def judge_cut(graph: CutGraph, sides: NDArray[np.int8], center_nm: NDArray[np.floating], rules: CutConfig) -> Verdict:
    """Apply the rule ``good > k * bad`` to a cut.

    Parameters
    ----------
    graph
        Pieces with their voxels by body.
    sides
        Result of :func:`apply_cut`; shape (n_pieces,).
    center_nm
        Centre of the cube of edge ``rules.cutout_nm`` in which voxels count; shape (3,), nm.
    rules
        k, t and e.

    Returns
    -------
    Verdict
        Not good where no body is relevant.
    """
    x, y, z = (float(c) for c in center_nm)
    voxels = graph.voxels_inside(Box.around((x, y, z), rules.cutout_nm))
    by_side = np.stack([voxels[sides == side].sum(axis=0) for side in (SOURCE_SIDE, SINK_SIDE)])
    total = voxels.sum(axis=0)
    ratios = []
    for body in np.flatnonzero(total > rules.min_body_voxels):
        away = 1 - int(np.argmax(by_side[:, body]))
        bad = float(by_side[away, body])
        good = float(by_side[away].sum() - bad)
        ratios.append(0.0 if good == 0 else np.inf if bad == 0 else good / bad)
    if not ratios:
        return Verdict(False, 0, 0.0)
    worst = float(min(ratios))
    return Verdict(worst > rules.k, len(ratios), worst)


def cut_place_nm(graph: CutGraph, sides: NDArray[np.int8]) -> NDArray[np.float64] | None:
    """Return where to look at a cut: the middle of the cut edge nearest to the centre of all cut edges.

    Returns
    -------
    NDArray[np.float64] or None
        Shape (3,), nm; None where the sides do not touch.
    """
    if len(graph.edges) == 0:
        return None
    a, b = graph.edges[:, 0], graph.edges[:, 1]
    across = sides[a] * sides[b] == -1
    if not across.any():
        return None
    middles = (graph.points_nm[a[across]].astype(np.float64) + graph.points_nm[b[across]]) / 2
    weights = graph.capacities[across].astype(np.float64)
    centre = np.average(middles, axis=0, weights=np.maximum(weights, 1e-9))
    return middles[int(np.argmin(np.linalg.norm(middles - centre, axis=1)))]
