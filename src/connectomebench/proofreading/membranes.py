"""How much of a membrane the image shows at a point: dark sheets, by second derivatives of the smoothed image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SCALE_NM = 15.0
"""Width of the smoothing: half the width of a membrane with its stain, where voxels are that fine."""
_LEAST_SCALE_VX = 0.7  # a narrower Gaussian has no second derivative on a grid worth the name
_TRUNCATE = 4.0  # of the filters, in widths; beyond is nothing


def sheetness(gray: NDArray[np.uint8], at_vx: NDArray[np.int64], voxel_nm: Sequence[float]) -> NDArray[np.float64]:
    """Measure how much points lie on a dark sheet: the largest eigenvalue of the scale-normalised Hessian.

    Across a membrane brightness has a minimum, so the second derivative that way is large and positive; inside cells it
    is near 0, and in the middle of a bright sheet negative.

    Parameters
    ----------
    gray
        Image, uint8, shape (x, y, z).
    at_vx
        int64, shape (n, 3): voxels of it.
    voxel_nm
        Size of a voxel along x, y, z, nm. The scale is :data:`SCALE_NM`, or the shortest edge of a voxel if that is
        more. Along axes with much longer voxels, such as those across thick sections, nothing is smoothed or derived.

    Returns
    -------
    float64, shape (n,)
        In grey levels.

    Notes
    -----
    After Lindeberg, Edge detection and ridge detection with automatic scale selection (1998).

    Examples
    --------
    >>> gray = np.full((21, 21, 21), 200, np.uint8)
    >>> gray[10] = 50  # a membrane across x
    >>> on, off = sheetness(gray, np.array([[10, 10, 10], [2, 10, 10]]), (10, 10, 10))
    >>> bool(on > 40), bool(abs(off) < 1)
    (True, True)
    """
    from scipy.ndimage import gaussian_filter

    if not len(at_vx):
        return np.zeros(0)
    widths = max(SCALE_NM, min(voxel_nm)) / np.asarray(voxel_nm, np.float64)
    axes = np.flatnonzero(widths >= _LEAST_SCALE_VX)
    used = np.where(widths >= _LEAST_SCALE_VX, widths, 0.0)
    # filters see the part of the image round the points alone
    reach = np.ceil(_TRUNCATE * used).astype(np.int64) + 1
    lower = np.maximum(at_vx.min(axis=0) - reach, 0)
    upper = np.minimum(at_vx.max(axis=0) + reach + 1, gray.shape)
    part = gray[tuple(slice(a, b) for a, b in zip(lower.tolist(), upper.tolist(), strict=True))].astype(np.float32)
    here = tuple((at_vx - lower).T)
    hessian = np.zeros((len(at_vx), len(axes), len(axes)))
    for i, j in itertools.combinations_with_replacement(range(len(axes)), 2):
        orders = np.bincount([axes[i], axes[j]], minlength=3)
        derived = gaussian_filter(part, used, orders.tolist(), mode="nearest", truncate=_TRUNCATE)
        hessian[:, i, j] = hessian[:, j, i] = derived[here] * widths[axes[i]] * widths[axes[j]]
    return np.asarray(np.linalg.eigvalsh(hessian)[:, -1], np.float64)
