"""How two segments meet: how near, at which angle, over which area, and how thick each is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.geometry import Box, Mesh
from connectomebench.core.site import Point, Site, as_point
from connectomebench.core.volume import Volume, voxel_box

FACING_NM = 60.0
"""Surfaces nearer than this face each other, nm: about a cleft and its two membranes."""

_MOST = 40_000  # vertices that are compared
_FEWEST = 12  # vertices that give a direction
_LONG = 1.2  # so many times longer than wide is what has a direction
_SLABS = 8  # pieces along a neurite, each with a middle of its own
_IN_SLAB = 6  # vertices that give a radius

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Meeting:
    """How two segments meet in the cube of a site.

    Attributes
    ----------
    distance_nm
        Between the nearest vertices of their surfaces, nm.
    angle_deg
        Between their directions there, 0 to 90 degrees; None where either is hardly longer than wide.
    calibres_nm
        Diameter of each there, nm; None where either has no direction.
    """

    distance_nm: float
    angle_deg: float | None
    calibres_nm: tuple[float, float] | None


def measure_meeting(site: Site, first: Mesh, second: Mesh) -> Meeting | None:
    """Measure how two surfaces meet.

    Parameters
    ----------
    site
        Gives the cube; directions and calibres are those within half its edge of where the two come nearest.
    first, second
        Their surfaces.

    Returns
    -------
    Meeting or None
        None where one of them has no vertex in the cube.
    """
    a, b = (_inside(mesh, site) for mesh in (first, second))
    if not len(a) or not len(b):
        return None
    distance, nearest = KDTree(b).query(a)
    row = int(np.argmin(distance))
    at = as_point((a[row] + b[int(np.asarray(nearest)[row])]) / 2)
    own = [_near(points, at, site.extent_nm / 2) for points in (a, b)]
    axes = [_direction(points) for points in own]
    if axes[0] is None or axes[1] is None:
        return Meeting(float(distance[row]), None, None)
    angle = float(np.degrees(np.arccos(min(1.0, abs(float(axes[0] @ axes[1]))))))
    sizes = [_calibre(points, axis) for points, axis in zip(own, axes, strict=True) if axis is not None]
    known = sizes[0] is not None and sizes[1] is not None
    return Meeting(float(distance[row]), angle, (sizes[0], sizes[1]) if known else None)  # type: ignore[arg-type]


def touching_nm2(labels: Volume, site: Site, first: int, second: int) -> float:
    """Measure the contact of two segments in the cube of a site, on voxels.

    Parameters
    ----------
    labels
        Segment of each voxel.
    site
        Gives the cube.
    first, second
        Segment ids.

    Returns
    -------
    float
        Area of the faces of voxels that one shares with the other, nm²; 0 where they do not touch.
    """
    lower, upper = voxel_box(labels, Box.around(site.location_nm, site.extent_nm))
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        return 0.0
    block = labels.read(lower, upper)
    own, other = (block == block.dtype.type(one) for one in (first, second))
    voxel = np.asarray(labels.voxel_size_nm, np.float64)
    area = 0.0
    for axis in range(3):
        here, there = (tuple(part if i == axis else slice(None) for i in range(3)) for part in _NEXT)
        faces = (own[here] & other[there]).sum() + (other[here] & own[there]).sum()
        area += float(faces) * float(voxel.prod() / voxel[axis])
    return area


_NEXT = (slice(None, -1), slice(1, None))


def facing_nm2(site: Site, first: Mesh, second: Mesh) -> float:
    """Measure over which area two surfaces lie within :data:`FACING_NM` of each other in the cube of a site.

    Parameters
    ----------
    site
        Gives the cube.
    first, second
        The surfaces.

    Returns
    -------
    float
        Mean of the areas of both, nm².
    """
    middles, areas = zip(*(_triangles(mesh, site) for mesh in (first, second)), strict=True)
    if not len(middles[0]) or not len(middles[1]):
        return 0.0
    found = []
    for own, other in ((0, 1), (1, 0)):
        distance, _ = KDTree(middles[other]).query(middles[own], distance_upper_bound=FACING_NM)
        found.append(float(areas[own][np.isfinite(distance)].sum()))
    return sum(found) / 2


def _triangles(mesh: Mesh, site: Site) -> tuple[Points, NDArray[np.float64]]:
    """Return middle and area of each triangle whose middle lies in the cube."""
    corners = mesh.vertices_nm.astype(np.float64)[mesh.faces]
    middle = corners.mean(axis=1)
    kept = (np.abs(middle - np.asarray(site.location_nm)) <= site.extent_nm / 2).all(axis=1)
    a, b, c = (corners[kept, i] for i in range(3))
    return middle[kept], np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _inside(mesh: Mesh, site: Site) -> Points:
    """Return the vertices in the cube shown, at most :data:`_MOST`."""
    points = mesh.vertices_nm.astype(np.float64)
    points = points[(np.abs(points - np.asarray(site.location_nm)) <= site.extent_nm / 2).all(axis=1)]
    return points[:: len(points) // _MOST + 1]


def _near(points: Points, at: Point, reach_nm: float) -> Points:
    return points[np.linalg.norm(points - np.asarray(at), axis=1) <= reach_nm]


def _direction(points: Points) -> Points | None:
    """Return the main axis of a piece of surface; None where it is hardly longer than wide."""
    if len(points) < _FEWEST:
        return None
    _, lengths, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return axes[0] if lengths[0] > _LONG * lengths[1] else None


def _calibre(points: Points, axis: Points) -> float | None:
    """Return the diameter of a piece of surface across its axis, the median of slabs along it, nm."""
    along = points @ axis
    edges = np.linspace(along.min(), along.max(), _SLABS + 1)
    slab = np.clip(np.searchsorted(edges, along, side="right") - 1, 0, _SLABS - 1)
    flat = points - np.outer(along, axis)
    radii = []
    for number in range(_SLABS):
        own = flat[slab == number]
        if len(own) >= _IN_SLAB:
            radii.append(float(np.median(np.linalg.norm(own - own.mean(axis=0), axis=1))))
    return 2 * float(np.median(radii)) if radii else None
