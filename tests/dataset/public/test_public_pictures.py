from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from public_files import channels

from connectomebench.dataset.public.pictures import FRAMES, draw_pair, draw_single, shows_pair
from connectomebench.dataset.public.unmapped import Unmapped
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE
from connectomebench.rendering.views import visible_pixels


def pixels(files: list[bytes]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def ball(px: int = 64, sign: int = 1) -> NDArray[np.float32]:
    """What the authors' three cameras see of a ball: normals in the world, outwards or (sign -1) inwards."""
    down, right = (np.mgrid[:px, :px] + 0.5) / px * 2.4 - 1.2
    inside = right**2 + down**2 < 1
    forward = -np.sqrt(np.where(inside, 1 - right**2 - down**2, 0))
    views = np.zeros((3, 7, px, px), np.float32)
    views[:, 0] = views[:, 5] = inside
    for view, frame in zip(views, FRAMES, strict=True):
        view[2:5] = sign * inside * np.einsum("cw,crk->wrk", frame, np.stack([right, down, forward]))
    return views


@pytest.mark.parametrize("sign", [1, -1])
def test_every_view_is_lit_from_the_upper_left(sign: int) -> None:
    drawn = pixels(draw_single(ball(sign=sign)))
    assert drawn.shape == (3, 64, 64, 3) and (drawn[:, 0, 0] == BACKGROUND).all()
    light = np.where((drawn == BACKGROUND).all(-1), 0, drawn.sum(-1).astype(int))
    for view in light:
        row, column = np.unravel_index(view.argmax(), view.shape)
        assert 16 < row < 31 and 16 < column < 31
    brightest = drawn[0].reshape(-1, 3)[light[0].argmax()]
    assert np.abs(brightest.astype(int) - BLUE).max() <= 1
    assert light[0, 20, 20] > light[0, 44, 44]


def test_frames_are_those_of_the_authors_cameras() -> None:
    # positions and up vectors of `generate_orthographic_views`
    for frame, forward, up in zip(
        FRAMES, [(1, 0, 0), (0, 1, 0), (0, 0, -1)], [(0, 0, 1), (0, 0, 1), (0, 1, 0)], strict=True
    ):
        assert np.array_equal(frame, [np.cross(forward, up), np.negative(up), forward])


def test_base_blue_candidate_orange_and_blue_where_both_are() -> None:
    raw = channels(True, 3).astype(np.float32)
    counts = visible_pixels(pixels(draw_pair(raw))[0], [BLUE, ORANGE])
    assert counts.tolist() == [raw[0, 5].sum(), raw[0, 6].sum()]
    raw[:, 5] = np.maximum(raw[:, 5], raw[:, 6] * (np.arange(32) % 2))
    overlap = (raw[0, 5] * raw[0, 6]).sum()
    assert overlap > 20
    counts = visible_pixels(pixels(draw_pair(raw))[0], [BLUE, ORANGE])
    assert counts.tolist() == [raw[0, 5].sum(), raw[0, 6].sum() - overlap]


def test_a_single_segment_shows_no_mask() -> None:
    raw = channels(True, 3).astype(np.float32)
    bare = raw.copy()
    bare[:, 5:] = 0
    assert shows_pair(raw) and not shows_pair(bare) and not shows_pair(raw[:, :5])
    assert draw_single(raw) == draw_single(bare) == draw_single(raw[:, :5])
    assert visible_pixels(pixels(draw_single(raw))[0], [BLUE, ORANGE])[1] == 0


def test_empty_views_and_hidden_segments_are_left_out() -> None:
    raw = channels(True, 3).astype(np.float32)
    with pytest.raises(Unmapped, match="no masks"):
        draw_pair(raw[:, :5])
    covered = raw.copy()
    covered[:, 5] = raw[:, 0]
    covered[:, 5, 6:8, 6 + 8] = 0
    with pytest.raises(Unmapped, match="one of the two segments is hardly to be seen"):
        draw_pair(covered)
    raw[1, 0] = 0
    for draw in (draw_pair, draw_single):
        with pytest.raises(Unmapped, match="a view is empty"):
            draw(raw)
    dot = np.zeros((3, 5, 32, 32), np.float32)
    dot[:, 0, 4, :15] = 1
    with pytest.raises(Unmapped, match="hardly anything"):
        draw_single(dot)
    dot[:, 0, 4, 15] = 1
    assert len(draw_single(dot)) == 3
