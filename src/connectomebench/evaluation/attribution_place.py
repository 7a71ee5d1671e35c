"""Does the evidence lie where the truth is: share of a map near a correction, against chance.

Pictures are centred on the place in question, or near it, and so are objects and maps: a share near the correction
above the share of the area is no merit. The stricter chance is the share of what is drawn: a map that is uniform over
the segments in view and empty on the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.view_layout import PLANES, plane
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.colours import BACKGROUND

NEAR_NM = 500.0
"""Largest distance from the correction within which evidence counts as near it, nm in the plane of the picture."""
_NEAR_SHARE = 1 / 4  # of the edge of the view: in a smaller one all of the picture would be near

_PX = 112  # maps and pictures are compared at this size
_VIEW_OF_PLANE = {axes: view for view, axes in PLANES.items()}


@dataclass(frozen=True)
class NearShares:
    """Share of a map near the correction, and two chances: of the pictures' area, and of what is drawn in them."""

    share: float
    area: float
    drawn: float


def near_nm(extent_nm: float) -> float:
    """Return the distance that counts as near in views of this edge, nm.

    Examples
    --------
    >>> near_nm(8000.0), near_nm(500.0)
    (500.0, 125.0)
    """
    return min(NEAR_NM, _NEAR_SHARE * extent_nm)


def near_mask(row: Mapping[str, Any], view: str) -> NDArray[np.bool_] | None:
    """Mark what lies within :func:`near_nm` of a row's correction in one picture.

    Parameters
    ----------
    row
        Stored row; ``location_nm``, ``extent_nm`` and ``target_nm`` (places asked for, if any) are read.
    view
        A mesh view or a slice.

    Returns
    -------
    NDArray or None
        Rows and columns of the picture, 112 each; None for a picture of no fixed plane.
    """
    axes = plane(view)
    if axes is None:
        return None
    centre = np.asarray(row["location_nm"], np.float64)
    targets = np.asarray(row["target_nm"] or [centre], np.float64).reshape(-1, 3)
    at = (targets - centre) @ view_frame(_VIEW_OF_PLANE[axes])[:2].T  # right and down, nm
    pixel = (np.arange(_PX) + 0.5) / _PX * row["extent_nm"] - row["extent_nm"] / 2
    down, right = np.meshgrid(pixel, pixel, indexing="ij")
    distance = np.min([np.hypot(right - x, down - y) for x, y in at], axis=0)
    return distance <= near_nm(row["extent_nm"])


def drawn_mask(image: Image.Image) -> NDArray[np.bool_]:
    """Mark what is not background; shape (112, 112)."""
    small = np.asarray(image.convert("RGB").resize((_PX, _PX), Image.Resampling.BOX), np.int16)
    return np.abs(small - np.array(BACKGROUND, np.int16)).max(axis=-1) > 8


def near_shares(row: Mapping[str, Any], images: Sequence[Image.Image], maps: NDArray[np.floating]) -> NearShares | None:
    """Measure how much of a map lies near the correction.

    Parameters
    ----------
    row
        Stored row, as for :func:`near_mask`, and ``views``.
    images
        Its pictures, RGB.
    maps
        Shape (pictures, rows, columns), none below 0; the pictures are weighed as the map weighs them.

    Returns
    -------
    NearShares or None
        None if the pictures have no fixed plane, or the map is empty.
    """
    inside = total = 0.0
    areas: list[float] = []
    drawn_inside = drawn_total = 0
    for view, image, own in zip(row["views"], images, maps, strict=True):
        near = near_mask(row, view)
        if near is None:
            continue
        fine = _spread(own)
        drawn = drawn_mask(image)
        inside += float(fine[near].sum())
        total += float(fine.sum())
        areas.append(float(near.mean()))
        drawn_inside += int((drawn & near).sum())
        drawn_total += int(drawn.sum())
    if total <= 0 or not drawn_total:
        return None
    return NearShares(inside / total, float(np.mean(areas)), drawn_inside / drawn_total)


def _spread(one: NDArray[np.floating]) -> NDArray[np.float64]:
    """Spread each value of a map evenly over its patch; shape (112, 112)."""
    rows = np.arange(_PX) * one.shape[0] // _PX
    columns = np.arange(_PX) * one.shape[1] // _PX
    return one[np.ix_(rows, columns)].astype(np.float64)
