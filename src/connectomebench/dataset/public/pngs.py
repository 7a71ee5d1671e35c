"""Check untrusted PNG files: their size is read from the header before decoding."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

from connectomebench.dataset.public.unmapped import Unmapped

MAX_BYTES = 32_000_000
MAX_PX = 4096
MISSING_PICTURE = "a picture is missing"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# signature, length and name of the first chunk, width, height (PNG specification, 11.2.1)
_HEADER = struct.Struct(">8s4s4sII")


def stored_png(value: Any) -> bytes:
    """Return the PNG file of a cell.

    Parameters
    ----------
    value
        Bytes, or an image as `datasets` stores it, ``{"bytes": ..., "path": ...}``; the path is never followed.

    Returns
    -------
    bytes
        The file, unchanged.

    Raises
    ------
    Unmapped
        If there is none, it is no PNG file, it is damaged or too large.
    """
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(content, bytes):
        raise Unmapped(MISSING_PICTURE)
    if len(content) > MAX_BYTES:
        raise Unmapped(f"a picture is larger than {MAX_BYTES} bytes")
    if len(content) < _HEADER.size:
        raise Unmapped("a picture is no PNG file")
    signature, _, chunk, width, height = _HEADER.unpack_from(content)
    if signature != _SIGNATURE or chunk != b"IHDR":
        raise Unmapped("a picture is no PNG file")
    if not (0 < width <= MAX_PX and 0 < height <= MAX_PX):
        raise Unmapped(f"a picture is not between 1 and {MAX_PX} px wide and high")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            # checks the sums of all chunks without decoding
            image.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise Unmapped("a picture is damaged") from error
    return content
