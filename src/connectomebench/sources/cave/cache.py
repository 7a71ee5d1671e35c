"""Cache of fetched bytes on disk, by content key and up to a size."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# where eight threads did nothing but parse headers and collect garbage, 619 of 18,000 tries failed
_READS = 20


class BlobCache:
    """A folder of byte strings that drops the least recently used ones above a size limit.

    Safe for several threads and processes of one machine (SQLite); each machine of a cluster keeps its own.

    Parameters
    ----------
    folder
        Created if needed.
    limit_bytes
        Size above which old entries are dropped.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        import diskcache

        class BytesOnly(diskcache.Disk):
            """A disk that never reads or writes a pickle, whatever the folder holds."""

            def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
                if not isinstance(value, bytes):
                    raise TypeError("only bytes are kept")
                return super().store(value, read, key)

            def fetch(self, mode: int, filename: str, value: Any, read: bool) -> Any:
                if mode not in (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY):
                    return None
                return super().fetch(mode, filename, value, read)

        self._cache = diskcache.Cache(
            str(folder), size_limit=limit_bytes, eviction_policy="least-recently-used", disk=BytesOnly
        )

    def get_bytes(self, key: str) -> bytes | None:
        """Return the bytes stored under ``key``, or None."""
        value = self._cache.get(key)
        return value if isinstance(value, bytes) else None

    def put_bytes(self, key: str, value: bytes) -> None:
        """Store bytes under ``key``."""
        self._cache.set(key, value)

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the named arrays stored under ``key``, or None; unreadable ones count as absent."""
        stored = self.get_bytes(key)
        if stored is None:
            return None
        try:
            packed = zlib.decompress(stored)
        except zlib.error:  # cut short by a crash of the machine: fetch it again
            return None
        for _ in range(_READS):
            try:
                with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
                    return {name: arrays[name] for name in arrays.files}
            except SystemError:
                # Python up to 3.11.7 mixes up two threads that parse at once, here the header of an array:
                # "AST constructor recursion depth mismatch" (github.com/python/cpython/issues/106905)
                continue
            except Exception:  # bytes that are something else
                break
        return None

    def put(self, key: str, **arrays: NDArray[Any]) -> None:
        """Store named arrays under ``key`` (npz, lightly compressed, never pickled)."""
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        self.put_bytes(key, zlib.compress(stream.getvalue(), 1))
