"""Geometry channels of ConnectomeBench2 in the form of ours (:mod:`connectomebench.core.geometry_channels`).

Silhouette and masks are the same quantities. Normals are turned towards the viewer, whichever way a mesh winds, as its
pictures are lit; their axes are those of the world. The depth is theirs: 0 to 1, scaled for each segment and view by
itself, and so no length. Their views look along other directions than ours
(:mod:`connectomebench.dataset.public.pictures`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.geometry_channels import GEOMETRY_CHANNELS, GEOMETRY_PX, pack_channels
from connectomebench.dataset.public.pictures import FRAMES, MASK_A, MASK_B, SILHOUETTE

_NORMALS = slice(2, 5)


def packed_channels(channels: NDArray[np.float32], *, pair: bool) -> list[bytes]:
    """Pack the channels of one sample.

    Parameters
    ----------
    channels
        From :func:`connectomebench.dataset.public.archives.read_channels`, shape (3, 5 or 7, row, column).
    pair
        Whether two segments are shown; else all that is seen is of the first mask, whatever the masks say.

    Returns
    -------
    list of bytes
        Grey PNG files of 16 bits for front, side and top, of 224 px.
    """
    views, count = channels.shape[:2]
    found = np.zeros((views, GEOMETRY_CHANNELS, *channels.shape[2:]), np.float32)
    found[:, : min(count, GEOMETRY_CHANNELS)] = channels[:, :GEOMETRY_CHANNELS]
    seen = channels[:, SILHOUETTE] > 0.5
    if not pair:
        found[:, MASK_A], found[:, MASK_B] = seen, 0
    for view, frame in zip(found, FRAMES, strict=True):
        view[_NORMALS] *= np.where(np.tensordot(frame[2], view[_NORMALS], axes=1) > 0, -1, 1)
    found *= seen[:, None]
    return [pack_channels(np.clip(_resized(view), -1, 1)) for view in found]


def _resized(view: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resize the channels of one view by area, as shares of pixels."""
    if view.shape[1] == GEOMETRY_PX:
        return view
    size = (GEOMETRY_PX, GEOMETRY_PX)
    return np.stack([np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BOX)) for channel in view])
