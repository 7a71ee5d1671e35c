"""Scores of a segmentation against its truth, each from its definition.

Background: voxels without a body and voxels without an object are left out of variation of information and adapted
Rand error alike. No edit changes which these are, so scores of all states of a segmentation cover the same voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from connectomebench.core.geometry import Skeleton
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.truth_table import TruthTable

MIN_MERGED_NODES = 2


@dataclass(frozen=True)
class RunLength:
    """Expected run length.

    Attributes
    ----------
    erl_nm
        Expected length of the correct run at a random point of the truth skeletons, nm.
    normalised
        The same, divided by what the truth itself reaches; 1 is perfect.
    edge_accuracy
        Share of the length of the skeletons that is correct, however long its runs are.
    """

    erl_nm: float
    normalised: float
    edge_accuracy: float


def adapted_rand_error(table: Any) -> float:
    """Compute the adapted Rand error from overlaps: 1 minus the F-score of pairs of voxels.

    Parameters
    ----------
    table
        Sparse or dense, shape (objects, bodies): voxels that each object shares with each body.

    Returns
    -------
    float
        ``1 - 2 P R / (P + R)``: P = sum of squared overlaps over sum of squared objects (pairs of one object that are
        of one body), R the same over bodies. Every voxel pairs with itself too, as in the definition of SNEMI3D.
    """
    dense = np.asarray(table.sum(axis=1)).ravel(), np.asarray(table.sum(axis=0)).ravel()
    joint = float((np.asarray(getattr(table, "data", table), np.float64) ** 2).sum())
    objects, bodies = (float((x.astype(np.float64) ** 2).sum()) for x in dense)
    if not joint:
        return 0.0
    precision, recall = joint / objects, joint / bodies
    return 1 - 2 * precision * recall / (precision + recall)


def expected_run_length(
    skeletons: Iterable[tuple[Skeleton, NDArray[np.uint64]]], min_merged_nodes: int = MIN_MERGED_NODES
) -> RunLength:
    """Compute the expected run length (Januszewski et al. 2018).

    An edge of a truth skeleton is correct if both nodes lie in the same object, not in the background, and that object
    fuses no two skeletons. Runs are connected correct edges; each counts by its share of the whole length.

    Parameters
    ----------
    skeletons
        Of each body: its skeleton, and the object at each node (uint64, shape (n_nodes,), 0 for background).
    min_merged_nodes
        An object fuses skeletons if it holds at least this many nodes of each of two or more.

    Returns
    -------
    RunLength
        All 0 where there is no length. Objects that fuse a body with one that has no skeleton go unnoticed.
    """
    known = list(skeletons)
    holders: dict[int, int] = {}
    for _, objects in known:
        ids, counts = np.unique(objects[objects > 0], return_counts=True)
        for one in ids[counts >= min_merged_nodes].tolist():
            holders[one] = holders.get(one, 0) + 1
    fused = np.array([one for one, n in holders.items() if n > 1], np.uint64)
    total, correct, squares, best = 0.0, 0.0, 0.0, 0.0
    for skeleton, objects in known:
        a, b = skeleton.edges[:, 0], skeleton.edges[:, 1]
        length = np.linalg.norm(skeleton.nodes_nm[a].astype(np.float64) - skeleton.nodes_nm[b], axis=1)
        right = (objects[a] == objects[b]) & (objects[a] > 0) & ~np.isin(objects[a], fused)
        total += float(length.sum())
        correct += float(length[right].sum())
        squares += _sum_of_squared_runs(len(objects), a[right], b[right], length[right])
        best += _sum_of_squared_runs(len(objects), a, b, length)
    if not total:
        return RunLength(0.0, 0.0, 0.0)
    return RunLength(squares / total, squares / best, correct / total)


def _sum_of_squared_runs(n: int, a: NDArray[np.integer], b: NDArray[np.integer], length: NDArray[np.float64]) -> float:
    """Sum the squared lengths of the connected parts of a graph with these edges."""
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n))
    part = connected_components(graph.tocsr(), directed=False)[1]
    return float((np.bincount(part[a], weights=length, minlength=1) ** 2).sum())


class Scorer:
    """Scores states of one place; skeletons of the truth are made once.

    Parameters
    ----------
    place
        With truth.
    table
        Its overlaps.
    """

    def __init__(self, place: Place, table: TruthTable) -> None:
        self._place = place
        self._table = table
        source = place.over_truth()
        extents = source.extents()
        large = extents.ids[extents.voxels >= place.config.sites.min_segment_voxels].tolist()
        voxel, offset = np.asarray(place.voxel_size_nm), np.asarray(place.offset_vx)
        self._nodes: list[tuple[Skeleton, NDArray[np.uint32]]] = []
        for _, skeleton in source.skeletons(large):
            at = np.floor(skeleton.nodes_nm.astype(np.float64) / voxel).astype(np.int64) - offset
            self._nodes.append((skeleton, place.pieces.at(np.clip(at, 0, np.subtract(place.shape, 1)))))

    def score(self, of_rows: NDArray[np.uint64]) -> dict[str, float | int]:
        """Score a state.

        Parameters
        ----------
        of_rows
            Object of each supervoxel; uint64, shape (n,).

        Returns
        -------
        dict
            ``vi_split``, ``vi_merge`` (bits), ``adapted_rand``, ``erl_nm``, ``erl_normalised``, ``edge_accuracy``;
            ``errors``: the fragments of bodies beyond the first (``split_errors``) and pairs of bodies in one object
            (``merge_errors``) by the rules of :func:`connectomebench.corrections.find.find_corrections`; ``objects``.
        """
        split, merge = self._table.variation(of_rows)
        objects = np.concatenate([np.zeros(1, np.uint64), of_rows])
        run = expected_run_length((skeleton, objects[rows]) for skeleton, rows in self._nodes)
        counts = self._place.against_truth(of_rows).corrections().counts
        fragments, pairs = counts.get("extra_fragments", 0), counts.get("merge_error_pairs", 0)
        return {
            "vi_split": split,
            "vi_merge": merge,
            "adapted_rand": adapted_rand_error(self._table.objects_by_body(of_rows)),
            "erl_nm": run.erl_nm,
            "erl_normalised": run.normalised,
            "edge_accuracy": run.edge_accuracy,
            "errors": fragments + pairs,
            "split_errors": fragments,
            "merge_errors": pairs,
            "objects": len(np.unique(of_rows)),
        }
