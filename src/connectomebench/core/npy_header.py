"""Read what a numpy file announces, since numpy allocates an array of that size before it reads any of it."""

from __future__ import annotations

import io
import math
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

_HEADER_BYTES = 4096


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Read the header of an npy file.

    Parameters
    ----------
    stream
        The file, at its start.

    Returns
    -------
    tuple of int, numpy.dtype, int
        Shape and type of its array, and how many bytes the whole file must have.

    Raises
    ------
    ValueError
        If it is no such file, or of an unusual version.
    """
    start = io.BytesIO(stream.read(_HEADER_BYTES))
    version = npy.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("an array of an unusual version")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(start)
    return shape, dtype, start.tell() + math.prod(shape) * dtype.itemsize
