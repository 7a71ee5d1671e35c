"""Datasets of older formats, written by versions before, and what the newer ones add."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from PIL import Image
from stored_rows import entry, partition_rows, png, row, write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import get_task
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.leakage import id_leaks
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import add_species, is_built, read_manifest
from connectomebench.dataset.repo_layout import scene_files, species_of
from connectomebench.dataset.row_format import FORMAT_VERSION, entry_features, entry_format
from connectomebench.dataset.schema import (
    GEOMETRY_CHANNELS,
    GEOMETRY_PX,
    RESERVED_COLUMNS,
    features,
    read_images,
    read_small_columns,
    row_digest,
    write_partition,
)
from connectomebench.demo.stored_samples import open_samples
from connectomebench.hub.croissant import croissant
from connectomebench.hub.dataset_folder import read_dataset

OLD = Path(__file__).resolve().parent.parent / "fixtures" / "format_1_0" / "merge_action"
TASK = "merge_action"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old" / TASK))


def test_rows_of_the_format_before_are_read(old: Path, tmp_path: Path) -> None:
    rows = load_rows(str(old), "mouse", "train", cache=tmp_path / "cache")
    assert len(rows.dataset) == 8 and not set(RESERVED_COLUMNS) & set(rows.dataset.column_names)
    first = rows.dataset[0]
    assert first["segment_ids"][0] > 2**63 and first["images"][0].size == (20, 20)
    assert len(read_small_columns(old / "mouse", "test")) == 4
    assert [len(images) for _, _, images in read_images(old / "mouse", "test")] == [3] * 4
    assert is_built(old, "mouse", "c" * 32) and entry_format(read_manifest(old)["species"]["mouse"]) == (1, 0)
    assert set(read_dataset(old).files) == {f"mouse/{p}-00000-of-00001.parquet" for p in PARTITIONS}
    assert len(open_samples(old.parent).rows[TASK, "mouse"]) == 16


def test_a_species_of_the_new_format_beside_an_old_one(old: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    write_dataset(old.parent, TASK, "fly")
    manifest = read_manifest(old)
    assert manifest["format_version"] == FORMAT_VERSION
    assert {name: entry_format(one) for name, one in manifest["species"].items()} == {"fly": (2, 1), "mouse": (1, 0)}
    # the card states the columns of each species, so that plain `datasets` reads both
    for species, version in {"fly": (2, 1), "mouse": (1, 0)}.items():
        loaded = load_dataset(str(old), species, cache_dir=str(tmp_path / species), split="validation")
        assert loaded.features == features(get_task(TASK), version=version)
    assert "`target_images` | list of image" in DatasetCard.load(old / "README.md").text
    fields = {one["@id"]: [f["name"] for f in one["field"]] for one in croissant(manifest, "a/b")["recordSet"]}
    assert "choices" in fields["fly"] and "choices" not in fields["mouse"]


def test_rows_of_a_pair_without_its_second_place_are_read(tmp_path: Path) -> None:
    """Format 2.0, as it was written: the column is the only difference."""
    from datasets import load_dataset

    task = "segment_identity"
    folder = write_dataset(tmp_path, task, "fly")
    manifest = read_manifest(folder)
    for path in folder.glob("fly/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns("second_place").replace_schema_metadata(None), path)
    about = {**manifest["species"]["fly"], "format_version": "2.0"}
    write_card(folder, add_species(folder, task, "fly", about))
    rows = load_rows(str(folder), "fly", "test", cache=tmp_path / "cache").dataset
    assert len(rows) == 4 and "second_place" not in rows.column_names
    loaded = load_dataset(str(folder), "fly", cache_dir=str(tmp_path / "stock"), split="test")
    assert loaded.features == features(get_task(task), version=(2, 0)) and "choices" in loaded.features
    assert id_leaks({task: folder / "fly"}, "segment")["places"] == []
    assert len(open_samples(tmp_path).rows[task, "fly"]) == 16


def test_the_same_row_has_the_same_digest_in_both_formats() -> None:
    new = row(3, "yes")
    before = {name: value for name, value in new.items() if name not in RESERVED_COLUMNS}
    assert row_digest(new) == row_digest(before)
    masks = [{"bytes": png(1), "path": None}]
    changed = [{**new, "choices": [5, 6]}, {**new, "target_images": masks}, {**new, "geometry": masks}]
    changed.append({**new, "second_place": [1.0, 2.0, 3.0, 250.0]})
    assert len({row_digest(one) for one in (new, *changed)}) == 5


@pytest.mark.parametrize(
    ("version", "words"),
    [("3.0", "later format 3.0.*upgrade"), ("0.9", "older than any that is read; build it again")],
)
def test_formats_that_cannot_be_read_get_one_line(old: Path, version: str, words: str) -> None:
    path = old / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format_version": version}))
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        load_rows(str(old), "mouse", "test")
    assert "\n" not in str(caught.value)
    manifest["species"]["mouse"]["format_version"] = version
    path.write_text(json.dumps(manifest))
    with pytest.raises(ConnectomeBenchError, match=words):
        read_manifest(old)


def test_what_the_format_reserves_comes_back_through_plain_datasets(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder, rng = tmp_path / TASK, np.random.default_rng(0)
    channels = rng.integers(0, 256, (3, GEOMETRY_CHANNELS, GEOMETRY_PX, GEOMETRY_PX), np.uint8)
    mask = rng.random((40, 40)) < 0.5

    def stored(pixels: np.ndarray) -> dict[str, object]:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    added = {
        "choices": [2**63 + 1, 2**63 + 2, 7],
        "target_images": [stored(mask)] * 3,
        "geometry": [stored(view.reshape(-1, GEOMETRY_PX)) for view in channels],
    }
    rows = {p: [{**one, **added} for one in own] for p, own in partition_rows(TASK).items()}
    for p, own in rows.items():
        write_partition(folder / "fly", TASK, p, own, len(own), 1000, geometry=True)
    counts = {p: {a: sum(r["answer"] == a for r in own) for a in ("no", "yes")} for p, own in rows.items()}
    about = {**entry(counts), "geometry": {"channels": GEOMETRY_CHANNELS}}
    write_card(folder, add_species(folder, TASK, "fly", about))

    read = load_dataset(str(folder), "fly", cache_dir=str(tmp_path / "cache"), split="test")
    assert read.features == entry_features(get_task(TASK), about) and "geometry" in read.features
    assert read[0]["choices"] == added["choices"]
    assert (np.asarray(read[0]["target_images"][2]) == mask).all()
    for image, view in zip(read[0]["geometry"], channels, strict=True):
        assert (np.asarray(image).reshape(GEOMETRY_CHANNELS, GEOMETRY_PX, GEOMETRY_PX) == view).all()


def test_scenes_beside_the_rows_are_published_and_never_loaded(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, TASK, "fly")
    for name in ("scenes-test-00000-of-00001.zip", "scenes-else-00000-of-00001.zip", "notes.zip"):
        (folder / "fly" / name).write_bytes(b"PK")
    wanted = "fly/scenes-test-00000-of-00001.zip"
    assert scene_files(folder, "fly") == [wanted] and species_of(wanted) == "fly"
    assert [name for name in read_dataset(folder).files if name.endswith(".zip")] == [wanted]
    assert len(load_rows(str(folder), "fly", "test", cache=tmp_path / "cache").dataset) == 4
