"""A three-dimensional array at a place in the world, read block by block, wherever it is kept."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

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
