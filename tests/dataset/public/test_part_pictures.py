from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from public_files import channels, npz, parts, row, write

from connectomebench.core.part_masks import MASK, NOTHING, STAYS, TAKEN, read_mask, stored_masks
from connectomebench.core.tasks import MESH_VIEWS, get_task
from connectomebench.dataset.public import benchmark2, load_public, stream_public
from connectomebench.dataset.public.part_pictures import masks_of_channels, masks_of_pictures
from connectomebench.dataset.public.unmapped import Unmapped
from connectomebench.dataset.schema import features
from connectomebench.evaluation.mask_scores import mean_scores, score_texts
from connectomebench.models.mask_baselines import MaskBaseline

TASK = "split_mask_generation"


@pytest.mark.parametrize("release", ["first_release", "second_release"])
def test_rows_of_both_releases_carry_the_masks_of_the_true_split(
    release: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(release)
    rows = load_public(str(folder), TASK, "MICrONS", "test", cache=tmp_path)
    # a sixth of 60 rows is a split edit
    assert len(rows.dataset) == 10 and rows.data.rows == {MASK: 10}
    assert rows.dataset.features == features(get_task(TASK))
    plain = rows.dataset.cast_column("target_images", features(get_task(TASK))["target_images"]).with_format("arrow")
    wanted = {row(n, "split_edit", "test", release=1)["combined_sample_hash"]: n for n in range(1000, 1060)}
    for number, one in enumerate(rows.dataset):
        assert (one["answer"], one["label"], one["origin"]) == (MASK, None, "edit")
        assert len(one["images"]) == 3 and len(one["body_ids"]) == 2
        # nothing of the split is in the pictures: blue alone
        for image in one["images"]:
            red, _, blue = np.asarray(image).reshape(-1, 3).T.astype(int)
            assert (red <= blue).all()
        masks = stored_masks(one["views"], plain[number]["target_images"].to_pylist()[0])
        truth = channels(True, wanted[one["sample_id"]], 3).astype(np.float32)
        a, b = truth[:, 5] > 0.5, truth[:, 6] > 0.5
        taken, stays = sorted((a & ~b, b & ~a), key=np.count_nonzero)
        for view, t, s in zip(MESH_VIEWS, taken, stays, strict=True):
            np.testing.assert_array_equal(masks[view] == TAKEN, t)
            np.testing.assert_array_equal(masks[view] == STAYS, s)


def test_only_the_task_itself_reads_the_masks(first_release: Path, second_release: Path) -> None:
    for folder, own in ((first_release, {"geometry"}), (second_release, {f"split_mask_{v}" for v in MESH_VIEWS})):
        present = pq.read_schema(folder / "test" / "test-00000.parquet").names
        read = set(benchmark2.needed_columns(TASK, present))
        other = set(benchmark2.needed_columns("merge_error_identification", present))
        assert read - other == own


def test_baselines_answer_them_and_are_scored(second_release: Path, tmp_path: Path) -> None:
    from connectomebench.core.part_masks import encode_masks

    rows = load_public(str(second_release), TASK, "mouse", "test", cache=tmp_path).dataset
    batch = rows[:10]
    truth = [encode_masks(stored_masks(MESH_VIEWS, masks)) for masks in batch["target_images"]]
    for name in ("empty", "all", "plane", "watershed"):
        found = mean_scores(score_texts([a.prediction for a in MaskBaseline(name).predict(batch)], truth))
        assert 0 <= found["miou"] <= (0.5 if name in ("empty", "all") else 1)


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    good, again = row(1, "split_edit", "test", release=2), {"combined_sample_hash": "ab" * 16}
    flat = io.BytesIO()
    Image.new("RGB", (32, 32), (0, 255, 0)).save(flat, "PNG")
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "PNG")
    rows = [
        good,
        good | again | {"split_mask_front": None},
        good | again | {f"split_mask_{v}": {"bytes": flat.getvalue(), "path": None} for v in MESH_VIEWS},
        good | again | {"split_mask_top": {"bytes": small.getvalue(), "path": None}},
        good | again | {"task_routing": ["false_merge_identification"]},
        good | again | {"false_merge_identification_label": 0.0, "same_neuron": True},
        good | again | {"geometry": npz(channels(True, 1))},
    ]
    write(tmp_path / "test" / "test-0.parquet", rows)
    skipped: Counter[str] = Counter()
    assert len(list(stream_public(str(tmp_path), TASK, "mouse", "test", None, skipped))) == 1
    assert skipped == {
        "a picture is missing": 1,
        "its split masks do not have two colours": 1,
        "its split masks are not as large as its views": 1,
        "it is of another task": 1,
        "its split is of no merge error": 1,
        "its geometry shows the two parts of the true split": 1,
    }


def test_pixels_of_both_parts_are_of_neither() -> None:
    dual = channels(True, 3, 9).astype(np.float32)
    dual[:, 6] = np.maximum(dual[:, 6], np.roll(dual[:, 5], 2, axis=-1))
    both = (dual[:, 5] > 0.5) & (dual[:, 6] > 0.5)
    assert both.any()
    from_channels = [read_mask(m) for m in masks_of_channels(dual)]
    assert (np.stack(from_channels)[both] == NOTHING).all()
    # pictures in which overlap has the sum of both colours
    pictures = []
    for view in dual:
        rgb = np.zeros((*view.shape[1:], 3), np.uint8)
        rgb[..., 1], rgb[..., 2] = (view[5] > 0.5) * 255, (view[6] > 0.5) * 255
        stream = io.BytesIO()
        Image.fromarray(rgb).save(stream, "PNG")
        pictures.append(stream.getvalue())
    from_pictures = [read_mask(m) for m in masks_of_pictures(pictures, dual)]
    np.testing.assert_array_equal(np.stack(from_pictures), np.stack(from_channels))
    with pytest.raises(Unmapped, match="no masks"):
        masks_of_channels(dual[:, :5])
    with pytest.raises(Unmapped, match="hardly"):
        masks_of_channels(np.where(np.arange(7)[None, :, None, None] == 6, 0, dual).astype(np.float32))
    assert parts(dual[0]).startswith(b"\x89PNG")
