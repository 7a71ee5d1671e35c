"""The stored row: typed columns with PNG images, in Parquet shards that stock `datasets` reads.

Small columns are top-level and compressed, images lie uncompressed (PNG already is) in their own column chunks, so
that reading all small columns touches a tiny part of the bytes. A row group holds a few megabytes, so that rows stream.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.core.geometry_channels import GEOMETRY_CHANNELS, GEOMETRY_PREFIX, GEOMETRY_PX, read_geometry
from connectomebench.core.part_masks import TARGET_PREFIX
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Point, Site, as_point
from connectomebench.core.source import SourceInfo
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.parquet_errors import parquet_errors

if TYPE_CHECKING:
    import PIL.Image
    import pyarrow as pa
    from datasets import Features

__all__ = [
    "COLUMN_SINCE",
    "GEOMETRY",
    "GEOMETRY_CHANNELS",
    "GEOMETRY_PX",
    "PARTITIONS",
    "RESERVED_COLUMNS",
    "SMALL_COLUMNS",
    "TEACHER_REPLIES",
    "features",
    "make_row",
    "parquet_layout",
    "partition_digest",
    "places_of",
    "read_geometry",
    "read_images",
    "read_small_columns",
    "row_digest",
    "shard_paths",
    "write_partition",
]

ROW_GROUP_BYTES = 16_000_000
ROW_GROUP_ROWS = 1000
SHARD_BYTES = 450_000_000

_TEXT = ("sample_id", "task", "species", "question", "answer", "group", "origin", "edit_id", "source", "source_version")
# the value at the bottom of each column, as Parquet names it
_LEAVES = {name: name for name in (*_TEXT, "label", "extent_nm", "edit_time")} | {
    name: f"{name}.list.element" for name in ("views", "location_nm", "segment_ids", "body_ids")
}
_LEAVES["target_nm"] = "target_nm.list.element.list.element"
_LEAVES["choices"] = "choices.list.element"
_LEAVES["second_place"] = "second_place.list.element"
SMALL_COLUMNS = tuple(_LEAVES)
# text that repeats from row to row
_REPETITIVE = ("task", "species", "question", "answer", "group", "origin", "source", "source_version", "views")

COLUMN_SINCE = {"choices": (2, 0), "target_images": (2, 0), "second_place": (2, 1)}
"""Column -> first format with it; empty in the rows of tasks that have no use for it."""
RESERVED_COLUMNS = tuple(COLUMN_SINCE)
"""Columns that the rows of some older format lack."""
GEOMETRY = "geometry"
"""Optional column: image channels of each view of meshes (:mod:`connectomebench.core.geometry_channels`)."""
_PICTURES = ("images", "target_images", GEOMETRY)

TEACHER_REPLIES = "teacher_replies"
"""Optional column: replies of models, to train on and never part of a question."""
REPLY_PARTS = ("model", "reply", "answer")


def features(
    task: Task, *, replies: bool = False, geometry: bool = False, version: tuple[int, int] | None = None
) -> Features:
    """Return the columns of the rows of a task.

    All tasks have the same columns; only the names in the class label of ``label`` differ (a plain, always empty
    integer where the answer is a place).

    Parameters
    ----------
    task
        The task.
    replies
        With the column ``teacher_replies`` (:mod:`connectomebench.finetuning.teacher`).
    geometry
        With the column ``geometry``.
    version
        Format of the rows, major and minor, which may lack some of :data:`RESERVED_COLUMNS`; None is the newest.

    Returns
    -------
    datasets.Features
        In the order of the stored columns.
    """
    from datasets import ClassLabel, Features, Image, List, Value

    text, number = Value("string"), Value("float64")
    absent = {name for name, since in COLUMN_SINCE.items() if version is not None and version < since}
    added = {GEOMETRY: List(Image())} if geometry else {}
    added |= {TEACHER_REPLIES: List({name: text for name in REPLY_PARTS})} if replies else {}
    columns = {
        "sample_id": text,
        "task": text,
        "species": text,
        "images": List(Image()),
        "views": List(text),
        "question": text,
        "answer": text,
        "label": ClassLabel(names=list(task.labels)) if task.labels else Value("int64"),
        "target_nm": List(List(number)),
        "choices": List(Value("uint64")),
        "target_images": List(Image()),
        "location_nm": List(number),
        "extent_nm": number,
        "second_place": List(number),
        "segment_ids": List(Value("uint64")),
        "body_ids": List(Value("uint64")),
        "group": text,
        "origin": text,
        "edit_id": text,
        "edit_time": Value("timestamp[ms]"),
        "source": text,
        "source_version": text,
        **added,
    }
    return Features({name: kind for name, kind in columns.items() if name not in absent})


def make_row(
    site: Site,
    images: Mapping[str, bytes],
    group: str,
    info: SourceInfo,
    edit_time: datetime | None = None,
) -> dict[str, Any]:
    """Make a stored row from a site and its images.

    Parameters
    ----------
    site
        What is shown and what is true.
    images
        View name -> PNG file; all views of the site, and where the answer is masks these too, under the name of the
        view after :data:`connectomebench.core.part_masks.TARGET_PREFIX`. Geometry channels, where they were drawn,
        stand under the name of the view after :data:`connectomebench.core.geometry_channels.GEOMETRY_PREFIX`.
    group
        Name of the site's group, from :func:`connectomebench.partition.assign.partition_sites`.
    info
        Where the site comes from; of several segmentations, the row names the one that the site shows.
    edit_time
        When the correction was made, where that is known.

    Returns
    -------
    dict
        Column -> value.

    Raises
    ------
    ConnectomeBenchError
        If a view is missing or the answer is none of the task's.
    """
    task = get_task(site.task)
    missing = [view for view in site.views if view not in images]
    if missing:
        raise ConnectomeBenchError(f"{site.task}: a sample lacks the view {missing[0]!r}; the source may have no EM")
    labels = task.labels_of(len(site.choices))
    if labels and site.answer not in labels:
        raise ConnectomeBenchError(f"{site.task}: answer {site.answer!r} is none of {', '.join(labels)}")
    own, second = info.of(site), site.second
    targets = [TARGET_PREFIX + view for view in site.views if TARGET_PREFIX + view in images]
    if task.scoring == "masks" and len(targets) != len(site.views):
        raise ConnectomeBenchError(f"{site.task}: a sample lacks the masks of its answer; build it again")
    channels = [GEOMETRY_PREFIX + view for view in site.views if GEOMETRY_PREFIX + view in images]
    geometry = {GEOMETRY: [{"bytes": images[name], "path": None} for name in channels]} if channels else {}
    return {
        "sample_id": info.sample_id(site),
        "task": site.task,
        "species": own.species,
        "images": [{"bytes": images[view], "path": None} for view in site.views],
        "views": list(site.views),
        "question": site.asked,
        "answer": site.answer,
        "label": task.labels.index(site.answer) if task.labels else None,
        "target_nm": [[float(c) for c in place] for place in site.target_nm],
        "choices": [int(s) for s in site.choices],
        "target_images": [{"bytes": images[name], "path": None} for name in targets],
        "location_nm": [float(c) for c in site.location_nm],
        "extent_nm": float(site.extent_nm),
        "second_place": [] if second is None else [*map(float, (*second.location_nm, second.extent_nm))],
        "segment_ids": [int(s) for s in site.segment_ids],
        "body_ids": [int(b) for b in site.body_ids],
        "group": group,
        "origin": site.origin,
        "edit_id": site.edit_id,
        "edit_time": edit_time,
        "source": own.name,
        "source_version": own.version,
        **geometry,
    }


def places_of(row: Mapping[str, Any]) -> tuple[tuple[Point, float], ...]:
    """Return the centre (x, y, z) and edge of each cube that a stored row shows, nm; none of a segment shown whole.

    Parameters
    ----------
    row
        ``task``, ``location_nm`` and ``extent_nm``, and ``second_place`` where its format has one.

    Examples
    --------
    >>> from connectomebench.dataset.schema import places_of
    >>> row = {"task": "segment_identity", "location_nm": [1, 2, 3], "extent_nm": 500, "second_place": [4, 5, 6, 250]}
    >>> places_of(row)
    (((1.0, 2.0, 3.0), 500.0), ((4.0, 5.0, 6.0), 250.0))
    """
    if get_task(row["task"]).whole:
        return ()
    second = row.get("second_place")
    places = [(row["location_nm"], row["extent_nm"]), *([(second[:3], second[3])] if second else [])]
    return tuple((as_point(centre), float(edge)) for centre, edge in places)


OnPicture: TypeAlias = "Callable[[bytes, PIL.Image.Image], None]"


def row_digest(row: Mapping[str, Any], on_picture: OnPicture | None = None) -> str:
    """Hash the content of a row: small columns and decoded pixels; 64 hex digits.

    Columns that older formats lack count where they hold something, so that the same row has the same digest in all
    formats.

    Parameters
    ----------
    row
        Column -> value, images as PNG files.
    on_picture
        Gets the file and the decoded picture of each of ``images``.
    """
    import numpy as np
    from PIL import Image

    small = [(name, row[name]) for name in SMALL_COLUMNS if name not in RESERVED_COLUMNS or row.get(name)]
    digest = hashlib.sha256(repr(small).encode())
    for column in _PICTURES:
        images = row.get(column) or []
        if images and column != "images":
            digest.update(column.encode())
        for image in images:
            with Image.open(io.BytesIO(image["bytes"])) as picture:
                pixels = np.asarray(picture)
                if on_picture is not None and column == "images":
                    on_picture(image["bytes"], picture)
            digest.update(f"{pixels.shape}{pixels.dtype}".encode())
            digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def write_partition(
    folder: Path,
    task: str,
    partition: str,
    rows: Iterable[Mapping[str, Any]],
    n_rows: int,
    n_bytes: int,
    *,
    geometry: bool = False,
    on_picture: OnPicture | None = None,
) -> str:
    """Write one partition of one species as Parquet shards, atomically.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    task, partition
        What is written.
    rows
        Rows from :func:`make_row`, read once; a row group of them is in memory at a time.
    n_rows
        How many there are.
    n_bytes
        Size of all their images, which decides the number of shards.
    geometry
        The rows have the column ``geometry``; the manifest entry of the species must have the key, too.
    on_picture
        As for :func:`row_digest`.

    Returns
    -------
    str
        SHA-256 of the rows, independent of their order and shards; 64 hex digits.

    Raises
    ------
    ConnectomeBenchError
        If ``rows`` are not ``n_rows``, a sample occurs twice, or the disk is full.
    """
    if partition not in PARTITIONS:
        raise ConnectomeBenchError(f"partition {partition!r} is none of {', '.join(PARTITIONS)}")
    n_shards = max(1, min(n_rows, math.ceil(n_bytes / SHARD_BYTES)))
    paths = [folder / f"{partition}-{i:05d}-of-{n_shards:05d}.parquet" for i in range(n_shards)]
    digests: dict[str, str] = {}
    stream = iter(rows)
    with ExitStack() as stack:
        # every shard stands under a temporary name until the last one is complete
        for i, path in enumerate(paths):
            share = n_rows * (i + 1) // n_shards - n_rows * i // n_shards
            kinds = features(get_task(task), geometry=geometry)
            _write_shard(stack.enter_context(atomic_path(path)), kinds.arrow_schema, stream, share, digests, on_picture)
        surplus = sum(1 for _ in stream)
        if surplus or len(digests) != n_rows:
            raise ConnectomeBenchError(
                f"{folder}: {len(digests) + surplus} different {partition} rows where {n_rows} were announced"
            )
    for path in folder.glob(f"{partition}-*.parquet"):
        if path not in paths:
            path.unlink()
    return partition_digest(partition, digests)


def partition_digest(partition: str, digests: Mapping[str, str]) -> str:
    """Hash the rows of a partition, whatever their order and files; 64 hex digits.

    Parameters
    ----------
    partition
        Which one.
    digests
        Sample -> :func:`row_digest` of its row.
    """
    text = "\n".join(f"{name} {digests[name]}" for name in sorted(digests))
    return hashlib.sha256(f"{partition}\n{text}".encode()).hexdigest()


def parquet_layout() -> dict[str, Any]:
    """Return the options of `pyarrow.parquet.ParquetWriter`; all columns but images are compressed."""
    small = list(_LEAVES.values())
    replies = [f"{TEACHER_REPLIES}.list.element.{name}" for name in REPLY_PARTS]
    pictures = [f"{name}.list.element" for name in _PICTURES]
    return {
        "compression": dict.fromkeys([*small, *replies, *(f"{name}.path" for name in pictures)], "zstd")
        | dict.fromkeys([f"{name}.bytes" for name in pictures], "none"),
        "use_dictionary": [_LEAVES[name] for name in _REPETITIVE],
        "write_statistics": [name for name in small if "." not in name],
        "write_page_index": True,
    }


def _write_shard(
    path: Path,
    schema: pa.Schema,
    rows: Iterator[Mapping[str, Any]],
    n_rows: int,
    digests: dict[str, str],
    on_picture: OnPicture | None,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, **parquet_layout()) as writer:
        batch: list[Mapping[str, Any]] = []
        size = 0

        def flush() -> None:
            nonlocal size
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema), row_group_size=len(batch))
            batch.clear()
            size = 0

        for row in islice(rows, n_rows):
            digests[row["sample_id"]] = row_digest(row, on_picture)
            batch.append(row)
            size += sum(len(image["bytes"]) for column in _PICTURES for image in row.get(column) or ())
            if size >= ROW_GROUP_BYTES or len(batch) >= ROW_GROUP_ROWS:
                flush()
        flush()


def shard_paths(folder: Path, partition: str) -> list[Path]:
    """List the shards of a partition in order.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    partition
        Which one.

    Raises
    ------
    ConnectomeBenchError
        If there is none, or one is missing.
    """
    paths = sorted(folder.glob(f"{partition}-*-of-*.parquet"))
    check_shards([path.name for path in paths], str(folder), partition)
    return paths


def check_shards(names: Sequence[str], where: str, partition: str) -> None:
    """Reject a partition with a missing shard.

    Parameters
    ----------
    names
        Of its files, sorted: ``PARTITION-NNNNN-of-NNNNN.parquet``.
    where, partition
        Folder and partition, for the message.

    Raises
    ------
    ConnectomeBenchError
        If there is none, or one is missing.
    """
    expected = int(names[0].removesuffix(".parquet").rsplit("-", 1)[1]) if names else 0
    if not names or len(names) != expected:
        raise ConnectomeBenchError(
            f"{where} has {len(names)} of {expected or 'the'} {partition} files; build the dataset again"
        )


def read_small_columns(folder: Path, partition: str, columns: Sequence[str] = SMALL_COLUMNS) -> pa.Table:
    """Read columns of a whole partition without touching the images.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    partition
        Which one.
    columns
        Any of ``SMALL_COLUMNS``.

    Returns
    -------
    pyarrow.Table
        One row per sample, in stored order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(columns)
    paths = shard_paths(folder, partition)
    with parquet_errors(paths):
        return pa.concat_tables([pq.ParquetFile(path).read(columns=names) for path in paths])


def read_images(folder: Path, partition: str) -> Iterator[tuple[str, list[str], list[bytes]]]:
    """Yield the sample id, view names and PNG files of each row, a row group in memory at a time.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    partition
        Which one.
    """
    import pyarrow.parquet as pq

    for path in shard_paths(folder, partition):
        with parquet_errors([path]):
            file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            with parquet_errors([path]):
                table = file.read_row_group(group, columns=["sample_id", "views", "images"])
            for row in table.to_pylist():
                yield row["sample_id"], row["views"], [image["bytes"] for image in row["images"]]
