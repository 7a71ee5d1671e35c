"""Atomic writes, and a cache on disk keyed by content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, disk_advice


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` on success, remove it on failure.

    Parameters
    ----------
    path
        Target file. Its folder is created if needed.

    Raises
    ------
    ConnectomeBenchError
        If the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if disk_advice(error) is None:  # not of the disk: libraries raise it for what they cannot decode or reach
            raise
        raise _cannot_write(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _cannot_write(path: Path, error: OSError) -> ConnectomeBenchError:
    advice = disk_advice(error)
    reason = " ".join(str(error.strerror or error).split())
    return ConnectomeBenchError(f"cannot write {path}: {reason}{(advice and f'; {advice}') or ''}")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


# json.dumps would make one for every value
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def content_key(*parts: Any) -> str:
    """Hash values into a cache key: 32 hex digits of SHA-256.

    Parameters
    ----------
    *parts
        Bytes, numpy arrays (dtype and shape count) or anything JSON can hold.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            digest.update(b"bytes:" + part)
        elif isinstance(part, np.ndarray):
            digest.update(f"array:{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(b"json:" + _CANONICAL.encode(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


class ArrayCache:
    """Named numpy arrays on disk under a content key, as npz files (never pickled).

    Parameters
    ----------
    folder
        Where the files live; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays stored under ``key``, or None; a damaged file counts as absent."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            return None
        except Exception:  # a file cut short by a crash of the machine: make it again
            with suppress(OSError):
                path.unlink()
            return None

    def put(self, key: str, **arrays: NDArray[Any]) -> None:
        """Store arrays under ``key`` atomically."""
        with atomic_path(self._path(key)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
