"""Image channels of a view for models that take more than colours: what they hold, and how they are stored.

Seven channels a view of meshes, each 224 x 224 px, as one grey PNG of 16 bits with the channels below each other:

=======  ==============  ==========================================================================
channel  name            holds
=======  ==============  ==========================================================================
0        silhouette      share of the pixel that is seen, 0 to 1
1        depth           of the nearest surface: 0 at the near face of the cube shown, 1 at the far one; times
                         ``extent_nm`` it is nm from the near face
2 to 4   normal x, y, z  unit vector out of the object, in the axes of the world; for a pair of turned pictures
                         (``first``, ``second``) right, down and away from the viewer. Towards the viewer where
                         the cube cuts the object open
5        first mask      share of the pixel that is blue in the picture
6        second mask     share of the pixel that is orange in the picture; empty where one segment is shown
=======  ==============  ==========================================================================

All channels are 0 where nothing is seen. They hold what the picture shows before the correction, and nothing more.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

GEOMETRY_CHANNELS, GEOMETRY_PX = 7, 224
CHANNEL_NAMES = ("silhouette", "depth", "normal_x", "normal_y", "normal_z", "mask_first", "mask_second")
GEOMETRY_PREFIX = "geometry_"
"""Before the name of a view, among drawn pictures: its channels."""

_SHAPE = (GEOMETRY_CHANNELS, GEOMETRY_PX, GEOMETRY_PX)
_NORMALS = slice(2, 5)
_ZERO, _UNIT, _WHOLE = 32768, 32767, 65535


def pack_channels(channels: NDArray[np.float32]) -> bytes:
    """Pack the channels of one view into a grey PNG file of 16 bits.

    Shares and depth are steps of 1 / 65535; normals steps of 1 / 32767 around 32768.

    Parameters
    ----------
    channels
        float32, shape (7, 224, 224): channel, row, column.
    """
    from PIL import Image

    stored = np.round(channels * _WHOLE)
    stored[_NORMALS] = np.round(channels[_NORMALS] * _UNIT) + _ZERO
    stream = io.BytesIO()
    image = Image.fromarray(np.clip(stored, 0, _WHOLE).astype(np.uint16).reshape(-1, GEOMETRY_PX))
    image.save(stream, "PNG", optimize=False, compress_level=6)
    return stream.getvalue()


def read_geometry(pictures: Sequence[Any]) -> NDArray[np.float32]:
    """Read the channels of a row.

    Parameters
    ----------
    pictures
        The value of its column ``geometry``: Pillow images, or stored pictures (``{"bytes": ...}``).

    Returns
    -------
    float32, shape (views, 7, 224, 224)
        Views of meshes in the order of ``views``, channel, row, column; units as in the table of this module.

    Raises
    ------
    ConnectomeBenchError
        If there are none, or one is no grey PNG of 224 x 1568 px and 16 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench.core.geometry_channels import pack_channels, read_geometry
    >>> channels = np.zeros((7, 224, 224), np.float32)
    >>> channels[0], channels[1], channels[4] = 1, 0.25, -1
    >>> found = read_geometry([{"bytes": pack_channels(channels)}])
    >>> found.shape, [round(float(value), 4) for value in found[0, :, 0, 0]]
    ((1, 7, 224, 224), [1.0, 0.25, 0.0, 0.0, -1.0, 0.0, 0.0])
    """
    if not len(pictures):
        raise ConnectomeBenchError("the row has no geometry channels; build with `views: {geometry: true}`")
    return np.stack([_read_one(picture) for picture in pictures])


def _read_one(picture: Any) -> NDArray[np.float32]:
    from PIL import Image

    try:
        opened = picture
        if not isinstance(picture, Image.Image):
            opened = Image.open(io.BytesIO(picture["bytes"]), formats=["PNG"])
        size, mode = opened.size, opened.mode
        if size != (GEOMETRY_PX, GEOMETRY_CHANNELS * GEOMETRY_PX) or not mode.startswith("I"):
            raise ValueError(f"it has {size[0]} x {size[1]} px in mode {mode}")
        stored = np.asarray(opened).astype(np.float32).reshape(_SHAPE)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConnectomeBenchError(
            f"geometry channels are damaged or of another layout ({reason}); build the dataset again"
        ) from None
    channels = np.divide(stored, _WHOLE, dtype=np.float32)
    channels[_NORMALS] = (stored[_NORMALS] - _ZERO) / _UNIT
    return channels
