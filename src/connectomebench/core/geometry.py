"""Meshes, skeletons and boxes in nanometres. Axes are x, y, z everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes
    ----------
    vertices_nm
        float32, shape (n_vertices, 3), axes x, y, z in nm.
    faces
        int32, shape (n_faces, 3), indices into ``vertices_nm``, counter-clockwise seen from outside.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench import Mesh
    >>> Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)).is_empty
    True
    """

    vertices_nm: NDArray[np.float32]
    faces: NDArray[np.int32]

    @property
    def is_empty(self) -> bool:
        """True where the mesh has no face."""
        return len(self.faces) == 0


EMPTY_MESH = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))


@dataclass(frozen=True)
class Skeleton:
    """A curve skeleton; it may have several components, but cycles only where a source documents them.

    Attributes
    ----------
    nodes_nm
        float32, shape (n_nodes, 3), axes x, y, z in nm.
    edges
        int32, shape (n_edges, 2), indices into ``nodes_nm``.
    radii_nm
        float32, shape (n_nodes,): distance to the boundary in nm.
    """

    nodes_nm: NDArray[np.float32]
    edges: NDArray[np.int32]
    radii_nm: NDArray[np.float32]

    def degrees(self) -> NDArray[np.int64]:
        """Count the edges at each node; int64, shape (n_nodes,)."""
        return np.bincount(self.edges.ravel(), minlength=len(self.nodes_nm))


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in nm; ``lower_nm`` inclusive, ``upper_nm`` exclusive, axes x, y, z."""

    lower_nm: tuple[float, float, float]
    upper_nm: tuple[float, float, float]

    @staticmethod
    def around(center_nm: tuple[float, float, float], extent_nm: float) -> Box:
        """Return the cube of edge ``extent_nm`` centred on ``center_nm`` (nm)."""
        half = extent_nm / 2
        x, y, z = (float(c) for c in center_nm)
        return Box((x - half, y - half, z - half), (x + half, y + half, z + half))

    def contains(self, points_nm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which points (shape (n, 3), nm) lie inside; bool, shape (n,)."""
        points = np.asarray(points_nm)
        return np.all((points >= self.lower_nm) & (points < self.upper_nm), axis=1)
