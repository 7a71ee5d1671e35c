"""Decode labels compressed with crackle, and notice damage before the decoder reads beyond the end of what was cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.limited_process import LimitedProcess, Limits, ProcessFailed, run_limited


def decompress(stored: bytes) -> NDArray[Any]:
    """Decode a crackle file or chunk; axes x, y, z.

    crackle 0.55 writes a check sum of the labels and one of each slice (CRC-32C of its connected components, numbered
    in the order of memory), but compares neither.

    Raises
    ------
    ValueError
        If a check sum does not match, or the file was cut.
    """
    from crackle import codec

    if len(stored) < 64 and not stored.startswith(b"crkl"):
        raise ValueError("it is too short")
    head = codec.header(stored)
    index = codec.grid_index(stored)
    if int(index[-1]) > len(stored):
        raise ValueError("its index points outside it")
    has_sums = head.format_version > 0
    if has_sums and codec.labels_crc(stored) != codec.crc32c(codec.raw_labels(stored)):
        raise ValueError("the check sum of its labels does not match")
    labels = codec.decompress(stored)
    sums = codec.crack_crcs(stored) if has_sums else None
    if sums is not None and len(sums) == labels.shape[2]:
        for z, wanted in enumerate(sums.tolist()):
            if codec.crc32c(_components(labels[:, :, z])) != wanted:
                raise ValueError(f"the check sum of slice {z} does not match")
    return labels


def decompress_apart(stored: bytes) -> NDArray[Any]:
    """Decode a crackle file in a process of its own: damage that no check sum covers can crash the decoder.

    Raises
    ------
    ValueError
        As for :func:`decompress`, or if the decoder crashes or takes too much.
    """
    from crackle import codec

    if not stored.startswith(b"crkl"):
        raise ValueError("it does not begin as crackle does")
    head = codec.header(stored)
    size = int(head.sx) * int(head.sy) * int(head.sz) * int(head.data_width)
    # what Python and its libraries take, and some copies of the labels; a slow machine decodes 5 MB/s
    limits = Limits(2_000_000_000 + 8 * size, 60 + size // 5_000_000, size + 1_000_000)
    try:
        kind, shape, labels = run_limited(f"{__name__}:decode_parts", [stored], "the file", limits)
    except ConnectomeBenchError as error:
        raise ValueError(str(error)) from None
    return np.frombuffer(labels, kind.decode()).reshape(np.frombuffer(shape, np.int64), order="F")


def decode_parts(parts: list[bytes]) -> list[bytes]:
    """Decode a crackle file into dtype, shape (int64) and labels in Fortran order, for :func:`decompress_apart`."""
    try:
        labels = decompress(parts[0])
    except Exception as error:  # crackle has several, some without a message
        raise ConnectomeBenchError(str(error) or "it cannot be decoded") from None
    return [labels.dtype.str.encode(), np.array(labels.shape, np.int64).tobytes(), labels.tobytes(order="F")]


def chunk_checker(largest_voxels: int) -> LimitedProcess:
    """Return a process for :func:`chunk_problem`, where damage that no check sum covers crashes that process alone.

    Parameters
    ----------
    largest_voxels
        Voxels of the largest chunk.
    """
    size = 8 * largest_voxels
    return LimitedProcess(f"{__name__}:check_chunk", Limits(2_000_000_000 + 8 * size, 60 + size // 5_000_000))


def chunk_problem(checker: LimitedProcess, stored: bytes, shape: Sequence[int], dtype: np.dtype[Any]) -> str | None:
    """Return what is wrong with a crackle chunk; None if it is whole.

    Parameters
    ----------
    checker
        From :func:`chunk_checker`.
    stored
        The chunk.
    shape, dtype
        Its voxels, x, y, z, and their type, as the info has them.
    """
    try:
        checker.call([stored, np.array(shape, np.int64).tobytes(), dtype.str.encode()], "its data")
    except ProcessFailed:
        return "its codes crash the decoder, or take more memory or time than such a chunk can"
    except ConnectomeBenchError as error:
        return str(error)
    return None


def check_chunk(parts: list[bytes]) -> list[bytes]:
    """Decode a chunk and forget the labels, for :func:`chunk_problem`; parts: chunk, shape (int64), dtype."""
    from crackle import codec

    stored, wanted, kind = parts[0], tuple(np.frombuffer(parts[1], np.int64).tolist()), np.dtype(parts[2].decode())
    try:
        head = codec.header(stored)
        shape = int(head.sx), int(head.sy), int(head.sz)
        if shape != wanted:
            raise ValueError(f"it holds voxels of shape {shape}, not {wanted}")
        labels = decompress(stored)
        if labels.dtype.itemsize > kind.itemsize:
            raise ValueError(f"it holds {labels.dtype}, not {kind}")
    except Exception as error:  # crackle has several, some without a message
        raise ConnectomeBenchError(str(error) or "it cannot be decoded") from None
    return []


def _components(plane: NDArray[Any]) -> bytes:
    """Return the 4-connected parts of a slice, background too, numbered from 0 in the order of memory; uint32."""
    import cc3d

    # values from 1 on: cc3d takes 0 for background
    values = np.unique(plane, return_inverse=True)[1].reshape(plane.shape).astype(np.uint32) + np.uint32(1)
    parts = np.asarray(cc3d.connected_components(np.asfortranarray(values), connectivity=4)).astype(np.uint32)
    return (parts - np.uint32(1)).tobytes(order="F")
