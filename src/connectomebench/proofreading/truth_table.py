"""Overlaps of supervoxels with bodies, from which the gain of any edit follows without reading a voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from connectomebench.proofreading.segmentation_graph import SegmentationGraph, SplitPlan


def bits(counts: NDArray[Any] | float) -> Any:
    """Compute ``n log2 n`` of counts, 0 where a count is 0."""
    n = np.asarray(counts, np.float64)
    return n * np.log2(np.maximum(n, 1.0))


class TruthTable:
    """Voxels that each supervoxel shares with each body.

    Voxels without a body are left out, as are those without a segment, which no supervoxel holds.

    Parameters
    ----------
    pieces
        Supervoxel of each voxel, unsigned integers from 1 to ``n``; 0 outside.
    truth
        Body of each voxel, same shape.
    n
        Number of supervoxels.

    Attributes
    ----------
    overlaps
        Sparse, float64, shape (n, bodies).
    total
        Voxels with both a supervoxel and a body.
    """

    def __init__(self, pieces: NDArray[Any], truth: NDArray[Any], n: int) -> None:
        both = (pieces > 0) & (truth > 0)
        bodies, columns = np.unique(truth[both], return_inverse=True)
        rows = pieces[both].astype(np.int64) - 1
        shape = (n, max(len(bodies), 1))
        self.overlaps: csr_array = coo_array((np.ones(len(rows)), (rows, columns.ravel())), shape=shape).tocsr()
        self.total = float(len(rows))

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
