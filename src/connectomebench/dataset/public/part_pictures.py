"""Masks of the two parts of a true split, from what ConnectomeBench2 stores of it.

The first release has two masks among the channels of ``geometry`` and the authors leave pixels of both out; here they
count as of neither part. The second has a picture a view, ``split_mask_*``, whose colours its authors do not describe:
any picture is read in which the segment has two colours besides that of the background (and a third where both parts
lie, if it is the sum of the two).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN, mask_png
from connectomebench.dataset.public.pictures import MASK_A, MASK_B, SILHOUETTE
from connectomebench.dataset.public.unmapped import Unmapped
from connectomebench.rendering.views import ViewConfig


def masks_of_channels(channels: NDArray[np.float32]) -> list[bytes]:
    """Make the masks from channels that mark two parts.

    Parameters
    ----------
    channels
        From :func:`connectomebench.dataset.public.archives.read_channels`.

    Returns
    -------
    list of bytes
        PNG files (:mod:`connectomebench.core.part_masks`) of the views front, side, top.

    Raises
    ------
    Unmapped
        If there are no masks, or one part is hardly visible in any view.
    """
    if channels.shape[1] <= MASK_B:
        raise Unmapped("the two parts cannot be distinguished: there are no masks")
    a, b = (channels[:, number] > 0.5 for number in (MASK_A, MASK_B))
    return _masks(a & ~b, b & ~a)


def masks_of_pictures(pictures: Sequence[bytes], channels: NDArray[np.float32]) -> list[bytes]:
    """Make the masks from a picture of each view in which each part has a colour.

    Parameters
    ----------
    pictures
        PNG files of the views front, side, top.
    channels
        Of the same row; its silhouette tells the background.

    Returns
    -------
    list of bytes
        As :func:`masks_of_channels`.

    Raises
    ------
    Unmapped
        If there are other colours than two, or one part is hardly visible in any view.
    """
    edge = channels.shape[-1]
    colours = []
    for content in pictures:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (edge, edge):
                raise Unmapped("its split masks are not as large as its views")
            rgb = np.asarray(picture.convert("RGB"), np.uint32)
        colours.append(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2])
    shown = np.stack(colours)
    outside, times = np.unique(shown[channels[:, SILHOUETTE] <= 0.5], return_counts=True)
    background = outside[times.argmax()] if len(outside) else np.uint32(0)
    first, second = _part_colours(np.unique(shown[shown != background]))
    return _masks(shown == first, shown == second)


def _part_colours(found: NDArray[np.uint32]) -> list[int]:
    """Return the colours of the two parts: of three, one must be that of pixels of both."""
    if len(found) == 2:
        return found.tolist()
    if len(found) != 3:
        raise Unmapped("its split masks do not have two colours")
    for number, colour in enumerate(found.tolist()):
        others = [int(c) for c in np.delete(found, number)]
        if others[0] | others[1] == colour:
            return others
    raise Unmapped("its split masks do not have two colours")


def _masks(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> list[bytes]:
    """Pack masks; the part that covers fewer pixels of all views is taken away."""
    if min(int(part.sum(axis=(1, 2)).max()) for part in (first, second)) < ViewConfig().min_visible_px:
        raise Unmapped("one of the two parts is hardly to be seen")
    taken, stays = (first, second) if first.sum() < second.sum() else (second, first)
    masks = np.full(first.shape, NOTHING, np.uint8)
    masks[stays], masks[taken] = STAYS, TAKEN
    return [mask_png(mask) for mask in masks]
