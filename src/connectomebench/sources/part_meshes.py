"""Mesh the parts of a site from labels, cached under a content key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.files import content_key
from connectomebench.core.geometry import Mesh
from connectomebench.core.volume import IntPoint
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
