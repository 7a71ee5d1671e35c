"""Read two label volumes together in blocks with halos, on several threads."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.volume import IntPoint, Volume

_Result = TypeVar("_Result")
Bounds = tuple[IntPoint, IntPoint]
# Blocks processed at one time may take this much together; a voxel takes two labels as read, two as used by the kernels
# (8 bytes each at most), a code and two masks.
_WORKING_BYTES = 2_500_000_000
_BYTES_PER_VOXEL = 38


@dataclass(frozen=True)
class LabelBlock:
    """One block of both segmentations, laid out for the kernels.

    Attributes
    ----------
    automatic, proofread
        uint32 or uint64 (both the same), C-contiguous, the block with its halo. Axis ``m`` is axis ``axes[m]`` of
        x, y, z: the one that was contiguous in memory comes last.
    axes
        The order of the axes.
    lower, upper
        int64, shape (3,), in the order of ``axes``: the block without its halo, inside the arrays.
    origin
        int64, shape (3,), in the order of ``axes``: index in the volume of the arrays' first voxel.
    """

    automatic: NDArray[Any]
    proofread: NDArray[Any]
    axes: IntPoint
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    origin: NDArray[np.int64]

    def ordered(self, xyz: Sequence[int]) -> NDArray[np.int64]:
        """Put three numbers given for x, y, z into the order of the block's axes."""
        return np.array([xyz[axis] for axis in self.axes], np.int64)


class Scratch(threading.local):
    """Working memory of each thread, reused for every block."""

    def array(self, name: str, shape: Sequence[int], dtype: type[np.generic]) -> NDArray[Any]:
        """Return an array of a shape, contents undefined; the next call with the same name uses the same memory."""
        size = math.prod(shape)
        memory = self.__dict__.get(name)
        if memory is None or len(memory) < size:
            memory = self.__dict__[name] = np.empty(size, dtype)
        return memory[:size].reshape(shape)


def check_same_place(automatic: Volume, proofread: Volume) -> None:
    """Check that two segmentations cover the same voxels.

    Raises
    ------
    ConnectomeBenchError
        Shapes, voxel sizes or offsets differ, or there is no voxel.
    """
    if tuple(automatic.shape) != tuple(proofread.shape):
        raise ConnectomeBenchError(
            f"automatic and proofread segmentation differ in shape: {_xyz(automatic.shape)} and "
            f"{_xyz(proofread.shape)} voxels (x, y, z); crop both to the same box and check the axis order"
        )
    if not np.allclose(automatic.voxel_size_nm, proofread.voxel_size_nm, rtol=1e-6, atol=0):
        raise ConnectomeBenchError(
            f"automatic and proofread segmentation differ in voxel size: {_xyz(automatic.voxel_size_nm)} and "
            f"{_xyz(proofread.voxel_size_nm)} nm; state the right sizes or resample one of them"
        )
    if tuple(automatic.offset_vx) != tuple(proofread.offset_vx):
        raise ConnectomeBenchError(
            f"automatic and proofread segmentation differ in offset: {_xyz(automatic.offset_vx)} and "
            f"{_xyz(proofread.offset_vx)} voxels; crop both to the same box"
        )
    if min(automatic.shape) < 1:
        raise ConnectomeBenchError(
            f"the segmentations have no voxels (shape {_xyz(automatic.shape)}); give a larger box"
        )


def _xyz(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def block_grid(shape: IntPoint, block: IntPoint) -> list[Bounds]:
    """Divide a volume into blocks without overlap: (lower, upper) of each, indices along x, y, z.

    Raises
    ------
    ConnectomeBenchError
        A block edge is below 1.
    """
    if min(block) < 1:
        raise ConnectomeBenchError(f"block edges must be at least 1 voxel, not {_xyz(block)}")
    starts = itertools.product(*(range(0, size, step) for size, step in zip(shape, block, strict=True)))
    return [
        ((x, y, z), (min(x + block[0], shape[0]), min(y + block[1], shape[1]), min(z + block[2], shape[2])))
        for x, y, z in starts
    ]


def read_block(
    automatic: Volume,
    proofread: Volume,
    bounds: Bounds,
    halo_below: Sequence[int],
    halo_above: Sequence[int],
) -> LabelBlock:
    """Read one block of both volumes with its halo, as far as the volume goes.

    Parameters
    ----------
    bounds
        The block without its halo, indices along x, y, z.
    halo_below, halo_above
        Voxels along x, y, z that are read beyond it on either side.

    Raises
    ------
    ConnectomeBenchError
        The labels are not integers, or negative.
    """
    lower, upper = bounds
    first = [max(0, start - halo) for start, halo in zip(lower, halo_below, strict=True)]
    end = [min(size, stop + halo) for size, stop, halo in zip(automatic.shape, upper, halo_above, strict=True)]
    box = (first[0], first[1], first[2]), (end[0], end[1], end[2])
    segments = _unsigned(automatic.read(*box), "automatic")
    bodies = _unsigned(proofread.read(*box), "proofread")
    order = sorted(range(3), key=lambda axis: -abs(bodies.strides[axis]))
    axes = (order[0], order[1], order[2])
    dtype = np.uint64 if max(segments.dtype.itemsize, bodies.dtype.itemsize) > 4 else np.uint32
    block = LabelBlock(
        automatic=_for_kernels(segments, axes, dtype),
        proofread=_for_kernels(bodies, axes, dtype),
        axes=axes,
        lower=np.zeros(3, np.int64),
        upper=np.zeros(3, np.int64),
        origin=np.array([first[axis] for axis in axes], np.int64),
    )
    block.lower[:] = block.ordered(lower) - block.origin
    block.upper[:] = block.ordered(upper) - block.origin
    return block


def _unsigned(labels: NDArray[Any], which: str) -> NDArray[Any]:
    if labels.dtype.kind not in "ui":
        raise ConnectomeBenchError(
            f"the {which} segmentation holds {labels.dtype}, not integers; give a volume of segment ids"
        )
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise ConnectomeBenchError(f"the {which} segmentation has negative labels; segment ids are 0 or above")
    return labels


def _for_kernels(labels: NDArray[Any], axes: IntPoint, dtype: type[np.unsignedinteger]) -> NDArray[Any]:
    moved = labels.transpose(axes)
    if moved.flags.c_contiguous and moved.flags.writeable and moved.dtype == dtype:
        return moved
    return np.array(moved, dtype, order="C")


@dataclass(frozen=True)
class BlockWalk:
    """Two label volumes and how to read them in blocks.

    Attributes
    ----------
    automatic, proofread
        Label volumes of the same box.
    block
        Voxels along x, y, z read at one time, without the halo.
    threads
        Blocks processed at one time; None: one per available core, fewer where large blocks would take more than
        about 2.5 GB together.
    progress
        Show a progress bar for each walk.

    Raises
    ------
    ConnectomeBenchError
        The volumes do not cover the same voxels.
    """

    automatic: Volume
    proofread: Volume
    block: IntPoint
    threads: int | None
    progress: bool

    def __post_init__(self) -> None:
        check_same_place(self.automatic, self.proofread)

    @property
    def blocks(self) -> list[Bounds]:
        """Blocks of the volume."""
        return block_grid(self.automatic.shape, self.block)

    def map(
        self,
        work: Callable[[LabelBlock], _Result],
        blocks: Sequence[Bounds],
        *,
        halo_below: Sequence[int],
        halo_above: Sequence[int],
        title: str,
    ) -> Iterator[_Result]:
        """Call ``work`` on each block with its halo; yield the results in the order of the blocks."""
        from tqdm import tqdm

        def read_and_work(bounds: Bounds) -> _Result:
            return work(read_block(self.automatic, self.proofread, bounds, halo_below, halo_above))

        with ThreadPoolExecutor(self._workers(halo_below, halo_above)) as pool:
            done = pool.map(read_and_work, blocks)
            try:
                yield from tqdm(done, total=len(blocks), desc=title, unit="block", disable=not self.progress)
            finally:
                pool.shutdown(cancel_futures=True)

    def _workers(self, halo_below: Sequence[int], halo_above: Sequence[int]) -> int:
        if self.threads is not None:
            return max(1, self.threads)
        edges = [
            min(size, edge + below + above)
            for size, edge, below, above in zip(self.automatic.shape, self.block, halo_below, halo_above, strict=True)
        ]
        return max(1, min(_available_cores(), _WORKING_BYTES // (_BYTES_PER_VOXEL * math.prod(edges))))


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
