from __future__ import annotations

import io
from dataclasses import replace
from itertools import chain

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stored_rows import HIGH, partition_rows, png, row, site, source_info

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.core.tasks import TASKS, get_task
from connectomebench.dataset import schema as records
from connectomebench.dataset.manifest import add_species, is_built, read_manifest
from connectomebench.dataset.schema import features, make_row, read_small_columns, row_digest, write_partition

ROWS = [row(n, ("no", "yes")[n % 2]) for n in range(11)]


def write(folder, rows=ROWS, **kwargs):
    return write_partition(folder, "merge_action", "train", iter(rows), kwargs.pop("n_rows", len(rows)), 1000)


def test_written_rows_come_back_unchanged(tmp_path):
    write(tmp_path)
    path = tmp_path / "train-00000-of-00001.parquet"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert pq.read_table(path).to_pylist() == ROWS
    table = read_small_columns(tmp_path, "train")
    assert table["segment_ids"][0].as_py() == [HIGH, HIGH + 1]
    assert "images" not in table.column_names


@pytest.mark.parametrize("task", sorted(TASKS))
def test_columns_are_the_same_for_all_tasks(task):
    kinds = features(get_task(task))
    assert list(kinds) == list(features(get_task("merge_action")))
    assert isinstance(kinds["label"], datasets.ClassLabel) == bool(get_task(task).labels)
    assert datasets.Features.from_arrow_schema(kinds.arrow_schema) == kinds


def test_fingerprint_ignores_order_shards_and_row_groups(tmp_path, monkeypatch):
    whole = write(tmp_path / "a")
    monkeypatch.setattr(records, "SHARD_BYTES", 300)
    monkeypatch.setattr(records, "ROW_GROUP_ROWS", 2)
    assert write(tmp_path / "b", ROWS[::-1]) == whole
    names = sorted(p.name for p in (tmp_path / "b").iterdir())
    assert names == [f"train-{i:05d}-of-00004.parquet" for i in range(4)]
    stored = list(chain.from_iterable(pq.read_table(tmp_path / "b" / n).to_pylist() for n in names))
    assert stored == ROWS[::-1]
    assert pq.ParquetFile(tmp_path / "b" / names[0]).num_row_groups == 1
    assert pq.ParquetFile(tmp_path / "b" / names[1]).num_row_groups == 2


def test_fingerprint_sees_pixels_and_answers_but_not_png_packing():
    first = ROWS[0]
    with Image.open(io.BytesIO(first["images"][0]["bytes"])) as picture:
        stream = io.BytesIO()
        picture.save(stream, "PNG", compress_level=0)
    repacked = {**first, "images": [{"bytes": stream.getvalue(), "path": None}, *first["images"][1:]]}
    assert stream.getvalue() != first["images"][0]["bytes"]
    assert row_digest(repacked) == row_digest(first)
    other = {**first, "images": [{"bytes": png(999), "path": None}, *first["images"][1:]]}
    assert len({row_digest(r) for r in (first, other, {**first, "answer": "yes"}, {**first, "group": "x"})}) == 4


def test_writing_again_gives_the_same_bytes_and_replaces_old_shards(tmp_path, monkeypatch):
    write(tmp_path)
    path = tmp_path / "train-00000-of-00001.parquet"
    before = path.read_bytes()
    write(tmp_path)
    assert path.read_bytes() == before
    monkeypatch.setattr(records, "SHARD_BYTES", 500)
    write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"train-0000{i}-of-00002.parquet" for i in range(2)]


@pytest.mark.parametrize("announced", [10, 12])
def test_wrong_number_of_rows_leaves_nothing(tmp_path, announced):
    with pytest.raises(ConnectomeBenchError, match="11 different train rows"):
        write(tmp_path, n_rows=announced)
    assert list(tmp_path.iterdir()) == []


def test_failure_half_way_leaves_the_old_files(tmp_path):
    write(tmp_path)
    before = (tmp_path / "train-00000-of-00001.parquet").read_bytes()

    def broken():
        yield ROWS[0]
        raise RuntimeError("no picture")

    with pytest.raises(RuntimeError):
        write_partition(tmp_path, "merge_action", "train", broken(), 5, 1000)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


def test_small_columns_lie_apart_from_the_images(tmp_path):
    big = [{**r, "images": [{"bytes": png(i, 400), "path": None}] * 3} for i, r in enumerate(ROWS)]
    write(tmp_path, big)
    metadata = pq.read_metadata(tmp_path / "train-00000-of-00001.parquet")
    group = metadata.row_group(0)
    sizes = {}
    for i in range(group.num_columns):
        column = group.column(i)
        name = column.path_in_schema
        sizes["images" if name.endswith("bytes") else "small"] = (
            sizes.get("images" if name.endswith("bytes") else "small", 0) + column.total_compressed_size
        )
        assert column.compression == ("UNCOMPRESSED" if name.endswith("bytes") else "ZSTD"), name
    assert sizes["images"] > sum(len(r["images"][0]["bytes"]) for r in big) * 3


def test_missing_view_and_strange_answer_are_refused():
    images = {"front": b"", "side": b""}
    with pytest.raises(ConnectomeBenchError, match="'top'"):
        make_row(site(0, [1, 2]), images, "g", source_info())
    with pytest.raises(ConnectomeBenchError, match="maybe"):
        make_row(site(0, [1, 2], "maybe"), images | {"top": b""}, "g", source_info())


def test_a_row_of_a_choice_holds_the_views_and_candidates_that_were_drawn():
    ids = (HIGH + 1, HIGH + 2, HIGH + 3)
    shown = replace(site(0, ids, "b", "merge_action_multiple_choice"), choices=ids[1:])
    images = {view: view.encode() for view in reversed(shown.views)}
    made = make_row(shown, images, "g", source_info())
    assert made["views"] == ["a_front", "a_side", "a_top", "b_front", "b_side", "b_top"]
    assert [image["bytes"].decode() for image in made["images"]] == made["views"]
    assert made["choices"] == [*ids[1:]] and made["label"] == 1 and made["question"].endswith("Answer a, b or none.")
    with pytest.raises(ConnectomeBenchError, match="'c' is none"):
        make_row(replace(shown, answer="c"), images, "g", source_info())


def test_a_row_holds_right_places_and_its_own_question():
    shown = replace(
        site(0, [1], "10, 20, 30", "endpoint_localization"),
        target_nm=((10.0, 20.0, 30.0),),
        question="Where of 1 to 3?",
    )
    made = make_row(shown, {"front": b"", "side": b"", "top": b""}, "g", source_info())
    assert (
        made["target_nm"] == [[10.0, 20.0, 30.0]] and made["question"] == "Where of 1 to 3?" and made["label"] is None
    )


def test_a_missing_shard_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHARD_BYTES", 500)
    write(tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ConnectomeBenchError, match="1 of 2 train files"):
        read_small_columns(tmp_path, "train")


def test_manifest_keeps_other_species_and_refuses_other_configurations(tmp_path):
    folder = tmp_path / "merge_action"
    entry = {"config_fingerprint": "c", "counts": {p: {"no": len(r)} for p, r in partition_rows().items()}}
    assert not is_built(folder, "fly", "c")
    add_species(folder, "merge_action", "mouse", {"config_fingerprint": "m"})
    assert not is_built(folder, "fly", "c")
    manifest = add_species(folder, "merge_action", "fly", entry)
    assert read_manifest(folder) == manifest
    assert list(manifest["species"]) == ["fly", "mouse"]
    assert not is_built(folder, "fly", "c")  # no file is there
    for p, rows in partition_rows().items():
        write_partition(folder / "fly", "merge_action", p, rows, len(rows), 1)
    assert is_built(folder, "fly", "c")
    with pytest.raises(ConnectomeBenchError, match="another configuration"):
        is_built(folder, "fly", "d")
    with pytest.raises(ConnectomeBenchError, match="holds the task merge_action"):
        add_species(folder, "split_action", "fly", entry)
    victim = folder / "fly" / "test-00000-of-00001.parquet"
    victim.write_bytes(victim.read_bytes()[:-100])
    assert not is_built(folder, "fly", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a manifest"), ("[]", "not a manifest"), ('{"format_version": "3.0", "species": {}}', "upgrade")],
)
def test_bad_manifests_are_refused(tmp_path, text, message):
    write_text(tmp_path / "manifest.json", text)
    with pytest.raises(ConnectomeBenchError, match=message):
        read_manifest(tmp_path)


def test_pixels_are_stored_losslessly(tmp_path):
    write(tmp_path)
    stored = datasets.Dataset.from_parquet(str(tmp_path / "train-00000-of-00001.parquet"), cache_dir=str(tmp_path))
    with Image.open(io.BytesIO(ROWS[3]["images"][1]["bytes"])) as picture:
        np.testing.assert_array_equal(np.asarray(stored[3]["images"][1]), np.asarray(picture))
    assert stored.features == features(get_task("merge_action"))
