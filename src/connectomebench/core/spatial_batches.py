"""Group nearby points into batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BITS = 20


def group_by_place(points_nm: NDArray[np.floating], edge_nm: float, size: int) -> list[NDArray[np.int64]]:
    """Group neighbouring points, along a Morton curve through cubes.

    Parameters
    ----------
    points_nm
        Shape (n, 3), axes x, y, z, nm.
    edge_nm
        Edge of the cubes; points of one cube stay in their order.
    size
        Points in a group; the last one may have fewer.

    Returns
    -------
    list of NDArray[np.int64]
        Rows of ``points_nm``, each exactly once; the same for the same points.
    """
    points = np.asarray(points_nm, np.float64).reshape(-1, 3)
    if not len(points):
        return []
    cubes = np.floor((points - points.min(axis=0)) / edge_nm).astype(np.int64)
    cubes = np.minimum(cubes, (1 << _BITS) - 1)
    code = np.zeros(len(points), np.int64)
    for bit in range(_BITS):
        for axis in range(3):
            code |= ((cubes[:, axis] >> bit) & 1) << (3 * bit + axis)
    order = np.argsort(code, kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]
