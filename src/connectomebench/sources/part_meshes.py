"""Parts of a site from labels: meshes, cached under a content key, and the sides of a cut as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.files import content_key
from connectomebench.core.geometry import Mesh
from connectomebench.core.volume import IntPoint, Volume
from connectomebench.sources.label_shapes import MeshConfig, mesh_labels
from connectomebench.sources.supervoxels import Pieces


class ArrayStore(Protocol):
    """Named arrays under a key."""

    def get(self, key: str) -> dict[str, NDArray[Any]] | None: ...  # noqa: D102
    def put(self, key: str, **arrays: NDArray[Any]) -> None: ...  # noqa: D102


def paint_side(
    labels: NDArray[np.uint8], lower: IntPoint, pieces: Pieces, sides: NDArray[np.int8], side: int, number: int
) -> None:
    """Label the voxels of a crop that lie on one side of a cut.

    Parameters
    ----------
    labels
        The crop, axes x, y, z; changed in place.
    lower
        Index of its first voxel in the volume.
    pieces
        The segment in pieces.
    sides
        int8, shape (n_pieces,): see :func:`connectomebench.cuts.min_cut.apply_cut`.
    side
        +1 or -1.
    number
        Number to write.
    """
    chosen = np.concatenate([[False], sides == side])
    low = np.maximum(lower, pieces.lower)
    high = np.minimum(np.add(lower, labels.shape), np.add(pieces.lower, pieces.labels.shape))
    if (low >= high).any():
        return
    here = tuple(slice(a, b) for a, b in zip(low - lower, high - lower, strict=True))
    there = tuple(slice(a, b) for a, b in zip(low - pieces.lower, high - pieces.lower, strict=True))
    labels[here][chosen[pieces.labels[there]]] = number


@dataclass(frozen=True, eq=False)
class SidesVolume:
    """The two sides of a cut as a volume (see ``Volume``): uint8, 1 source, 2 sink, 0 neither.

    Attributes
    ----------
    whole
        The volume that the pieces are of.
    pieces
        The segment in pieces.
    sides
        int8, shape (n_pieces,): see :func:`connectomebench.cuts.min_cut.apply_cut`.
    """

    whole: Volume
    pieces: Pieces
    sides: NDArray[np.int8]

    @property
    def shape(self) -> IntPoint:
        """Voxels of the whole volume along x, y, z."""
        return self.whole.shape

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Edge of a voxel along x, y, z, nm."""
        return self.whole.voxel_size_nm

    @property
    def offset_vx(self) -> IntPoint:
        """Absolute voxel coordinate of the first voxel of the whole volume."""
        return self.whole.offset_vx

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint8]:
        """Return the sides of voxels ``lower`` to ``upper`` (exclusive)."""
        labels = np.zeros(np.subtract(upper, lower), np.uint8)
        for number, side in enumerate((1, -1), 1):
            paint_side(labels, lower, self.pieces, self.sides, side, number)
        return labels


def stored_meshes(
    store: ArrayStore,
    labels: NDArray[np.uint8],
    count: int,
    lower_vx: Sequence[int],
    voxel_nm: Sequence[float],
    ends: NDArray[np.bool_],
    rules: MeshConfig,
) -> list[Mesh]:
    """Mesh labels 1 to ``count`` of a crop, or read the cached meshes of the same voxels.

    See :func:`connectomebench.sources.label_shapes.mesh_labels` for the parameters.
    """
    place, voxel = [int(v) for v in lower_vx], [float(v) for v in voxel_nm]
    key = content_key("mesh 3", labels, count, place, voxel, ends.tolist(), asdict(rules))
    stored = store.get(key)
    if stored is None:
        stored = {}
        for i, mesh in enumerate(mesh_labels(labels, count, place, voxel, ends, rules)):
            stored |= {f"vertices{i}": mesh.vertices_nm, f"faces{i}": mesh.faces}
        store.put(key, **stored)
    return [Mesh(stored[f"vertices{i}"], stored[f"faces{i}"]) for i in range(count)]
