"""Random changes of a row's views that leave its answer as it is.

All views of a row change together. A mirror is one of the world: along x, for example, the front and the top view are
turned over and the side view stays, so that the outlines of the views still belong to one neuron, and slices of image
data are exactly those of the mirrored volume. No question names a direction or a hand, so all three mirrors are
allowed. Angle, brightness and contrast are the same for every view, and the last two for red, green and blue: which
channel of a colour is strongest stays, so that blue stays blue and orange orange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin
from typing import Final, Literal

import numpy as np
import torch

from connectomebench.core.view_layout import plane
from connectomebench.rendering.colours import BACKGROUND

Augment = Literal["none", "published"]
DEGREES: Final = 10.0
"""Largest angle, to either side, as published."""
LIGHT: Final = 0.2
"""Largest change of brightness and of contrast, as published."""
# world axes along the columns and the rows of a picture, as in connectomebench.rendering.camera; pictures of no fixed
# plane go as those of the front
_AXES: Final = {"xy": "xy", "yz": "yz", "xz": "xz", None: "xy"}


@dataclass(frozen=True)
class Change:
    """One random change of all views of a row.

    Attributes
    ----------
    mirrored
        World axes along which the row is mirrored: any of ``x``, ``y`` and ``z``.
    degrees
        Angle by which every picture is turned about its middle, to the right.
    brightness, contrast
        Factors; contrast is about the mean of the row.
    """

    mirrored: frozenset[str]
    degrees: float
    brightness: float
    contrast: float


def draw_change(seed: int, turn: int, row: int) -> Change:
    """Draw the change of a row, which follows from these numbers alone.

    Parameters
    ----------
    seed
        Of the training.
    turn
        How often the row may have been shown before: no two turns of a row share one number.
    row
        Number of the row.

    Examples
    --------
    >>> draw_change(0, 1, 7) == draw_change(0, 1, 7) != draw_change(0, 2, 7)
    True
    """
    random = np.random.default_rng([seed, turn, row])
    mirrored = frozenset(axis for axis, one in zip("xyz", random.integers(2, size=3), strict=True) if one)
    degrees, brightness, contrast = random.uniform([-DEGREES, -LIGHT, -LIGHT], [DEGREES, LIGHT, LIGHT]).tolist()
    return Change(mirrored, degrees, 1 + brightness, 1 + contrast)


def change_views(cells: torch.Tensor, views: Sequence[str], change: Change) -> torch.Tensor:
    """Change all views of a row.

    Parameters
    ----------
    cells
        RGB, uint8, shape (views, height, width, 3). A cell shows a square, whatever its shape.
    views
        Names of the views.
    change
        What to do.

    Returns
    -------
    Tensor
        RGB, uint8, of the same shape. Corners that a turn uncovers have the colour of the background, or the mean grey
        of a slice of image data.
    """
    turned = torch.stack(
        [_mirror(cell, view, change.mirrored) for cell, view in zip(cells, views, strict=True)]
    ).float()
    turned = _turn(turned, views, change.degrees)
    mean = turned.mean()
    bright = ((turned - mean) * change.contrast + mean) * change.brightness
    return bright.round().clamp(0, 255).to(torch.uint8)


def _mirror(cell: torch.Tensor, view: str, mirrored: frozenset[str]) -> torch.Tensor:
    right, down = _AXES[plane(view)]
    flipped = [dim for dim, axis in ((0, down), (1, right)) if axis in mirrored]
    return torch.flip(cell, flipped) if flipped else cell


def _turn(cells: torch.Tensor, views: Sequence[str], degrees: float) -> torch.Tensor:
    """Turn float cells (views, height, width, 3) about their middles."""
    ground = cells.mean(dim=(1, 2))
    for number, view in enumerate(views):
        if not view.startswith("em_"):
            ground[number] = cells.new_tensor(BACKGROUND)
    ground = ground[:, :, None, None]
    c, s = cos(radians(degrees)), sin(radians(degrees))
    # from places in the new picture to those in the old one, on the scale -1 to 1 in both directions
    back = cells.new_tensor([[c, s, 0.0], [-s, c, 0.0]]).expand(len(cells), 2, 3)
    pictures = cells.permute(0, 3, 1, 2) - ground
    places = torch.nn.functional.affine_grid(back, list(pictures.shape), align_corners=False)
    turned = torch.nn.functional.grid_sample(pictures, places, align_corners=False)
    return (turned + ground).permute(0, 2, 3, 1)
