"""Thin out meshes for views of whole segments, in which a pixel is wider than most of their faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import EMPTY_MESH, Mesh


def thin_mesh(mesh: Mesh, cell_nm: float) -> Mesh:
    """Merge all vertices of a cell of a grid into their mean, and drop faces that lose a corner.

    A surface moves by less than a cell. The grid stands fixed in the world, so that neighbouring pieces still meet.

    Parameters
    ----------
    mesh
        Vertices in nm.
    cell_nm
        Edge of a cell, nm.

    Returns
    -------
    Mesh
        Each face once, in the order of the given ones; vertices that no face uses are dropped.

    Examples
    --------
    >>> import numpy as np
    >>> corners_nm = np.array([[1, 1, 1], [2, 1, 1], [1, 90, 1], [90, 1, 1]], np.float32)
    >>> thin = thin_mesh(Mesh(corners_nm, np.array([[0, 1, 2], [0, 2, 3]], np.int32)), 50.0)
    >>> thin.faces.tolist(), thin.vertices_nm.tolist()
    ([[0, 1, 2]], [[1.5, 1.0, 1.0], [1.0, 90.0, 1.0], [90.0, 1.0, 1.0]])
    """
    if mesh.is_empty:
        return EMPTY_MESH
    cells = np.floor(mesh.vertices_nm.astype(np.float64) / cell_nm).astype(np.int64)
    first, number = _unique_rows(cells)
    number = _by_first_use(number, first)
    n = len(first)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(n))
    sums = np.add.reduceat(mesh.vertices_nm.astype(np.float64)[order], starts, axis=0)
    vertices = sums / np.diff(np.append(starts, len(number)))[:, None]
    faces = number[mesh.faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    # the same three corners in the same sense of rotation are one face
    turned = np.argmin(faces, axis=1)
    canonical = faces[np.arange(len(faces))[:, None], (turned[:, None] + np.arange(3)) % 3]
    once = np.sort(_unique_rows(canonical)[0])
    return _compact(vertices.astype(np.float32), faces[once])


def _unique_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, inverse.ravel()


def _by_first_use(number: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber groups by their first member, so that the result does not depend on how cells sort."""
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]


def _compact(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> Mesh:
    used = np.zeros(len(vertices), np.bool_)
    used[faces] = True
    number = np.cumsum(used) - 1
    return Mesh(vertices[used], number[faces].astype(np.int32).reshape(-1, 3))
