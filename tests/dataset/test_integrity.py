"""A folder gives its own rows, whatever else was loaded before."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from stored_rows import entry, row, write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import add_species, read_manifest
from connectomebench.dataset.schema import write_partition
from connectomebench.demo.stored_samples import open_samples
from connectomebench.hub.dataset_folder import read_dataset

TASK = "merge_action"
TEST_SHARD = Path("fly") / "test-00000-of-00001.parquet"


def other_dataset(out: Path) -> Path:
    """Write a dataset with the card of `write_dataset`, byte by byte, and other rows."""
    folder = out / TASK
    numbers = {"train": range(50, 58), "validation": range(60, 64), "test": range(70, 74)}
    rows = {p: [row(n, ("no", "yes")[n % 2]) for n in numbers[p]] for p in PARTITIONS}
    digests = {p: write_partition(folder / "fly", TASK, p, own, len(own), 1000) for p, own in rows.items()}
    counts = {p: {a: len(own) // 2 for a in ("no", "yes")} for p, own in rows.items()}
    write_card(folder, add_species(folder, TASK, "fly", entry(counts, content_key(digests))))
    return folder


def ids(folder: Path, cache: Path, partition: str = "test") -> list[str]:
    return list(load_rows(str(folder), "fly", partition, cache=cache).dataset["sample_id"])


def stored_ids(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(folder / TEST_SHARD, columns=["sample_id"])["sample_id"].to_pylist()


def test_a_copied_card_does_not_bring_the_rows_of_its_folder(tmp_path: Path) -> None:
    first, second = write_dataset(tmp_path / "first"), other_dataset(tmp_path / "second")
    shutil.copy(first / "README.md", second / "README.md")
    cache = tmp_path / "cache"
    found = ids(first, cache), ids(second, cache)
    assert found == (stored_ids(first), stored_ids(second))
    assert not set(found[0]) & set(found[1])


def test_a_folder_that_is_replaced_at_the_same_path_and_time_gives_its_new_rows(tmp_path: Path) -> None:
    folder, cache = write_dataset(tmp_path / "here"), tmp_path / "cache"
    before = ids(folder, cache)
    times = (folder / TEST_SHARD).stat()
    shutil.rmtree(folder)
    shutil.move(other_dataset(tmp_path / "new"), folder)
    os.utime(folder / TEST_SHARD, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = ids(folder, cache)
    assert after == stored_ids(folder) and not set(before) & set(after)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A dataset whose test file was replaced by that of another, as large and as old."""
    folder, other = write_dataset(tmp_path / "mixed"), other_dataset(tmp_path / "other")
    ids(folder, tmp_path / "cache")
    times = (folder / TEST_SHARD).stat()
    shutil.copy(other / TEST_SHARD, folder / TEST_SHARD)
    os.utime(folder / TEST_SHARD, ns=(times.st_atime_ns, times.st_mtime_ns))
    return folder


def test_a_replaced_file_is_refused_by_all_that_read_it(mixed: Path, tmp_path: Path) -> None:
    reason = r"test-00000-of-00001\.parquet is not the file that the manifest beside it describes"
    with pytest.raises(ConnectomeBenchError, match=reason):
        ids(mixed, tmp_path / "cache")
    with pytest.raises(ConnectomeBenchError, match=reason):
        open_samples(mixed)
    with pytest.raises(ConnectomeBenchError, match=reason):
        read_dataset(mixed)
    assert ids(mixed, tmp_path / "cache", "train")  # the other files are those of the manifest


def without_files(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["species"]["fly"]["files"]
    path.write_text(json.dumps(manifest))


def test_a_manifest_without_hashes_is_checked_by_its_fingerprint(tmp_path: Path) -> None:
    folder = other_dataset(tmp_path / "old")
    without_files(folder)
    assert ids(folder, tmp_path / "cache") == stored_ids(folder)
    other = write_dataset(tmp_path / "other")
    shutil.copy(other / TEST_SHARD, folder / TEST_SHARD)
    with pytest.raises(ConnectomeBenchError, match="does not hold the rows of its manifest"):
        ids(folder, tmp_path / "cache")


def test_a_cut_file_is_one_line(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "out")
    shard = folder / TEST_SHARD
    shard.write_bytes(shard.read_bytes()[:-100])
    add_species(folder, TASK, "fly", read_manifest(folder)["species"]["fly"])
    with pytest.raises(ConnectomeBenchError, match="is damaged or cut short") as caught:
        ids(folder, tmp_path / "cache")
    assert "\n" not in str(caught.value)
