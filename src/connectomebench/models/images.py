"""Images of stored rows, decoded or as PNG bytes: content key, pixels, size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.png_pixels import png_pixels

StoredImage: TypeAlias = "Image.Image | Mapping[str, Any]"
"""A PIL image, or its stored form ``{"bytes": ..., "path": ...}`` (``datasets.Image(decode=False)``)."""


def _stored_bytes(image: Mapping[str, Any]) -> bytes:
    content = image.get("bytes")
    return content if content is not None else Path(image["path"]).read_bytes()


def image_key(image: StoredImage) -> str:
    """Hash an image by content: 32 hex digits of SHA-256.

    Encoded images are hashed as stored (no decoding), PIL images by mode, size and pixels; the two keys of the
    same image differ, which costs at most a second encoding.
    """
    if isinstance(image, Image.Image):
        digest = hashlib.sha256(f"pixels:{image.mode}:{image.size}:".encode())
        digest.update(image.tobytes())
    else:
        digest = hashlib.sha256(b"file:")
        digest.update(_stored_bytes(image))
    return digest.hexdigest()[:32]


def decode(image: StoredImage) -> Image.Image:
    """Return the image as a loaded PIL image in mode RGB.

    Raises
    ------
    ConnectomeBenchError
        If it is truncated, damaged, or larger than Pillow's limit.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        content = _stored_bytes(image)
        pixels = png_pixels(content)
        if pixels is not None:
            return Image.fromarray(pixels)
        with Image.open(BytesIO(content)) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise ConnectomeBenchError(
            f"a picture is damaged ({' '.join(str(error).split())[:100]}); fetch or build the dataset again"
        ) from None


def image_size(image: StoredImage) -> tuple[int, int]:
    """Return width and height, px, without decoding."""
    if isinstance(image, Image.Image):
        return image.size
    with Image.open(BytesIO(_stored_bytes(image))) as opened:
        return opened.size
