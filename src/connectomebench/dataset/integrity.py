"""Check that the files of a dataset are those of its manifest.

A manifest, a card and Parquet files can be copied apart from each other, and the cache of `datasets` does not look at
the rows of a local folder. The SHA-256 of each file stands in the manifest, so that rows which are loaded, shown or
published are the rows that the manifest describes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.parquet_errors import check_readable
from connectomebench.dataset.schema import partition_digest, row_digest, shard_paths

FILES = "files"
"""Key of a manifest entry: file name -> SHA-256, for the Parquet files of the species."""


def file_hashes(folder: Path) -> dict[str, str]:
    """Hash all Parquet files of one species.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.

    Returns
    -------
    dict
        File name -> SHA-256, 64 hex digits; sorted by name.
    """
    return {path.name: _sha256(path) for path in sorted(folder.glob("*.parquet"))}


def check_partition(folder: Path, partition: str, entry: Mapping[str, Any]) -> tuple[list[Path], str]:
    """Check that the files of a partition are those that the manifest names.

    Entries written before the manifest named files are checked by the fingerprint of all rows, which decodes every
    image.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    partition
        Which one.
    entry
        Of the species, from the manifest.

    Returns
    -------
    list of Path
        The files, in order.
    str
        Key of their content, 32 hex digits: same key, same rows.

    Raises
    ------
    ConnectomeBenchError
        If a file is missing, or holds other bytes than those that the manifest describes.
    """
    paths = shard_paths(folder, partition)
    found = check_files(paths, entry)
    if found is None:
        if not _has_fingerprint(folder, entry):
            raise ConnectomeBenchError(f"{folder} does not hold the rows of its manifest; {_MEND}")
        found = {path.name: _sha256(path) for path in paths}
    return paths, content_key(partition, found)


def check_files(paths: Sequence[Path], entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Check files of one species against its entry in the manifest.

    Parameters
    ----------
    paths
        Parquet files of the species; those that are not given are not checked.
    entry
        Of the species, from the manifest.

    Returns
    -------
    dict or None
        File name -> SHA-256; None if the entry names no files.

    Raises
    ------
    ConnectomeBenchError
        If a file holds other bytes than those that the manifest describes.
    """
    named = entry.get(FILES)
    if not isinstance(named, Mapping):
        return None
    found = {path.name: _sha256(path) for path in paths}
    for path in paths:
        if named.get(path.name) != found[path.name]:
            check_readable([path])
            raise ConnectomeBenchError(f"{path} is not the file that the manifest beside it describes; {_MEND}")
    return found


_MEND = "copy the whole dataset folder again, or build it again"


def _has_fingerprint(folder: Path, entry: Mapping[str, Any]) -> bool:
    digests = {partition: _partition_digest(folder, partition) for partition in PARTITIONS}
    return content_key(digests) == entry.get("fingerprint")


def _partition_digest(folder: Path, partition: str) -> str:
    """Hash the rows of a partition as they were hashed when they were written."""
    import pyarrow.parquet as pq

    digests = {}
    for path in shard_paths(folder, partition):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group).to_pylist():
                    digests[row["sample_id"]] = row_digest(row)
    return partition_digest(partition, digests)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror}") from error
