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
    grid = _grid(center_nm, extent_nm, axes, pixels)
    lower, normal = grid[0], grid[4]
    own, owner, other = distances(*bodies, *grid, pixels)
    labels = _labels(segments, grid, pixels)
    first, profiles = seeds(lower, extent_nm, normal)
    mitochondria = organelles(lower, extent_nm, normal)
    gray = shade(own, owner, other, profiles, first, mitochondria, *grid, grain_nm)
    return gray, labels


def label_slice(
    tubes: tuple[NDArray[np.float64], NDArray[np.int64]],
    center_nm: tuple[float, float, float],
    extent_nm: float,
    axes: tuple[int, int],
    pixels: int,
) -> NDArray[np.int64]:
    """Say which tube a slice shows at each pixel, the one in which the pixel lies deepest.

    Parameters
    ----------
    tubes, center_nm, extent_nm, axes, pixels
        As ``segments`` and the others of :func:`em_slice`.

    Returns
    -------
    int64, shape (rows, columns)
        Number of the tube, -1 if there is none.
    """
    return _labels(tubes, _grid(center_nm, extent_nm, axes, pixels), pixels)


_Grid = tuple[NDArray[np.float64], float, int, int, int]
"""Lowest corner, edge of a pixel, and the axes of columns, rows and depth."""


def _grid(center_nm: tuple[float, float, float], extent_nm: float, axes: tuple[int, int], pixels: int) -> _Grid:
    column, row = axes
    normal = 3 - column - row
    center = np.asarray(center_nm, np.float64)
    lower = center - extent_nm / 2
    lower[normal] = center[normal]
    return lower, extent_nm / pixels, column, row, normal


def _labels(tubes: tuple[NDArray[np.float64], NDArray[np.int64]], grid: _Grid, pixels: int) -> NDArray[np.int64]:
    depth, label, _ = distances(*tubes, *grid, pixels)
    return np.where(depth < 0, label, -1)
