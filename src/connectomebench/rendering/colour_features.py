"""Measure brightness and area of each colour, ignoring shape.

Controls are matched to cases on these features, and the trivial baseline learns from nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.rendering.colours import BLUE, ORANGE

EDGE_PX = 128


MIN_SATURATION = 64  # of 255: below it a pixel counts as colourless (grey tissue, its hatched outside, soft edges)


HUE_REACH = 28  # of 256, either side: shading leaves the hue alone, antialiasing hardly moves it


WHITE = 250


NAMES = (
    "brightness_mean",
    "brightness_sd",
    "area_background",
    "area_blue",
    "area_orange",
)


def _hue(colour: tuple[int, int, int]) -> int:
    return Image.new("RGB", (1, 1), colour).convert("HSV").getpixel((0, 0))[0]  # type: ignore[index]


def _hue_kinds() -> NDArray[np.uint8]:
    """Map each hue (0 to 255) to 1 for blue, 2 for orange, 0 for neither."""
    kinds = np.zeros(256, np.uint8)
    for kind, colour in enumerate((BLUE, ORANGE), 1):
        apart = np.abs((np.arange(256) - _hue(colour) + 128) % 256 - 128)
        kinds[apart <= HUE_REACH] = kind
    return kinds


_KINDS = _hue_kinds()


def image_features(image: Image.Image) -> NDArray[np.float64]:
    """Measure one image.

    Parameters
    ----------
    image
        Any size and mode; it is averaged down to about 128 px first.

    Returns
    -------
    float64, shape (5,)
        In the order of ``NAMES``: mean and standard deviation of brightness (0 to 1), share of the image that is white
        background, and share that is blue (base, source) and orange (candidate, sink).
    """
    rgb = image.convert("RGB")
    small = rgb.reduce(max(1, min(rgb.size) // EDGE_PX))
    brightness = np.asarray(small.convert("L"), dtype=np.float64) / 255
    pale = np.asarray(small) >= WHITE
    background = pale[..., 0] & pale[..., 1] & pale[..., 2]
    values = [brightness.mean(), brightness.std(), background.mean()]
    return np.array(values + [mask.mean() for mask in coloured(small)])


def coloured(image: Image.Image) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find blue (base, source) and orange (candidate, sink) pixels of any darkness.

    Returns
    -------
    blue, orange
        bool, shape (rows, columns) each.
    """
    hsv = np.asarray(image.convert("RGB").convert("HSV"))
    kinds = _KINDS[hsv[..., 0]]
    kinds[hsv[..., 1] < MIN_SATURATION] = 0
    return kinds == 1, kinds == 2


def trivial_features(
    images: Sequence[Image.Image], views: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Measure the images of one row.

    Parameters
    ----------
    images
        In the order of ``views``.
    views
        Names of the views.

    Returns
    -------
    names, values
        ``front_area_blue`` and so on, and float64 of shape (5 * views,); see :func:`image_features`.

    Raises
    ------
    ConnectomeBenchError
        If the numbers of images and views differ.
    """
    if len(images) != len(views):
        raise ConnectomeBenchError(f"got {len(images)} images for the views {', '.join(views)}; give one for each")
    names = tuple(f"{view}_{name}" for view in views for name in NAMES)
    return names, np.concatenate([image_features(image) for image in images])
