"""Pictures of loaded rows, decoded by us, are those that Pillow and stock `datasets` decode."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset import stored_picture
from connectomebench.dataset.png_pixels import png_pixels
from connectomebench.dataset.stored_picture import StoredPicture, decode_once, read_decoded
from connectomebench.models.images import decode


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(filtered: np.ndarray, *between: bytes, tail: bytes = b"") -> bytes:
    """Write rows as they are, the filter first in each: uint8, (rows, 1 + 3 * columns)."""
    rows, columns = len(filtered), (filtered.shape[1] - 1) // 3
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    packed = zlib.compress(filtered.tobytes() + tail)
    half = len(packed) // 2
    parts = [chunk(b"IHDR", header), *between, chunk(b"IDAT", packed[:half]), chunk(b"IDAT", packed[half:])]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_every_filter_is_undone_as_by_pillow(rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    filtered = random.integers(0, 256, (rows, 1 + 3 * columns), dtype=np.uint8)
    filtered[:, 0] = random.integers(0, 5, rows)
    content = write_png(filtered)
    found = png_pixels(content)
    assert found is not None
    np.testing.assert_array_equal(found, by_pillow(content))


FILTERED = np.zeros((4, 13), np.uint8)


def saved(mode: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (5, 4)).save(stream, "PNG", **options)
    return stream.getvalue()


def wrong_filter() -> bytes:
    lines = FILTERED.copy()
    lines[2, 0] = 5
    return write_png(lines)


@pytest.mark.parametrize(
    "content",
    [
        saved("L"),
        saved("RGBA"),
        saved("P"),
        write_png(FILTERED, chunk(b"tRNS", bytes(6))),
        write_png(FILTERED)[:-20],
        write_png(FILTERED).replace(b"IDAT", b"IDAU", 1),
        write_png(FILTERED)[:60] + b"\xff" + write_png(FILTERED)[61:],
        write_png(FILTERED[:, :-1]),
        write_png(FILTERED, tail=b"more"),
        wrong_filter(),
        b"GIF89a",
        b"",
    ],
)
def test_anything_else_is_left_to_pillow(content: bytes) -> None:
    assert png_pixels(content) is None


def test_a_small_file_that_names_a_huge_picture_is_left_to_pillow() -> None:
    content = bytearray(write_png(FILTERED))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    assert png_pixels(bytes(content)) is None
    with pytest.raises(ConnectomeBenchError, match="a picture is damaged"):
        decode({"bytes": bytes(content), "path": None})


@pytest.fixture
def stock() -> Iterator[datasets.Dataset]:
    random = np.random.default_rng(0)
    features = datasets.Features(
        {"images": datasets.List(datasets.Image()), "name": datasets.Value("string"), "one": datasets.Image()}
    )
    pictures = [[Image.fromarray(random.integers(0, 256, (6, 7, 3), dtype=np.uint8)) for _ in "abc"] for _ in range(9)]
    pictures[4][1] = pictures[4][1].convert("L")
    rows = {"images": pictures, "name": list("abcdefghi"), "one": [row[0] for row in pictures]}
    yield datasets.Dataset.from_dict(rows, features=features)


def test_pictures_are_decoded_once_and_are_the_same(stock, monkeypatch) -> None:
    expected = [[np.asarray(image) for image in row["images"]] for row in stock]
    ours = decode_once(stock.select(range(9)))
    calls: list[bytes] = []
    whole = stored_picture.decode_png
    monkeypatch.setattr(stored_picture, "decode_png", lambda content: calls.append(content) or whole(content))
    rows = [row["images"] for row in ours]
    assert len(calls) == 27
    for images, pixels in zip([*rows, *ours[:]["images"], *ours["images"]], expected * 3, strict=True):
        for image, wanted in zip(images, pixels, strict=True):
            assert (image.mode, image.format) == ("RGB" if wanted.ndim == 3 else "L", "PNG")
            np.testing.assert_array_equal(np.asarray(image), wanted)


def test_what_is_made_of_the_rows_is_as_stock(stock, tmp_path) -> None:
    ours = decode_once(stock.select(range(9)))
    assert isinstance(ours.features["images"].feature, StoredPicture)
    assert ours.features == stock.features and stock.features == ours.features
    assert ours.features["images"] != datasets.List(datasets.Image(decode=False))
    assert ours.features.to_dict() == stock.features.to_dict()
    both = datasets.concatenate_datasets([ours, stock])
    assert len(both) == 18
    mapped = ours.map(lambda row: {"images": row["images"][:2]})
    assert [image.size for image in mapped[8]["images"]] == [(7, 6)] * 2
    ours.to_parquet(tmp_path / "rows.parquet")
    again = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
    assert type(again.features["images"].feature) is datasets.Image
    tensors = ours.with_format("numpy")[0]["images"]
    np.testing.assert_array_equal(np.asarray(tensors[1]), np.asarray(stock[0]["images"][1]))
    raw = ours.cast_column("images", datasets.List(datasets.Image(decode=False)))
    assert raw[0]["images"][0]["bytes"][:4] == b"\x89PNG"


def test_several_threads_read_the_same_rows_in_order(stock) -> None:
    ours = decode_once(stock.select([number % 9 for number in range(50)]))
    rows = list(read_decoded(ours, threads=2))
    assert [row["name"] for row in rows] == ours["name"][:] == [row["name"] for row in read_decoded(ours)]
    assert all(
        np.array_equal(np.asarray(one), np.asarray(other))
        for row, same in zip(rows, ours, strict=True)
        for one, other in zip(row["images"], same["images"], strict=True)
    )
    some = read_decoded(ours, threads=2)
    next(some)
    some.close()
