"""Find somas by the largest ball that fits inside an object, so that no merge joins two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.site import Point

SAMPLES = 8  # voxels of the coarse grid along the radius of a soma


def sample_step(radius_nm: float | None, voxel_nm: Sequence[float]) -> tuple[int, int, int]:
    """Return how many voxels along x, y, z the coarse grid steps over; the largest step where no soma is searched."""
    if radius_nm is None:
        return 1 << 30, 1 << 30, 1 << 30
    x, y, z = (max(1, int(radius_nm / SAMPLES / v)) for v in voxel_nm)
    return x, y, z


def find_somas(
    samples: NDArray[np.int64], objects: NDArray[np.uint64], step_nm: Sequence[float], radius_nm: float
) -> dict[int, float]:
    """Find somas on a coarse grid.

    A soma is a connected part of an object whose voxels are at least ``radius_nm`` from the nearest voxel outside it;
    an object may have several. Faces of the volume are no outside, so that a soma that they cut is still one.

    Parameters
    ----------
    samples
        Supervoxel (row + 1, 0 outside) of each point of the grid; axes x, y, z.
    objects
        uint64, shape (supervoxels,): the object of each.
    step_nm
        Steps of the grid along x, y, z, nm.
    radius_nm
        Smallest radius of a soma, nm.

    Returns
    -------
    dict
        Row of the supervoxel at the middle of each soma -> radius there, nm.
    """
    import cc3d
    import edt
    import fastremap

    labels = np.concatenate([np.zeros(1, np.uint64), objects])[samples]
    small, _ = fastremap.renumber(np.asfortranarray(labels), preserve_zero=True)
    distance = edt.edt(
        small.astype(np.uint32), anisotropy=tuple(float(v) for v in step_nm), black_border=False, parallel=1
    )
    # without any border in the data there is no radius
    deep = np.isfinite(distance) & (distance >= radius_nm) & (labels > 0)
    if not deep.any():
        return {}
    parts = cc3d.connected_components(np.where(deep, small, 0).astype(np.uint32, order="F"), connectivity=26)
    where = np.argwhere(parts > 0)
    own, depth = parts[tuple(where.T)], distance[tuple(where.T)]
    order = np.lexsort((where[:, 2], where[:, 1], where[:, 0], -depth, own))
    first = order[np.unique(own[order], return_index=True)[1]]
    rows = samples[tuple(where[first].T)] - 1
    return {int(row): float(r) for row, r in zip(rows, depth[first], strict=True)}


def soma_name(point_nm: Sequence[float], radius_nm: float | None = None) -> str:
    """Name a soma for messages and tables."""
    x, y, z = (round(float(v)) for v in point_nm)
    size = "" if radius_nm is None else f", radius {radius_nm:.0f} nm"
    return f"soma at {x}, {y}, {z} nm{size}"


def outside(points_nm: Sequence[Point], lower_nm: Sequence[float], upper_nm: Sequence[float]) -> list[Point]:
    """Return the points outside a box."""
    low, high = np.asarray(lower_nm), np.asarray(upper_nm)
    return [p for p in points_nm if (np.asarray(p) < low).any() or (np.asarray(p) >= high).any()]
