"""Render slices of image data with segments marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.site import Part
from connectomebench.core.source import EMSlice
from connectomebench.rendering.colours import EM_OUTSIDE, RGB, SLICE_COLOURS

TINT = 0.25
"""Share of the colour of a segment in the pixels of a slice, where several are shown."""

_TINTS: tuple[RGB, ...] = tuple(dict.fromkeys(SLICE_COLOURS.values()))
_STRIPES = 32  # of the hatch, across an image


def slice_colours(parts: Sequence[Part]) -> dict[int, RGB]:
    """Return segment -> its colour on slices; of two parts of one segment the first counts.

    Examples
    --------
    >>> from connectomebench.core.site import Part
    >>> slice_colours([Part(7, "base"), Part(9, "candidate")])
    {9: (230, 159, 0), 7: (86, 180, 233)}
    """
    return {part.segment_id: SLICE_COLOURS[part.role] for part in reversed(parts)}


def draw_parts(em: EMSlice, parts: Sequence[Part], pixels: int) -> NDArray[np.uint8]:
    """Render a slice with the parts of its site marked: the sides of a cut where they lie, others by their segment.

    Parameters
    ----------
    em
        Slice of any size.
    parts
        Of the site.
    pixels
        Edge of the image.

    Returns
    -------
    uint8, shape (pixels, pixels, 3)
        See :func:`draw_em`.
    """
    if em.sides is None:
        return draw_em(em, slice_colours(parts), pixels)
    colours = {1: SLICE_COLOURS["source"], 2: SLICE_COLOURS["sink"]}
    return draw_em(replace(em, segments=em.sides.astype(np.uint64)), colours, pixels)


def draw_em(em: EMSlice, segments: Mapping[int, RGB], pixels: int) -> NDArray[np.uint8]:
    """Render a slice.

    One segment is outlined, and grey values change only by resizing. Several are tinted, since two lines would hide the
    membrane between them. Missing data are drawn as a hatch in two warm greys, so that they look neither like tissue
    nor like an empty spot.

    Parameters
    ----------
    em
        Slice of any size.
    segments
        Which segments to mark, and in which colours; an outline is 2 pixels wide on an image of 512.
    pixels
        Edge of the image.

    Returns
    -------
    uint8, shape (pixels, pixels, 3)
        sRGB, rows downwards, columns to the right.
    """
    size = (pixels, pixels)
    gray = np.asarray(Image.fromarray(em.gray).resize(size, Image.Resampling.BICUBIC))
    picture = np.repeat(gray[..., None], 3, axis=2)
    inside = _enlarge(em.inside, pixels)
    picture[~inside] = _hatch(pixels)[~inside]
    for segment, colour in segments.items():
        # Smoothly enlarged: a mask of large voxels would give a stepped line, unlike image data of the same voxels.
        mask = _enlarge(em.segments == np.uint64(segment), pixels)
        if len(segments) == 1:
            picture[_outline(mask, max(1, round(pixels / 512))) & inside] = colour
        else:
            own = mask & inside
            picture[own] = _tint(gray[own, None].astype(np.float32), colour)
    return picture


def untinted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take the tints off a slice; all else stays as it is.

    Parameters
    ----------
    picture
        uint8, shape (rows, columns, 3), of :func:`draw_em`.

    Returns
    -------
    uint8, shape (rows, columns, 3)
        The grey values of tinted pixels are those of the image data, up to rounding by 1.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench.core.source import EMSlice
    >>> grey = np.full((8, 8), 90, np.uint8)
    >>> em = EMSlice(grey, np.ones((8, 8), np.uint64), np.ones((8, 8), np.bool_))
    >>> np.unique(untinted(draw_em(em, {1: (230, 159, 0), 2: (86, 180, 233)}, 8))).tolist()
    [90]
    """
    plain = picture.copy()
    for _, grey, tinted in _tints(picture):
        plain[tinted] = np.clip(grey, 0, 255)
    return plain


def swap_tints(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give each tinted segment of a slice the colour of the other; all else stays as it is.

    Parameters
    ----------
    picture
        uint8, shape (rows, columns, 3), of :func:`draw_em`.

    Returns
    -------
    uint8, shape (rows, columns, 3)

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench.core.source import EMSlice
    >>> labels = np.eye(8, dtype=np.uint64) + np.uint64(1)
    >>> em = EMSlice(np.full((8, 8), 90, np.uint8), labels, np.ones((8, 8), np.bool_))
    >>> one = draw_em(em, {1: (230, 159, 0), 2: (86, 180, 233)}, 8)
    >>> other = draw_em(em, {2: (230, 159, 0), 1: (86, 180, 233)}, 8)
    >>> bool((swap_tints(one) == other).all())
    True
    """
    swapped = picture.copy()
    for (_, grey, tinted), colour in zip(_tints(picture), reversed(_TINTS), strict=True):
        swapped[tinted] = _tint(grey, colour)
    return swapped


def _tints(picture: NDArray[np.uint8]) -> list[tuple[RGB, NDArray[np.floating], NDArray[np.bool_]]]:
    """Find the pixels of each tint: colour, grey values below them, shape (pixels, 1), and where they are."""
    red, green, blue = np.moveaxis(picture.astype(np.int16), 2, 0)
    to_green, to_blue = red - green, red - blue
    found = []
    for colour in _TINTS:
        # A tint adds the same to every grey value, so differences of channels rule out most pixels. Two channels that
        # may be off by 1 and were rounded, less two that are rounded here: up to 4 in a difference.
        r, g, b = (round(channel * TINT) for channel in colour)
        tinted = (np.abs(to_green - (r - g)) <= 4) & (np.abs(to_blue - (r - b)) <= 4)
        values = picture[tinted].astype(np.float64)
        grey = np.round((values - np.array(colour) * TINT).mean(axis=1) / (1 - TINT))[:, None]
        # rounding may leave the scale by 1; what is further off is another colour
        own = (np.abs(_tint(grey, colour) - values) <= 1).all(axis=1) & (grey[:, 0] >= -1) & (grey[:, 0] <= 256)
        tinted[tinted] = own
        found.append((colour, grey[own], tinted))
    return found


def _tint(grey: NDArray[np.floating], colour: RGB) -> NDArray[np.floating]:
    """Mix grey values, shape (..., 1), with a colour; shape (..., 3)."""
    return np.round(grey * (1 - TINT) + np.array(colour) * TINT)


def _enlarge(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize((pixels, pixels), Image.Resampling.BILINEAR)
    return np.asarray(image) >= 128


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Mark ``width`` pixels on either side of the border of a mask, none along the image frame."""
    padded = np.pad(mask, width, mode="edge")
    grown, shrunk = padded, padded
    for _ in range(width):
        grown, shrunk = _spread(grown), ~_spread(~shrunk)
    return (grown & ~shrunk)[width:-width, width:-width]


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by one pixel along rows and columns."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _hatch(pixels: int) -> NDArray[np.uint8]:
    period = max(2, 2 * pixels // _STRIPES)
    rows, columns = np.indices((pixels, pixels))
    return np.array(EM_OUTSIDE, np.uint8)[((rows + columns) % period >= period // 2).astype(int)]
