"""Measure silhouettes: pieces, holes, areas and central shares of each colour of a view."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.tasks import MESH_VIEWS
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
    rows, columns = (np.arange(n) + 0.5 for n in blue.shape)
    height, width = blue.shape
    distance = np.hypot((rows[:, None] - height / 2) / height, (columns[None, :] - width / 2) / width)
    values: list[float] = []
    for mask in (blue, orange, blue | orange):
        area = float(mask.mean())
        at_centre = [float(mask[distance < radius].sum()) / max(float(mask.sum()), 1.0) for radius in CENTRES]
        values += [_pieces(mask), _holes(mask), area, *at_centre]
    return np.array(values, np.float32)


SILHOUETTE_NAMES: tuple[str, ...] = tuple(
    f"{colour}_{what}"
    for colour in COLOURS
    for what in ("pieces", "holes", "area", *(f"within_{radius:g}" for radius in CENTRES))
)


def _pieces(mask: NDArray[np.bool_]) -> float:
    _, sizes = _labelled(mask)
    return float(np.count_nonzero(sizes[1:] >= MIN_PIECE_SHARE * mask.size))


def _holes(mask: NDArray[np.bool_]) -> float:
    """Count pieces of background that do not reach the frame."""
    labels, sizes = _labelled(~mask)
    inner = sizes >= MIN_PIECE_SHARE * mask.size
    inner[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    return float(np.count_nonzero(inner[1:]))


def _labelled(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assign the pieces of a mask numbers from 1, and count the pixels of each number from 0."""
    from scipy.ndimage import label

    labels = np.zeros(mask.shape, np.int64)
    label(mask, output=labels)
    return labels, np.bincount(labels.ravel())


def matched_features(pictures: Mapping[str, Image.Image]) -> NDArray[np.float64]:
    """Measure the features used to match controls: brightness, areas and silhouettes of the images of one row.

    Parameters
    ----------
    pictures
        View name -> image.

    Returns
    -------
    float64, shape (5 * views + 15 * views of meshes,)
    """
    parts = [image_features(picture) for picture in pictures.values()]
    parts += [silhouette_features(picture) for view, picture in pictures.items() if view in MESH_VIEWS]
    return np.concatenate(parts).astype(np.float64)
