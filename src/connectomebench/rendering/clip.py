"""Reduce a mesh to what lies in the cube shown: a neuron is often a hundred times larger than a view."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point

_NOT_FINITE = 64
# Face normals are added up as integers, which gives the same sum in any order of faces. Unit: cube units squared.
_NORMAL_UNIT = float(2**44)
_NORMAL_LIMIT = float(2**56)


@dataclass(frozen=True)
class ViewMesh:
    """The faces of a mesh that may be seen in a cube.

    Attributes
    ----------
    points
        float32, shape (n, 3), axes x, y, z; the cube spans -1 to 1.
    normals
        float32, shape (n, 3), unit length. As on the whole mesh: faces that were cut away count.
    faces
        int32, shape (m, 3), indices into ``points``.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    faces: NDArray[np.int32]


def clip_mesh(mesh: Mesh, center_nm: Point, extent_nm: float) -> ViewMesh:
    """Keep the faces whose bounding box overlaps a cube, and give their vertices smooth normals.

    Faces on the border stay whole; what sticks out is cut away by the picture frame and the near and far planes.

    Parameters
    ----------
    mesh
        Vertices in nm.
    center_nm, extent_nm
        Centre (x, y, z) and edge of the cube, nm.

    Returns
    -------
    ViewMesh
        In cube coordinates; without faces where the mesh does not reach the cube.

    Raises
    ------
    ConnectomeBenchError
        If a vertex is not finite or a face points at a vertex that is not there.
    """
    vertices = np.ascontiguousarray(mesh.vertices_nm, dtype=np.float32)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    center = np.asarray(center_nm, dtype=np.float64)
    codes = _outcodes(vertices, center, extent_nm / 2)
    kept, number, n_points = _select(faces, codes)
    if n_points < 0:
        raise ConnectomeBenchError(
            "a mesh has vertices that are not finite or faces that point outside its vertices; make the mesh anew"
        )
    return ViewMesh(*_extract(vertices, faces, kept, number, n_points, center, 2.0 / extent_nm))


@numba.njit(cache=True, nogil=True)
def _outcodes(vertices, center, half):
    """Six bits a vertex: below or above the cube along x, y, z; all bits of _NOT_FINITE where not finite."""
    codes = np.empty(len(vertices), np.uint8)
    lx, ly, lz = center[0] - half, center[1] - half, center[2] - half
    hx, hy, hz = center[0] + half, center[1] + half, center[2] + half
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        code = (
            np.uint8(x < lx)
            | (np.uint8(x > hx) << 1)
            | (np.uint8(y < ly) << 2)
            | (np.uint8(y > hy) << 3)
            | (np.uint8(z < lz) << 4)
            | (np.uint8(z > hz) << 5)
        )
        finite = (x - x == 0) & (y - y == 0) & (z - z == 0)
        codes[i] = code if finite else np.uint8(_NOT_FINITE)
    return codes


@numba.njit(cache=True, nogil=True)
def _select(faces, codes):
    """Find the faces that are not wholly beyond one side of the cube, and number their vertices."""
    n_vertices = len(codes)
    number = np.full(n_vertices, -1, np.int32)
    kept = np.empty(len(faces), np.int32)
    n_kept = 0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if min(a, b, c) < 0 or max(a, b, c) >= n_vertices:
            return kept[:0], number, -1
        if (codes[a] | codes[b] | codes[c]) & _NOT_FINITE:
            return kept[:0], number, -1
        if codes[a] & codes[b] & codes[c] == 0:
            kept[n_kept] = f
            n_kept += 1
    n_points = 0
    for k in range(n_kept):
        for j in range(3):
            v = faces[kept[k], j]
            if number[v] < 0:
                number[v] = n_points
                n_points += 1
    return kept[:n_kept].copy(), number, n_points


@numba.njit(cache=True, nogil=True)
def _extract(vertices, faces, kept, number, n_points, center, scale):
    """Copy the kept faces and their vertices, and add up the normals of all faces around those vertices."""
    points = np.empty((n_points, 3), np.float32)
    normals = np.empty((n_points, 3), np.float32)
    new_faces = np.empty((len(kept), 3), np.int32)
    if n_points == 0:
        return points, normals, new_faces
    for k in range(len(kept)):
        for j in range(3):
            v = faces[kept[k], j]
            n = number[v]
            new_faces[k, j] = n
            for axis in range(3):
                points[n, axis] = (vertices[v, axis] - center[axis]) * scale
    sums = np.zeros((n_points, 3), np.int64)
    for f in range(len(faces)):
        na, nb, nc = number[faces[f, 0]], number[faces[f, 1]], number[faces[f, 2]]
        if (na & nb & nc) < 0:  # all three are -1
            continue
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        # Differences of the vertices in nm, not of the points: the same whatever the cube, but for the scale.
        ux = (np.float64(vertices[b, 0]) - vertices[a, 0]) * scale
        uy = (np.float64(vertices[b, 1]) - vertices[a, 1]) * scale
        uz = (np.float64(vertices[b, 2]) - vertices[a, 2]) * scale
        vx = (np.float64(vertices[c, 0]) - vertices[a, 0]) * scale
        vy = (np.float64(vertices[c, 1]) - vertices[a, 1]) * scale
        vz = (np.float64(vertices[c, 2]) - vertices[a, 2]) * scale
        x = np.int64(min(max((uy * vz - uz * vy) * _NORMAL_UNIT, -_NORMAL_LIMIT), _NORMAL_LIMIT))
        y = np.int64(min(max((uz * vx - ux * vz) * _NORMAL_UNIT, -_NORMAL_LIMIT), _NORMAL_LIMIT))
        z = np.int64(min(max((ux * vy - uy * vx) * _NORMAL_UNIT, -_NORMAL_LIMIT), _NORMAL_LIMIT))
        for n in (na, nb, nc):
            if n >= 0:
                sums[n, 0] += x
                sums[n, 1] += y
                sums[n, 2] += z
    for n in range(n_points):
        x, y, z = np.float64(sums[n, 0]), np.float64(sums[n, 1]), np.float64(sums[n, 2])
        length = np.sqrt(x * x + y * y + z * z)
        if length > 0:
            normals[n, 0], normals[n, 1], normals[n, 2] = x / length, y / length, z / length
        else:  # only degenerate faces meet here; any direction will do, none is drawn
            normals[n, 0], normals[n, 1], normals[n, 2] = 0.0, 0.0, 1.0
    return points, normals, new_faces
