"""Hash tables of counts under pairs of ids, in plain arrays, for compiled kernels.

A table is two arrays of equal length (a power of two): ``keys``, uint64, shape (capacity, 2), and ``values``, int64,
shape (capacity, columns). A row is in use where its first value is not 0. Collisions go to the next free row (open
addressing), so a table must never be full: whoever adds rows doubles it once half of them are in use. Plain
arrays, unlike numba's typed dictionaries, pass between kernels and numpy as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Odd 64-bit constants with well spread bits (2**64 / golden ratio, and a prime of xxHash): ids that follow each other
# must not land in neighbouring rows, where chains of collisions would form.
_MIX_FIRST = np.uint64(0x9E3779B97F4A7C15)
_MIX_SECOND = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(32)


@njit(nogil=True, cache=True)
def new_table(capacity: int, columns: int):
    """Make an empty table; ``capacity`` must be a power of two."""
    return np.zeros((capacity, 2), np.uint64), np.zeros((capacity, columns), np.int64)


@njit(nogil=True, cache=True)
def find_slot(keys, values, first, second):
    """Return the row of a key, or the free row where it belongs."""
    mixed = np.uint64(first) * _MIX_FIRST ^ np.uint64(second) * _MIX_SECOND
    # A product mixes into its high bits, while the mask keeps the low ones.
    mixed ^= mixed >> _SHIFT
    mask = np.uint64(len(keys) - 1)
    slot = mixed & mask
    while values[slot, 0] != 0 and (keys[slot, 0] != first or keys[slot, 1] != second):
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(nogil=True, cache=True)
def doubled(keys, values):
    """Return a copy of a table with twice the capacity."""
    new_keys, new_values = new_table(2 * len(keys), values.shape[1])
    for row in range(len(keys)):
        if values[row, 0] != 0:
            slot = find_slot(new_keys, new_values, keys[row, 0], keys[row, 1])
            # number by number: numba compiles an assignment of rows, with its errors, for three seconds
            new_keys[slot, 0], new_keys[slot, 1] = keys[row, 0], keys[row, 1]
            for column in range(values.shape[1]):
                new_values[slot, column] = values[row, column]
    return new_keys, new_values


@njit(nogil=True, cache=True, inline="always")
def add_row(keys, values, rows, first, second, sums, least=None):
    """Add ``sums``, of which the first is above 0, to the first values of a key; return keys, values and rows in use.

    A new key takes a free row, and a table more than half in use is doubled. With ``least``, the column after the sums
    keeps the smallest.
    """
    slot = find_slot(keys, values, first, second)
    if values[slot, 0] == 0:
        rows += 1
        keys[slot, 0] = first
        keys[slot, 1] = second
        if least is not None:
            values[slot, len(sums)] = least
    for column in range(len(sums)):
        values[slot, column] += sums[column]
    if least is not None:
        values[slot, len(sums)] = min(values[slot, len(sums)], least)
    # Open addressing stays fast while at most half of the rows are in use.
    if 2 * rows > len(keys):
        keys, values = doubled(keys, values)
    return keys, values, rows


@njit(nogil=True, cache=True, inline="always")
def add_number(keys, values, rows, first, second):
    """Assign the next number, from 1, to a new key; return keys, values, rows and the number of the key, int32."""
    slot = find_slot(keys, values, first, second)
    number = values[slot, 0]
    if number == 0:
        keys, values, rows = add_row(keys, values, rows, first, second, (rows + 1,))
        number = rows
    return keys, values, rows, np.int32(number)


@njit(nogil=True, cache=True)
def fill_table(first, second, values):
    """Build a table of one column from unique keys; ``values`` must not be 0."""
    capacity = 16
    # At most a quarter full: it is built once and asked for every run of voxels.
    while capacity < 4 * len(first):
        capacity *= 2
    keys, table = new_table(capacity, 1)
    for row in range(len(first)):
        slot = find_slot(keys, table, first[row], second[row])
        keys[slot, 0] = first[row]
        keys[slot, 1] = second[row]
        table[slot, 0] = values[row]
    return keys, table


def used_rows(keys: NDArray[np.uint64], values: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return keys and values of the rows in use, in no particular order."""
    used = values[:, 0] != 0
    return keys[used], values[used]


class RowSum:
    """Sum of the tables of many blocks; it does not depend on their order.

    Parameters
    ----------
    key_columns, value_columns
        Number of columns of keys (uint64) and values (int64).
    minimum_of_last
        Keep the smallest of the last value column instead of the sum.
    """

    def __init__(self, key_columns: int, value_columns: int, *, minimum_of_last: bool = False) -> None:
        self._keys: list[NDArray[np.uint64]] = [np.zeros((0, key_columns), np.uint64)]
        self._values: list[NDArray[np.int64]] = [np.zeros((0, value_columns), np.int64)]
        self._minimum_of_last = minimum_of_last
        self._pending = 0

    def add(self, keys: NDArray[Any], values: NDArray[np.int64]) -> None:
        """Add rows; keys may repeat."""
        self._keys.append(keys)
        self._values.append(values)
        self._pending += len(keys)
        # Pending rows never exceed the rows already summed by much, so that memory follows the result, not the volume.
        if self._pending > max(1 << 20, len(self._keys[0])):
            self.rows()

    def rows(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return all rows so far, unique keys in lexicographic order."""
        keys, values = np.concatenate(self._keys), np.concatenate(self._values)
        if len(keys):
            order = np.lexsort(keys.T[::-1])
            keys, values = keys[order], values[order]
            starts = np.flatnonzero(np.append(True, np.any(keys[1:] != keys[:-1], axis=1)))
            sums = np.add.reduceat(values, starts, axis=0)
            if self._minimum_of_last:
                sums[:, -1] = np.minimum.reduceat(values[:, -1], starts)
            keys, values = keys[starts], sums
        self._keys, self._values, self._pending = [keys], [values], 0
        return keys, values
