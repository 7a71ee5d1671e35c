"""Masks of the two parts of a segment in its views: values, PNG files, and text for result records.

A mask is a grey picture of one view: :data:`TAKEN` where the surface that is seen belongs to the part that the right
split takes away, :data:`STAYS` where it belongs to the part that stays, :data:`NOTHING` elsewhere. So
``mask >= 128`` is the part taken away, and ``mask > 0`` the segment.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTHING, STAYS, TAKEN = 0, 127, 255
"""Values of a pixel."""

MASK = "mask"
"""The text of the column ``answer``, where the answer itself is the pictures of ``target_images``."""

AMBIGUOUS_SHARE = 0.4
"""From this share of the visible segment on, nobody can say which part is the smaller one: either name is right."""

TARGET_PREFIX = "target_"
"""Before the name of a view, among drawn pictures: the mask of that view."""

MAX_PX = 4096
_MAX_TEXT = 8_000_000


def mask_png(mask: NDArray[np.uint8]) -> bytes:
    """Pack a mask (uint8, shape (rows, columns)) into a grey PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG", optimize=False, compress_level=9)
    return stream.getvalue()


def read_mask(picture: Any) -> NDArray[np.uint8]:
    """Read a mask.

    Parameters
    ----------
    picture
        A Pillow image, a PNG file as bytes, or a stored picture (``{"bytes": ...}``).

    Returns
    -------
    uint8, shape (rows, columns)
        Of :data:`NOTHING`, :data:`STAYS` and :data:`TAKEN`.

    Raises
    ------
    ValueError
        If it is no grey picture of these values, or larger than :data:`MAX_PX`.
    """
    from PIL import Image

    if isinstance(picture, Mapping):
        picture = picture.get("bytes")
    if isinstance(picture, bytes):
        try:
            picture = Image.open(io.BytesIO(picture), formats=["PNG"])
            if max(picture.size) > MAX_PX:
                raise ValueError(f"a mask has more than {MAX_PX} pixels an edge")
            picture.load()
        except (OSError, SyntaxError) as error:
            raise ValueError(f"a mask is no PNG file ({error})") from None
    if not isinstance(picture, Image.Image) or picture.mode not in ("L", "1"):
        raise ValueError("a mask is no grey picture")
    mask = np.asarray(picture.convert("L"))
    if not np.isin(mask, (NOTHING, STAYS, TAKEN)).all():
        raise ValueError(f"a mask has other values than {NOTHING}, {STAYS} and {TAKEN}")
    return mask


def encode_masks(masks: Mapping[str, NDArray[np.uint8]]) -> str:
    """Write the masks of the views of a row as one line of text.

    Parameters
    ----------
    masks
        View -> mask, uint8, shape (rows, columns).

    Returns
    -------
    str
        ``VIEW=PNG;VIEW=PNG``, the PNG files in base64.

    Examples
    --------
    >>> import numpy as np
    >>> text = encode_masks({"front": np.array([[0, 127], [255, 255]], np.uint8)})
    >>> decode_masks(text)["front"].tolist()
    [[0, 127], [255, 255]]
    """
    return ";".join(f"{view}={base64.b64encode(mask_png(mask)).decode()}" for view, mask in masks.items())


def decode_masks(text: str) -> dict[str, NDArray[np.uint8]]:
    """Read the masks of :func:`encode_masks`; view -> mask, uint8, shape (rows, columns).

    Raises
    ------
    ValueError
        If it is no such text.
    """
    if len(text) > _MAX_TEXT:
        raise ValueError("the text of masks is too long")
    masks: dict[str, NDArray[np.uint8]] = {}
    for part in text.split(";"):
        view, separator, packed = part.partition("=")
        if not separator or not view or view in masks:
            raise ValueError("masks are written as VIEW=PNG;VIEW=PNG")
        try:
            masks[view] = read_mask(base64.b64decode(packed, validate=True))
        except binascii.Error:
            raise ValueError("masks are PNG files in base64") from None
    return masks


def stored_masks(views: Any, target_images: Any) -> dict[str, NDArray[np.uint8]]:
    """Read the masks of a stored row.

    Parameters
    ----------
    views, target_images
        Columns of the row; one mask for each of the first views.

    Returns
    -------
    dict
        View -> mask, uint8, shape (rows, columns).

    Raises
    ------
    ValueError
        If there are no masks, or one cannot be read.
    """
    if not target_images:
        raise ValueError("the row has no target_images")
    return {str(view): read_mask(picture) for view, picture in zip(views, target_images, strict=False)}
