"""Define the three orthographic cameras.

Each view shows the cube of edge ``extent_nm`` around the site, filling the image exactly. The image planes are
those of the slices of image data, in the same orientation, so that a view and its slice match pixel for
pixel:

======  =====================  ==================  ==========================
view    columns (to the right)  rows (downwards)    looking along
======  =====================  ==================  ==========================
front   +x                     +y                  +z (plane of ``em_xy``)
side    +y                     +z                  +x (plane of ``em_yz``)
top     +x                     +z                  -y (plane of ``em_xz``)
======  =====================  ==================  ==========================

Right, down and looking direction are a right-handed frame: no view is a mirror image. Nothing outside the cube is
visible, including in depth: the near and far planes are its front and back face.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.tasks import MESH_VIEWS

# Rows: right, down, forward (the looking direction), as vectors of the world (x, y, z).
_FRAMES = {
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "side": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "top": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}


def view_frame(view: str) -> NDArray[np.float64]:
    """Return the rotation from the world (x, y, z) to a camera (right, down, forward).

    Parameters
    ----------
    view
        ``front``, ``side`` or ``top``.

    Returns
    -------
    float64, shape (3, 3)
        Orthonormal with determinant +1; ``frame @ point`` gives camera coordinates.
    """
    return np.array(_FRAMES[view], dtype=np.float64)


def view_frames() -> NDArray[np.float64]:
    """Return the rotations of all mesh views in the order of ``MESH_VIEWS``; float64, shape (3, 3, 3)."""
    return np.stack([view_frame(v) for v in MESH_VIEWS])
