"""A folder for the uploads of one run, removed with it; those of runs that were killed go at the next start."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from connectomebench.core.errors import ConnectomeBenchError

VARIABLE = "GRADIO_TEMP_DIR"
_PREFIX = "run-"


@contextmanager
def upload_folder(default: Path) -> Iterator[Path]:
    """Make a folder for the uploads of this run and let Gradio use it.

    Parameters
    ----------
    default
        Where such folders are made, unless the environment variable ``GRADIO_TEMP_DIR`` names another place.

    Yields
    ------
    Path
        The folder, which other accounts of this machine cannot read. It is removed at the end; the folders of runs
        that ended without doing so are removed now.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be made.
    """
    before = os.environ.get(VARIABLE)
    root = Path(before) if before else default
    folder = root / f"{_PREFIX}{secrets.token_hex(8)}"
    # held as long as this process lives, however it ends
    lock = _lock_of(folder)
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_abandoned(root)
        lock.acquire(timeout=0)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise ConnectomeBenchError(f"uploads cannot be kept in {root}: {error.strerror}; set {VARIABLE}") from error
    os.environ[VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
        _remove(folder, lock)


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = _lock_of(folder)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):  # in use, or of another account
            continue
        _remove(folder, lock)
