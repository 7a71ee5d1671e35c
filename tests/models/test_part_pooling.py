"""Tokens are pooled where the picture shows a part, in rendered views and in tinted slices."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.source import EMSlice
from connectomebench.models.part_pooling import part_masks_of, pool_parts
from connectomebench.rendering.colours import BLUE, EM_OUTLINE, ORANGE, cut_colour, shade_table
from connectomebench.rendering.em_slices import draw_em


def halves() -> EMSlice:
    """Return a slice with 1 on the left, 2 on the right, and neither between and around them."""
    labels = np.zeros((128, 128), np.uint64)
    labels[16:112, 16:60], labels[16:112, 68:112] = 1, 2
    return EMSlice(np.full((128, 128), 90, np.uint8), labels, np.ones((128, 128), np.bool_))


def test_every_shade_of_a_part_and_its_sections_count_and_nothing_else() -> None:
    for colour, number in ((BLUE, 0), (ORANGE, 1)):
        for shade in [*shade_table(colour, 8).tolist(), cut_colour(colour)]:
            found = part_masks_of(Image.new("RGB", (8, 8), tuple(shade)))
            assert found[number].all() and not found[1 - number].any() and not found[2].any()
    assert not part_masks_of(Image.new("RGB", (8, 8), (255, 255, 255))).any()


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_tinted_segments_of_a_slice_are_found_and_the_hatch_is_none(grey: int) -> None:
    slices = halves()
    slices.gray[:], slices.inside[:8] = grey, False
    blue, orange, between = part_masks_of(Image.fromarray(draw_em(slices, {1: EM_OUTLINE, 2: ORANGE}, 128)))
    np.testing.assert_array_equal(blue, slices.segments == 1)
    np.testing.assert_array_equal(orange, slices.segments == 2)
    # 4% of 128 pixels is 5: the columns at most 5 from both
    assert np.flatnonzero(between[64]).tolist() == [63, 64]


def test_each_part_has_the_mean_of_its_patches() -> None:
    picture = Image.fromarray(draw_em(halves(), {1: EM_OUTLINE, 2: ORANGE}, 128))
    # one number a patch of 16 x 16 pixels: its column
    tokens = np.tile(np.arange(8, dtype=np.float32), 8).reshape(1, 64, 1)
    blue, orange, between, apart = pool_parts(tokens, [picture])[0]
    columns = np.arange(128) // 16
    assert blue == pytest.approx(columns[16:60].mean()) and orange == pytest.approx(columns[68:112].mean())
    assert between == pytest.approx(3.5) and apart == pytest.approx(orange - blue)


def test_what_is_not_to_be_seen_has_the_mean_of_all() -> None:
    tokens = np.arange(32, dtype=np.float32).reshape(1, 16, 2)
    found = pool_parts(tokens, [Image.new("RGB", (32, 32), BLUE)]).reshape(4, 2)
    np.testing.assert_allclose(found, [tokens[0].mean(axis=0)] * 3 + [[0, 0]])


def test_tokens_of_no_square_are_refused() -> None:
    with pytest.raises(ConnectomeBenchError, match="no square grid"):
        pool_parts(np.zeros((1, 12, 3), np.float32), [Image.new("RGB", (8, 8))])
