"""A volume of which one block is in memory: what is read many times round a place is fetched once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Box
from connectomebench.core.volume import IntPoint, Volume, voxel_box

MOST_VOXELS = 1 << 27
"""A larger block (1 GiB of 64-bit labels) is not held."""


@dataclass(frozen=True, eq=False)
class HeldVolume:
    """A volume with a block of it in memory; see ``Volume``.

    Attributes
    ----------
    whole
        The volume.
    lower
        First voxel of the block, index along x, y, z.
    block
        Its voxels, axes x, y, z.
    """

    whole: Volume
    lower: IntPoint
    block: NDArray[Any]

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

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` to ``upper`` (exclusive) from memory; from the volume where they are not all there."""
        first, last = np.subtract(lower, self.lower), np.subtract(upper, self.lower)
        if (first < 0).any() or (last > self.block.shape).any():
            return self.whole.read(lower, upper)
        return self.block[tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))]


def hold(volume: Volume, box: Box, margin_vx: int = 0) -> Volume:
    """Read a box of a volume once.

    Parameters
    ----------
    volume
        Labels or image data.
    box
        What will be read, nm.
    margin_vx
        So many voxels more on each side.

    Returns
    -------
    Volume
        The same voxels everywhere. ``volume`` itself where the box lies outside it, or has more than
        :data:`MOST_VOXELS`.
    """
    lower, upper = voxel_box(volume, box, margin_vx)
    size = np.subtract(upper, lower)
    if not 0 < int(size.prod()) <= MOST_VOXELS:
        return volume
    return HeldVolume(volume, lower, volume.read(lower, upper))
