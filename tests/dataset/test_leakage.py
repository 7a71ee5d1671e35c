from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image, ImageDraw
from stored_rows import HIGH, partition_rows, png

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.leak_words import look_alike_text, read_look_alikes
from connectomebench.dataset.leakage import (
    check_leaks,
    count_bodies,
    hash_pictures,
    id_leaks,
    look_alikes,
    near_pictures,
)
from connectomebench.dataset.schema import write_partition


def write(folder, rows, task="merge_action"):
    for p in PARTITIONS:
        write_partition(folder, task, p, rows[p], len(rows[p]), 1)
    return {task: folder}


def pictures(*images: bytes):
    return [{"bytes": image, "path": None} for image in images]


def test_clean_files_pass(tmp_path):
    folders = write(tmp_path, partition_rows())
    clean = {"sample_ids": 0, "segments": 0, "places": 0, "pictures": 0}
    assert check_leaks(folders, "merge_action", "segment") == clean
    with_bodies = check_leaks(folders, "merge_action", "body")
    assert with_bodies == clean | {"bodies": 0}


@pytest.mark.parametrize(
    ("change", "name", "group_by"),
    [
        ({"segment_ids": [HIGH, 5]}, "segments", "segment"),
        ({"body_ids": [HIGH + 1]}, "bodies", "body"),
        ({"location_nm": [9.0, 5.0, 5.0]}, "places", "segment"),
        ({"location_nm": [40.0, 5.0, 5.0], "extent_nm": 71.0}, "places", "segment"),
    ],
)
def test_what_is_on_two_sides_is_found(tmp_path, change, name, group_by):
    rows = partition_rows()
    rows["test"][1] |= change
    folders = write(tmp_path, rows)
    found = id_leaks(folders, group_by)
    assert {k for k, v in found.items() if v} == {name}
    with pytest.raises(ConnectomeBenchError, match=name):
        check_leaks(folders, "merge_action", group_by)


def test_bodies_may_be_shared_where_segments_are_kept_apart(tmp_path):
    rows = partition_rows()
    rows["test"][1]["body_ids"] = [HIGH + 1]
    assert check_leaks(write(tmp_path, rows), "merge_action", "segment")["segments"] == 0


def test_bodies_are_counted_in_the_written_rows(tmp_path):
    rows = partition_rows()
    bodies = {b for p in PARTITIONS for row in rows[p] for b in row["body_ids"]}
    write(tmp_path / "apart", rows)
    assert count_bodies(tmp_path / "apart") == {"bodies": len(bodies), "bodies_shared": 0}
    rows["test"][1]["body_ids"] = [HIGH + 1]
    write(tmp_path / "shared", rows)
    assert count_bodies(tmp_path / "shared")["bodies_shared"] == 1


def test_a_sample_in_two_partitions_is_found(tmp_path):
    rows = partition_rows()
    rows["test"].append(rows["train"][0])
    found = id_leaks(write(tmp_path, rows), "segment")
    assert len(found["sample_ids"]) == len(found["segments"]) / 2 == len(found["places"]) == 1


def test_touching_cubes_do_not_share_a_place(tmp_path):
    rows = partition_rows()
    rows["test"][1]["location_nm"] = [10.0, 5.0, 5.0]  # sample 0 is at 0, both are 10 wide
    assert id_leaks(write(tmp_path, rows), "segment")["places"] == []


def test_other_tasks_of_the_build_count(tmp_path):
    mine = write(tmp_path / "a", partition_rows())
    other = partition_rows("merge_error_identification")
    for r in other["train"]:
        r["segment_ids"] = [1]
    other["train"][2]["segment_ids"] = [HIGH + 12 * 10]  # the first of test
    folders = mine | write(tmp_path / "b", other, "merge_error_identification")
    with pytest.raises(ConnectomeBenchError, match="1 segments"):
        check_leaks(folders, "merge_action", "segment")
    assert check_leaks(mine | {"split_action": tmp_path / "not-written"}, "merge_action", "segment")["segments"] == 0


def test_near_identical_pictures_are_counted(tmp_path):
    rows = partition_rows()
    with Image.open(io.BytesIO(rows["train"][0]["images"][0]["bytes"])) as picture:
        pixels = np.asarray(picture).astype(int)
    nearly = Image.fromarray(
        np.clip(pixels + np.random.default_rng(0).integers(-2, 3, pixels.shape), 0, 255).astype("u1")
    )
    stream = io.BytesIO()
    nearly.save(stream, "PNG")
    rows["test"][0]["images"] = pictures(stream.getvalue(), png(1), png(2))
    folders = write(tmp_path, rows)
    # png(1) and png(2) are the other views of the same sample of train
    assert check_leaks(folders, "merge_action", "segment")["pictures"] == 3
    pairs = near_pictures(hash_pictures(tmp_path, "train"), hash_pictures(tmp_path, "test"))
    first, copy = rows["train"][0]["sample_id"], rows["test"][0]["sample_id"]
    assert pairs == [(f"{first}/{v}", f"{copy}/{v}") for v in ("front", "side", "top")]
    similar = look_alikes(tmp_path)
    assert {(p.first, p.second) for p in similar} == set(pairs) and similar[0].bits == 0
    assert {(p.first_partition, p.second_partition) for p in similar} == {("train", "test")}
    assert similar[-1].first.endswith("/front") and 0.98 <= similar[-1].correlation <= similar[0].correlation
    entry = {"look_alikes": [asdict(p) for p in similar]}
    assert read_look_alikes(entry) == tuple(similar)
    text = look_alike_text({"segments": 0, "pictures": 3}, similar)
    assert text.startswith("3 pairs of look-alike pictures: no leak") and similar[0].distance in text
    for damage in ({"first": "<b>/x"}, {"bits": "0"}, {"second_partition": "all"}):
        with pytest.raises(ValueError, match="names no pictures"):
            read_look_alikes({"look_alikes": [asdict(similar[0]) | damage]})


def test_blank_pictures_and_different_thin_neurites_are_no_copies(tmp_path):
    def drawn(*line):
        picture = Image.new("RGB", (256, 256), "white")
        if line:
            ImageDraw.Draw(picture).line(line, fill=(0, 114, 178), width=5)
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return stream.getvalue()

    rows = partition_rows()
    rows["train"][0]["images"] = pictures(drawn(), drawn(10, 100, 240, 140), png(7))
    rows["test"][0]["images"] = pictures(drawn(), drawn(10, 160, 240, 120), png(8))
    assert check_leaks(write(tmp_path, rows), "merge_action", "segment")["pictures"] == 0


def test_the_same_id_in_two_segmentations_is_no_leak(tmp_path):
    rows = partition_rows()
    rows["train"][0]["source"] = "cube/one"
    rows["test"][1] |= {"segment_ids": rows["train"][0]["segment_ids"], "source": "cube/two"}
    assert id_leaks(write(tmp_path, rows), "segment")["segments"] == []
    rows["test"][1]["source"] = "cube/one"
    found = id_leaks(write(tmp_path, rows), "segment")["segments"]
    assert len(found) == 2 and "cube/one" in found[0]
