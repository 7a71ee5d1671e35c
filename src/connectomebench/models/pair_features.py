"""What a head sees of the vectors of a row's images: all of them, and how a pair differs; or means over directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

PAIR = 2
"""Rows of this many images ask whether both show the same; see `segment_identity`."""


DIRECTIONS = 3
"""Views and slices come in threes: along each axis of the volume."""


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

    How two images differ is no linear function of either.

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


def over_directions(features: NDArray[np.floating], views: int) -> NDArray[np.floating]:
    """Average the vectors of the three views of a row, and those of its three slices.

    An answer does not depend on which axis is which, and a third of the weights can be learnt from fewer rows.

    Parameters
    ----------
    features
        Shape (rows, views * dim): the vectors of each row's images, one after the other.
    views
        Number of images a row, a multiple of three.

    Returns
    -------
    NDArray
        Shape (rows, views / 3 * dim).

    Raises
    ------
    ConnectomeBenchError
        If the images do not come in threes.

    Examples
    --------
    >>> over_directions(np.array([[1.0, 2.0, 6.0, 0.0, 0.0, 3.0]]), 6).tolist()
    [[3.0, 1.0]]
    """
    if views % DIRECTIONS:
        raise ConnectomeBenchError(
            f"layout averaged needs views along three axes, and the rows have {views} images; choose views or grid"
        )
    by_direction = features.reshape(len(features), views // DIRECTIONS, DIRECTIONS, -1)
    return by_direction.mean(axis=2).reshape(len(features), -1)
