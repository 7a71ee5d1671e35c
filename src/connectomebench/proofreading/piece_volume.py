"""Volumes that are made as they are read: supervoxels block by block, and the objects that they form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.volume import IntPoint
from connectomebench.proofreading.blocks import BlockGrid

_HELD_BYTES = 600_000_000  # unpacked blocks that a process keeps
_Triple = tuple[float, float, float]


class PieceVolume:
    """Supervoxels of a place as a volume (see ``Volume``): uint32, row + 1 of the table, 0 outside.

    Parameters
    ----------
    grid
        Blocks, each with supervoxels of its own.
    starts
        First row of each block, and the number of rows at the end.
    unpack
        Returns the supervoxels of a block: uint32 from 1 in each block, axes x, y, z.
    voxel_size_nm, offset_vx, fingerprint
        See ``Volume``.
    """

    def __init__(
        self,
        grid: BlockGrid,
        starts: Sequence[int],
        unpack: Callable[[int], NDArray[np.uint32]],
        voxel_size_nm: _Triple,
        offset_vx: IntPoint,
        fingerprint: str,
    ) -> None:
        self.grid = grid
        self.starts = np.asarray(starts, np.int64)
        self.shape = grid.shape
        self.voxel_size_nm = voxel_size_nm
        self.offset_vx = offset_vx
        self.fingerprint = fingerprint
        held = max(1, _HELD_BYTES // max(1, 4 * int(np.prod(grid.edge))))
        self._block = lru_cache(maxsize=min(held, 27))(unpack)

    def block(self, index: int) -> NDArray[np.uint32]:
        """Return the supervoxels of a block, from 1 in each; do not write to it."""
        return self._block(index)

    def map(
        self, lower: IntPoint, upper: IntPoint, table: Callable[[int], NDArray[Any]], dtype: type[np.generic]
    ) -> NDArray[Any]:
        """Read a box through a table.

        Parameters
        ----------
        lower, upper
            Voxels, upper exclusive.
        table
            Number of a block -> what each of its supervoxels becomes, with that of the outside first.
        dtype
            Of the tables.
        """
        from connectomebench.proofreading.voxel_kernels import look_up

        parts = self.grid.touching(lower, upper) if all(a < b for a, b in zip(lower, upper, strict=True)) else []
        made = np.empty(np.subtract(upper, lower), dtype)
        for index in parts:
            own = self.grid.block(index)
            low = np.maximum(own.lower, lower)
            high = np.minimum(own.upper, upper)
            here = tuple(slice(a, b) for a, b in zip(low - own.lower, high - own.lower, strict=True))
            there = tuple(slice(a, b) for a, b in zip(low - lower, high - lower, strict=True))
            look_up(table(index), self.block(index)[here], made[there])
        return made

    def numbers(self, index: int) -> NDArray[np.uint32]:
        """Return the numbers in the whole place of a block's supervoxels, 0 for the outside first."""
        start, stop = self.starts[index], self.starts[index + 1]
        return np.append(np.uint32(0), np.arange(start + 1, stop + 1, dtype=np.uint32))

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint32]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        return self.map(lower, upper, self.numbers, np.uint32)

    def at(self, points_vx: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the supervoxel at each voxel; uint32, shape (n,), of indices in the volume, shape (n, 3)."""
        found = np.zeros(len(points_vx), np.uint32)
        blocks = np.ravel_multi_index(tuple((points_vx // self.grid.edge).T), self.grid.counts)
        for index in np.unique(blocks).tolist():
            rows = np.flatnonzero(blocks == index)
            local = self.block(index)[tuple((points_vx[rows] - self.grid.block(index).lower).T)]
            found[rows] = self.numbers(index)[local]
        return found


class ObjectVolume:
    """Objects as a volume (see ``Volume``): uint64, 0 outside.

    Parameters
    ----------
    pieces
        Their supervoxels.
    of_rows
        uint64, shape (supervoxels,): the object of each.
    key
        Hash of ``of_rows``.
    state
        How a worker finds ``of_rows``; None where no worker is asked.
    """

    def __init__(self, pieces: PieceVolume, of_rows: NDArray[np.uint64], key: str, state: Any = None) -> None:
        self.pieces = pieces
        self.of_rows = of_rows
        self.state = state
        self.shape, self.voxel_size_nm, self.offset_vx = pieces.shape, pieces.voxel_size_nm, pieces.offset_vx
        self.fingerprint = f"{pieces.fingerprint}/{key}"

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint64]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        return self.pieces.map(lower, upper, self._objects, np.uint64)

    def _objects(self, index: int) -> NDArray[np.uint64]:
        start, stop = self.pieces.starts[index], self.pieces.starts[index + 1]
        return np.concatenate([np.zeros(1, np.uint64), self.of_rows[start:stop]])
