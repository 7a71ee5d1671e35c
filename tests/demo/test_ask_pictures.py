"""What visitors see of their own files: the pictures that a dataset would have, and none of what would do harm."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from swept_tubes import CENTER, EXTENT, crossing_tubes, tube

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.demo.ask_pictures import (
    IMAGE_PX,
    draw_meshes,
    draw_something,
    meeting_point,
    pixels_of_views,
    read_views,
)
from connectomebench.rendering.colours import BLUE, ORANGE
from connectomebench.rendering.engines import CpuEngine

MERGE, SPLIT, ONE = (get_task(name) for name in ("merge_action", "split_action", "merge_error_identification"))


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def square(edge: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(edge).integers(0, 255, (edge, edge, 3)).astype(np.uint8))


@pytest.mark.parametrize("task", [MERGE, SPLIT, ONE])
def test_views_are_those_of_a_dataset(task) -> None:
    meshes = crossing_tubes()[: len(task.roles)]
    views = draw_meshes(task, meshes, CENTER, EXTENT)
    expected = CpuEngine(1).render(meshes, [BLUE, ORANGE][: len(meshes)], CENTER, EXTENT, IMAGE_PX)
    assert len(views) == len(task.views)
    for name, view in zip(task.views, views, strict=True):
        np.testing.assert_array_equal(np.asarray(view), expected[name])


def test_the_place_is_where_two_pieces_meet_or_on_the_one() -> None:
    along = np.linspace(0, 3000, 60)
    first = tube(np.stack([along, along * 0, along * 0], 1) + 5000.0, 100.0)
    second = tube(np.stack([along + 3400, along * 0, along * 0], 1) + 5000.0, 100.0)
    point = meeting_point([first, second])
    # their ends face each other at x = 8000 and 8400
    assert point[0] == pytest.approx(8200, abs=1)
    assert np.linalg.norm(np.subtract(point[1:], 5000.0)) == pytest.approx(100, abs=5)
    alone = meeting_point([first])
    assert alone in {tuple(vertex) for vertex in first.vertices_nm.astype(float)}
    assert alone[0] == pytest.approx(6500, abs=60)


def test_what_cannot_be_seen_is_told() -> None:
    meshes = crossing_tubes()
    with pytest.raises(ConnectomeBenchError, match="not every piece can be seen there"):
        draw_meshes(MERGE, meshes, (0.0, 0.0, 0.0), EXTENT)
    with pytest.raises(ConnectomeBenchError, match="shows 2 pieces"):
        draw_meshes(MERGE, meshes[:1], CENTER, EXTENT)
    for extent in (0.0, -1.0, 1e6, float("nan")):
        with pytest.raises(ConnectomeBenchError, match=r"0\.1 to 100 micrometres"):
            draw_meshes(MERGE, meshes, CENTER, extent)
    for task in (MERGE, ONE):
        assert len(draw_something(task)) == 3


def test_finished_views_are_taken_as_they_are() -> None:
    pictures = [square(edge) for edge in (48, 64, 80)]
    views = read_views([encoded(picture) for picture in pictures])
    for view, picture in zip(views, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(view), np.asarray(picture))
    grey = read_views([encoded(square().convert("L"), "JPEG")] * 3)
    assert [view.mode for view in grey] == ["RGB"] * 3


def header_of(width: int, height: int) -> bytes:
    """A PNG of any size, of which a few bytes of pixels are there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def test_pictures_are_measured_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(square())
    assert len(pixels_of_views([good] * 3)) == 3
    wrong = [
        (header_of(5000, 5000), "front view must be 32 to 4096"),
        (header_of(100_000, 100_000), "no whole PNG or JPEG"),  # Pillow itself refuses it
        (encoded(square(16)), "32 to 4096"),
        (encoded(Image.new("RGB", (64, 48))), "64 by 48 pixels; views are square"),
        (encoded(square(), "GIF"), "no whole PNG or JPEG"),
        (encoded(square(), "WEBP"), "no whole PNG or JPEG"),
        (b"", "no whole PNG or JPEG"),
    ]
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("was decoded"))
    for data, words in wrong:
        with pytest.raises(ConnectomeBenchError, match=words):
            pixels_of_views([data, good, good])
    # a large file does not even reach the process that decodes, and what that one refuses is passed on
    with pytest.raises(ConnectomeBenchError, match="more than 20 MB"):
        read_views([b"\x89PNG" + b"\0" * 20_000_000, good, good])
    with pytest.raises(ConnectomeBenchError, match="front view must be 32 to 4096"):
        read_views([header_of(5000, 5000), good, good])
    with pytest.raises(ConnectomeBenchError, match="one picture for each view"):
        read_views([good, good])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_pictures_are_refused_in_one_sentence(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG"]))
    whole = bytearray(encoded(square(), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(2, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(1, len(whole)))])
    # here, not in the process with limits: there a crash would read as a refusal
    try:
        views = pixels_of_views([cut] * 3)
    except ConnectomeBenchError as error:
        assert "\n" not in str(error)
    else:
        assert all(len(pixels) <= 4096 * 4096 * 3 for pixels in views)
