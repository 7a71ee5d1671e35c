"""Arrays of rows that compiled kernels fill, not knowing how many there will be."""

from __future__ import annotations

from typing import TypeVar

import numba as nb
import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@nb.njit(cache=True, nogil=True)
def twice_as_long(rows: NDArray[Number]) -> NDArray[Number]:
    """Copy rows to the beginning of an array of twice as many; any dtype, shape (n, k).

    Not a slice that is assigned: its error message alone takes five seconds to compile.
    """
    n, columns = rows.shape
    longer = np.empty((2 * n, columns), rows.dtype)
    for row in range(n):
        for column in range(columns):
            longer[row, column] = rows[row, column]
    return longer
