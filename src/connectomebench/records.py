"""The stored row: features, and Parquet shards that stock `datasets` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.files import atomic_path
from connectomebench.sites import Site
from connectomebench.sources.base import SourceInfo
from connectomebench.tasks import get_task

if TYPE_CHECKING:
    from datasets import Features

PARTITIONS = ("train", "validation", "test")
ROW_GROUP_ROWS = 64
SHARD_BYTES = 500_000_000

SMALL_COLUMNS = (
    "sample_id",
    "task",
    "species",
    "views",
    "question",
    "answer",
    "label",
    "target_nm",
    "location_nm",
    "extent_nm",
    "segment_ids",
    "body_ids",
    "group",
    "origin",
    "edit_id",
    "edit_time",
    "source",
    "source_version",
)


def features(task: str) -> Features:
    """Return the `datasets` features of a task's rows: the same columns for all tasks."""
    from datasets import ClassLabel, Features, Image, List, Value

    names = get_task(task).labels
    string, number, identity = Value("string"), Value("float64"), Value("uint64")
    return Features(
        {
            "sample_id": string,
            "task": string,
            "species": string,
            "images": List(Image()),
            "views": List(string),
            "question": string,
            "answer": string,
            "label": ClassLabel(names=list(names)) if names else Value("int64"),
            "target_nm": List(List(number)),
            "location_nm": List(number),
            "extent_nm": number,
            "segment_ids": List(identity),
            "body_ids": List(identity),
            "group": string,
            "origin": string,
            "edit_id": string,
            "edit_time": Value("timestamp[ms]"),
            "source": string,
            "source_version": string,
        }
    )


def make_row(site: Site, images: Mapping[str, bytes], group: str, info: SourceInfo) -> dict[str, Any]:
    """Make the stored row of a site.

    Parameters
    ----------
    site
        What is shown and what is true.
    images
        PNG bytes by view, in the order of the task's views.
    group
        What keeps the partition leak-proof.
    info
        Provenance.

    Returns
    -------
    dict
        One value a column of :func:`features`; images as ``{"bytes": ..., "path": None}``.
    """
    task = get_task(site.task)
    return {
        "sample_id": site.sample_id(info.species, f"{info.name}@{info.version}"),
        "task": site.task,
        "species": info.species,
        "images": [{"bytes": png, "path": None} for png in images.values()],
        "views": list(images),
        "question": task.question,
        "answer": site.answer,
        "label": task.labels.index(site.answer) if task.labels else None,
        "target_nm": [],
        "location_nm": list(site.location_nm),
        "extent_nm": site.extent_nm,
        "segment_ids": list(site.segment_ids),
        "body_ids": list(site.body_ids),
        "group": group,
        "origin": site.origin,
        "edit_id": site.edit_id,
        "edit_time": None,
        "source": info.name,
        "source_version": info.version,
    }


def write_partition(
    folder: Path, task: str, partition: str, rows: Iterable[dict[str, Any]], n_rows: int, n_bytes: int
) -> str:
    """Write the Parquet shards of one partition, each whole or not at all.

    Parameters
    ----------
    folder
        Folder of the species, ``OUT/TASK/SPECIES``.
    task, partition
        What is written.
    rows
        Exactly ``n_rows`` rows of :func:`make_row`; read one row group at a time.
    n_rows, n_bytes
        Number of rows and bytes of all images: they decide the number of shards.

    Returns
    -------
    str
        Hash of the content: 64 hex digits, whatever the number of shards and row groups.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = features(task).arrow_schema
    shards = max(1, -(-n_bytes // SHARD_BYTES))
    # PNG does not shrink further; everything else does
    compression = {path: "zstd" for path in SMALL_COLUMNS} | {"images.list.element.bytes": "none"}
    source = iter(rows)
    digests: list[str] = []
    written = []
    for shard in range(shards):
        wanted = n_rows * (shard + 1) // shards - n_rows * shard // shards
        path = folder / f"{partition}-{shard:05d}-of-{shards:05d}.parquet"
        with (
            atomic_path(path) as temporary,
            pq.ParquetWriter(
                temporary,
                schema,
                compression=_leaf_names(schema, compression),
                use_dictionary=["task", "species", "question", "answer", "source", "source_version", "origin"],
                write_statistics=False,
            ) as writer,
        ):
            for group in _groups(islice(source, wanted)):
                digests += [_digest(row) for row in group]
                writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=ROW_GROUP_ROWS)
        written.append(path)
    for stale in set(folder.glob(f"{partition}-*.parquet")) - set(written):
        stale.unlink()
    if len(digests) != n_rows:
        raise ValueError(f"{n_rows} rows were promised for {task} {partition}, {len(digests)} came")
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _leaf_names(schema: Any, wanted: dict[str, str]) -> dict[str, str]:
    """Compression by Parquet leaf column: lists have a path of their own."""
    import pyarrow as pa

    names = {}
    for field in schema:
        kind, path = field.type, field.name
        while pa.types.is_list(kind):
            kind, path = kind.value_type, f"{path}.list.element"
        if pa.types.is_struct(kind):
            names |= {f"{path}.{child.name}": wanted.get(f"{path}.{child.name}", "zstd") for child in kind}
        else:
            names[path] = wanted.get(field.name, "zstd")
    return names


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, ROW_GROUP_ROWS)):
        yield group


def _digest(row: Mapping[str, Any]) -> str:
    """Hash one row: all values, images by their bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(row.items()):
        if name == "images":
            value = [hashlib.sha256(image["bytes"]).hexdigest() for image in value]
        digest.update(f"{name}={value!r}\n".encode())
    return digest.hexdigest()


def read_rows(folder: Path, partition: str, columns: list[str]) -> Any:
    """Read columns of a written partition.

    Parameters
    ----------
    folder
        Folder of the species.
    partition
        Name of the partition.
    columns
        Columns to read; the bytes of others are not touched.

    Returns
    -------
    pyarrow.Table
        Rows in the order written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob(f"{partition}-*-of-*.parquet"))
    return pa.concat_tables([pq.ParquetFile(path).read(columns=columns) for path in paths])
