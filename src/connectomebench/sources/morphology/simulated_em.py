"""Simulate slices of image data around tubes: membranes, cytoplasm, mitochondria, and neuropil in between.

Everything is a function of world position, so that slices through one place agree. Membranes follow bodies, not
segments: where a neurite was wrongly cut its cytoplasm continues, and where two were wrongly fused a membrane stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.sources.morphology.tube_kernels import distances, organelles, seeds, shade


def em_slice(
    bodies: tuple[NDArray[np.float64], NDArray[np.int64]],
    segments: tuple[NDArray[np.float64], NDArray[np.int64]],
    center_nm: tuple[float, float, float],
    extent_nm: float,
    axes: tuple[int, int],
    pixels: int,
    grain_nm: float,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw one slice.

    Parameters
    ----------
    bodies, segments
        Tubes, shape (n, 20) (see :func:`tubes.cones_between`), and the number >= 0 of the body or segment of each,
        shape (n,).
    center_nm
        Centre of the slice (x, y, z), nm.
    extent_nm
        Edge of the square, nm.
    axes
        World axes along columns and rows.
    pixels
        Pixels along an edge.
    grain_nm
        Edge of the voxel of the noise, nm.

    Returns
    -------
    gray
        uint8, shape (rows, columns).
    labels
        int64, shape (rows, columns): number of the segment, -1 if there is none.
    """
    column, row = axes
    normal = 3 - column - row
    center = np.asarray(center_nm, np.float64)
    lower = center - extent_nm / 2
    lower[normal] = center[normal]
    pixel = extent_nm / pixels
    grid = (lower, pixel, column, row, normal)
    own, owner, other = distances(*bodies, *grid, pixels)
    part, label, _ = distances(*segments, *grid, pixels)
    first, profiles = seeds(lower, extent_nm, normal)
    mitochondria = organelles(lower, extent_nm, normal)
    gray = shade(own, owner, other, profiles, first, mitochondria, *grid, grain_nm)
    return gray, np.where(part < 0, label, -1)
