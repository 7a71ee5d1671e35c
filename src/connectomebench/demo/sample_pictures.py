"""Render a sample's images as HTML: views side by side, slices below, each enlarged by a click."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from connectomebench.core.view_layout import plane_columns
from connectomebench.demo.stored_samples import StoredSamples
from connectomebench.demo.texts import view_title
from connectomebench.rendering.overlay import has_overlay, overlay_svg

_LARGE_BYTES = 200_000
_QUALITY = 90
_PNG = b"\x89PNG\r\n\x1a\n"
# chunks of a PNG file that make up the image (https://www.w3.org/TR/png-3/#11Chunks); others may hold text
_PIXELS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs"))
_THUMB_PX = 176


def data_uri(data: bytes) -> str:
    """Return an image as a data URI that holds pixels and nothing else.

    It has no name and no address on the server, so nothing but the pixels can reveal the answer. PNG files are passed
    as stored; those above 200 kB or with more than an image, and other formats, are re-encoded as JPEG.

    Parameters
    ----------
    data
        A PNG, JPEG or WebP file.
    """
    kind = "png"
    if len(data) > _LARGE_BYTES or not _is_bare_png(data):
        from PIL import Image

        stream = io.BytesIO()
        with Image.open(io.BytesIO(data)) as picture:
            # a new image: the comments of the old one would be written again
            bare = Image.new("RGB", picture.size)
            bare.paste(picture.convert("RGB"))
        bare.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
        data, kind = stream.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _is_bare_png(data: bytes) -> bool:
    """Check from the chunk headers whether a file is a PNG without comments or trailing data."""
    if not data.startswith(_PNG):
        return False
    at = len(_PNG)
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        at += size + 12
        if kind not in _PIXELS:
            return False
        if kind == b"IEND":
            return at == len(data)
    return False


def views_html(samples: StoredSamples, key: tuple[str, str], number: int) -> Markup:
    """Show all images of a sample, each slice below the view of its plane.

    Parameters
    ----------
    samples, key, number
        The samples, the collection and the row.

    Returns
    -------
    Markup
        A column for each view. Every image is a button that ``page.js`` enlarges, with a centre mark and a scale
        bar over it.
    """
    row = samples.row(key, number)
    return pictures_html(list(row["views"]), samples.pictures(key, number), row.get("extent_nm"))


def pictures_html(
    names: Sequence[str], files: Sequence[bytes], extent_nm: float | None, titles: Sequence[str] | None = None
) -> Markup:
    """Show images in columns; see :func:`views_html`.

    Parameters
    ----------
    names, files
        View names and image files, in the stored order.
    extent_nm
        Edge of the views, nm; without an overlay if None.
    titles
        Name of each picture for people; by default that of its view.
    """
    shown = titles or [view_title(name) for name in names]
    columns = "".join(
        f'<div class="cb-plane">{"".join(figure(names[i], files[i], extent_nm, shown[i]) for i in column)}</div>'
        for column in plane_columns(names)
    )
    return Markup(f'<div class="cb-views">{columns}</div>')


def figure(name: str, data: bytes, extent_nm: float | None = None, called: str | None = None) -> str:
    """Return an image as a button that ``page.js`` enlarges, with the name of its view and plane below."""
    title = escape(called or view_title(name))
    overlay = overlay_svg(extent_nm) if extent_nm is not None and has_overlay(name, extent_nm) else ""
    return (
        f'<figure class="cb-view"><button type="button" class="cb-zoom" aria-label="Enlarge: {title}">'
        f'<img src="{data_uri(data)}" alt="{title}">{overlay}</button><figcaption>{title}</figcaption></figure>'
    )


@lru_cache(maxsize=2048)
def thumbnail(file: bytes) -> str:
    """Return a small WebP of an image as a data URI."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((_THUMB_PX, _THUMB_PX))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
