"""Break a whole segmentation into supervoxels: those of the configuration inside each segment, or balls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from connectomebench.proofreading.segmentation_graph import Supervoxels
from connectomebench.sources.supervoxels import (
    PieceConfig,
    pieces_of_balls,
    pieces_of_supervoxels,
    relative_brightness,
    touching_pieces,
)


def find_supervoxels(
    labels: NDArray[Any],
    given: NDArray[Any] | None,
    gray: NDArray[np.uint8] | None,
    offset_vx: NDArray[np.int64],
    voxel_nm: NDArray[np.float64],
    rules: PieceConfig,
    min_voxels: int,
) -> tuple[NDArray[np.uint32], Supervoxels]:
    """Find the supervoxels of a segmentation.

    Parameters
    ----------
    labels
        Segments, unsigned integers, axes x, y, z; 0 is background.
    given
        Supervoxels of the configuration, same shape; None makes pieces from the shape of each segment
        (:func:`connectomebench.sources.supervoxels.pieces_of_balls`).
    gray
        Image data on the same voxels, or None; dark faces are cheap to cut.
    offset_vx, voxel_nm
        Absolute coordinate of the first voxel, and the edge of a voxel, nm; shape (3,).
    rules
        How segments are broken, and what an edge costs.
    min_voxels
        Without ``given``, smaller segments stay whole.

    Returns
    -------
    array
        uint32, same shape: id of the supervoxel of each voxel, 0 outside.
    supervoxels
        The same as a table and graph. Each lies in one segment and is connected.
    """
    from connectomebench.sources.piece_kernels import measure_pieces

    labels = np.ascontiguousarray(labels)
    given = None if given is None else np.ascontiguousarray(given)
    pieces = _of_balls(labels, voxel_nm, rules, min_voxels) if given is None else _inside_segments(labels, given)
    n = int(pieces.max(initial=0))
    voxels, sums, first = measure_pieces(pieces, n)
    segments = labels.ravel()[first].astype(np.uint64)
    sources = np.zeros(n, np.uint64) if given is None else given.ravel()[first].astype(np.uint64)
    points = (sums / voxels[:, None] + offset_vx + 0.5) * voxel_nm
    edges, capacities = touching_pieces(
        pieces, n, relative_brightness(gray, pieces), voxel_nm.tolist(), rules.brightness_exponent
    )
    return pieces, Supervoxels(segments, points.astype(np.float32), voxels, edges, capacities, sources)


def _inside_segments(labels: NDArray[Any], given: NDArray[Any]) -> NDArray[np.uint32]:
    """Label the connected parts of each supervoxel inside each segment; C-contiguous."""
    import fastremap

    small, _ = fastremap.renumber(labels, preserve_zero=True)
    pieces, _ = fastremap.renumber(given, preserve_zero=False)
    count = int(pieces.max()) + 1
    # 32 bits need not be numbered anew
    dtype = np.uint32 if (int(small.max()) + 1) * count < 2**32 else np.uint64
    pairs = small.astype(dtype) * dtype(count) + pieces.astype(dtype)
    return np.ascontiguousarray(pieces_of_supervoxels(small > 0, pairs))


def _of_balls(
    labels: NDArray[Any], voxel_nm: NDArray[np.float64], rules: PieceConfig, min_voxels: int
) -> NDArray[np.uint32]:
    """Break each segment into balls; its disconnected parts are pieces of their own; C-contiguous."""
    import fastremap

    small, _ = fastremap.renumber(labels, preserve_zero=True)
    pieces = np.zeros(labels.shape, np.uint32)
    n = 0
    for number, box in enumerate(ndimage.find_objects(small.astype(np.int64)), 1):
        if box is None:
            continue
        mask = small[box] == number
        whole = mask.sum() < min_voxels
        own = (
            pieces_of_supervoxels(mask, mask.astype(np.uint8))
            if whole
            else pieces_of_balls(mask, voxel_nm.tolist(), rules.spacing_vx)
        )
        pieces[box][mask] = own[mask] + np.uint32(n)
        n += int(own.max())
    return pieces
