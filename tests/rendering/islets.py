"""Count islets: orange spots in the midst of blue, as they come of two surfaces that lie in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def count_islets(picture: NDArray[np.uint8], surrounded: float = 0.8) -> int:
    """Count connected orange spots of which at least this share of the pixels around them is blue.

    ``picture`` is uint8, shape (rows, columns, 3).
    """
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    empty = (picture >= 250).all(axis=2)
    is_blue, is_orange = (blue > red) & ~empty, (blue <= red) & ~empty
    spots, _ = ndimage.label(is_orange)
    count = 0
    for number, box in enumerate(ndimage.find_objects(spots), 1):
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        spot = spots[around] == number
        ring = ndimage.binary_dilation(spot) & ~spot
        count += bool(ring.any()) and is_blue[around][ring].mean() >= surrounded
    return count
