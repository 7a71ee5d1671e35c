"""Cut slices of image data and segments through a place, resampled to image pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Box
from connectomebench.core.site import Point
from connectomebench.core.source import EMSlice
from connectomebench.core.volume import Volume
from connectomebench.sources.held_volume import hold
from connectomebench.sources.label_shapes import int_point

_PLANES = {"em_xy": (0, 1, 2), "em_xz": (0, 2, 1), "em_yz": (1, 2, 0)}  # columns, rows, viewing axis


def cut_slices(
    image: Volume,
    segments: Volume,
    center_nm: Point,
    extent_nm: float,
    pixels: int,
    sides: Volume | None = None,
) -> dict[str, EMSlice]:
    """Cut the slices xy, xz and yz through a place.

    The nearest plane of voxels is shown. Image data are resampled with a bicubic filter that averages where a pixel
    covers several voxels; segments by the nearest voxel.

    Parameters
    ----------
    image
        uint8; its voxels may be finer than those of ``segments``.
    segments
        Labels of the same place.
    center_nm
        Middle of the slices (x, y, z), nm.
    extent_nm
        Edge of the square shown, nm.
    pixels
        Edge of the image, pixels.
    sides
        Sides of the cut that the site proposes, for :attr:`EMSlice.sides`; shown like ``segments``.

    Returns
    -------
    dict of str to EMSlice
        Keys ``em_xy``, ``em_xz``, ``em_yz``; both axes grow with their coordinate.
    """
    return {name: _cut(image, segments, sides, center_nm, extent_nm, pixels, axes) for name, axes in _PLANES.items()}


def cut_pages(
    image: Volume,
    segments: Volume,
    center_nm: Point,
    extent_nm: float,
    pixels: int,
    offsets_nm: Sequence[float],
    sides: Volume | None = None,
) -> dict[str, list[EMSlice]]:
    """Cut parallel slices in the planes xy, xz and yz, from blocks that are read once.

    Parameters
    ----------
    image, segments, center_nm, extent_nm, pixels, sides
        As for :func:`cut_slices`.
    offsets_nm
        Where each slice lies along the axis it is seen along, from the place, nm.

    Returns
    -------
    dict of str to list of EMSlice
        Keys ``em_xy``, ``em_xz``, ``em_yz``; one slice an offset, each that of :func:`cut_slices` through its place.
    """
    box = Box.around(center_nm, extent_nm)
    # one more than the filter reaches, for places that fall between two voxels
    image = hold(image, box, _reach(extent_nm / min(image.voxel_size_nm), pixels) + 1)
    segments = hold(segments, box, 1)

    def page(axes: tuple[int, int, int], offset_nm: float) -> EMSlice:
        place = list(center_nm)
        place[axes[2]] += offset_nm
        return _cut(image, segments, sides, (place[0], place[1], place[2]), extent_nm, pixels, axes)

    return {name: [page(axes, offset) for offset in offsets_nm] for name, axes in _PLANES.items()}


def _cut(
    image: Volume,
    segments: Volume,
    sides: Volume | None,
    center_nm: Point,
    extent_nm: float,
    pixels: int,
    axes: tuple[int, int, int],
) -> EMSlice:
    """Cut one slice; ``axes`` are those of columns, rows and depth."""
    return EMSlice(
        gray=_gray(image, center_nm, extent_nm, pixels, *axes),
        segments=_nearest(segments, center_nm, extent_nm, pixels, *axes),
        inside=_inside(image, center_nm, extent_nm, pixels, *axes),
        sides=None if sides is None else _nearest(sides, center_nm, extent_nm, pixels, *axes).astype(np.uint8),
    )


def _reach(voxels: float, pixels: int) -> int:
    """Return how far the filter extends beyond a square of so many voxels: by two voxels or two pixels."""
    return int(np.ceil(2 * max(1.0, voxels / pixels))) + 1


def _voxels(volume: Volume, center_nm: Point, extent_nm: float, pixels: int, axis: int) -> NDArray[np.int64]:
    """Return the voxel index along an axis at the middle of each pixel."""
    middles = center_nm[axis] - extent_nm / 2 + (np.arange(pixels) + 0.5) * (extent_nm / pixels)
    return np.floor(middles / volume.voxel_size_nm[axis]).astype(np.int64) - volume.offset_vx[axis]


def _plane(volume: Volume, center_nm: Point, axis: int) -> int:
    return int(np.floor(center_nm[axis] / volume.voxel_size_nm[axis])) - volume.offset_vx[axis]


def _inside(
    volume: Volume, center_nm: Point, extent_nm: float, pixels: int, column: int, row: int, depth: int
) -> NDArray[np.bool_]:
    x, y = (_voxels(volume, center_nm, extent_nm, pixels, a) for a in (column, row))
    shown = 0 <= _plane(volume, center_nm, depth) < volume.shape[depth]
    x_in, y_in = (x >= 0) & (x < volume.shape[column]), (y >= 0) & (y < volume.shape[row])
    return y_in[:, None] & x_in[None, :] & shown


def _read_plane(
    volume: Volume, lower: tuple[int, int], upper: tuple[int, int], at: int, axes: tuple[int, int, int]
) -> NDArray:
    """Read part of one plane of voxels; rows, columns."""
    column, row, depth = axes
    low, high = [0, 0, 0], [0, 0, 0]
    low[column], low[row], low[depth] = lower[0], lower[1], at
    high[column], high[row], high[depth] = upper[0], upper[1], at + 1
    block = volume.read(int_point(low), int_point(high)).take(0, axis=depth)
    return block.T if column < row else block


def _nearest(
    volume: Volume, center_nm: Point, extent_nm: float, pixels: int, column: int, row: int, depth: int
) -> NDArray[np.uint64]:
    shown = np.zeros((pixels, pixels), np.uint64)
    x, y = (_voxels(volume, center_nm, extent_nm, pixels, a) for a in (column, row))
    px, py = ((v >= 0) & (v < volume.shape[a]) for v, a in ((x, column), (y, row)))
    at = _plane(volume, center_nm, depth)
    if not (px.any() and py.any() and 0 <= at < volume.shape[depth]):
        return shown
    x, y = x[px], y[py]
    block = _read_plane(volume, (x[0], y[0]), (x[-1] + 1, y[-1] + 1), at, (column, row, depth))
    shown[np.ix_(py, px)] = block[np.ix_(y - y[0], x - x[0])]
    return shown


def _gray(
    volume: Volume, center_nm: Point, extent_nm: float, pixels: int, column: int, row: int, depth: int
) -> NDArray[np.uint8]:
    from PIL import Image

    at = _plane(volume, center_nm, depth)
    start = np.array(
        [(center_nm[a] - extent_nm / 2) / volume.voxel_size_nm[a] - volume.offset_vx[a] for a in (column, row)]
    )
    size = np.array([extent_nm / volume.voxel_size_nm[a] for a in (column, row)])
    reach = _reach(float(size.max()), pixels)
    low, high = np.floor(start).astype(int) - reach, np.ceil(start + size).astype(int) + reach
    shape = np.array([volume.shape[column], volume.shape[row]])
    first, last = np.clip(low, 0, shape), np.clip(high, 0, shape)
    if (first >= last).any() or not 0 <= at < volume.shape[depth]:
        return np.zeros((pixels, pixels), np.uint8)
    block = _read_plane(volume, (first[0], first[1]), (last[0], last[1]), at, (column, row, depth))
    # beyond the data the last voxel is repeated, so that the filter leaves no dark rim inside
    pads = [(int(first[a] - low[a]), int(high[a] - last[a])) for a in (1, 0)]
    padded = np.pad(block, pads, mode="edge")
    box = (*(start - low).tolist(), *(start + size - low).tolist())
    picture = Image.fromarray(np.ascontiguousarray(padded)).resize((pixels, pixels), Image.Resampling.BICUBIC, box=box)
    inside = _inside(volume, center_nm, extent_nm, pixels, column, row, depth)
    return np.where(inside, np.asarray(picture), np.uint8(0))
