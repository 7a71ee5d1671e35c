"""A segmentation as a graph of supervoxels: merges unite objects, splits cut them between seeds.

As in a ChunkedGraph, an object is a set of supervoxels, every edit gives its objects new ids, and an edge counts where
both of its supervoxels belong to one object. So a split needs no list of removed edges: its sides are two objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.cut import CutGraph
from connectomebench.cuts.min_cut import SINK_SIDE, SOURCE_SIDE, SeedsTouch, separate


class EditRefused(ValueError):
    """An edit that may not be applied; the message gives the reason in a few words."""


@dataclass(frozen=True)
class Supervoxels:
    """Supervoxels of a segmentation, one per row. The id of row ``i`` is ``i + 1``.

    Attributes
    ----------
    segments
        uint64, shape (n,): the segment that each is part of before any edit.
    points_nm
        float32, shape (n, 3): centre (x, y, z), nm.
    voxels
        int64, shape (n,).
    edges
        int32, shape (m, 2): rows of touching supervoxels, of one segment or of two.
    capacities
        float32, shape (m,): what it costs to cut an edge.
    sources
        uint64, shape (n,): ids in the supervoxel volume of the configuration; 0 where there is none.
    """

    segments: NDArray[np.uint64]
    points_nm: NDArray[np.float32]
    voxels: NDArray[np.int64]
    edges: NDArray[np.int32]
    capacities: NDArray[np.float32]
    sources: NDArray[np.uint64]


@dataclass(frozen=True)
class SplitPlan:
    """What a split would do.

    Attributes
    ----------
    source_rows, sink_rows
        int64: rows of the supervoxels of either side, together the whole object.
    cut_edges
        int32, shape (k, 2): rows of the edges between the two.
    area
        Their summed capacity.
    """

    source_rows: NDArray[np.int64]
    sink_rows: NDArray[np.int64]
    cut_edges: NDArray[np.int32]
    area: float


@dataclass(frozen=True)
class _Done:
    """Representative rows of an applied edit, to notice an edit that undoes it."""

    a: int
    b: int
    confidence: float


class SegmentationGraph:
    """The current state of a segmentation.

    Parameters
    ----------
    supervoxels
        The pieces. Segments keep their ids until an edit changes them.
    trusted
        Segments that may not be joined with each other: bodies that people checked, or that hold a soma. The largest
        supervoxel of each stands for it, whatever object it belongs to later.

    Attributes
    ----------
    supervoxels
        As above.
    objects
        uint64, shape (n,): the object of each supervoxel.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels
    >>> pieces = Supervoxels(
    ...     segments=np.array([5, 5, 9], np.uint64),
    ...     points_nm=np.array([[0, 0, 0], [10, 0, 0], [20, 0, 0]], np.float32),
    ...     voxels=np.array([100, 100, 100]),
    ...     edges=np.array([[0, 1], [1, 2]], np.int32),
    ...     capacities=np.array([4, 4], np.float32),
    ...     sources=np.zeros(3, np.uint64),
    ... )
    >>> graph = SegmentationGraph(pieces)
    >>> graph.merge(1, 2)
    10
    >>> graph.objects.tolist()
    [10, 10, 10]
    >>> graph.split([0], [2])
    (11, 12)
    """

    def __init__(self, supervoxels: Supervoxels, trusted: Iterable[int] = ()) -> None:
        self.supervoxels = supervoxels
        self.objects: NDArray[np.uint64] = supervoxels.segments.copy()
        order = np.argsort(self.objects, kind="stable")
        ids, starts = np.unique(self.objects[order], return_index=True)
        self._members = dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True)) if len(ids) else {}
        self._next = int(ids.max(initial=0)) + 1
        self._trusted = {
            int(self._members[segment][np.argmax(supervoxels.voxels[self._members[segment]])]): segment
            for segment in trusted
            if segment in self._members
        }
        self._merges: list[_Done] = []
        self._splits: list[_Done] = []

    def copy(self) -> SegmentationGraph:
        """Return an independent copy of the state; supervoxels are shared."""
        other = SegmentationGraph.__new__(SegmentationGraph)
        other.__dict__ = {
            name: value.copy() if name not in ("supervoxels", "_next") else value
            for name, value in self.__dict__.items()
        }
        return other

    def ids(self) -> list[int]:
        """Return the ids of all objects, ascending."""
        return sorted(self._members)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._members

    def rows(self, object_id: int) -> NDArray[np.int64]:
        """Return the rows of an object's supervoxels; int64."""
        return self._members[object_id]

    def voxels(self, object_id: int) -> int:
        """Count the voxels of an object."""
        return int(self.supervoxels.voxels[self._members[object_id]].sum())

    def trusted_in(self, object_id: int) -> frozenset[int]:
        """Return the trusted segments whose largest supervoxel lies in an object."""
        return frozenset(name for row, name in self._trusted.items() if int(self.objects[row]) == object_id)

    def check_merge(self, a: int, b: int, confidence: float = 1.0) -> tuple[int, int]:
        """Return the objects that a merge would unite; see :meth:`merge`."""
        first, second = int(self.objects[a]), int(self.objects[b])
        if first == second:
            raise EditRefused("both supervoxels belong to one object already")
        mine, theirs = self.trusted_in(first), self.trusted_in(second)
        if mine and theirs:
            raise EditRefused("two trusted bodies would be joined")
        for done in self._splits:
            sides = {int(self.objects[done.a]), int(self.objects[done.b])}
            if sides == {first, second} and done.confidence >= confidence:
                raise EditRefused("a split of at least the same confidence would be undone")
        return first, second

    def merge(self, a: int, b: int, confidence: float = 1.0) -> int:
        """Unite the objects of two supervoxels.

        Parameters
        ----------
        a, b
            Rows of supervoxels.
        confidence
            Of the edit; one that undoes an applied edit of at least the same confidence is refused.

        Returns
        -------
        int
            Id of the new object.

        Raises
        ------
        EditRefused
            If both belong to one object, two trusted bodies would be joined, or an earlier split would be undone.
        """
        first, second = self.check_merge(a, b, confidence)
        rows = np.sort(np.concatenate([self._members.pop(first), self._members.pop(second)]))
        self._merges.append(_Done(a, b, confidence))
        return self._add(rows)

    def plan_split(self, sources: Iterable[int], sinks: Iterable[int], confidence: float = 1.0) -> SplitPlan:
        """Compute the minimum cut of an object between seeds, without applying it; see :meth:`split`."""
        own = [np.unique(np.fromiter(rows, np.int64)) for rows in (sources, sinks)]
        if not len(own[0]) or not len(own[1]):
            raise EditRefused("a split needs seeds on both sides")
        held = np.unique(self.objects[np.concatenate(own)])
        if len(held) != 1:
            raise EditRefused("the seeds belong to several objects")
        rows = self._members[int(held[0])]
        graph, edges = self._part(rows)
        try:
            sides = separate(graph, *(np.searchsorted(rows, seeds) for seeds in own))
        except SeedsTouch:
            raise EditRefused("a supervoxel is a seed of both sides") from None
        sides = _nearest_side(sides, graph.points_nm)
        a, b = graph.edges.T
        across = sides[a] != sides[b]
        plan = SplitPlan(
            rows[sides == SOURCE_SIDE],
            rows[sides == SINK_SIDE],
            self.supervoxels.edges[edges[across]],
            float(graph.capacities[across].sum()),
        )
        for done in self._merges:
            parted = np.isin(plan.sink_rows, (done.a, done.b)).sum() == 1 and np.isin((done.a, done.b), rows).all()
            if parted and done.confidence >= confidence:
                raise EditRefused("a merge of at least the same confidence would be undone")
        return plan

    def split(self, sources: Iterable[int], sinks: Iterable[int], confidence: float = 1.0) -> tuple[int, int]:
        """Split an object by the minimum cut between seeds.

        Parts that no edge connects to a seed go with the side whose supervoxels are nearest.

        Parameters
        ----------
        sources, sinks
            Rows of supervoxels on either side.
        confidence
            As for :meth:`merge`.

        Returns
        -------
        tuple of int
            Ids of the new objects: the side of the sources, and that of the sinks.

        Raises
        ------
        EditRefused
            If seeds are missing, lie in several objects or on both sides, or an earlier merge would be undone.
        """
        sources, sinks = list(sources), list(sinks)
        plan = self.plan_split(sources, sinks, confidence)
        del self._members[int(self.objects[plan.source_rows[0]])]
        self._splits.append(_Done(int(sources[0]), int(sinks[0]), confidence))
        return self._add(plan.source_rows), self._add(plan.sink_rows)

    def _add(self, rows: NDArray[np.int64]) -> int:
        made, self._next = self._next, self._next + 1
        self._members[made] = rows
        self.objects[rows] = made
        return made

    def _part(self, rows: NDArray[np.int64]) -> tuple[CutGraph, NDArray[np.int64]]:
        """Return the supervoxels of an object as a graph, and the rows of its edges."""
        known = self.supervoxels
        where = np.full(len(known.segments), -1, np.int32)
        where[rows] = np.arange(len(rows), dtype=np.int32)
        local = where[known.edges].reshape(-1, 2)
        inside = np.flatnonzero((local >= 0).all(axis=1))
        none = np.zeros((len(rows), 0))
        graph = CutGraph(known.points_nm[rows], local[inside], known.capacities[inside], np.zeros(0, np.uint64), none)
        return graph, inside


def _nearest_side(sides: NDArray[np.int8], points_nm: NDArray[np.float32]) -> NDArray[np.int8]:
    """Give pieces of neither side that of the nearest piece that has one."""
    settled = sides != 0
    if settled.all():
        return sides
    nearest = KDTree(points_nm[settled]).query(points_nm[~settled])[1]
    filled = sides.copy()
    filled[~settled] = sides[settled][nearest]
    return filled
