"""Directions of the two pictures that ask whether they show one segment or two.

Directions follow from hashes of the places alone, so that they say nothing about the answer: the second
picture is always turned against the first by an angle between the two of :data:`TURN_DEGREES`, whatever it shows.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.site import Point

TURN_DEGREES = (30.0, 90.0)
"""Smallest and largest angle between the two pictures of a pair."""

REACH = 3**0.5
"""A cube of this many times the edge, along the axes, holds every turned cube around the same centre."""


def shares_of(place: Point, count: int, salt: str = "") -> list[float]:
    """Return numbers between 0 and 1 from a hash of a place (x, y, z in nm, to a tenth) and nothing else.

    Examples
    --------
    >>> shares_of((0.0, 0.0, 0.0), 2) == shares_of((0.01, 0.0, 0.0), 2)
    True
    """
    digest = hashlib.sha512(f"{salt}{[round(float(c), 1) + 0.0 for c in place]}".encode()).digest()
    return [int.from_bytes(digest[4 * k : 4 * k + 4], "big") / 2**32 for k in range(count)]


def first_frame(place: Point) -> NDArray[np.float64]:
    """Return a camera frame that is evenly distributed over all rotations.

    Parameters
    ----------
    place
        Centre of the first picture (x, y, z), nm.

    Returns
    -------
    float64, shape (3, 3)
        Rows right, down and forward, as vectors of the world; see :mod:`connectomebench.rendering.camera`.
    """
    a, b, c = shares_of(place, 3, "first")
    # Shoemake, Uniform random rotations, Graphics Gems III (1992)
    x, y = np.sqrt(1 - a) * np.sin(2 * np.pi * b), np.sqrt(1 - a) * np.cos(2 * np.pi * b)
    z, w = np.sqrt(a) * np.sin(2 * np.pi * c), np.sqrt(a) * np.cos(2 * np.pi * c)
    return _rotation(np.array([x, y, z]), w)


def second_frame(first: NDArray[np.floating], place: Point) -> NDArray[np.float64]:
    """Return the frame of the first picture, turned about a random axis by a random angle.

    Parameters
    ----------
    first
        Frame of the first picture, shape (3, 3).
    place
        Centre of the second picture (x, y, z), nm.

    Returns
    -------
    float64, shape (3, 3)
        As :func:`first_frame`.
    """
    height, around, share = shares_of(place, 3, "second")
    height = 2 * height - 1
    flat = np.sqrt(1 - height**2)
    axis = np.array([flat * np.cos(2 * np.pi * around), flat * np.sin(2 * np.pi * around), height])
    low, high = np.radians(TURN_DEGREES)
    half = (low + (high - low) * share) / 2
    return _rotation(np.sin(half) * axis, float(np.cos(half))) @ np.asarray(first, np.float64)


def _rotation(vector: NDArray[np.float64], scalar: float) -> NDArray[np.float64]:
    """Turn a unit quaternion into a matrix."""
    x, y, z = vector.tolist()
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * scalar * cross + 2 * cross @ cross
