"""Overlaps of supervoxels with bodies, from which the gain of any edit follows without reading a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from connectomebench.execution.runner import Runner
from connectomebench.proofreading.place import Place, PlaceSpec
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph, SplitPlan


def bits(counts: NDArray[Any] | float) -> Any:
    """Compute ``n log2 n`` of counts, 0 where a count is 0."""
    n = np.asarray(counts, np.float64)
    return n * np.log2(np.maximum(n, 1.0))


PARTS = 4  # parts of the place along each axis, for intervals


@dataclass(frozen=True)
class Overlaps:
    """Voxels that supervoxels share with bodies, by part of the place.

    Attributes
    ----------
    rows, bodies, parts, voxels
        int64, uint64, int64 and int64, shape (m,): row of a supervoxel, body, number of the part, shared voxels.
    """

    rows: NDArray[np.int64]
    bodies: NDArray[np.uint64]
    parts: NDArray[np.int64]
    voxels: NDArray[np.int64]


@dataclass(frozen=True)
class OverlapJob:
    """A block whose overlaps are counted."""

    spec: PlaceSpec
    block: int


def count_overlaps(job: OverlapJob) -> Overlaps:
    """Count the voxels that the supervoxels of a block share with bodies."""
    held, pieces = job.spec.open()
    assert held.truth is not None, "there is no truth"
    own, shape = job.spec.grid.block(job.block), job.spec.grid.shape
    x, y, z = (np.arange(a, b) for a, b in zip(own.lower, own.upper, strict=True))
    parts = part_of((x[:, None, None], y[:, None], z), shape)
    return overlaps_of(pieces.read(own.lower, own.upper), held.truth.read(own.lower, own.upper), parts)


def part_of(at: Sequence[NDArray[np.int64]], shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the number of the part of the place that voxels lie in, from 0.

    Parameters
    ----------
    at
        int64: coordinates along x, y and z, which are broadcast; the first voxel of the place is 0.
    shape
        Voxels of the place along x, y, z.
    """
    x, y, z = (coordinate // -(-n // PARTS) for coordinate, n in zip(at, shape, strict=True))
    return (x * PARTS + y) * PARTS + z


def overlaps_of(pieces: NDArray[Any], truth: NDArray[Any], parts: NDArray[np.int64] | None = None) -> Overlaps:
    """Count overlaps of two arrays, with the part of each voxel (same shape), or as one part."""
    both = (pieces > 0) & (truth > 0)
    bodies, columns = np.unique(truth[both], return_inverse=True)
    rows = pieces[both].astype(np.int64) - 1
    n, m = max(len(bodies), 1), PARTS**3
    where = np.zeros(len(rows), np.int64) if parts is None else parts[both]
    code, voxels = np.unique((rows * n + columns.ravel()) * m + where, return_counts=True)
    return Overlaps(code // m // n, bodies[code // m % n].astype(np.uint64), code % m, voxels.astype(np.int64))


class TruthTable:
    """Voxels that each supervoxel shares with each body.

    Voxels without a body are left out, as are those without a segment, which no supervoxel holds.

    Parameters
    ----------
    found
        Overlaps of all blocks.
    n
        Number of supervoxels.

    Attributes
    ----------
    overlaps
        Sparse, float64, shape (n, bodies).
    bodies
        uint64, ascending: the body of each column.
    total
        Voxels with both a supervoxel and a body.
    entries
        int64, shape (m, 3) and float64, shape (m,): row, column and part of the place, and the shared voxels.
    """

    def __init__(self, found: Sequence[Overlaps], n: int) -> None:
        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(one, name) for one in found])

        rows, counts = joined("rows"), joined("voxels").astype(np.float64)
        self.bodies, columns = np.unique(joined("bodies"), return_inverse=True)
        shape = (n, max(len(self.bodies), 1))
        self.overlaps: csr_array = coo_array((counts, (rows, columns.ravel())), shape=shape).tocsr()
        self.total = float(counts.sum())
        self.entries = np.stack([rows, columns.ravel(), joined("parts")], axis=1), counts

    @classmethod
    def of_arrays(cls, pieces: NDArray[Any], truth: NDArray[Any], n: int) -> TruthTable:
        """Make the table from the supervoxel (1 to ``n``, 0 outside) and the body of each voxel."""
        return cls([overlaps_of(pieces, truth)], n)

    @classmethod
    def of_place(cls, place: Place, runner: Runner) -> TruthTable:
        """Make the table of a place, block by block."""
        jobs = [OverlapJob(place.spec, i) for i in range(len(place.spec.grid))]
        made = dict(runner.run(count_overlaps, jobs, "overlaps"))
        return cls([made[i] for i in range(len(jobs))], len(place.supervoxels.segments))

    def majority(self) -> NDArray[np.int64]:
        """Return the column of the body that each supervoxel shares most with, -1 for none; int64, shape (n,)."""
        best = np.asarray(self.overlaps.argmax(axis=1)).ravel()
        return np.where(np.diff(self.overlaps.indptr) > 0, best, -1)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum the overlaps of some supervoxels; shape (bodies,)."""
        return np.asarray(self.overlaps[rows].sum(axis=0)).ravel()

    def merge_gain(self, graph: SegmentationGraph, first: int, second: int) -> float:
        """Compute by how much uniting two objects lowers the variation of information, bits; negative if it rises."""
        return self._gain(self.of(graph.rows(first)), self.of(graph.rows(second)))

    def split_gain(self, plan: SplitPlan) -> float:
        """Compute by how much a split lowers the variation of information, bits."""
        return -self._gain(self.of(plan.source_rows), self.of(plan.sink_rows))

    def _gain(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        if not self.total:
            return 0.0
        shared = (a > 0) & (b > 0)
        x, y = a[shared], b[shared]
        split = float((bits(x + y) - bits(x) - bits(y)).sum())
        objects = float(bits(a.sum() + b.sum()) - bits(a.sum()) - bits(b.sum()))
        return (2 * split - objects) / self.total

    def variation(self, of_rows: NDArray[np.uint64]) -> tuple[float, float]:
        """Compute the variation of information of objects: split H(object | body), merge H(body | object); bits."""
        table = self.objects_by_body(of_rows)
        joint, objects, bodies = (
            float(bits(table.data).sum()),
            float(bits(np.asarray(table.sum(axis=1))).sum()),
            float(bits(np.asarray(table.sum(axis=0))).sum()),
        )
        n = max(self.total, 1.0)
        return max(0.0, (bodies - joint) / n), max(0.0, (objects - joint) / n)

    def objects_by_body(self, of_rows: NDArray[np.uint64]) -> csr_array:
        """Sum the overlaps over the supervoxels of each object; sparse, one row per object, ascending ids."""
        _, inverse = np.unique(of_rows, return_inverse=True)
        n = len(of_rows)
        gather = coo_array((np.ones(n), (inverse.ravel(), np.arange(n))), shape=(int(inverse.max(initial=0)) + 1, n))
        table = csr_array(gather.tocsr() @ self.overlaps)
        table.eliminate_zeros()
        return table


def size_gain(first: float, second: float, total: float) -> float:
    """Compute the change of the variation of information when two pure objects of these sizes are one or two, bits."""
    return float(bits(first + second) - bits(first) - bits(second)) / max(total, 1.0)


def gain_if_right(
    graph: SegmentationGraph, operation: str, sources: Sequence[int], sinks: Sequence[int], confidence: float
) -> float | None:
    """Compute what an edit of the objects as they are now gains if it is right and they are pure, bits.

    Parameters
    ----------
    graph
        The objects.
    operation
        ``merge`` or ``split``.
    sources, sinks
        Rows of the supervoxels that it names.
    confidence
        Of the edit; see :meth:`.SegmentationGraph.merge`.

    Returns
    -------
    float or None
        None where the edit can no longer be made.
    """
    try:
        if operation == "merge":
            sizes = [float(graph.voxels(one)) for one in graph.check_merge(sources[0], sinks[0], confidence)]
        else:
            plan = graph.plan_split(sources, sinks, confidence)
            sizes = [float(graph.supervoxels.voxels[rows].sum()) for rows in (plan.source_rows, plan.sink_rows)]
    except EditRefused:
        return None
    return size_gain(sizes[0], sizes[1], float(graph.total_voxels))
