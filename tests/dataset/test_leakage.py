from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from stored_rows import HIGH, partition_rows, png

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset import leakage
from connectomebench.dataset.leak_words import look_alike_text, read_look_alikes
from connectomebench.dataset.leakage import (
    NEAR_BITS,
    SAME_CORRELATION,
    PictureHashes,
    PictureMemo,
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
        ({"second_place": [9.0, 5.0, 5.0, 10.0]}, "places", "segment"),
        ({"second_place": [40.0, 5.0, 5.0, 71.0]}, "places", "segment"),
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


def hashes(name: str, values: list[int], rng: np.random.Generator) -> PictureHashes:
    """Pictures of given hashes: thumbnails of a few kinds, one of them blank."""
    kinds = rng.normal(size=(4, 256)).astype(np.float32)
    kinds[0] = 0
    kinds[1:] /= np.linalg.norm(kinds[1:], axis=1, keepdims=True)
    chosen = kinds[rng.integers(0, 4, len(values))]
    return PictureHashes([f"{name}{i}" for i in range(len(values))], np.array(values, np.uint64), chosen)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_pairs_are_those_of_comparing_all(data, seed):
    rng = np.random.default_rng(seed)
    bases = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    flips = st.lists(st.integers(0, 63), max_size=NEAR_BITS + 2)

    def near(_):
        value = data.draw(st.sampled_from(bases))
        for bit in data.draw(flips):
            value ^= 1 << bit
        return value

    left, right = (hashes(n, [near(0) for _ in range(data.draw(st.integers(0, 6)))], rng) for n in "ab")
    right = PictureHashes(
        right.names,
        right.hashes,
        left.thumbnails[rng.integers(0, len(left.names), len(right.names))] if left.names else right.thumbnails,
    )
    expected = [
        (left.names[i], right.names[j])
        for i in range(len(left.names))
        for j in range(len(right.names))
        if (int(left.hashes[i]) ^ int(right.hashes[j])).bit_count() <= NEAR_BITS
        and left.thumbnails[i] @ right.thumbnails[j] >= SAME_CORRELATION
    ]
    assert near_pictures(left, right) == expected


def test_the_work_does_not_grow_with_the_product(monkeypatch):
    compared = []
    expand = leakage._expand

    def counted(first, counts):
        compared.append(int(counts.sum()))
        return expand(first, counts)

    monkeypatch.setattr(leakage, "_expand", counted)
    monkeypatch.setattr(leakage, "_PAIRS", 7)
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2**63, 3000).tolist()
    left, right = (
        PictureHashes(
            [str(i) for i in range(3000)], np.array(v, np.uint64), np.eye(256, dtype=np.float32)[np.arange(3000) % 256]
        )
        for v in (values, [v ^ 0b1011 for v in values])
    )
    pairs = near_pictures(left, right)
    assert pairs == [(str(i), str(i)) for i in range(3000)]
    assert sum(compared) < 0.05 * 3000**2


def test_every_picture_is_decoded_once(tmp_path, monkeypatch):
    rows = partition_rows()
    plain = write(tmp_path / "plain", rows)
    opened = []
    real = Image.open

    def counted(stream, *args, **kwargs):
        opened.append(1)
        return real(stream, *args, **kwargs)

    monkeypatch.setattr(Image, "open", counted)
    memo, folder = PictureMemo(), tmp_path / "once"
    for p in PARTITIONS:
        write_partition(folder, "merge_action", p, rows[p], len(rows[p]), 1, on_picture=memo.remember)
    assert look_alikes(folder, memo) == []
    assert len(opened) == 3 * sum(map(len, rows.values()))
    for p in PARTITIONS:
        mine, theirs = hash_pictures(folder, p, memo), hash_pictures(plain["merge_action"], p)
        assert mine.names == theirs.names and (mine.hashes == theirs.hashes).all()
        assert (mine.thumbnails == theirs.thumbnails).all()
    # what is not byte for byte what was written is looked at
    opened.clear()
    write_partition(folder, "merge_action", "test", partition_rows()["test"][:1], 1, 1)
    other = png(999)
    hash_pictures(folder, "test", memo)
    known = len(opened)
    memo.hash(other)
    assert len(opened) == known + 1
