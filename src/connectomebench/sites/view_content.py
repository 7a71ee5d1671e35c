"""Measure what of a segment's skeleton a view shows, from an index that is made once a segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.site import Point


@dataclass(frozen=True)
class SkeletonIndex:
    """Edges and ends of a skeleton by their place.

    Attributes
    ----------
    middles_nm
        Middle of each edge; float32, shape (n_edges, 3), nm.
    lengths_nm, volumes_nm3
        Of each edge; floating, shape (n_edges,). An edge is a cylinder of the mean radius of its nodes.
    ends_nm
        Nodes of degree 1; float32, shape (n_ends, 3), nm.
    edge_tree, end_tree
        Over middles and ends; None where there are no ends.
    """

    middles_nm: NDArray[np.floating]
    lengths_nm: NDArray[np.floating]
    volumes_nm3: NDArray[np.floating]
    ends_nm: NDArray[np.floating]
    edge_tree: KDTree
    end_tree: KDTree | None


def index_skeleton(skeleton: Skeleton | None) -> SkeletonIndex | None:
    """Index a skeleton; None where there is none, or it has no edges."""
    if skeleton is None or not len(skeleton.edges):
        return None
    a, b = skeleton.edges[:, 0], skeleton.edges[:, 1]
    middles = (skeleton.nodes_nm[a] + skeleton.nodes_nm[b]) / 2
    lengths = np.linalg.norm(skeleton.nodes_nm[a] - skeleton.nodes_nm[b], axis=1)
    radius = (skeleton.radii_nm[a] + skeleton.radii_nm[b]) / 2
    ends = skeleton.nodes_nm[skeleton.degrees() == 1]
    end_tree = KDTree(ends) if len(ends) else None
    return SkeletonIndex(middles, lengths, lengths * np.pi * radius**2, ends, KDTree(middles), end_tree)


def view_content(index: SkeletonIndex | None, place: Point, extent_nm: float, role: str) -> dict[str, float]:
    """Measure a segment's skeleton in the cube shown.

    Parameters
    ----------
    index
        From :func:`index_skeleton`.
    place, extent_nm
        Centre (x, y, z) and edge of the cube, nm.
    role
        Ends the names of the values.

    Returns
    -------
    dict
        Logs (base e, of 1 plus the value) of cable length (``log_cable_ROLE``), volume (``log_volume_ROLE``) and
        distance to the nearest end, at most the edge (``log_end_ROLE``); nm.
    """
    cable = volume = np.float64(0)
    nearest = extent_nm
    if index is not None:
        # a little further than the cube, whose borders are decided as everywhere else
        near = np.sort(index.edge_tree.query_ball_point(place, extent_nm / 2 * 1.001, p=np.inf)).astype(np.int64)
        inside = near[Box.around(place, extent_nm).contains(index.middles_nm[near])]
        cable, volume = index.lengths_nm[inside].sum(), index.volumes_nm3[inside].sum()
        if index.end_tree is not None:
            end = index.ends_nm[index.end_tree.query(place)[1]]
            nearest = min(extent_nm, float(np.linalg.norm(end - np.asarray(place))))
    return {
        f"log_cable_{role}": float(np.log1p(cable)),
        f"log_volume_{role}": float(np.log1p(volume)),
        f"log_end_{role}": float(np.log1p(nearest)),
    }
