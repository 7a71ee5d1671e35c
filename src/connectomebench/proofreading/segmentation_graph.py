"""A segmentation as a graph of supervoxels: merges unite objects, splits cut them between seeds.

As in a ChunkedGraph, an object is a set of supervoxels, every edit gives its objects new ids, and an edge counts where
both of its supervoxels belong to one object. So a split needs no list of removed edges: its sides are two objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Self

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


class _Done:
    """Applied edits by a row of a supervoxel on either side, to notice an edit that undoes one."""

    def __init__(self, rows: list[tuple[int, int, float]] | None = None) -> None:
        self._rows = rows or []
        self._arrays: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]] | None = None

    def add(self, a: int, b: int, confidence: float) -> None:
        """Add an edit."""
        self._rows.append((int(a), int(b), float(confidence)))
        self._arrays = None

    def copy(self) -> _Done:
        """Return an independent copy."""
        return _Done(self._rows.copy())

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return rows of one side (int64), of the other, and confidences (float64), each of shape (edits,)."""
        if self._arrays is None:
            table = np.array(self._rows, np.float64).reshape(-1, 3)
            self._arrays = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2]
        return self._arrays


def _edges_of_rows(supervoxels: Supervoxels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the edges at each row as compressed sparse rows: starts (n + 1), edges (2 m)."""
    ends = supervoxels.edges.ravel()
    order = np.argsort(ends, kind="stable")
    counts = np.bincount(ends, minlength=len(supervoxels.segments))
    return np.append(0, np.cumsum(counts)).astype(np.int64), (order // 2).astype(np.int64)


class SegmentationGraph:
    """The current state of a segmentation.

    Parameters
    ----------
    supervoxels
        The pieces. Segments keep their ids until an edit changes them.
    trusted
        Segments that may not be joined with each other: bodies that people checked, or that hold a soma. The largest
        supervoxel of each stands for it, whatever object it belongs to later.
    anchors
        Row of a supervoxel -> what it stands for, treated like a trusted segment: somas, and points of trusted bodies.

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

    def __init__(
        self, supervoxels: Supervoxels, trusted: Iterable[int] = (), anchors: Mapping[int, str] | None = None
    ) -> None:
        self.supervoxels = supervoxels
        self.objects: NDArray[np.uint64] = supervoxels.segments.copy()
        self.total_voxels = int(supervoxels.voxels.sum())
        self._starts, self._neighbours = _edges_of_rows(supervoxels)
        order = np.argsort(self.objects, kind="stable")
        ids, starts = np.unique(self.objects[order], return_index=True)
        self._members = dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True)) if len(ids) else {}
        self._next = int(ids.max(initial=0)) + 1
        self._sizes = {one: int(supervoxels.voxels[rows].sum()) for one, rows in self._members.items()}
        largest = {
            int(self._members[segment][np.argmax(supervoxels.voxels[self._members[segment]])]): str(segment)
            for segment in trusted
            if segment in self._members
        }
        self._names: dict[int, str] = {}
        self._trusted: dict[int, frozenset[int]] = {}
        for row, name in chain(largest.items(), (anchors or {}).items()):
            self._names.setdefault(row, name)
            self._trust(int(self.objects[row]), frozenset([row]))
        self._merges = _Done()
        self._splits = _Done()

    def copy(self) -> Self:
        """Return an independent copy of the state; supervoxels are shared."""
        other = type(self).__new__(type(self))
        other.__dict__ = {
            name: value.copy() if name in ("objects", "_members", "_sizes", "_trusted", "_merges", "_splits") else value
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
        return self._sizes[object_id]

    def trusted_in(self, object_id: int) -> frozenset[str]:
        """Name the trusted segments and anchors in an object."""
        return frozenset(self._names[row] for row in self._trusted.get(object_id, ()))

    def _trust(self, object_id: int, rows: frozenset[int]) -> None:
        if rows:
            self._trusted[object_id] = self._trusted.get(object_id, frozenset()) | rows

    def check_merge(self, a: int, b: int, confidence: float = 1.0) -> tuple[int, int]:
        """Return the objects that a merge would unite; see :meth:`merge`."""
        first, second = int(self.objects[a]), int(self.objects[b])
        if first == second:
            raise EditRefused("both supervoxels belong to one object already")
        if first in self._trusted and second in self._trusted:
            raise EditRefused("two trusted bodies would be joined")
        a_rows, b_rows, sure = self._splits.arrays()
        at_a, at_b = self.objects[a_rows], self.objects[b_rows]
        undone = ((at_a == first) & (at_b == second)) | ((at_a == second) & (at_b == first))
        if (undone & (sure >= confidence)).any():
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
        # both are sorted, which a stable sort makes use of: one of them may be most of the place
        rows = np.sort(np.concatenate([self._members.pop(first), self._members.pop(second)]), kind="stable")
        self._merges.add(a, b, confidence)
        held = self._trusted.pop(first, frozenset()) | self._trusted.pop(second, frozenset())
        made = self._add(rows)
        self._trust(made, held)
        return made

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
        a_rows, b_rows, sure = self._merges.arrays()
        within = (self.objects[a_rows] == held[0]) & (self.objects[b_rows] == held[0]) & (sure >= confidence)
        parted = np.isin(a_rows[within], plan.sink_rows) != np.isin(b_rows[within], plan.sink_rows)
        if parted.any():
            raise EditRefused("a merge of at least the same confidence would be undone")
        return plan

    def _applied(self, plan: SplitPlan, sources: list[int], sinks: list[int]) -> SplitPlan:
        """Return what a split really does: the plan itself."""
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
        plan = self._applied(self.plan_split(sources, sinks, confidence), sources, sinks)
        whole = int(self.objects[plan.source_rows[0]])
        del self._members[whole]
        self._splits.add(int(sources[0]), int(sinks[0]), confidence)
        held = self._trusted.pop(whole, frozenset())
        made = self._add(plan.source_rows), self._add(plan.sink_rows)
        for row in held:
            self._trust(int(self.objects[row]), frozenset([row]))
        return made

    def _add(self, rows: NDArray[np.int64]) -> int:
        made, self._next = self._next, self._next + 1
        self._members[made] = rows
        self._sizes[made] = int(self.supervoxels.voxels[rows].sum())
        self.objects[rows] = made
        return made

    def _part(self, rows: NDArray[np.int64]) -> tuple[CutGraph, NDArray[np.int64]]:
        """Return the supervoxels of an object as a graph, and the rows of its edges."""
        known = self.supervoxels
        lengths = self._starts[rows + 1] - self._starts[rows]
        first = np.repeat(self._starts[rows] - np.append(0, np.cumsum(lengths)[:-1]), lengths)
        # every edge of the object comes up at either end; each counts once
        inside = np.unique(self._neighbours[first + np.arange(len(first))])
        both = known.edges[inside]
        inside = inside[(self.objects[both] == self.objects[rows[0]]).all(axis=1)]
        local = np.searchsorted(rows, known.edges[inside]).astype(np.int32).reshape(-1, 2)
        none = np.zeros((len(rows), 0))
        graph = CutGraph(known.points_nm[rows], local, known.capacities[inside], np.zeros(0, np.uint64), none)
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
