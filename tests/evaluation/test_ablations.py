"""Ablations: what they take away, what stays in step, and colours that are exchanged as if drawn so."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import trimesh
from datasets import Dataset
from PIL import Image
from stored_rows import row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.source import EMSlice
from connectomebench.core.tasks import TASKS
from connectomebench.dataset.schema import features
from connectomebench.evaluation.ablations import ABLATIONS, ablate, shuffle_labels, swap_colours
from connectomebench.models.images import decode, image_key
from connectomebench.rendering.colours import BLUE, EM_OUTLINE, ORANGE, shade_table
from connectomebench.rendering.em_slices import draw_em
from connectomebench.rendering.engines import CpuEngine

WITH_EM = "endpoint_error_identification_with_em"


def batch(task: str = "merge_action", answer: str = "yes", n: int = 2) -> dict[str, list[Any]]:
    rows = [row(number, answer, task) for number in range(n)]
    return {name: [one[name] for one in rows] for name in rows[0]}


def others(columns: Any) -> dict[str, Any]:
    return {name: values for name, values in columns.items() if name not in ("views", "images")}


def test_blank_images_leave_number_and_views_and_nothing_else() -> None:
    before = batch(WITH_EM)
    after = ablate(before, "blank_images")
    assert others(after) == others(before)
    assert after["views"] == before["views"]
    for images in after["images"]:
        assert len(images) == 6
        for image in images:
            pixels = np.asarray(decode(image))
            assert pixels.shape == (1024, 1024, 3)
            assert (pixels == 128).all()


@pytest.mark.parametrize(("name", "left"), [("one_view", ["front"]), ("no_em", ["front", "side", "top"])])
def test_views_that_are_left_keep_their_pictures(name: str, left: list[str]) -> None:
    before = batch(WITH_EM)
    before["views"] = [["em_xy", "front", "em_xz", "side", "top", "em_yz"]] * 2
    after = ablate(before, name)
    assert others(after) == others(before)
    assert after["views"] == [left] * 2
    for own, images in zip(before["images"], after["images"], strict=True):
        assert images == [own[before["views"][0].index(view)] for view in left]
    assert before["views"][0][0] == "em_xy"
    assert len(before["images"][0]) == 6


def drawn(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Two balls, one before the other in one of the views, as the rasteriser draws them; all views side by side."""
    balls = [
        trimesh.creation.icosphere(radius=900.0).apply_translation(place) for place in ((-600, 0, 0), (600, 300, 0))
    ]
    meshes = [Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32)) for ball in balls]
    return np.concatenate(list(CpuEngine().render(meshes, colours, (0.0, 0.0, 0.0), 3000.0, 128).values()), axis=1)


def test_swapped_colours_are_those_of_the_scene_drawn_so() -> None:
    usual, exchanged = drawn([BLUE, ORANGE]), drawn([ORANGE, BLUE])
    swapped = swap_colours(usual)
    assert np.abs(usual.astype(int) - exchanged).max() > 150
    assert np.abs(swapped.astype(int) - exchanged).max() <= 8
    assert np.abs(swapped.astype(int) - exchanged).mean() < 1
    assert np.abs(swap_colours(swapped).astype(int) - usual).max() <= 4


def test_all_shades_are_exchanged_and_greys_stay() -> None:
    blue, orange = shade_table(BLUE, 64)[None], shade_table(ORANGE, 64)[None]
    assert np.abs(swap_colours(blue).astype(int) - orange).max() <= 5
    assert np.abs(swap_colours(orange).astype(int) - blue).max() <= 5
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert (swap_colours(greys) == greys).all()


def test_swapped_colours_leave_slices_and_other_columns() -> None:
    def stored(colour: tuple[int, int, int]) -> dict[str, Any]:
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    before = batch(n=1)
    before["images"], before["views"] = [[stored(BLUE), stored(BLUE)]], [["front", "em_xy"]]
    after = ablate(before, "swapped_colours")
    assert others(after) == others(before)
    first, second = after["images"][0]
    assert np.abs(np.asarray(first).astype(int) - ORANGE).max() <= 1
    assert second is before["images"][0][1]


def test_swapped_colours_swap_the_tints_of_slices() -> None:
    labels = np.zeros((16, 16), np.uint64)
    labels[:, :6], labels[:, 10:] = 1, 2
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    slices = EMSlice(grey, labels, np.ones((16, 16), np.bool_))
    usual, other = (
        Image.fromarray(draw_em(slices, {one: EM_OUTLINE, two: ORANGE}, 16)) for one, two in ((1, 2), (2, 1))
    )
    before = batch("merge_action_with_em", n=1)
    before["images"], before["views"] = [[Image.new("RGB", (8, 8), BLUE), usual]], [["front", "em_xy"]]
    front, swapped = ablate(before, "swapped_colours")["images"][0]
    assert np.abs(np.asarray(front).astype(int) - ORANGE).max() <= 1
    assert np.abs(np.asarray(swapped).astype(int) - np.asarray(other)).max() <= 1


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("no_em", "merge_action", "shows none"),
        ("one_view", "segment_identity", "several views of the same meshes"),
        ("swapped_colours", "merge_error_identification", "needs two colours"),
        ("swapped_colours", "merge_action", "other colours"),
        ("shuffled_labels", "merge_action", "changes no image"),
        ("base_model", "merge_action", "changes no image"),
        ("no-em", "merge_action", "did you mean no_em"),
    ],
)
def test_what_cannot_be_taken_away_is_refused(name: str, task: str, message: str) -> None:
    # the pictures of these rows are of any colours
    with pytest.raises(ConnectomeBenchError, match=message):
        ablate(batch(task), name)


def test_a_row_with_one_view_has_none_to_lose() -> None:
    one = ablate(batch(), "one_view")
    with pytest.raises(ConnectomeBenchError, match="several views"):
        ablate(one, "one_view")


def dataset(answers: list[str], task: str = "merge_action") -> Dataset:
    rows = [row(number, answer, task) for number, answer in enumerate(answers)]
    for number, one in enumerate(rows):
        one["target_nm"] = [[float(number), 0.0, 0.0]]
    return Dataset(pa.Table.from_pylist(rows, schema=features(TASKS[task]).arrow_schema))


@pytest.mark.parametrize("chosen", [None, [9, 3, 4, 5, 8, 0, 1]])
def test_shuffled_labels_keep_rows_and_counts_and_move_the_truth_as_one(chosen: list[int] | None) -> None:
    before = dataset(["yes", "no", "no"] * 4)
    before = before if chosen is None else before.select(chosen)
    after = shuffle_labels(before, 1)
    assert after.features == before.features
    for name in before.column_names:
        if name not in ("answer", "label", "target_nm", "images"):
            assert list(after[name]) == list(before[name])
    keys = [[image_key(image) for image in images] for images in before["images"]]
    assert [[image_key(image) for image in images] for images in after["images"]] == keys
    assert Counter(after["answer"]) == Counter(before["answer"])
    assert list(after["answer"]) != list(before["answer"])
    assert [TASKS["merge_action"].labels[label] for label in after["label"]] == list(after["answer"])
    moved = {target[0][0]: answer for target, answer in zip(after["target_nm"], after["answer"], strict=True)}
    assert moved == {t[0][0]: answer for t, answer in zip(before["target_nm"], before["answer"], strict=True)}
    assert list(shuffle_labels(before, 1)["answer"]) == list(after["answer"])
    assert any(list(shuffle_labels(before, seed)["answer"]) != list(after["answer"]) for seed in (2, 3, 4))
    with pytest.raises(ConnectomeBenchError, match="single row"):
        shuffle_labels(before.select([0]), 1)


def test_every_ablation_is_told_in_one_line() -> None:
    assert set(ABLATIONS) == {"blank_images", "one_view", "no_em", "swapped_colours", "shuffled_labels", "base_model"}
    assert all("\n" not in line and len(line) < 110 for line in ABLATIONS.values())
