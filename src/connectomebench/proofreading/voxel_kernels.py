"""Compiled passes over the voxels of a place: through a table, and to the voxel of an object nearest to a point."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def look_up(table, numbers, made):
    """Write ``table[numbers]`` into ``made``; numbers are uint32, axes x, y, z, and need no copy as indices do."""
    for i in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            for k in range(numbers.shape[2]):
                made[i, j, k] = table[numbers[i, j, k]]


@njit(nogil=True, cache=True)
def nearest_voxels(objects, asked, places, voxel, offset, reach):
    """Find the voxel of an object whose centre is nearest to a place.

    Parameters
    ----------
    objects
        uint64, axes x, y, z.
    asked
        uint64, shape (n,): objects, each of which has a voxel in the array.
    places
        float64, shape (n, 3), nm: inside the array.
    voxel, offset
        float64 and int64, shape (3,): edge of a voxel, nm, and absolute coordinate of the first voxel.
    reach
        Voxels on either side of a place that are searched first; doubled until something is found.

    Returns
    -------
    int64, shape (n, 3): index of the voxel; of equally near ones the first along x, y, z.
    """
    shape = objects.shape
    found = np.zeros((len(asked), 3), np.int64)
    low, high = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for row in range(len(asked)):
        one = asked[row]
        far, best = reach, np.inf
        while best == np.inf:
            for axis in range(3):
                middle = np.int64(np.floor(places[row, axis] / voxel[axis])) - offset[axis]
                low[axis] = max(middle - far, 0)
                high[axis] = min(middle + far + 1, shape[axis])
            for i in range(low[0], high[0]):
                x = (i + offset[0] + 0.5) * voxel[0] - places[row, 0]
                for j in range(low[1], high[1]):
                    y = (j + offset[1] + 0.5) * voxel[1] - places[row, 1]
                    for k in range(low[2], high[2]):
                        if objects[i, j, k] != one:
                            continue
                        z = (k + offset[2] + 0.5) * voxel[2] - places[row, 2]
                        distance = np.sqrt(x * x + y * y + z * z)
                        if distance < best:
                            best = distance
                            found[row, 0], found[row, 1], found[row, 2] = i, j, k
            far *= 2
    return found
