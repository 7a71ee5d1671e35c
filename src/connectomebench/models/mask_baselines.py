"""Masks without learning: what a model of masks must beat.

========= ==================================================================================================
empty     nothing is taken away
all       everything is taken away
plane     each view is halved by the line that crosses the fewest pixels of the segment (the largest gap)
watershed each view is halved at its thinnest neck: eroded until it falls into two cores, to which pixels go
========= ==================================================================================================

Where a view is halved, the smaller half is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN, encode_masks
from connectomebench.models.base import Answer, Batch, column
from connectomebench.models.images import StoredImage, decode
from connectomebench.rendering.colours import BACKGROUND

Silhouette = NDArray[np.bool_]

_ANGLES = np.deg2rad(np.arange(0, 180, 15))
_LEAST_SHARE = 0.1  # of the segment on either side of a line
_LEVELS = 24  # of erosion
_CORE_SHARE = 0.01  # of the segment in each of two cores
_THICKER = 1.2  # how much thicker than the neck a core is


def silhouette(image: StoredImage) -> Silhouette:
    """Return the pixels of a view that are not background; bool, shape (rows, columns)."""
    return (np.asarray(decode(image)) != np.array(BACKGROUND, np.uint8)).any(axis=2)


def take_nothing(segment: Silhouette) -> Silhouette:
    """Take no pixel away."""
    return np.zeros_like(segment)


def take_all(segment: Silhouette) -> Silhouette:
    """Take every pixel of the segment away."""
    return segment.copy()


def halve_by_plane(segment: Silhouette) -> Silhouette:
    """Halve a silhouette by the line that crosses the fewest of its pixels, and take the smaller half away.

    Parameters
    ----------
    segment
        bool, shape (rows, columns).

    Returns
    -------
    bool, shape (rows, columns)
        Lines are tried at 12 angles; each half has a tenth of the segment at least. Of equal lines the one in the
        middle of the widest gap.
    """
    rows, columns = np.nonzero(segment)
    best: tuple[int, int] = (len(rows) + 1, 0)
    taken = np.zeros_like(segment)
    for angle in _ANGLES:
        along = np.rint(columns * np.cos(angle) + rows * np.sin(angle)).astype(np.int64)
        if not len(along):
            break
        place = along - along.min()
        counts = np.bincount(place)
        before = np.cumsum(counts) - counts
        lines = np.flatnonzero(
            (before >= _LEAST_SHARE * len(rows)) & (len(rows) - before - counts >= _LEAST_SHARE * len(rows))
        )
        if not len(lines):
            continue
        fewest = int(counts[lines].min())
        gaps = np.split(lines, np.flatnonzero((np.diff(lines) > 1) | np.diff(counts[lines] != fewest)) + 1)
        gap = max((g for g in gaps if counts[g[0]] == fewest), key=len)
        if (fewest, -len(gap)) < best:
            best = (fewest, -len(gap))
            half = place > gap[len(gap) // 2]
            smaller = half if 2 * half.sum() <= len(half) else ~half
            taken = np.zeros_like(segment)
            taken[rows[smaller], columns[smaller]] = True
    return taken


def halve_by_watershed(segment: Silhouette) -> Silhouette:
    """Divide a silhouette at its thinnest neck, and take the smaller half away.

    Parameters
    ----------
    segment
        bool, shape (rows, columns).

    Returns
    -------
    bool, shape (rows, columns)
        The silhouette is eroded until it falls into two cores that are thicker than the neck between them; every pixel
        then goes to the nearer core. Nothing where it does not fall apart.
    """
    if not segment.any():
        return np.zeros_like(segment)
    padded: Any = ndimage.distance_transform_edt(np.pad(segment, 1))
    depth = padded[1:-1, 1:-1]
    least = max(1.0, _CORE_SHARE * np.count_nonzero(segment))
    for level in np.linspace(0, depth.max(), _LEVELS, endpoint=False):
        labelled: Any = ndimage.label(depth > level)
        cores, number = labelled
        every = np.arange(1, number + 1)
        sizes = np.bincount(cores.ravel(), minlength=number + 1)[1:]
        deepest = np.zeros(number + 1)
        np.maximum.at(deepest, cores.ravel(), depth.ravel())
        thick = deepest[1:] >= _THICKER * level
        found = [int(core) for core in every[np.argsort(-sizes, kind="stable")] if thick[core - 1]][:2]
        if len(found) == 2 and min(sizes[core - 1] for core in found) >= least:
            nearest: Any = ndimage.distance_transform_edt(
                ~np.isin(cores, found), return_distances=False, return_indices=True
            )
            owner = cores[tuple(nearest)]
            return min((segment & (owner == core) for core in found), key=np.count_nonzero)
    return np.zeros_like(segment)


HALVING: dict[str, Callable[[Silhouette], Silhouette]] = {
    "empty": take_nothing,
    "all": take_all,
    "plane": halve_by_plane,
    "watershed": halve_by_watershed,
}
"""Name of a baseline -> silhouette of a view to what is taken away."""


def mask_of(segment: Silhouette, taken: Silhouette) -> NDArray[np.uint8]:
    """Make a mask from the pixels of the segment and those taken away; uint8, same shape."""
    mask = np.where(segment, STAYS, NOTHING).astype(np.uint8)
    mask[segment & taken] = TAKEN
    return mask


class MaskBaseline:
    """One of :data:`HALVING`, as a model; see :class:`connectomebench.models.base.Model`."""

    revision = "1"

    def __init__(self, name: str) -> None:
        self.name = name
        self._halve = HALVING[name]

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row with masks as text (:func:`connectomebench.core.part_masks.encode_masks`)."""
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        views: Sequence[Sequence[str]] = column(batch, "views")
        return [self._answer(row, names) for row, names in zip(images, views, strict=True)]

    def _answer(self, row: Sequence[StoredImage | Image.Image], views: Sequence[str]) -> Answer:
        segments = {view: silhouette(image) for view, image in zip(views, row, strict=True)}
        masks = {view: mask_of(segment, self._halve(segment)) for view, segment in segments.items()}
        return Answer(encode_masks(masks), {})
