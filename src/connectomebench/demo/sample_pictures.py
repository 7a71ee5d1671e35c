"""A sample's pictures as HTML: views side by side, slices to page through, each opened large by a click."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from connectomebench.demo.stored_samples import StoredSamples
from connectomebench.demo.texts import is_slice, view_title

_LARGE_BYTES = 200_000
_QUALITY = 90
_PNG = b"\x89PNG\r\n\x1a\n"
# the parts of a PNG file that make up the picture (https://www.w3.org/TR/png-3/#11Chunks); others may hold words
_PIXELS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs"))
_THUMB_PX = 176


def data_uri(data: bytes) -> str:
    """Return a picture as a data URI that holds pixels and nothing else.

    It has no name and no address on the server, so nothing beside the picture can tell the answer. PNG files go as they
    are stored; those above 200 kB, those that carry more than a picture, and other files are encoded anew as JPEG.

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
            # a new picture: the old one's comments would be written again
            bare = Image.new("RGB", picture.size)
            bare.paste(picture.convert("RGB"))
        bare.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
        data, kind = stream.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _is_bare_png(data: bytes) -> bool:
    """Tell whether a file is a PNG without comments or anything behind its end, from the heads of its chunks."""
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


def views_html(samples: StoredSamples, key: tuple[str, str], number: int, place: str) -> Markup:
    """Draw all pictures of a sample.

    Parameters
    ----------
    samples, key, number
        Which one.
    place
        Unique in the page; names the group of radio buttons.

    Returns
    -------
    Markup
        Mesh views in a row; slices of image data one at a time, with a radio button each. Every picture is a button
        that ``page.js`` opens large.
    """
    names = samples.row(key, number)["views"]
    shown = list(zip(names, samples.pictures(key, number), strict=True))
    views = [figure(name, data) for name, data in shown if not is_slice(name)]
    slices = [(name, data) for name, data in shown if is_slice(name)]
    parts = [f'<div class="cb-views">{"".join(views)}</div>'] if views else []
    if slices:
        parts.append(_pager(slices, place))
    return Markup(f'<div class="cb-pictures">{"".join(parts)}</div>')


def figure(name: str, data: bytes) -> str:
    """Return a picture as a button that ``page.js`` opens large, with the name of its view below."""
    title = escape(view_title(name))
    return (
        f'<figure class="cb-view"><button type="button" class="cb-zoom" aria-label="Enlarge: {title}">'
        f'<img src="{data_uri(data)}" alt="{title}"></button><figcaption>{title}</figcaption></figure>'
    )


def _pager(slices: Sequence[tuple[str, bytes]], place: str) -> str:
    """Show one slice at a time; radio buttons, so that paging needs no script and works with the arrow keys."""
    radios = "".join(
        f'<label class="cb-page"><input type="radio" name="cb-slice-{escape(place)}" value="{i}"'
        f"{' checked' if i == 0 else ''}>"
        f"<span>{escape(view_title(name))}</span></label>"
        for i, (name, _) in enumerate(slices)
    )
    figures = "".join(figure(name, data) for name, data in slices)
    return (
        f'<fieldset class="cb-slices"><legend>Image data, the blue piece outlined ({len(slices)} slices)</legend>'
        f'<div class="cb-pages">{radios}</div>{figures}</fieldset>'
    )


@lru_cache(maxsize=2048)
def thumbnail(file: bytes) -> str:
    """Return a small WebP of a picture as a data URI."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((_THUMB_PX, _THUMB_PX))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
