"""Small dataset folders for publishing, made by the functions that a build uses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from stored_rows import entry, partition_rows

from connectomebench.core.files import content_key
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species, read_manifest
from connectomebench.dataset.schema import shard_paths, write_partition

TASK = "merge_action"
# announced sizes that make one and two shards
ONE_SHARD, TWO_SHARDS = 1000, 900_000_000


def add_rows(folder: Path, species: str, config: str = "a", n_rows: int = 8, n_bytes: int = ONE_SHARD) -> Path:
    """Write a species with so many rows in `train`; ``config`` stands for its configuration."""
    rows = partition_rows(TASK, species)
    rows["train"] = rows["train"][:n_rows]
    return _write(folder, species, rows, entry({}), config, n_bytes)


def copy_species(source: Path, folder: Path, species: str, name: str) -> Path:
    """Copy a species of a built dataset under another name into another dataset folder of the same task."""
    manifest = read_manifest(source)
    rows = {
        p: [
            {**row, "species": name}
            for path in shard_paths(source / species, p)
            for row in pq.ParquetFile(path).read().to_pylist()
        ]
        for p in PARTITIONS
    }
    return _write(folder, name, rows, manifest["species"][species], "copied", ONE_SHARD, manifest["task"])


def _write(
    folder: Path, species: str, rows: dict[str, Any], about: dict[str, Any], config: str, n_bytes: int, task: str = TASK
) -> Path:
    if (folder / species).exists():
        shutil.rmtree(folder / species)
    digests = {p: write_partition(folder / species, task, p, own, len(own), n_bytes) for p, own in rows.items()}
    counts = {p: {a: sum(r["answer"] == a for r in own) for a in ("no", "yes")} for p, own in rows.items()}
    prints = {"config_fingerprint": content_key(config), "fingerprint": content_key(digests)}
    write_card(folder, add_species(folder, task, species, {**about, **prints, "counts": counts}))
    return folder
