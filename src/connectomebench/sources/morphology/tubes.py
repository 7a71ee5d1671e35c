"""Mesh tubes as an iso-surface of the union of round cones, cut off at faces.

Natural ends, ends of cuts, branch points and fusions all come out of the same field, so that
only the shape of the neurite distinguishes them.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    cones: NDArray[np.float64], first: NDArray[np.int64], shape: tuple[int, int, int], voxel_nm: float
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

    Returns
    -------
    float32, axes x, y, z.
    """
    from connectomebench.sources.morphology.tube_kernels import CHAIN, tube_field

    field = np.full(shape, _FAR, np.float32)
    tube_field(cones[np.argsort(cones[:, CHAIN], kind="stable")], first, voxel_nm, field)
    return field


def kept_apart(field: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave a place in both of two unions of tubes to that in which it lies deeper; both float32, nm, as returned."""
    return np.maximum(field, (field - other) / 2)


def tube_mesh(cones: NDArray[np.float64], box: Box, voxel_nm: float) -> Mesh:
    """Mesh the part of a set of tubes that lies in a box; closed where the box cuts it.

    Parameters
    ----------
    cones
        Shape (n, 20), see :func:`cones_between`, nm; preferably only those near the box.
    box
        Region to mesh.
    voxel_nm
        Edge of the grid on which the surface is found, nm; the grid stands fixed in the world.

    Returns
    -------
    Mesh
        Closed surface, empty if no tube reaches the box.
    """
    grid = _Grid.around(cones, box, voxel_nm)
    return EMPTY_MESH if grid is None else _surface(tube_grid(cones, grid.first, grid.shape, voxel_nm), grid, voxel_nm)


def meshes_apart(
    parts: tuple[NDArray[np.float64], NDArray[np.float64]], box: Box, voxel_nm: float
) -> tuple[Mesh, Mesh]:
    """Mesh two sets of tubes as :func:`tube_mesh` does, so that they do not overlap (see :func:`kept_apart`).

    Parameters
    ----------
    parts
        Two tables, shape (n, 20), see :func:`cones_between`, nm.
    box, voxel_nm
        As for :func:`tube_mesh`.
    """
    grids = tuple(_Grid.around(cones, box, voxel_nm) for cones in parts)
    there = [grid for grid in grids if grid is not None]
    if not there:
        return EMPTY_MESH, EMPTY_MESH
    # both distances are computed once, where either part may be; that of one place depends on no other place
    low = np.min([grid.first for grid in there], axis=0)
    nx, ny, nz = (int(n) for n in np.max([grid.first + grid.shape for grid in there], axis=0) - low)
    fields = [tube_grid(cones, low, (nx, ny, nz), voxel_nm) for cones in parts]
    meshes = []
    for grid, own, other in zip(grids, fields, fields[::-1], strict=True):
        if grid is None:
            meshes.append(EMPTY_MESH)
            continue
        here = tuple(slice(a, a + n) for a, n in zip((grid.first - low).tolist(), grid.shape, strict=True))
        meshes.append(_surface(kept_apart(own[here], other[here]), grid, voxel_nm))
    return meshes[0], meshes[1]


@dataclass(frozen=True)
class _Grid:
    """Index of the first voxel (x, y, z), int64, of a grid that stands fixed in the world, and number of voxels."""

    first: NDArray[np.int64]
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, cones: NDArray[np.float64], box: Box, voxel_nm: float) -> _Grid | None:
        """Cover tubes where they lie in a box; None if they do not reach it."""
        from connectomebench.sources.morphology.tube_kernels import ROUGHNESS_MAX_NM

        if len(cones) == 0:
            return None
        radius = np.maximum(cones[:, 6], cones[:, 7])[:, None] + ROUGHNESS_MAX_NM + voxel_nm
        low = np.maximum(np.min(np.minimum(cones[:, :3], cones[:, 3:6]) - radius, axis=0), box.lower_nm)
        high = np.minimum(np.max(np.maximum(cones[:, :3], cones[:, 3:6]) + radius, axis=0), box.upper_nm)
        first = np.floor(low / voxel_nm).astype(np.int64) - 1
        nx, ny, nz = (int(n) for n in np.ceil(high / voxel_nm).astype(np.int64) + 2 - first)
        return None if min(nx, ny, nz) < 4 else cls(first, (nx, ny, nz))


def _surface(field: NDArray[np.float32], grid: _Grid, voxel_nm: float) -> Mesh:
    """Mesh the surface at distance 0; the field is changed."""
    from connectomebench.sources.morphology.tube_kernels import surface_nets

    for axis in range(3):  # a rim of outside values closes the surface at the box
        rim = np.moveaxis(field, axis, 0)
        rim[0], rim[-1] = np.maximum(rim[0], 0.5 * voxel_nm), np.maximum(rim[-1], 0.5 * voxel_nm)
    vertices, faces = surface_nets(field)
    return Mesh(((vertices + grid.first) * voxel_nm).astype(np.float32), faces) if len(faces) else EMPTY_MESH
