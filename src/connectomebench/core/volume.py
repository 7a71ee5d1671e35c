"""A three-dimensional array with a voxel size and an offset, read in blocks from any storage."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Box

IntPoint = tuple[int, int, int]


class Volume(Protocol):
    """A volume of labels or image data. Axes are x, y, z.

    Attributes
    ----------
    shape
        Voxels along x, y, z.
    voxel_size_nm
        Edge of a voxel along x, y, z, nm.
    offset_vx
        Absolute voxel coordinate of index (0, 0, 0); the centre of voxel ``i`` is at
        ``(offset_vx + i + 0.5) * voxel_size_nm``.
    """

    @property
    def shape(self) -> IntPoint: ...  # noqa: D102
    @property
    def voxel_size_nm(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def offset_vx(self) -> IntPoint: ...  # noqa: D102

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` (inclusive) to ``upper`` (exclusive), indices relative to the volume.

        Returns an array of shape ``upper - lower``, axes x, y, z, of any memory layout.
        """
        ...


class FingerprintedVolume(Volume, Protocol):
    """A volume whose content has a name: the same fingerprint is the same voxels at the same place."""

    @property
    def fingerprint(self) -> str: ...  # noqa: D102


def voxel_box(layer: Volume, box: Box, margin_vx: int = 0) -> tuple[IntPoint, IntPoint]:
    """Return the voxels of a layer that touch a box (indices, upper exclusive), clipped; empty outside the layer."""
    voxel, offset = np.asarray(layer.voxel_size_nm), np.asarray(layer.offset_vx)
    lower = np.floor(np.asarray(box.lower_nm) / voxel).astype(np.int64) - offset - margin_vx
    upper = np.ceil(np.asarray(box.upper_nm) / voxel).astype(np.int64) - offset + margin_vx
    lower, upper = np.clip(lower, 0, layer.shape), np.clip(upper, 0, layer.shape)
    return _ints(lower), _ints(np.maximum(lower, upper))


def _ints(values: NDArray[np.int64]) -> IntPoint:
    x, y, z = (int(v) for v in values)
    return x, y, z
