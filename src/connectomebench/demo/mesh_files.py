"""Read untrusted meshes: counted before parsing, parsed in memory, with no reference followed or code run."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.limited_process import run_limited
from connectomebench.core.site import Point
from connectomebench.demo.mesh_counts import (
    Counts,
    count_glb,
    count_obj,
    count_ply,
    count_stl,
    kind_of,
    without_mark,
)

MOST_BYTES = 20_000_000
MOST_FACES = 500_000
MOST_VERTICES = 1_500_000  # STL stores three vertices a face
# float32 holds whole nm up to here
_FARTHEST_NM = 1e9

# errors raised when reading the description of a damaged file
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError, struct.error)
_COUNTERS = {"obj": count_obj, "ply": count_ply, "stl": count_stl, "glb": count_glb}


def read_mesh(data: bytes, unit_nm: Point = (1.0, 1.0, 1.0)) -> Mesh:
    """Read an uploaded mesh.

    Sizes are read from the header, or counted, before a parser sees the file, so that it cannot be made to use more
    memory or time than its bytes allow. What a file refers to (materials, textures, buffers elsewhere) is taken out or
    refused; trimesh gets the bytes alone and no resolver.

    Parameters
    ----------
    data
        Content of the file: OBJ, PLY, STL or GLB, detected from its first bytes.
    unit_nm
        Length of one coordinate unit along x, y and z, nm: the edges of a voxel if coordinates count voxels.

    Returns
    -------
    Mesh
        Vertices in nm; float32, shape (n_vertices, 3), and int32, shape (n_faces, 3).

    Raises
    ------
    ConnectomeBenchError
        If it is too large, of another kind, damaged, empty, or refers to other files.
    """
    if not (np.isfinite(unit_nm).all() and min(unit_nm) > 0):
        raise ConnectomeBenchError("the unit of the coordinates must be a number of nm above 0")
    if len(data) > MOST_BYTES:
        raise _too_many_bytes(data)
    data = without_mark(data)
    suffix = kind_of(data)
    kind = suffix.upper()
    try:
        counts = _COUNTERS[suffix](data)
    except _BROKEN:
        raise ConnectomeBenchError(f"the file is no whole {kind} file; export it again") from None
    _check_counts(counts, kind)
    vertices, faces = _parse(counts.data, suffix)
    return _checked(vertices * unit_nm, faces)


def read_meshes_apart(files: Sequence[bytes], unit_nm: Point = (1.0, 1.0, 1.0)) -> list[Mesh]:
    """Read uploaded meshes as `read_mesh` does, in one process with a limit on memory and time."""
    for data in files:
        if len(data) > MOST_BYTES:
            raise _too_many_bytes(data)
    numbers = run_limited(f"{__name__}:_parts_of_meshes", [np.asarray(unit_nm, "<f8").tobytes(), *files], "the mesh")
    return [
        Mesh(
            np.frombuffer(corners, np.float32).reshape(-1, 3).copy(),
            np.frombuffer(faces, np.int32).reshape(-1, 3).copy(),
        )
        for corners, faces in zip(numbers[::2], numbers[1::2], strict=True)
    ]


def _parts_of_meshes(parts: list[bytes]) -> list[bytes]:
    x, y, z = np.frombuffer(parts[0], "<f8").tolist()
    meshes = [read_mesh(data, (x, y, z)) for data in parts[1:]]
    return [numbers.tobytes() for mesh in meshes for numbers in (mesh.vertices_nm, mesh.faces)]


def _too_many_bytes(data: bytes) -> ConnectomeBenchError:
    return ConnectomeBenchError(f"the file has {len(data) / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} are taken")


def _check_counts(counts: Counts, kind: str) -> None:
    if counts.refers:
        raise ConnectomeBenchError(f"the {kind} file {counts.refers}; export it as one plain file")
    if counts.faces > MOST_FACES or counts.vertices > MOST_VERTICES:
        raise ConnectomeBenchError(
            f"the mesh has {counts.faces} faces and {counts.vertices} vertices; at most {MOST_FACES} and "
            f"{MOST_VERTICES} are taken, so simplify it or cut it to the place of interest"
        )
    if not counts.faces:
        raise ConnectomeBenchError("the mesh has no faces; export a surface, not points")


def _parse(data: bytes, suffix: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Parse the bytes with trimesh; any failure is an error of the file."""
    import trimesh

    try:
        scene = trimesh.load_scene(
            io.BytesIO(data), file_type=suffix, resolver=None, process=False, skip_materials=True, allow_remote=False
        )
        mesh: Any = scene.to_mesh()
        # damaged files give rows of unequal length
        vertices = np.asarray(mesh.vertices, np.float64).reshape(len(mesh.vertices), 3)
        return vertices, np.asarray(mesh.faces, np.int64).reshape(len(mesh.faces), 3)
    except MemoryError:
        raise ConnectomeBenchError("the mesh does not fit the memory; simplify it") from None
    except Exception:
        raise ConnectomeBenchError(f"the file is no sound {suffix.upper()} file; export it again") from None


def _checked(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> Mesh:
    if not len(vertices) or not len(faces):
        raise ConnectomeBenchError("the mesh has no faces; export a surface, not points")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ConnectomeBenchError("the mesh has faces of vertices that are not there; export it again")
    # vertices that no face uses are not drawn, whatever stands there
    used, faces = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], faces.reshape(-1, 3)
    if len(faces) > MOST_FACES or len(vertices) > MOST_VERTICES:
        raise ConnectomeBenchError(f"the mesh has more than {MOST_FACES} faces; simplify it")
    if not np.isfinite(vertices).all() or np.abs(vertices).max() > _FARTHEST_NM:
        raise ConnectomeBenchError("the mesh has coordinates that are no numbers, or far too large; check the unit")
    if np.ptp(vertices, axis=0).max() == 0:
        raise ConnectomeBenchError("all vertices of the mesh are one point; export it again")
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))
