"""Neighbourhoods of a dataset's rows: what one sees who looks around at a place, in optional archives beside the rows.

``SPECIES/neighbourhoods-PARTITION-00000-of-00001.zip`` holds ``SAMPLE_ID.npz`` for each row: meshes of its segments and
of others beside them in a cube wider than the views, and parallel slices of image data. All of it is what a proofreader
sees before the correction: no ids, no bodies, no answer. Nothing in it is ever unpickled, and its size is bounded.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.core.geometry import Mesh
from connectomebench.core.npy_header import npy_header
from connectomebench.core.site import Point
from connectomebench.core.tasks import EM_VIEWS
from connectomebench.dataset.repo_layout import scene_files

NEIGHBOUR = "neighbour"
"""Name of an object that the row does not ask about."""
OTHER, NO_DATA = 254, 255
"""Labels of a slice: a segment that is no object of the neighbourhood, and no data."""
MOST_OBJECTS = 7
MOST_BYTES = 64_000_000
"""Largest neighbourhood that is read, bytes, unpacked."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive can state: the same content gives the same bytes
_FULL = 32_767
_KINDS = {
    "center_nm": "f8",
    "sizes_nm": "f8",
    "names": "U",
    "vertices": "i2",
    "faces": "i4",
    "vertex_starts": "i8",
    "face_starts": "i8",
    "slices": "u1",
    "labels": "u1",
}


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What is to be seen at one place.

    Attributes
    ----------
    center_nm
        Centre of the views of the row (x, y, z), nm.
    extent_nm
        Edge of those views, and of the slices, nm.
    reach_nm
        Edge of the cube in which meshes are known, nm.
    names
        Of each object: the role of a part or the letter of a candidate, then :data:`NEIGHBOUR` for the others.
    meshes
        Of each object; vertices in nm relative to the centre.
    slices, labels
        uint8, shape (3, pages, rows, columns): slices ``em_xy``, ``em_xz``, ``em_yz``, oriented as in the rows; and
        what each pixel belongs to: 0 nothing, the number of an object counted from 1, :data:`OTHER`,
        :data:`NO_DATA`. No pages without image data.
    page_nm
        Distance of two pages, nm; the middle one goes through the centre.
    """

    center_nm: Point
    extent_nm: float
    reach_nm: float
    names: tuple[str, ...]
    meshes: tuple[Mesh, ...]
    slices: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    page_nm: float

    @property
    def pages(self) -> int:
        """Slices in each plane; an odd number, or 0."""
        return self.slices.shape[1]


def neighbourhoods_path(folder: Path, species: str, partition: str) -> Path:
    """Return the path of the neighbourhoods of a partition; ``folder`` is that of the task."""
    return folder / species / f"neighbourhoods-{partition}-00000-of-00001.zip"


def pack(place: Neighbourhood) -> bytes:
    """Write a neighbourhood as npz; vertices are rounded to 1/32,767 of the largest coordinate."""
    points = np.concatenate([np.zeros((0, 3), np.float32), *(mesh.vertices_nm for mesh in place.meshes)])
    unit = max(float(np.abs(points).max(initial=0.0)) / _FULL, 1e-9)
    vertex_starts = np.cumsum([0, *(len(mesh.vertices_nm) for mesh in place.meshes)])
    faces = [mesh.faces.astype(np.int32) for mesh in place.meshes]
    stream = io.BytesIO()
    np.savez(
        stream,
        center_nm=np.array(place.center_nm, np.float64),
        sizes_nm=np.array([place.extent_nm, place.reach_nm, place.page_nm, unit], np.float64),
        names=np.array(place.names, "U16"),
        vertices=np.round(points / unit).astype(np.int16),
        faces=np.concatenate([np.zeros((0, 3), np.int32), *faces]),
        vertex_starts=vertex_starts.astype(np.int64),
        face_starts=np.cumsum([0, *map(len, faces)]).astype(np.int64),
        slices=place.slices,
        labels=place.labels,
    )
    return stream.getvalue()


def unpack(content: bytes) -> Neighbourhood:
    """Read a neighbourhood of :func:`pack`, whoever wrote it.

    Raises
    ------
    ValueError
        If it is too large, or no such file.
    """
    arrays = _arrays(content)
    sizes, names = arrays["sizes_nm"], arrays["names"]
    count = len(names)
    vertices, faces = arrays["vertices"], arrays["faces"]
    starts = [(arrays[name], len(of)) for name, of in (("vertex_starts", vertices), ("face_starts", faces))]
    slices, labels = arrays["slices"], arrays["labels"]
    finite = np.isfinite(sizes).all() and np.isfinite(arrays["center_nm"]).all()
    if (
        arrays["center_nm"].shape != (3,)
        or sizes.shape != (4,)
        or not finite
        or not 0 < sizes[0] <= sizes[1] < 1e9
        or not (0 < sizes[3] < 1e9 and 0 <= sizes[2] < 1e9)
        or np.abs(arrays["center_nm"]).max() > 1e15
        or names.ndim != 1
        or not 0 < count <= MOST_OBJECTS
        or vertices.shape[1:] != (3,)
        or faces.shape[1:] != (3,)
        or slices.ndim != 4
        or slices.shape != labels.shape
        or len(slices) != len(EM_VIEWS)
        or (slices.shape[1] and (slices.shape[1] % 2 == 0 or not slices.shape[2] == slices.shape[3] > 0))
    ):
        raise ValueError("it is no neighbourhood")
    for start, total in starts:
        if start.shape != (count + 1,) or start[0] != 0 or start[-1] != total or (np.diff(start) < 0).any():
            raise ValueError("its objects do not fit together")
    center_x, center_y, center_z = map(float, arrays["center_nm"])
    extent, reach, page, unit = map(float, sizes)
    meshes = []
    for i in range(count):
        own = vertices[starts[0][0][i] : starts[0][0][i + 1]]
        corners = faces[starts[1][0][i] : starts[1][0][i + 1]]
        if len(corners) and (corners.min() < 0 or corners.max() >= len(own)):
            raise ValueError("faces point outside their object")
        meshes.append(Mesh((own * unit).astype(np.float32), np.ascontiguousarray(corners)))
    return Neighbourhood(
        (center_x, center_y, center_z), extent, reach, tuple(map(str, names)), tuple(meshes), slices, labels, page
    )


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of an npz, each checked for kind and size before it is allocated."""
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError("it is too large")
        for name, kind in _KINDS.items():
            with archive.open(f"{name}.npy") as stream:
                data = stream.read(MOST_BYTES + 1)
            shape, dtype, size = npy_header(io.BytesIO(data))
            wanted = dtype.kind == "U" and dtype.itemsize <= 64 if kind == "U" else dtype == np.dtype(f"<{kind}")
            if not wanted or size != len(data) or math.prod(shape) * dtype.itemsize > MOST_BYTES:
                raise ValueError(f"{name} is damaged")
            found[name] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def write_neighbourhoods(path: Path, rows: Iterable[tuple[str, Neighbourhood]]) -> int:
    """Write neighbourhoods by sample id as they come; return their number. Nothing half-written is left behind."""
    n = 0
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for sample_id, place in rows:
            archive.writestr(zipfile.ZipInfo(f"{sample_id}.npz", _EPOCH), pack(place), zipfile.ZIP_DEFLATED, 6)
            n += 1
    return n


class StoredNeighbourhoods:
    """Neighbourhoods of one species of a dataset folder, read one at a time.

    Parameters
    ----------
    folder
        Folder of a species, ``OUT/TASK/SPECIES``.

    Raises
    ------
    ConnectomeBenchError
        If an archive cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._archive_of: dict[str, Path] = {}
        for name in scene_files(folder.parent, folder.name, ["neighbourhoods"]):
            path = folder.parent / name
            try:
                with zipfile.ZipFile(path) as archive:
                    self._archive_of.update(dict.fromkeys(archive.namelist(), path))
            except (OSError, zipfile.BadZipFile) as error:
                raise ConnectomeBenchError(f"cannot read {path}: {error}; write the neighbourhoods again") from None

    def __contains__(self, sample_id: str) -> bool:
        return f"{sample_id}.npz" in self._archive_of

    def get(self, sample_id: str) -> Neighbourhood:
        """Return the neighbourhood of a row.

        Raises
        ------
        ConnectomeBenchError
            If the row has none, or it is damaged or too large.
        """
        name = f"{sample_id}.npz"
        path = self._archive_of.get(name)
        if path is None:
            raise ConnectomeBenchError(f"row {sample_id} has no neighbourhood; run `build --neighbourhoods PARTITION`")
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
                content = stream.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise ValueError("it is too large")
            return unpack(content)
        # what zipfile, zlib and numpy raise for damaged bytes has no common ancestor
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise ConnectomeBenchError(
                f"{path}: the neighbourhood of {sample_id} cannot be read ({reason}); write the neighbourhoods again"
            ) from None
