from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from public_files import png

from connectomebench.dataset.public.pngs import stored_png
from connectomebench.dataset.public.unmapped import Unmapped


def sized(width: int, height: int) -> bytes:
    """A PNG file of some bytes that announces a picture of this size."""
    content = bytearray(png(1, 16))
    struct.pack_into(">II", content, 16, width, height)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    return bytes(content)


def test_a_picture_is_passed_on_unchanged() -> None:
    assert stored_png(png(1)) == stored_png({"bytes": png(1), "path": "/etc/passwd"}) == png(1)
    assert stored_png(sized(4096, 4096))  # nothing is decoded


@pytest.mark.parametrize(
    ("size", "told"), [((4097, 16), "4096 px"), ((16, 4097), "4096 px"), ((0, 16), "4096 px"), ((2**31, 2**31), "4096")]
)
def test_large_pictures_are_refused_by_their_header(size: tuple[int, int], told: str) -> None:
    with pytest.raises(Unmapped, match=told):
        stored_png(sized(*size))


def test_what_is_no_png_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    damaged = bytearray(png(1))
    damaged[-20] ^= 0xFF
    (tmp_path / "there.png").write_bytes(png(1))
    for value, told in [
        (stream.getvalue(), "no PNG file"),
        (b"\x89PNG", "no PNG file"),
        (bytes(damaged), "damaged"),
        (png(1)[:60], "damaged"),
        (bytes(32_000_001), "larger than"),
        (None, "missing"),
        ({"bytes": None, "path": str(tmp_path / "there.png")}, "missing"),
        (str(tmp_path / "there.png"), "missing"),
    ]:
        with pytest.raises(Unmapped, match=told):
            stored_png(value)
