"""Files of rendered batches: small columns are read on their own, images row by row."""

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
_SUMMARY = ["sample_id", "features", "size", "problem", "failed"]
_PICTURES = ["views", "images"]


@dataclass(frozen=True)
class RenderSummary:
    """Summary of a rendered site without its images.

    Attributes
    ----------
    features
        Features that controls are matched on, from :func:`.silhouette_features.matched_features`; float64, shape (k,).
    size
        Total size of its images, bytes.
    problem
        Why there are no images; None if there are.
    failed
        True where the data were unavailable, so that another run may succeed.
    """

    features: NDArray[np.float64]
    size: int
    problem: str | None = None
    failed: bool = False

    @property
    def reason(self) -> str | None:
        """Why the data were unavailable, as the source reports it; None if they were available."""
        return (self.problem or "").removeprefix(_UNAVAILABLE) if self.failed else None


@dataclass(frozen=True)
class RenderedSite:
    """A rendered site with its images.

    ``images`` are PNG files by view, in the order of the task's views, then those of the answer where it is pictures
    (:data:`connectomebench.core.part_masks.TARGET_PREFIX` before the name of the view), then geometry channels
    (:data:`connectomebench.core.geometry_channels.GEOMETRY_PREFIX` before it); empty where there is a problem.
    """

    images: dict[str, bytes]
    summary: RenderSummary


def not_rendered(problem: str) -> RenderedSite:
    """Record a site that cannot be rendered, with the reason."""
    return RenderedSite({}, RenderSummary(np.zeros(0), 0, problem))


def unavailable(reason: str) -> RenderedSite:
    """Record a site whose data were unavailable."""
    return RenderedSite({}, RenderSummary(np.zeros(0), 0, _UNAVAILABLE + " ".join(reason.split()), failed=True))


def write_rendered(path: Path, ids: Sequence[str], drawings: Sequence[RenderedSite]) -> None:
    """Write the rendered sites of a batch with their sample ids, all or none, one row group per site.

    The file also records host and process, to trace images that look wrong.

    Raises
    ------
    ConnectomeBenchError
        If the disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "sample_id": pa.array(ids, pa.string()),
            "features": pa.array([d.summary.features.tolist() for d in drawings], pa.list_(pa.float64())),
            "size": pa.array([d.summary.size for d in drawings], pa.int64()),
            "problem": pa.array([d.summary.problem for d in drawings], pa.string()),
            "failed": pa.array([d.summary.failed for d in drawings], pa.bool_()),
            "views": pa.array([list(d.images) for d in drawings], pa.list_(pa.string())),
            "images": pa.array([list(d.images.values()) for d in drawings], pa.list_(pa.binary())),
        }
    ).replace_schema_metadata({RENDERED_BY: f"{socket.gethostname()}:{os.getpid()}"})
    with atomic_path(path) as temporary:
        pq.write_table(
            table, temporary, row_group_size=1, compression="none", use_dictionary=False, write_statistics=False
        )


def read_summaries(path: Path) -> list[tuple[str, RenderSummary]] | None:
    """Read sample ids and summaries of a batch without its images; None if the file is missing or damaged."""
    rows = _read(path, _SUMMARY)
    return None if rows is None else [(row["sample_id"], _summary(row)) for row in rows]


def read_rendered(path: Path) -> list[RenderedSite] | None:
    """Read a whole batch; None if the file is missing or damaged."""
    rows = _read(path, [*_SUMMARY, *_PICTURES])
    return None if rows is None else [RenderedSite(_images(row), _summary(row)) for row in rows]


def read_images(path: Path, row: int) -> dict[str, bytes]:
    """Read the images of one site (view name -> PNG file).

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged or missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return _images(file.read_row_group(row, columns=_PICTURES).to_pylist()[0])
    except (pa.ArrowInvalid, OSError) as error:
        raise ConnectomeBenchError(
            f"{path} is damaged or gone; delete it and run the same command again to render it again"
        ) from error


def _read(path: Path, columns: list[str]) -> list[dict] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns).to_pylist()
    # not written yet, truncated by a crash, or of an earlier version
    except (FileNotFoundError, pa.ArrowInvalid):
        return None


def _summary(row: dict) -> RenderSummary:
    return RenderSummary(np.asarray(row["features"], np.float64), row["size"], row["problem"], row["failed"])


def _images(row: dict) -> dict[str, bytes]:
    return dict(zip(row["views"], row["images"], strict=True))
