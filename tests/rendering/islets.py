"""Count islets: orange spots in the midst of blue, as they come of two surfaces that lie in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def count_islets(picture: NDArray[np.uint8], blue_alone: NDArray[np.uint8], surrounded: float = 0.8) -> int:
    """Count connected orange spots of which at least this share of the pixels around them is blue.

    Both pictures are uint8, shape (rows, columns, 3); the second shows the blue mesh without the orange one. A spot
    where most of it is empty is no islet: it is seen through a hole of blue, as in a sponge of single voxels.
    """
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    empty = (picture >= 250).all(axis=2)
    is_blue, is_orange = (blue > red) & ~empty, (blue <= red) & ~empty
    hole = (blue_alone >= 250).all(axis=2)
    spots, _ = ndimage.label(is_orange)
    count = 0
    for number, box in enumerate(ndimage.find_objects(spots), 1):
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        spot = spots[around] == number
        ring = ndimage.binary_dilation(spot) & ~spot
        over_blue = hole[around][spot].mean() <= 0.5
        count += bool(ring.any()) and over_blue and is_blue[around][ring].mean() >= surrounded
    return count
