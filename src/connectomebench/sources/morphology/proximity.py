"""Find where tubes come close to one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree


def close_pairs(
    nodes_nm: NDArray[np.floating], radii_nm: NDArray[np.floating], owners: NDArray[np.uint64], gap_nm: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find pairs of nodes of different owners whose spheres come within a gap.

    Parameters
    ----------
    nodes_nm
        Shape (n, 3), nm.
    radii_nm
        Shape (n,): radius of the sphere around each node, nm.
    owners
        Shape (n,): pairs of the same owner are skipped.
    gap_nm
        Largest distance between the two surfaces, nm; overlapping spheres have a negative one.

    Returns
    -------
    pairs
        int64, shape (m, 2), each pair once, sorted.
    gaps
        float64, shape (m,): distance between the surfaces, nm.
    """
    # pairs are searched from the thicker side, so that one soma does not widen every search
    tree = KDTree(nodes_nm)
    near = tree.query_ball_point(nodes_nm, 2 * radii_nm + gap_nm, return_sorted=True)
    counts = np.fromiter((len(row) for row in near), np.int64, len(near))
    first = np.repeat(np.arange(len(near)), counts)
    second = np.concatenate([np.asarray(row, np.int64) for row in near])
    thicker = (radii_nm[first] > radii_nm[second]) | ((radii_nm[first] == radii_nm[second]) & (first < second))
    kept = thicker & (owners[first] != owners[second])
    first, second = first[kept], second[kept]
    distance = np.linalg.norm(nodes_nm[first].astype(np.float64) - nodes_nm[second], axis=1)
    gaps = distance - radii_nm[first] - radii_nm[second]
    kept = gaps <= gap_nm
    pairs = np.sort(np.stack([first[kept], second[kept]], axis=1), axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], gaps[kept][order]


def between(
    nodes_nm: NDArray[np.floating], radii_nm: NDArray[np.floating], pairs: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the midpoint between the surfaces of two spheres, on the line of centres; float64, shape (n, 3), nm."""
    a, b = nodes_nm[pairs[:, 0]].astype(np.float64), nodes_nm[pairs[:, 1]].astype(np.float64)
    distance = np.linalg.norm(b - a, axis=1)
    along = (distance + radii_nm[pairs[:, 0]] - radii_nm[pairs[:, 1]]) / 2
    share = np.clip(along / np.maximum(distance, 1e-9), 0, 1)
    return a + share[:, None] * (b - a)


def patches(points_nm: NDArray[np.floating], keys: NDArray[np.integer], reach_nm: float) -> NDArray[np.int64]:
    """Group connected points of equal key.

    Parameters
    ----------
    points_nm
        Shape (n, 3), nm.
    keys
        Shape (n,): points of different keys are never grouped.
    reach_nm
        Points nearer than about this are in one group (single linkage between cells of half this edge), nm.

    Returns
    -------
    int64, shape (n,): number of the group, counted from 0.
    """
    if len(points_nm) == 0:
        return np.zeros(0, np.int64)
    # many pairs share a patch: link cells of points rather than points
    cells = np.floor(np.asarray(points_nm) / (reach_nm / 2)).astype(np.int64)
    rows = np.concatenate([np.asarray(keys, np.int64)[:, None], cells], axis=1)
    cell, inverse = np.unique(rows, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    size = np.bincount(inverse)
    centres = np.stack([np.bincount(inverse, np.asarray(points_nm)[:, k]) / size for k in range(3)], axis=1)
    links = KDTree(centres).query_pairs(reach_nm, output_type="ndarray")
    links = links[cell[links[:, 0], 0] == cell[links[:, 1], 0]]
    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(len(cell), len(cell)))
    return connected_components(graph, directed=False)[1].astype(np.int64)[inverse]


def yield_to_neighbours(
    nodes_nm: NDArray[np.floating],
    radii_nm: NDArray[np.floating],
    owners: NDArray[np.uint64],
    clearance_nm: float,
    min_radius_nm: float,
) -> NDArray[np.float64]:
    """Make tubes of different owners thinner where they would overlap.

    Real neurites are not round: circles of equal area overlap where neurites are flattened against each other.

    Parameters
    ----------
    nodes_nm, radii_nm, owners
        As for :func:`close_pairs`.
    clearance_nm
        Distance left between the surfaces, nm.
    min_radius_nm
        Smallest radius, nm; where centre lines cross, tubes still overlap.

    Returns
    -------
    float64, shape (n,): new radii, nm, none larger than before.
    """
    pairs, gaps = close_pairs(nodes_nm, radii_nm, owners, clearance_nm)
    total = radii_nm[pairs].sum(axis=1)
    shares = np.clip((gaps + total - clearance_nm) / total, 0, 1)
    factor = np.ones(len(radii_nm))
    for side in (0, 1):
        np.minimum.at(factor, pairs[:, side], shares)
    return np.minimum(radii_nm, np.maximum(radii_nm * factor, min_radius_nm))
