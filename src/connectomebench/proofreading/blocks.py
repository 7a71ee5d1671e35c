"""The grid of blocks with halos in which a volume is proofread."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.volume import IntPoint

CHUNK_VX = 64  # of the written segmentation: blocks are whole chunks, so that no two write one
ONE_PIECE_VOXELS = 1 << 26  # volumes up to this size (406³) are one block unless the configuration says otherwise
DEFAULT_BLOCK_VX = 256


@dataclass(frozen=True)
class Block:
    """A block of a grid; all bounds are indices in the volume along x, y, z, upper exclusive.

    Attributes
    ----------
    index
        Number in the grid, x slowest.
    lower, upper
        What belongs to it.
    outer_lower, outer_upper
        The same with its halo, as far as the volume goes.
    """

    index: int
    lower: IntPoint
    upper: IntPoint
    outer_lower: IntPoint
    outer_upper: IntPoint


@dataclass(frozen=True)
class BlockGrid:
    """A division of a volume into blocks.

    Attributes
    ----------
    shape
        Voxels of the volume along x, y, z.
    edge
        Voxels of a block along x, y, z; those at the upper faces may be smaller.
    halo
        Voxels read beyond a block on either side, along x, y, z.
    step
        The outer lower corner of a block is a multiple of this, so that grids inside it (cells of contacts, merged
        voxels of skeletons) are the same for all blocks.
    """

    shape: IntPoint
    edge: IntPoint
    halo: IntPoint = (0, 0, 0)
    step: IntPoint = (1, 1, 1)

    @property
    def counts(self) -> IntPoint:
        """Blocks along x, y, z."""
        x, y, z = (-(-n // e) for n, e in zip(self.shape, self.edge, strict=True))
        return x, y, z

    def __len__(self) -> int:
        return math.prod(self.counts)

    def block(self, index: int) -> Block:
        """Return a block by its number."""
        place = np.array(np.unravel_index(index, self.counts))
        lower = place * self.edge
        upper = np.minimum(lower + self.edge, self.shape)
        outer = np.maximum(lower - self.halo, 0) // self.step * self.step
        return Block(
            index, _ints(lower), _ints(upper), _ints(outer), _ints(np.minimum(np.add(upper, self.halo), self.shape))
        )

    def touching(self, lower: IntPoint, upper: IntPoint) -> list[int]:
        """Return the numbers of the blocks that hold voxels of a box, ascending."""
        spans = [range(a // e, -(-b // e)) for a, b, e in zip(lower, upper, self.edge, strict=True)]
        _, ny, nz = self.counts
        return [(x * ny + y) * nz + z for x, y, z in itertools.product(*spans)]

    def around(self, indices: NDArray[np.int64]) -> list[int]:
        """Return these blocks and their neighbours (26 each), ascending."""
        if not len(indices):
            return []
        places = np.stack(np.unravel_index(indices, self.counts), axis=1)
        steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        near = (places[:, None] + steps).reshape(-1, 3)
        near = near[((near >= 0) & (near < self.counts)).all(axis=1)]
        return np.unique(np.ravel_multi_index(tuple(near.T), self.counts)).tolist()


def make_grid(
    shape: IntPoint, voxel_nm: tuple[float, float, float], block_vx: int | None, halo_nm: float, step: IntPoint
) -> BlockGrid:
    """Choose the grid of a volume.

    Parameters
    ----------
    shape
        Voxels along x, y, z.
    voxel_nm
        Edge of a voxel along x, y, z, nm.
    block_vx
        Edge of the blocks, voxels, a multiple of :data:`CHUNK_VX`. None takes :data:`DEFAULT_BLOCK_VX`, or one block
        for volumes of at most :data:`ONE_PIECE_VOXELS`.
    halo_nm
        How far a decision at a place looks, nm.
    step
        See :class:`BlockGrid`.

    Raises
    ------
    ConnectomeBenchError
        If the edge is no multiple, or smaller than the halo of a block.
    """
    if block_vx is None and math.prod(shape) <= ONE_PIECE_VOXELS:
        return BlockGrid(shape, shape)
    edge = DEFAULT_BLOCK_VX if block_vx is None else block_vx
    if edge < CHUNK_VX or edge % CHUNK_VX:
        raise ConnectomeBenchError(f"--block-vx is {edge}; it must be a multiple of {CHUNK_VX}")
    hx, hy, hz = (math.ceil(halo_nm / v) for v in voxel_nm)
    need = max(h for h, n in zip((hx, hy, hz), shape, strict=True) if n > edge) if max(shape) > edge else 0
    if need > edge:
        raise ConnectomeBenchError(
            f"blocks of {edge} voxels are smaller than their halo ({need} voxels: the largest of "
            f"candidates.radius_nm, merge_radius_nm and reach_nm, and half of proposals.reach_nm); give --block-vx "
            f"{-(-need // CHUNK_VX) * CHUNK_VX} or more"
        )
    ex, ey, ez = (min(edge, n) for n in shape)
    return BlockGrid(shape, (ex, ey, ez), (hx, hy, hz), step)


def _ints(values: NDArray[Any]) -> IntPoint:
    x, y, z = (int(v) for v in values)
    return x, y, z
