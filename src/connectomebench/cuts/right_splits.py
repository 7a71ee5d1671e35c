"""The right split of a merge error: every piece goes to the neuron that holds most of it.

Unlike a proposed cut (:mod:`connectomebench.cuts.proposals`), which people or programs would make from a few seeds, it
is as right as the pieces allow: all pieces of the two neurons are seeds. It is for answers, never for what is shown.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.core.correction import Corrections, SplitCorrection
from connectomebench.core.cut import CutGraph, ProposalConfig, ProposedCut
from connectomebench.core.geometry import Box
from connectomebench.core.site import Cut, Point
from connectomebench.cuts.min_cut import SINK_SIDE, SOURCE_SIDE, apply_cut, judge_cut

if TYPE_CHECKING:
    from connectomebench.core.source import Source

NO_PIECE = "no piece belongs to one body of the merge error"
SMALL_SIDE = "one side of the right split is too small to be seen"
NOT_RIGHT = "pieces hold both bodies, so that no split of them is right"
OWN_SHARE = 0.9
"""Least share of either body in a view round the error that lies on its own side."""


def right_splits(
    source: Source, corrections: Corrections, rules: ProposalConfig, largest_view_nm: float
) -> tuple[list[ProposedCut], Counter[str]]:
    """Split every merge error by the truth.

    Parameters
    ----------
    source
        Gives the pieces of each fused segment, with their voxels by body.
    corrections
        Its localised merge errors.
    rules
        ``reach_nm`` (edge of the cube that is split), ``min_side_fraction`` and the rule for a good cut.
    largest_view_nm
        Edge of the largest view, nm.

    Returns
    -------
    splits
        In the order of the corrections, all of them good by the rule.
    dropped
        Why a split is missing.
    """
    splits: list[ProposedCut] = []
    dropped: Counter[str] = Counter()
    for error in tqdm(corrections.splits, "split by the truth", unit="error", delay=1):
        graph = source.cut_graph(error.segment, error.location_nm, rules.reach_nm)
        found = right_split(graph, error, tuple(corrections.fused[error.segment]), rules, largest_view_nm)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            splits.append(found)
    return splits, dropped


def right_split(
    graph: CutGraph, error: SplitCorrection, bodies: tuple[int, ...], rules: ProposalConfig, view_nm: float
) -> ProposedCut | str:
    """Split one merge error by the truth.

    Pieces of a third body, and of none, go to the side that a minimum cut leaves them on. The rule for a good cut
    compares what is right on a side with what is wrong there, and forgives a small body much where the other one is
    large. What is seen of either body must therefore lie on its own side, too, all but a tenth.

    Parameters
    ----------
    graph
        The segment in the cube of edge ``rules.reach_nm`` around the error.
    error
        The merge error.
    bodies
        All bodies of the segment.
    rules, view_nm
        As for :func:`right_splits`.

    Returns
    -------
    ProposedCut or str
        Or why there is none.
    """
    own = [_pieces_of(graph, body) for body in error.bodies]
    if not all(len(pieces) for pieces in own):
        return NO_PIECE
    cut = Cut(_points(graph, own[0]), _points(graph, own[1]), error.location_nm, rules.reach_nm)
    sides = apply_cut(graph, cut)
    size = graph.voxels.sum(axis=1)
    voxels = (float(size[sides == SOURCE_SIDE].sum()), float(size[sides == SINK_SIDE].sum()))
    if min(voxels) < rules.min_side_fraction * size.sum():
        return SMALL_SIDE
    verdict = judge_cut(graph, sides, np.asarray(error.location_nm), rules.cuts)
    if not verdict.good or _own_share(graph, error, sides, view_nm) < OWN_SHARE:
        return NOT_RIGHT
    if voxels[0] < voxels[1]:
        cut, voxels = Cut(cut.sinks_nm, cut.sources_nm, cut.center_nm, cut.cutout_nm), (voxels[1], voxels[0])
    a, b = graph.edges[:, 0], graph.edges[:, 1]
    cost = float(graph.capacities[sides[a] * sides[b] == -1].sum())
    return ProposedCut(error.edit_id, cut, error.location_nm, verdict, voxels, cost, error.segment, bodies)


def _own_share(graph: CutGraph, error: SplitCorrection, sides: NDArray[np.int8], view_nm: float) -> float:
    """Return the share of a body in a view round the error on its own side, that of the worse body; 1 for none."""
    voxels = graph.voxels_inside(Box.around(error.location_nm, view_nm))
    shares = [1.0]
    for body, side in zip(error.bodies, (SOURCE_SIDE, SINK_SIDE), strict=True):
        own = voxels[:, np.flatnonzero(graph.bodies == np.uint64(body))[0]]
        if own.sum() > 0:
            shares.append(float(own[sides == side].sum() / own.sum()))
    return min(shares)


def _pieces_of(graph: CutGraph, body: int) -> NDArray[np.int64]:
    """Return the pieces most of whose voxels in any body belong to this one."""
    column = np.flatnonzero(graph.bodies == np.uint64(body))
    if not len(column):
        return np.zeros(0, np.int64)
    own = graph.voxels[:, column[0]]
    return np.flatnonzero(2 * own > graph.voxels.sum(axis=1))


def _points(graph: CutGraph, pieces: NDArray[np.int64]) -> tuple[Point, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in graph.points_nm[pieces])
