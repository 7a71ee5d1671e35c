"""Measure silhouettes: pieces, holes, areas and central shares of each colour of a view."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.tasks import SHAPE_VIEWS, candidate_view
from connectomebench.rendering.colour_features import coloured, image_features

COLOURS = ("blue", "orange", "any")

SILHOUETTE_PX = 256

MIN_PIECE_SHARE = 2e-4  # of the image: smaller islands are antialiasing specks

CENTRES = (0.1, 0.25)  # radii of the two discs around the centre, in image edges


def silhouette_features(image: Image.Image) -> NDArray[np.float32]:
    """Measure the silhouettes in one view of meshes.

    Parameters
    ----------
    image
        Any size; background white. It is averaged down to 256 px or a little more first.

    Returns
    -------
    float32, shape (15,)
        In the order of :data:`SILHOUETTE_NAMES`: for blue, orange and both together the number of pieces and of holes
        (above 0.02% of the image, pieces and background joined over edges), the area as a share of the image, and
        which shares of that area lie in the discs of radius 0.1 and 0.25 edges around the centre.
    """
    rgb = image.convert("RGB")
    blue, orange = coloured(rgb.reduce(max(1, min(rgb.size) // SILHOUETTE_PX)))
    discs = _discs(blue.shape)
    least = MIN_PIECE_SHARE * blue.size
    values: list[float] = []
    for mask in (blue, orange, blue | orange):
        area = np.count_nonzero(mask)
        at_centre = [np.count_nonzero(mask & disc) / max(area, 1) for disc in discs]
        values += [count_pieces(mask, least, True), count_pieces(~mask, least, False), area / mask.size, *at_centre]
    return np.array(values, np.float32)


SILHOUETTE_NAMES: tuple[str, ...] = tuple(
    f"{colour}_{what}"
    for colour in COLOURS
    for what in ("pieces", "holes", "area", *(f"within_{radius:g}" for radius in CENTRES))
)


@lru_cache(maxsize=8)
def _discs(shape: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """Mark the pixels of an image within each radius of ``CENTRES`` around its centre."""
    rows, columns = ((np.arange(n) + 0.5 - n / 2) / n for n in shape)
    distance = np.hypot(rows[:, None], columns[None, :])
    return [distance < radius for radius in CENTRES]


@numba.njit(cache=True, nogil=True)
def count_pieces(mask: NDArray[np.bool_], least: float, at_frame: bool) -> int:
    """Count the pieces of a mask that are joined over edges of pixels.

    Parameters
    ----------
    mask
        bool, shape (rows, columns).
    least
        Smallest piece that counts, pixels.
    at_frame
        Whether pieces that reach the frame of the image count.

    Returns
    -------
    int
        Number of pieces.
    """
    rows, columns = mask.shape
    # a piece is a tree of runs of pixels along rows; its root holds size and whether it reaches the frame
    room = rows * (columns // 2 + 1)
    parent = np.empty(room, np.int32)
    size = np.zeros(room, np.int64)
    framed = np.zeros(room, np.bool_)
    begins = np.empty(room, np.int32)
    ends = np.empty(room, np.int32)
    above, here = 0, 0  # first runs of the row above and of this row
    n = 0
    for y in range(rows):
        x = 0
        candidate = above
        while x < columns:
            if not mask[y, x]:
                x += 1
                continue
            begins[n] = x
            while x < columns and mask[y, x]:
                x += 1
            ends[n] = x
            parent[n], size[n] = n, x - begins[n]
            framed[n] = y == 0 or y == rows - 1 or begins[n] == 0 or x == columns
            while candidate < here and ends[candidate] <= begins[n]:
                candidate += 1
            other = candidate
            while other < here and begins[other] < x:
                a, b = n, other
                while parent[a] != a:
                    a = parent[a]
                while parent[b] != b:
                    parent[b] = parent[parent[b]]
                    b = parent[b]
                if a != b:  # the older root stays
                    a, b = min(a, b), max(a, b)
                    parent[b] = a
                    size[a] += size[b]
                    framed[a] |= framed[b]
                other += 1
            n += 1
        above, here = here, n
    count = 0
    for k in range(n):
        if parent[k] == k and size[k] >= least and (at_frame or not framed[k]):
            count += 1
    return count


def matched_features(pictures: Mapping[str, Image.Image]) -> NDArray[np.float64]:
    """Measure the features used to match controls: brightness, areas and silhouettes of the images of one row.

    Parameters
    ----------
    pictures
        View name -> image.

    Returns
    -------
    float64, shape (5 * views + 15 * views of meshes,)
        Of a choice among candidates the mean over the candidates, whose number then does not matter.
    """
    candidates: dict[str, dict[str, Image.Image]] = {}
    for name, picture in pictures.items():
        letter, view = candidate_view(name)
        candidates.setdefault(letter, {})[view] = picture
    measured = [_of_views(own) for own in candidates.values()]
    return measured[0] if len(measured) == 1 else np.mean(measured, axis=0)


def unbroken(features: NDArray[np.floating], views: int) -> NDArray[np.bool_]:
    """Tell which colours are in one piece in every view of meshes.

    Parameters
    ----------
    features
        Of rows of one task, from :func:`matched_features`; shape (rows, columns).
    views
        Number of views of meshes, of a choice those of one candidate.

    Returns
    -------
    bool, shape (rows, colours)
        Of blue and orange, without a colour that no row has.
    """
    n = len(SILHOUETTE_NAMES)
    by_view = np.asarray(features)[:, -n * views :].reshape(len(features), views, n)
    pieces = by_view[:, :, [SILHOUETTE_NAMES.index(f"{colour}_pieces") for colour in ("blue", "orange")]]
    return (pieces == 1).all(axis=1)[:, pieces.any(axis=(0, 1))]


def _of_views(pictures: Mapping[str, Image.Image]) -> NDArray[np.float64]:
    parts = [image_features(picture) for picture in pictures.values()]
    parts += [silhouette_features(picture) for view, picture in pictures.items() if view in SHAPE_VIEWS]
    return np.concatenate(parts).astype(np.float64)
