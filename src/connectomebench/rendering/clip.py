"""Clip a mesh to the cube shown: a neuron is often a hundred times larger than a view.

View-independent data are computed once per mesh and kept as long as the mesh: its normals, and its faces sorted into
the cells of a grid, so that a view only tests the cells that it meets.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point

# Face normals are summed as integers, so that the sum does not depend on the order of faces. Unit: nm².
_NORMAL_UNIT = float(2**20)
_NORMAL_LIMIT = float(2**56)
_CELL_FACES = 24  # approximate number per cell that a surface crosses
# A mesh that encloses less than minus this share of its area times its reach counts as inside out.
_TURNED = 1e-4
# An open mesh encloses nothing, and what is computed depends on the point it is seen from: by the sum of its directed
# areas times the way to that point. So the volume has to be below minus this many times that, too. 1 holds for all
# points within reach; 2 also keeps a bowl (-3 against -2.2 of that unit), and still turns a tube with one end open (5).
_OPEN = 2.0


@dataclass(frozen=True)
class ViewMesh:
    """Faces of a mesh that may be visible in a cube.

    Attributes
    ----------
    points
        float32, shape (n, 3), axes x, y, z; the cube spans -1 to 1.
    normals
        float32, shape (n, 3), unit length. As on the whole mesh: clipped faces count too.
    faces
        int32, shape (m, 3), indices into ``points``; counter-clockwise seen from outside.
    cells
        int32, shape (k + 1,): start of each run of neighbouring faces, and the number of faces.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    faces: NDArray[np.int32]
    cells: NDArray[np.int32]


@dataclass(frozen=True)
class MeshIndex:
    """A mesh with normals and spatially sorted faces.

    Attributes
    ----------
    vertices_nm
        float32, shape (n, 3), axes x, y, z.
    normals
        float32, shape (n, 3), unit length.
    faces
        int32, shape (m, 3), counter-clockwise seen from outside, grouped by cell.
    cells
        int32, shape (k + 1,): start of the faces of each cell; no cell is empty.
    lower_nm, upper_nm
        float32, shape (k, 3): bounding box of the faces of each cell.
    """

    vertices_nm: NDArray[np.float32]
    normals: NDArray[np.float32]
    faces: NDArray[np.int32]
    cells: NDArray[np.int32]
    lower_nm: NDArray[np.float32]
    upper_nm: NDArray[np.float32]


# by id of the mesh; an entry is removed together with its mesh
_indices: dict[int, MeshIndex] = {}


def index_mesh(mesh: Mesh) -> MeshIndex:
    """Sort the faces of a mesh spatially and compute its normals; the result is cached per mesh object.

    The arrays of the mesh must not be changed afterwards.

    Parameters
    ----------
    mesh
        Vertices in nm. Faces may all be inside out; this is corrected.

    Raises
    ------
    ConnectomeBenchError
        If a vertex of a face is not finite or a face refers to a missing vertex.
    """
    found = _indices.get(id(mesh))
    if found is None:
        found = _make_index(mesh)
        # the entry is stored before the finaliser: whatever happens, no other mesh of this id can find it
        _indices[id(mesh)] = found
        weakref.finalize(mesh, _indices.pop, id(mesh), None)
    return found


def clip_mesh(mesh: Mesh, center_nm: Point, extent_nm: float) -> ViewMesh:
    """Keep the faces whose bounding box overlaps a cube, with smooth normals at their vertices.

    Faces on the border stay whole; the image frame and the near and far planes cut off what sticks out.

    Parameters
    ----------
    mesh
        Vertices in nm; indexed by :func:`index_mesh`.
    center_nm, extent_nm
        Centre (x, y, z) and edge of the cube, nm.

    Returns
    -------
    ViewMesh
        In cube coordinates; without faces if the mesh does not reach the cube.

    Raises
    ------
    ConnectomeBenchError
        See :func:`index_mesh`.
    """
    index = index_mesh(mesh)
    center = np.asarray(center_nm, dtype=np.float64)
    kept, cells, number, n_points = _select(
        index.vertices_nm, index.faces, index.cells, index.lower_nm, index.upper_nm, center, extent_nm / 2
    )
    points, normals, faces = _extract(
        index.vertices_nm, index.normals, index.faces, kept, number, n_points, center, 2.0 / extent_nm
    )
    return ViewMesh(points, normals, faces, cells)


def _make_index(mesh: Mesh) -> MeshIndex:
    vertices = np.ascontiguousarray(mesh.vertices_nm, dtype=np.float32).reshape(-1, 3)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32).reshape(-1, 3)
    if len(faces) == 0:
        none = np.zeros((0, 3), np.float32)
        return MeshIndex(none, none, faces, np.zeros(1, np.int32), none, none)
    if faces.min() < 0 or faces.max() >= len(vertices) or not np.isfinite(vertices).all():
        raise ConnectomeBenchError(
            "a mesh has vertices that are not finite or faces that point outside its vertices; make the mesh again"
        )
    middle = vertices.mean(axis=0, dtype=np.float64)
    volume, area, directed = _volume(vertices, faces, middle)
    if volume < -(_TURNED * area + _OPEN * directed) * float(np.abs(vertices - middle).max()):
        faces = faces[:, ::-1].copy()
    corner = vertices.min(axis=0).astype(np.float64)
    span = vertices.max(axis=0).astype(np.float64) - corner
    # cell edge at which a surface has about that many faces per cell, unless that gives more cells than faces
    edge = max((_CELL_FACES * area / 2 / len(faces)) ** 0.5, 1e-6 * span.max(), 1e-6)
    while np.prod(np.floor(span / edge) + 1) > 2 * len(faces) + 64:
        edge *= 1.3
    shape = np.floor(span / edge).astype(np.int64) + 1
    order, cells = _sort_faces(vertices, faces, corner, 1 / edge, shape)
    faces, vertices = _reorder(faces, order, vertices)
    lower, upper = _cell_boxes(vertices, faces, cells)
    return MeshIndex(vertices, _vertex_normals(vertices, faces), faces, cells, lower, upper)


@numba.njit(cache=True, nogil=True)
def _volume(vertices, faces, middle):
    """Compute 6x the signed volume around a point (nm³), and 2x the area and the directed area's length (nm²)."""
    volume, area = 0.0, 0.0
    directed_x, directed_y, directed_z = 0.0, 0.0, 0.0  # their sum is 0 on a closed surface
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        px, py, pz = vertices[a, 0] - middle[0], vertices[a, 1] - middle[1], vertices[a, 2] - middle[2]
        ux = np.float64(vertices[b, 0]) - vertices[a, 0]
        uy = np.float64(vertices[b, 1]) - vertices[a, 1]
        uz = np.float64(vertices[b, 2]) - vertices[a, 2]
        vx = np.float64(vertices[c, 0]) - vertices[a, 0]
        vy = np.float64(vertices[c, 1]) - vertices[a, 1]
        vz = np.float64(vertices[c, 2]) - vertices[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        volume += x * px + y * py + z * pz
        area += np.sqrt(x * x + y * y + z * z)
        directed_x, directed_y, directed_z = directed_x + x, directed_y + y, directed_z + z
    return volume, area, np.sqrt(directed_x * directed_x + directed_y * directed_y + directed_z * directed_z)


@numba.njit(cache=True, nogil=True)
def _sort_faces(vertices, faces, corner, scale, shape):
    """Sort faces by the cell of their middle (a counting sort); return their order and where filled cells begin."""
    n = len(faces)
    cell = np.empty(n, np.int64)
    counts = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for f in range(n):
        place = np.int64(0)
        for axis in range(3):
            middle = (
                np.float64(vertices[faces[f, 0], axis]) + vertices[faces[f, 1], axis] + vertices[faces[f, 2], axis]
            ) / 3
            step = np.int64((middle - corner[axis]) * scale)
            place = place * shape[axis] + min(max(step, 0), shape[axis] - 1)
        cell[f] = place
        counts[place + 1] += 1
    filled = 0
    for k in range(len(counts) - 1):
        if counts[k + 1] > 0:
            filled += 1
        counts[k + 1] += counts[k]
    cells = np.empty(filled + 1, np.int32)
    filled = 0
    for k in range(len(counts) - 1):
        if counts[k + 1] > counts[k]:
            cells[filled] = counts[k]
            filled += 1
    cells[filled] = n
    order = np.empty(n, np.int32)
    for f in range(n):
        order[counts[cell[f]]] = f
        counts[cell[f]] += 1
    return order, cells


@numba.njit(cache=True, nogil=True)
def _reorder(faces, order, vertices):
    """Reorder faces and number vertices by first use, so that neighbours lie close in memory."""
    number = np.full(len(vertices), -1, np.int32)
    new_faces = np.empty_like(faces)
    new_vertices = np.empty_like(vertices)
    n = 0
    for f in range(len(order)):
        for j in range(3):
            v = faces[order[f], j]
            if number[v] < 0:
                number[v] = n
                new_vertices[n, 0], new_vertices[n, 1], new_vertices[n, 2] = (
                    vertices[v, 0],
                    vertices[v, 1],
                    vertices[v, 2],
                )
                n += 1
            new_faces[f, j] = number[v]
    return new_faces, new_vertices[:n].copy()


@numba.njit(cache=True, nogil=True)
def _cell_boxes(vertices, faces, cells):
    """Compute the bounding box of the faces of each cell."""
    n = len(cells) - 1
    lower = np.full((n, 3), np.inf, np.float32)
    upper = np.full((n, 3), -np.inf, np.float32)
    for k in range(n):
        for f in range(cells[k], cells[k + 1]):
            for j in range(3):
                for axis in range(3):
                    value = vertices[faces[f, j], axis]
                    lower[k, axis] = min(lower[k, axis], value)
                    upper[k, axis] = max(upper[k, axis], value)
    return lower, upper


@numba.njit(cache=True, nogil=True)
def _vertex_normals(vertices, faces):
    """Add up the normals of the faces around each vertex, weighted by area."""
    sums = np.zeros((len(vertices), 3), np.int64)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux = np.float64(vertices[b, 0]) - vertices[a, 0]
        uy = np.float64(vertices[b, 1]) - vertices[a, 1]
        uz = np.float64(vertices[b, 2]) - vertices[a, 2]
        vx = np.float64(vertices[c, 0]) - vertices[a, 0]
        vy = np.float64(vertices[c, 1]) - vertices[a, 1]
        vz = np.float64(vertices[c, 2]) - vertices[a, 2]
        x = np.int64(min(max((uy * vz - uz * vy) * _NORMAL_UNIT, -_NORMAL_LIMIT), _NORMAL_LIMIT))
        y = np.int64(min(max((uz * vx - ux * vz) * _NORMAL_UNIT, -_NORMAL_LIMIT), _NORMAL_LIMIT))
        z = np.int64(min(max((ux * vy - uy * vx) * _NORMAL_UNIT, -_NORMAL_LIMIT), _NORMAL_LIMIT))
        for v in (a, b, c):
            sums[v, 0] += x
            sums[v, 1] += y
            sums[v, 2] += z
    normals = np.empty((len(vertices), 3), np.float32)
    for v in range(len(vertices)):
        x, y, z = np.float64(sums[v, 0]), np.float64(sums[v, 1]), np.float64(sums[v, 2])
        length = np.sqrt(x * x + y * y + z * z)
        if length > 0:
            normals[v, 0], normals[v, 1], normals[v, 2] = x / length, y / length, z / length
        else:  # only degenerate faces meet here; any direction works, none is drawn
            normals[v, 0], normals[v, 1], normals[v, 2] = 0.0, 0.0, 1.0
    return normals


@numba.njit(cache=True, nogil=True)
def _select(vertices, faces, cells, lower, upper, center, half):
    """Find the faces that are not wholly beyond one side of the cube, and number their vertices.

    Cells beyond a side are skipped, cells inside taken whole; only faces of cells on the border are tested.
    """
    low = center - half
    high = center + half
    number = np.full(len(vertices), -1, np.int32)
    kept = np.empty(len(faces), np.int32)
    starts = np.empty(len(cells), np.int32)
    n_kept, n_cells = 0, 0
    for k in range(len(cells) - 1):
        beyond, inside = False, True
        for axis in range(3):
            beyond |= upper[k, axis] < low[axis] or lower[k, axis] > high[axis]
            inside &= lower[k, axis] >= low[axis] and upper[k, axis] <= high[axis]
        if beyond:
            continue
        first = n_kept
        for f in range(cells[k], cells[k + 1]):
            if not inside:
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                away = False
                for axis in range(3):
                    p, q, r = vertices[a, axis], vertices[b, axis], vertices[c, axis]
                    away |= max(p, q, r) < low[axis] or min(p, q, r) > high[axis]
                if away:
                    continue
            kept[n_kept] = f
            n_kept += 1
        if n_kept > first:
            starts[n_cells] = first
            n_cells += 1
    starts[n_cells] = n_kept
    n_points = 0
    for k in range(n_kept):
        for j in range(3):
            v = faces[kept[k], j]
            if number[v] < 0:
                number[v] = n_points
                n_points += 1
    return kept[:n_kept], starts[: n_cells + 1].copy(), number, n_points


@numba.njit(cache=True, nogil=True)
def _extract(vertices, normals, faces, kept, number, n_points, center, scale):
    """Copy the kept faces and their vertices, these in cube coordinates."""
    points = np.empty((n_points, 3), np.float32)
    directions = np.empty((n_points, 3), np.float32)
    new_faces = np.empty((len(kept), 3), np.int32)
    done = 0
    for k in range(len(kept)):
        for j in range(3):
            v = faces[kept[k], j]
            n = number[v]
            new_faces[k, j] = n
            if n == done:  # vertices are numbered by first use
                done += 1
                for axis in range(3):
                    points[n, axis] = (vertices[v, axis] - center[axis]) * scale
                    directions[n, axis] = normals[v, axis]
    return points, directions, new_faces
