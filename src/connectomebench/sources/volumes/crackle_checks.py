"""Decode labels compressed with crackle, and notice damage before the decoder reads beyond the end of what was cut."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def decompress(stored: bytes) -> NDArray[Any]:
    """Decode a crackle file or chunk; axes x, y, z.

    Damage inside the codes of a slice is noticed only where they cannot be decoded: crackle 0.55 writes check sums of
    slices, but does not compare them.

    Raises
    ------
    ValueError
        If the check sum of the header, the index or the labels does not match, or the file was cut.
    """
    from crackle import codec

    if len(stored) < 64 and not stored.startswith(b"crkl"):
        raise ValueError("it is too short")
    head = codec.header(stored)
    index = codec.grid_index(stored)
    if int(index[-1]) > len(stored):
        raise ValueError("its index points outside it")
    if head.format_version > 0 and codec.labels_crc(stored) != codec.crc32c(codec.raw_labels(stored)):
        raise ValueError("the check sum of its labels does not match")
    return codec.decompress(stored)
