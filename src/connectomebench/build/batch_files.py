"""The file of a batch of drawn sites: small columns that are read alone, and pictures that are read row by row."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path

RENDERED_BY = b"drawn by"

_UNAVAILABLE = "not available: "
_SKETCH = ["features", "size", "problem", "failed"]
_PICTURES = ["views", "images"]


@dataclass(frozen=True)
class RenderSummary:
    """What is known of a drawn site without its pictures.

    Attributes
    ----------
    features
        What controls are matched on, from :func:`.silhouette_features.matched_features`; float64, shape (k,).
    size
        Bytes of all its pictures.
    problem
        Why there are none; None where there are.
    failed
        True where the data could not be had, so that another run may have better luck.
    """

    features: NDArray[np.float64]
    size: int
    problem: str | None = None
    failed: bool = False

    @property
    def reason(self) -> str | None:
        """Why the data could not be had, in the words of the source; None where they could."""
        return (self.problem or "").removeprefix(_UNAVAILABLE) if self.failed else None


@dataclass(frozen=True)
class RenderedSite:
    """A drawn site with its pictures.

    ``images`` are PNG files by view, in the order of the task's views; empty where there is a problem.
    """

    images: dict[str, bytes]
    sketch: RenderSummary


def not_rendered(problem: str) -> RenderedSite:
    """Stand for a site that cannot be drawn, and say why."""
    return RenderedSite({}, RenderSummary(np.zeros(0), 0, problem))


def unavailable(reason: str) -> RenderedSite:
    """Stand for a site whose data could not be had."""
    return RenderedSite({}, RenderSummary(np.zeros(0), 0, _UNAVAILABLE + " ".join(reason.split()), failed=True))


def write_rendered(path: Path, drawings: Sequence[RenderedSite]) -> None:
    """Write the drawings of a batch, all of them or none, a row group each.

    Host and process are noted in the file, for pictures that look wrong.

    Raises
    ------
    ConnectomeBenchError
        If the disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "features": pa.array([d.sketch.features.tolist() for d in drawings], pa.list_(pa.float64())),
            "size": pa.array([d.sketch.size for d in drawings], pa.int64()),
            "problem": pa.array([d.sketch.problem for d in drawings], pa.string()),
            "failed": pa.array([d.sketch.failed for d in drawings], pa.bool_()),
            "views": pa.array([list(d.images) for d in drawings], pa.list_(pa.string())),
            "images": pa.array([list(d.images.values()) for d in drawings], pa.list_(pa.binary())),
        }
    ).replace_schema_metadata({RENDERED_BY: f"{socket.gethostname()}:{os.getpid()}"})
    with atomic_path(path) as temporary:
        pq.write_table(
            table, temporary, row_group_size=1, compression="none", use_dictionary=False, write_statistics=False
        )


def read_summaries(path: Path) -> list[RenderSummary] | None:
    """Read what is known of the sites of a batch, and no picture; None where there is no file or a damaged one."""
    rows = _read(path, _SKETCH)
    return None if rows is None else [_sketch(row) for row in rows]


def read_rendered(path: Path) -> list[RenderedSite] | None:
    """Read a whole batch; None where there is no file or a damaged one."""
    rows = _read(path, [*_SKETCH, *_PICTURES])
    return None if rows is None else [RenderedSite(_images(row), _sketch(row)) for row in rows]


def read_images(path: Path, row: int) -> dict[str, bytes]:
    """Read the pictures of one site (view name -> PNG file).

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged or gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return _images(file.read_row_group(row, columns=_PICTURES).to_pylist()[0])
    except (pa.ArrowInvalid, OSError) as error:
        raise ConnectomeBenchError(
            f"{path} is damaged or gone; delete it and run the same command again to draw it anew"
        ) from error


def _read(path: Path, columns: list[str]) -> list[dict] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid):  # none yet, or cut short by a crash of the machine
        return None


def _sketch(row: dict) -> RenderSummary:
    return RenderSummary(np.asarray(row["features"], np.float64), row["size"], row["problem"], row["failed"])


def _images(row: dict) -> dict[str, bytes]:
    return dict(zip(row["views"], row["images"], strict=True))
