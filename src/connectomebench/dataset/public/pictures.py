"""Render images from the channels of ConnectomeBench2: white background, blue and orange, lit from the upper left.

The channels and the cameras are those of the authors' renderer (github.com/timfarkas/ConnectomeBench2,
``rendering/geometry_renderer.py`` and ``camera_utils.py``). Their views keep their names, directions and pixels:

======  ======================  ==================  ============
view    columns (to the right)  rows (downwards)    looking along
======  ======================  ==================  ============
front   -y                      -z                  +x
side    +x                      -z                  +y
top     +x                      -y                  -z
======  ======================  ==================  ============

So their front view is our side view turned by half a turn, and the other two look from the opposite side of ours.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.dataset.public.unmapped import Unmapped
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE, light_direction, shade_table
from connectomebench.rendering.views import ViewConfig

SILHOUETTE, MASK_A, MASK_B = 0, 5, 6
"""Channels: the silhouette, and the masks of the two segments or parts."""
_NORMALS = slice(2, 5)
_LEVELS = 256
# Rows: right, down, forward, as vectors of the world (x, y, z).
FRAMES = np.array(
    [
        [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    ],
    np.float32,
)


def draw_pair(channels: NDArray[np.float32]) -> list[bytes]:
    """Draw two segments: mask A in blue (base), mask B in orange (candidate).

    Where both masks cover a pixel the channels do not show which segment is nearer (each depth is scaled for itself);
    such a pixel is blue.

    Parameters
    ----------
    channels
        From :func:`connectomebench.dataset.public.archives.read_channels`, shape (3, 7, row, column).

    Returns
    -------
    list of bytes
        PNG files of the views front, side, top, as large as the channels.

    Raises
    ------
    Unmapped
        If there are no masks, a view is empty, or one of the two is hardly visible in any view.
    """
    if channels.shape[1] <= MASK_B:
        raise Unmapped("the two segments cannot be distinguished: there are no masks")
    silhouette = _silhouette(channels)
    orange = silhouette & (channels[:, MASK_B] > 0.5) & ~(channels[:, MASK_A] > 0.5)
    blue = silhouette & ~orange
    if min(_most(blue), _most(orange)) < ViewConfig().min_visible_px:
        raise Unmapped("one of the two segments is hardly to be seen")
    return _draw(channels, silhouette, orange)


def draw_single(channels: NDArray[np.float32]) -> list[bytes]:
    """Draw one segment in blue; ignore masks.

    Parameters
    ----------
    channels
        From :func:`connectomebench.dataset.public.archives.read_channels`.

    Returns
    -------
    list of bytes
        PNG files of the views front, side, top, as large as the channels.

    Raises
    ------
    Unmapped
        If a view is empty or hardly anything is to be seen.
    """
    silhouette = _silhouette(channels)
    if _most(silhouette) < ViewConfig().min_visible_px:
        raise Unmapped("hardly anything is to be seen")
    return _draw(channels, silhouette, np.zeros_like(silhouette))


def shows_pair(channels: NDArray[np.float32]) -> bool:
    """Return whether the channels mark a second segment."""
    return channels.shape[1] > MASK_B and bool((channels[:, MASK_B] > 0.5).any())


def _silhouette(channels: NDArray[np.float32]) -> NDArray[np.bool_]:
    silhouette = channels[:, SILHOUETTE] > 0.5
    if not silhouette.any(axis=(1, 2)).all():
        raise Unmapped("a view is empty")
    return silhouette


def _most(mask: NDArray[np.bool_]) -> int:
    return int(mask.sum(axis=(1, 2)).max())


def _draw(channels: NDArray[np.float32], silhouette: NDArray[np.bool_], orange: NDArray[np.bool_]) -> list[bytes]:
    tables = np.stack([shade_table(BLUE, _LEVELS), shade_table(ORANGE, _LEVELS)])
    files = []
    for view, frame in enumerate(FRAMES):
        seen = silhouette[view]
        light = _light(channels[view, _NORMALS][:, seen], frame)
        picture = np.full((*seen.shape, 3), BACKGROUND, np.uint8)
        picture[seen] = tables[orange[view][seen].astype(int), light]
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        files.append(stream.getvalue())
    return files


def _light(normals: NDArray[np.float32], frame: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the brightness, shape (n,), of normals in world axes, shape (3, n)."""
    camera = frame @ normals
    camera[2] *= -1  # towards the viewer
    length = np.linalg.norm(camera, axis=0)
    # The authors keep the sign of the mesh: a surface that is seen faces the viewer, whichever way its mesh winds.
    camera *= np.where(camera[2] < 0, -1, 1) / np.maximum(length, 1e-6)
    camera[:, length < 1e-3] = np.array([[0], [0], [1]])
    cosine = np.clip(light_direction() @ camera, 0, 1)
    return np.round(cosine * (_LEVELS - 1)).astype(np.int64)
