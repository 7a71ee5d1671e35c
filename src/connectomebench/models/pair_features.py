"""Let a linear head compare the two images of a row: how they differ is no linear function of either."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAIR = 2
"""Rows of this many images ask whether both show the same; see `segment_identity`."""


def blocks_of(views: int) -> int:
    """Count the vectors that a head sees of a row: one an image, and their difference for a pair.

    Examples
    --------
    >>> blocks_of(3), blocks_of(2)
    (3, 3)
    """
    return views + int(views == PAIR)


def with_difference(features: NDArray[np.floating], views: int) -> NDArray[np.floating]:
    """Add the absolute difference of the two images' vectors to the rows of pairs.

    Parameters
    ----------
    features
        Shape (rows, views * dim): the vectors of each row's images, one after the other.
    views
        Number of images a row.

    Returns
    -------
    NDArray
        Shape (rows, blocks_of(views) * dim); the same rows where they are no pairs.

    Examples
    --------
    >>> with_difference(np.array([[1.0, 5.0, 4.0, 3.0]]), 2).tolist()
    [[1.0, 5.0, 4.0, 3.0, 3.0, 2.0]]
    """
    if views != PAIR:
        return features
    first, second = np.split(features, PAIR, axis=1)
    return np.concatenate([features, np.abs(first - second)], axis=1)
