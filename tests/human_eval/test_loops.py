"""Loops that a person draws, and the masks made from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_rows import row
from skimage.measure import grid_points_in_poly

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN, decode_masks, read_mask
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.evaluation.mask_scores import score_masks
from connectomebench.human_eval.loops import MOST_TEXT, inside, masks_of, read_loops

# no corner on the centre of a pixel or on a line of them, where whether a pixel is within is a matter of taste
SHARES = st.integers(0, 999).map(lambda number: (number + 0.137) / 1000)


@given(st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=9))
def test_the_inside_is_that_of_another_library(corners: list[tuple[float, float]]) -> None:
    shape = (21, 34)
    expected = grid_points_in_poly(
        shape, [(y * shape[0] - 0.5, x * shape[1] - 0.5) for x, y in corners], binarize=False
    )
    found = inside([corners], shape)
    # 0 outside, 1 inside, 2 a corner, 3 an edge
    sure = expected < 2
    np.testing.assert_array_equal(found[sure], expected[sure] == 1)


def test_several_loops_count_together() -> None:
    left, right = [(0, 0), (0.25, 0), (0.25, 1), (0, 1)], [(0.5, 0), (1, 0), (1, 1), (0.5, 1)]
    assert inside([left, right], (2, 4)).tolist() == [[True, False, True, True]] * 2
    assert not inside([], (2, 4)).any()


def test_masks_cover_the_segment_alone() -> None:
    stored = row(3)
    images = [image["bytes"] for image in stored["images"]]
    truth = {view: read_mask(mask) for view, mask in zip(MESH_VIEWS, stored["target_images"], strict=True)}
    around = {"front": [[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]]}
    found = decode_masks(masks_of(around, MESH_VIEWS, stored["images"]))
    assert images and list(found) == list(MESH_VIEWS)
    for view, mask in found.items():
        segment = truth[view] != NOTHING
        np.testing.assert_array_equal(mask, np.where(segment, TAKEN if view == "front" else STAYS, NOTHING))
    assert 0 < score_masks(found, truth).miou < 1


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"front": []}',
        '{"front": [[[0, 0], [1, 1]]]}',
        '{"front": [[[0, 0], [1, 1], [2, 0]]]}',
        '{"front": [[[0, 0], [1, 1], [NaN, 0]]]}',
        '{"front": [[[0, 0], [1, 1], ["a", 0]]]}',
        '{"back": [[[0, 0], [1, 1], [1, 0]]]}',
        json.dumps({"front": [[[0.5, 0.5]] * MOST_TEXT]}),
        "[" * 50_000,
    ],
)
def test_what_is_no_loop_is_refused(sent: str) -> None:
    with pytest.raises(ConnectomeBenchError, match="draw"):
        read_loops(sent, MESH_VIEWS)
