"""Mesh tubes as an iso-surface of the union of round cones, cut off at faces.

Natural ends, ends of cuts, branch points and fusions all come out of the same field, so that
only the shape of the neurite distinguishes them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh

_FAR = np.float32(1e6)
_SHORTEST_NM2 = 1e-12  # a tube shorter than 1e-6 nm is a ball: dividing by its squared length could overflow


def cones_between(
    starts_nm: NDArray[np.floating],
    ends_nm: NDArray[np.floating],
    start_radii_nm: NDArray[np.floating],
    end_radii_nm: NDArray[np.floating],
    chains: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Make tapering tubes without faces.

    Parameters
    ----------
    starts_nm, ends_nm
        Shape (n, 3), nm.
    start_radii_nm, end_radii_nm
        Shape (n,), nm.
    chains
        Number >= 0 of the unbranched stretch that each belongs to, shape (n,): tubes of one stretch are joined without
        a bulge. Where None, each is its own.

    Returns
    -------
    float64, shape (n, 20)
        Both ends (x, y, z), both radii, 1 / squared length (0 for a ball), the stretch; and of the face that cuts the
        tube off a point (x, y, z), the unit vector outwards, half the gap, amplitude and wavelength of its noise (nm;
        the sign of the amplitude is that of the side) and the salt of the noise. Without a face the half gap is
        ``NO_FACE``.
    """
    from connectomebench.sources.morphology.tube_kernels import CHAIN, HALF_GAP, NO_FACE

    count = len(starts_nm)
    length2 = np.sum((np.asarray(ends_nm, np.float64) - starts_nm) ** 2, axis=1)
    cones = np.zeros((count, 20))
    cones[:, :3], cones[:, 3:6] = starts_nm, ends_nm
    cones[:, 6], cones[:, 7] = start_radii_nm, end_radii_nm
    cones[:, 8] = np.divide(1.0, length2, out=np.zeros(count), where=length2 > _SHORTEST_NM2)
    cones[:, CHAIN] = np.arange(count) if chains is None else chains
    cones[:, HALF_GAP] = NO_FACE
    return cones


def with_faces(cones: NDArray[np.float64], faces: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Cut tubes off at faces.

    Parameters
    ----------
    cones
        Shape (n, 20), see :func:`cones_between`.
    faces
        Shape (10,) or (n, 10), see :func:`faces.draw_face`.
    side
        +1 keeps the part behind the face (its normal points outwards), -1 the part in front of it.

    Returns
    -------
    float64, shape (n, 20), copied.
    """
    from connectomebench.sources.morphology.tube_kernels import AMPLITUDE, FACE, NORMAL

    cut = cones.copy()
    cut[:, FACE:] = faces
    cut[:, NORMAL : NORMAL + 3] *= side
    cut[:, AMPLITUDE] *= side
    return cut


class Tubes:
    """Many tapering tubes with a spatial index.

    Parameters
    ----------
    cones
        Shape (n, 20), see :func:`cones_between`.
    owners
        int64, shape (n,): number of the object that each belongs to.
    """

    def __init__(self, cones: NDArray[np.float64], owners: NDArray[np.int64]) -> None:
        from connectomebench.sources.morphology.tube_kernels import ROUGHNESS_MAX_NM

        self.cones, self.owners = cones, owners
        radius = np.maximum(cones[:, 6], cones[:, 7])[:, None] + ROUGHNESS_MAX_NM
        self._low = np.ascontiguousarray((np.minimum(cones[:, :3], cones[:, 3:6]) - radius).T.astype(np.float32))
        self._high = np.ascontiguousarray((np.maximum(cones[:, :3], cones[:, 3:6]) + radius).T.astype(np.float32))

    def within(self, box: Box, rows: slice = slice(None)) -> NDArray[np.int64]:
        """Find the tubes (among ``rows``) that reach into a box; int64, ascending."""
        reach = np.ones(self._low[0, rows].shape, np.bool_)
        for axis in range(3):
            reach &= (self._low[axis, rows] < box.upper_nm[axis]) & (self._high[axis, rows] > box.lower_nm[axis])
        return np.flatnonzero(reach) + (rows.start or 0)


def tube_grid(
    cones: NDArray[np.float64],
    first: NDArray[np.int64],
    shape: tuple[int, int, int],
    voxel_nm: float,
    apart_from: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Compute the distance to the union of tubes on a grid, nm, negative inside.

    Parameters
    ----------
    cones
        Shape (n, 20), see :func:`cones_between`, nm.
    first, shape
        Index of the first voxel (x, y, z) of the grid, which stands fixed in the world, and the number of voxels.
    voxel_nm
        Edge of a voxel, nm.
    apart_from
        Tubes that must not overlap these, shape (m, 20): a place in both is left to those in which it lies deeper.

    Returns
    -------
    float32, axes x, y, z.
    """
    from connectomebench.sources.morphology.tube_kernels import CHAIN, tube_field

    fields = []
    for table in (cones,) if apart_from is None else (cones, apart_from):
        fields.append(np.full(shape, _FAR, np.float32))
        tube_field(table[np.argsort(table[:, CHAIN], kind="stable")], first, voxel_nm, fields[-1])
    return fields[0] if apart_from is None else np.maximum(fields[0], (fields[0] - fields[1]) / 2)


def tube_mesh(
    cones: NDArray[np.float64], box: Box, voxel_nm: float, apart_from: NDArray[np.float64] | None = None
) -> Mesh:
    """Mesh the part of a set of tubes that lies in a box; closed where the box cuts it.

    Parameters
    ----------
    cones
        Shape (n, 20), see :func:`cones_between`, nm; preferably only those near the box.
    box
        Region to mesh.
    voxel_nm
        Edge of the grid on which the surface is found, nm; the grid stands fixed in the world.
    apart_from
        See :func:`tube_grid`.

    Returns
    -------
    Mesh
        Closed surface, empty if no tube reaches the box.
    """
    if len(cones) == 0:
        return EMPTY_MESH
    from connectomebench.sources.morphology.tube_kernels import (
        ROUGHNESS_MAX_NM,
        surface_nets,
    )

    radius = np.maximum(cones[:, 6], cones[:, 7])[:, None] + ROUGHNESS_MAX_NM + voxel_nm
    low = np.maximum(np.min(np.minimum(cones[:, :3], cones[:, 3:6]) - radius, axis=0), box.lower_nm)
    high = np.minimum(np.max(np.maximum(cones[:, :3], cones[:, 3:6]) + radius, axis=0), box.upper_nm)
    first = np.floor(low / voxel_nm).astype(np.int64) - 1
    shape = np.ceil(high / voxel_nm).astype(np.int64) + 2 - first
    if np.any(shape < 4):
        return EMPTY_MESH
    nx, ny, nz = (int(n) for n in shape)
    field = tube_grid(cones, first, (nx, ny, nz), voxel_nm, apart_from)
    for axis in range(3):  # a rim of outside values closes the surface at the box
        rim = np.moveaxis(field, axis, 0)
        rim[0], rim[-1] = np.maximum(rim[0], 0.5 * voxel_nm), np.maximum(rim[-1], 0.5 * voxel_nm)
    vertices, faces = surface_nets(field)
    if len(faces) == 0:
        return EMPTY_MESH
    return Mesh(((vertices + first) * voxel_nm).astype(np.float32), faces)
