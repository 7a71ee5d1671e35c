"""Look at the chunk files of a local precomputed volume: their content key, and damage that decoders do not notice.

CloudVolume takes a chunk of 0 bytes for an absent one, and the decoder of `compressed_segmentation` reads beyond the
end of a chunk that was cut. So local chunks are checked before they are decoded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.limited_process import LimitedProcess
from connectomebench.core.volume import IntPoint
from connectomebench.sources.volumes.read_errors import reading

_ZARR = re.compile("^zarr[23]?://", re.IGNORECASE)
_SUFFIXES = ("", ".gz", ".br", ".zstd", ".xz", ".bz2", ".lzma")
# where damage can reach the decoder; the other ways of packing have a check sum of all bytes
_WITHOUT_CHECK_SUM = ("", ".br", ".zstd", ".lzma")


def without_zarr(location: str) -> str:
    """Return what follows ``zarr://`` (also ``zarr2://`` and ``zarr3://``); other places as they are."""
    return _ZARR.sub("", location)


def local_folder(location: str) -> Path | None:
    """Return the folder of a ``file://`` path; None for any other place."""
    head, mark, tail = location.partition("file://")
    return Path(tail) if mark and head in ("", "precomputed://") else None


class ChunkFiles:
    """Chunk files of one resolution level of a local precomputed volume that is not sharded.

    Parameters
    ----------
    folder
        Of the volume.
    scale
        Its entry in ``scales`` of the info.
    dtype
        Of the labels or image data.
    """

    def __init__(self, folder: Path, scale: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        self.folder = folder / str(scale["key"])
        self._scale = scale
        self._dtype = dtype
        self._checked: set[str] = set()
        self._crackle: LimitedProcess | None = None

    def boxes(self, lower: IntPoint, upper: IntPoint) -> Iterator[tuple[str, IntPoint, IntPoint]]:
        """Yield name, lower and upper corner of each chunk that touches a box; absolute voxels, x, y, z."""
        offset, size = self._scale.get("voxel_offset", [0, 0, 0]), self._scale["size"]
        edges = self._scale["chunk_sizes"][0]
        spans = []
        for a, b, o, n, e in zip(lower, upper, offset, size, edges, strict=True):
            starts = range(o + (a - o) // e * e, b, e)
            spans.append([(start, min(start + e, o + n)) for start in starts])
        for x, y, z in itertools.product(*spans):
            yield f"{x[0]}-{x[1]}_{y[0]}-{y[1]}_{z[0]}-{z[1]}", (x[0], y[0], z[0]), (x[1], y[1], z[1])

    def file_of(self, chunk: str) -> Path | None:
        """Return the file of a chunk, compressed or not; None where there is none."""
        return next((p for s in _SUFFIXES if (p := self.folder / f"{chunk}{s}").is_file()), None)

    def absent(self, lower: IntPoint, upper: IntPoint) -> tuple[int, int]:
        """Count absent chunks, and all chunks, of a box."""
        files = [self.file_of(chunk) for chunk, _, _ in self.boxes(lower, upper)]
        return sum(file is None for file in files), len(files)

    def check(self, lower: IntPoint, upper: IntPoint, name: str) -> None:
        """Check the chunks of a box once: none is empty, and all have what their headers point to.

        Chunks of crackle are decoded in another process, which damage may crash.

        Raises
        ------
        ConnectomeBenchError
            If a chunk is damaged.
        """
        for chunk, low, high in self.boxes(lower, upper):
            if chunk in self._checked:
                continue
            file = self.file_of(chunk)
            if file is not None and file.stat().st_size == 0:
                raise ConnectomeBenchError(f"{name}: {file} is damaged: it has 0 bytes; copy it again")
            packing = "" if file is None else file.name.removeprefix(chunk)
            if file is not None and packing in _WITHOUT_CHECK_SUM:
                from cloudfiles.compression import decompress

                with reading(name, file):
                    data = decompress(file.read_bytes(), packing.removeprefix("."))
                problem = self._problem(data, np.subtract(high, low).tolist())
                if problem is not None:
                    raise ConnectomeBenchError(f"{name}: {file} is damaged: {problem}; copy it again")
            self._checked.add(chunk)

    def _problem(self, data: bytes, shape: Sequence[int]) -> str | None:
        """Return what is wrong with a chunk that is decoded without a check of its own."""
        encoding = self._scale.get("encoding")
        if encoding == "crackle":
            from connectomebench.sources.volumes.crackle_checks import chunk_checker, chunk_problem

            if self._crackle is None:
                self._crackle = chunk_checker(int(np.prod(self._scale["chunk_sizes"][0])))
            return chunk_problem(self._crackle, data, shape, self._dtype)
        if encoding == "compressed_segmentation":
            block = self._scale.get("compressed_segmentation_block_size", [8, 8, 8])
            return segmentation_problem(data, shape, block, self._dtype)
        return None


def segmentation_problem(data: bytes, shape: Sequence[int], block: Sequence[int], dtype: np.dtype[Any]) -> str | None:
    """Check the headers of a chunk in the encoding `compressed_segmentation`.

    See https://github.com/google/neuroglancer/blob/master/src/sliceview/compressed_segmentation/README.md: a chunk is
    uint32 words; for each block of voxels a header points to its values, of 0 to 32 bits each, and to its table.

    Parameters
    ----------
    data
        The chunk.
    shape, block
        Voxels of the chunk, and of one block, x, y, z.
    dtype
        uint32 or uint64.

    Returns
    -------
    str or None
        What is wrong; None where all that the headers point to is inside the chunk.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.int64)
    blocks = int(np.prod([-(-n // b) for n, b in zip(shape, block, strict=True)]))
    if len(data) % 4 or len(words) < 1 + 2 * blocks:
        return f"it ends after {len(data)} bytes"
    start = int(words[0])
    if start < 1 or start + 2 * blocks > len(words):
        return "its first header points outside it"
    body = words[start:]
    headers = body[: 2 * blocks].reshape(-1, 2)
    tables, bits, values = headers[:, 0] & 0xFFFFFF, headers[:, 0] >> 24, headers[:, 1]
    if not np.isin(bits, [0, 1, 2, 4, 8, 16, 32]).all():
        return "a header names a width that there is not"
    used = -(-bits * int(np.prod(block)) // 32)
    entry = dtype.itemsize // 4
    if (np.minimum(tables, np.where(used > 0, values, tables)) < 2 * blocks).any():
        return "a header points into the headers"
    if (values + used > len(body)).any() or (tables + entry > len(body)).any():
        return "a header points outside it"
    near_end = np.flatnonzero(tables + entry * 2**bits > len(body))
    for row in near_end.tolist():
        if tables[row] + entry * (_largest(body, int(values[row]), int(used[row]), int(bits[row])) + 1) > len(body):
            return "a table ends outside it"
    return None


def _largest(body: NDArray[np.int64], start: int, count: int, bits: int) -> int:
    """Return the largest number of ``bits`` bits in some words."""
    if bits == 0:
        return 0
    words = body[start : start + count]
    return int(max(((words >> shift) & ((1 << bits) - 1)).max() for shift in range(0, 32, bits)))
