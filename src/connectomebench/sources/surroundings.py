"""Check in the truth whether the body at a place continues outside its segment, or a second body lies in it.

Both are read from the voxels, not from the list of corrections: a correction that was not localised, a part
too small to count and one without a segment all leave voxels of the body outside the segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.core.site import Point
from connectomebench.core.source import Question, Surroundings
from connectomebench.core.volume import IntPoint, Volume, voxel_box

_MARGIN_VX = 16  # read beyond the radius: whatever still continues at its end is large
_RADIUS_VX = 48  # larger radii are sampled at every second, third ... voxel
_READ_VOXELS = 1 << 24  # read at once


@dataclass(frozen=True)
class CertaintyConfig:
    """Rules for what may not lie near a control.

    Attributes
    ----------
    erosion_vx
        Voxels nearer than this to the surface of a body are none of its core, voxels; there the two segmentations may
        differ by boundary slop alone. Where a body is too thin to have a core, voxels count that are further than this
        from the part of the body inside the segment.
    min_voxels
        A connected part of a core with fewer voxels is slop too, unless it continues beyond the voxels read.
    min_case_voxels
        A case of a merge error has a connected part of the core of each of two bodies with as many voxels, and at least
        ``min_voxels``. Places between the two numbers are neither cases nor controls.
    """

    erosion_vx: int = 2
    min_voxels: int = 100
    min_case_voxels: int = 200

    def __post_init__(self) -> None:
        if self.erosion_vx < 0:
            raise ConnectomeBenchError(f"certainty: erosion_vx must be at least 0, not {self.erosion_vx}")
        if self.min_voxels < 1:
            raise ConnectomeBenchError(f"certainty: min_voxels must be at least 1, not {self.min_voxels}")


@dataclass(frozen=True)
class Neighbourhood:
    """Segments and bodies around a place.

    Attributes
    ----------
    segments, bodies
        Unsigned, same shape, axes x, y, z; 0 is background.
    near
        bool, same shape: within the radius of the place, and the erosion.
    open_faces
        bool, shape (3, 2): faces (axis; lower, upper) beyond which the data continue.
    erosion_vx, min_voxels, min_case_voxels
        As in :class:`CertaintyConfig`, in voxels of these arrays.
    """

    segments: NDArray[Any]
    bodies: NDArray[Any]
    near: NDArray[np.bool_]
    open_faces: NDArray[np.bool_]
    erosion_vx: int
    min_voxels: int
    min_case_voxels: int


def read_neighbourhood(
    segments: Volume, bodies: Volume, point_nm: Point, radius_nm: float, rules: CertaintyConfig
) -> Neighbourhood:
    """Read the voxels around a place.

    Parameters
    ----------
    segments, bodies
        Label volumes of the same box.
    point_nm
        The place (x, y, z), nm.
    radius_nm
        What is near, nm.
    rules
        Size of a core; scaled down if only every k-th voxel is read.
    """
    voxel = np.asarray(segments.voxel_size_nm, np.float64)
    step = np.maximum(1, np.floor(radius_nm / voxel / _RADIUS_VX)).astype(np.int64)
    box = Box.around(point_nm, 2 * radius_nm)
    margin = (_MARGIN_VX + rules.erosion_vx) * int(step.max())
    lower, upper = voxel_box(segments, box, margin)
    own, truth = (_sampled(volume, lower, upper, step) for volume in (segments, bodies))
    axes = []
    for axis, (first, n) in enumerate(zip(lower, own.shape, strict=True)):
        centres = (segments.offset_vx[axis] + first + step[axis] * np.arange(n) + 0.5) * voxel[axis]
        shape = [1, 1, 1]
        shape[axis] = n
        axes.append(((centres - point_nm[axis]) ** 2).reshape(shape))
    # an interface within the radius is near, and the core behind it starts further on
    reach = radius_nm + (1 + rules.erosion_vx) * float((voxel * step).max())
    near = axes[0] + axes[1] + axes[2] <= reach**2
    open_faces = np.stack([np.greater(lower, 0), np.less(upper, segments.shape)], axis=1)
    largest = int(step.max())
    least, of_case = (
        n if largest == 1 else max(4, -(-n // int(step.prod())))
        for n in (rules.min_voxels, max(rules.min_voxels, rules.min_case_voxels))
    )
    return Neighbourhood(own, truth, near, open_faces, -(-rules.erosion_vx // largest), least, of_case)


def _sampled(volume: Volume, lower: IntPoint, upper: IntPoint, step: NDArray[np.int64]) -> NDArray[Any]:
    """Read every ``step``-th voxel of a box, slab by slab."""
    x, y, z = (int(s) for s in step)
    if (x, y, z) == (1, 1, 1):
        return np.asarray(volume.read(lower, upper))
    thick = max(1, _READ_VOXELS // max((upper[0] - lower[0]) * (upper[1] - lower[1]), 1) // z) * z
    slabs = [
        volume.read((lower[0], lower[1], start), (upper[0], upper[1], min(start + thick, upper[2])))[::x, ::y, ::z]
        for start in range(lower[2], upper[2], thick)
    ]
    return np.concatenate(slabs, axis=2)


def goes_on_outside(around: Neighbourhood, segment: int, bodies: Iterable[int]) -> bool:
    """Check whether a core of one of the segment's bodies continues outside the segment within the radius."""
    own = around.segments == around.segments.dtype.type(segment)
    for body in bodies:
        inside = around.bodies == around.bodies.dtype.type(body)
        if (inside & ~own & around.near).any():
            box = _bounding_box(inside, 1)
            if _is_part_of(inside[box], ~own[box], inside[box] & own[box], box, around):
                return True
    return False


def holds_second_body(around: Neighbourhood, segment: int) -> bool:
    """Check whether cores of two bodies of the segment lie within the radius."""
    own = around.segments == around.segments.dtype.type(segment)
    near = around.bodies[own & around.near]
    held, counts = np.unique(around.bodies[own], return_counts=True)
    names = held[(held != 0) & (2 * counts >= around.min_voxels) & np.isin(held, near)]
    if len(names) < 2:
        return False
    main = max(names.tolist(), key=lambda body: int((near == body).sum()))
    found = 0
    for body in names.tolist():
        inside = around.bodies == around.bodies.dtype.type(body)
        box = _bounding_box(inside & own, 1 + around.erosion_vx)
        main_part = own[box] & (around.bodies[box] == main) & (body != main)
        found += _is_part_of(inside[box], own[box], main_part, box, around)
    return found > 1


def holds_clear_second_body(around: Neighbourhood, segment: int) -> bool:
    """Check whether the cores of two bodies of the segment, each in a part large enough for a case, are near."""
    own = around.segments == around.segments.dtype.type(segment)
    held, counts = np.unique(around.bodies[own], return_counts=True)
    found = 0
    for body in held[(held != 0) & (counts >= around.min_case_voxels)].tolist():
        box = _bounding_box(own & (around.bodies == body), 1 + around.erosion_vx)
        inside = around.bodies[box] == around.bodies.dtype.type(body)
        found += _has_part_for_case(_core(inside, around.erosion_vx) & own[box], box, around)
    return found > 1


def _core(body: NDArray[np.bool_], erosion_vx: int) -> NDArray[np.bool_]:
    """Erode a body, which may continue beyond the array."""
    from scipy.ndimage import binary_erosion

    if not erosion_vx:
        return body
    return np.asarray(binary_erosion(body, iterations=erosion_vx, border_value=1), np.bool_)


def _has_part_for_case(core: NDArray[np.bool_], box: Slices, around: Neighbourhood) -> bool:
    """Check whether a connected part (26 neighbours) of a core is near and has enough voxels that were read."""
    import cc3d

    near = around.near[box] & core
    if not near.any():
        return False
    parts = np.asarray(cc3d.connected_components(np.asfortranarray(core), connectivity=26))
    return bool((np.bincount(parts.ravel())[np.unique(parts[near])] >= around.min_case_voxels).any())


Slices = tuple[slice, slice, slice]


def _bounding_box(mask: NDArray[np.bool_], margin: int) -> Slices:
    """Return the smallest box that holds a mask, with a margin on each side."""
    spans = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    x, y, z = (
        slice(max(int(s[0]) - margin, 0), min(int(s[-1]) + 1 + margin, n))
        for s, n in zip(spans, mask.shape, strict=True)
    )
    return x, y, z


def _is_part_of(
    body: NDArray[np.bool_], where: NDArray[np.bool_], other: NDArray[np.bool_], box: Slices, around: Neighbourhood
) -> bool:
    """Check whether a large part of a body, beyond boundary slop, lies in a region near the place.

    Parameters
    ----------
    body, where
        The body, and where its part may lie; both in ``box``.
    other
        Where the body is too thin to have a core, its voxels count away from this.
    """
    core = _core(body, around.erosion_vx)
    if not around.erosion_vx:
        return _has_large_part(core & where, box, around)
    if _has_large_part(core & where, box, around):
        return True
    import edt

    # of a body that has a core, only corners are further from it; those of a box lie within twice the erosion
    thin = body & (edt.edt(np.asfortranarray(~core), parallel=1) > 2 * around.erosion_vx)
    if not (thin & where).any():
        return False
    if other.any():
        thin &= edt.edt(np.asfortranarray(~other), parallel=1) > around.erosion_vx
    return _has_large_part((core | thin) & where, box, around)


def _has_large_part(mask: NDArray[np.bool_], box: Slices, around: Neighbourhood) -> bool:
    """Check whether a connected part (26 neighbours) of a mask in a box is near, and large or cut where arrays end."""
    import cc3d

    near = around.near[box] & mask
    if not near.any():
        return False
    # cores are not known where they are not eroded from all sides
    rim = around.erosion_vx
    open_faces = [
        (side and (s.start == 0), other and (s.stop == n))
        for s, (side, other), n in zip(box, around.open_faces.tolist(), around.bodies.shape, strict=True)
    ]
    known = tuple(slice(rim * a, n - rim * b) for (a, b), n in zip(open_faces, mask.shape, strict=True))
    parts = np.asarray(cc3d.connected_components(np.asfortranarray(mask[known]), connectivity=26))
    names = np.unique(parts[near[known]])
    if (np.bincount(parts.ravel())[names] >= around.min_voxels).any():
        return True
    return any(
        np.isin(names, np.take(parts, index, axis)).any()
        for axis, sides in enumerate(open_faces)
        for index, is_open in zip((0, -1), sides, strict=True)
        if is_open
    )


def volume_surroundings(
    segments: Volume,
    bodies: Volume,
    bodies_of: dict[int, tuple[int, ...]],
    segment_ids: NDArray[np.uint64],
    points_nm: NDArray[np.floating],
    radius_nm: float,
    rules: CertaintyConfig,
    question: Question = "both",
) -> Surroundings:
    """Check the surroundings of places of segments in label volumes.

    Parameters
    ----------
    segments, bodies
        Label volumes of the same box.
    bodies_of
        Segment -> the bodies it is known to hold.
    segment_ids, points_nm
        Shapes (n,) and (n, 3), nm: the places.
    radius_nm
        What is near, nm.
    rules
        Rules of what counts.
    question
        What to check.
    """
    from tqdm import tqdm

    goes_on, second = np.zeros((2, len(segment_ids)), np.bool_)
    for row, segment in enumerate(tqdm(np.asarray(segment_ids).tolist(), "surroundings", unit="place", delay=1)):
        x, y, z = (float(c) for c in points_nm[row])
        around = read_neighbourhood(segments, bodies, (x, y, z), radius_nm, rules)
        if question in ("goes_on", "both"):
            goes_on[row] = goes_on_outside(around, segment, bodies_of.get(segment, ()))
        if question == "clear_second_body":
            second[row] = holds_clear_second_body(around, segment)
        elif question != "goes_on":
            second[row] = holds_second_body(around, segment)
    return Surroundings(goes_on, second)
