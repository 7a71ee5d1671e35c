"""Say in one line what is wrong with a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError

_POINTER = b"version https://git-lfs.github.com/spec/"


_REMEDY = "copy or fetch it again, or build the dataset again"


def check_readable(paths: Sequence[Path], *, remedy: str = _REMEDY) -> None:
    """Read Parquet files whole and raise at the first that cannot be.

    Raises
    ------
    ConnectomeBenchError
        With the file, what is wrong with it, and what to do.
    """
    for path in paths:
        if found := damage(path):
            raise ConnectomeBenchError(f"{path} {found}{'' if _is_pointer(path) else f'; {remedy}'}")


@contextmanager
def parquet_errors(paths: Sequence[Path], *, remedy: str = _REMEDY) -> Iterator[None]:
    """Convert errors of reading Parquet files inside the block into one line with the file that is at fault.

    Parameters
    ----------
    paths
        Files that the block reads. Only after an error they are read again, one after the other.
    remedy
        What to do about a damaged file.

    Raises
    ------
    ConnectomeBenchError
        If a file is empty, cut short, damaged or a pointer of Git LFS. Other errors pass.
    """
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, pa.ArrowException, OSError, ValueError) as error:
        check_readable(paths, remedy=remedy)
        if isinstance(error, DatasetsError):
            reason = str(error.__cause__ or error).strip().splitlines() or ["no message"]
            raise ConnectomeBenchError(f"the rows cannot be read ({reason[0][:200]})") from error
        raise


def damage(path: Path) -> str | None:
    """Say what is wrong with a Parquet file; None if all of it can be read.

    Parameters
    ----------
    path
        The file; every column of every row group is decoded, one row group in memory at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.stat().st_size == 0:
            return "is empty"
        if _is_pointer(path):
            return "is a pointer of Git LFS, not the file itself; run `git lfs pull`, or fetch it with `hf download`"
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except FileNotFoundError:
        return "is not there"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        return f"is damaged or cut short ({reason[:160]})"
    return None


def _is_pointer(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
