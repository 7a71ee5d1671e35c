"""Loops that a person draws round what a split takes away: text, checks, and masks made from them.

A loop is a closed line of points, each a share of the width and of the height of the picture, counted from its upper
left corner. All that lies within a loop of its view is taken away, as far as it is segment.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import encode_masks
from connectomebench.models.images import StoredImage
from connectomebench.models.mask_baselines import mask_of, silhouette

Loop = list[tuple[float, float]]
"""Column and row of each corner, shares of the edge."""

MOST_TEXT = 200_000
"""Most characters of the loops of one row."""
_LEAST_CORNERS = 3


def read_loops(text: str, views: Sequence[str]) -> dict[str, list[Loop]]:
    """Read the loops of a row.

    Parameters
    ----------
    text
        JSON: ``{VIEW: [[[column, row], ...], ...], ...}``.
    views
        Views that may have loops.

    Returns
    -------
    dict
        View -> loops; views without one are left out.

    Raises
    ------
    ConnectomeBenchError
        If it is no such text, or holds no loop at all.

    Examples
    --------
    >>> read_loops('{"front": [[[0, 0], [0.5, 0], [0, 0.5]]]}', ("front", "side"))
    {'front': [[(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)]]}
    """
    if len(text) > MOST_TEXT:
        raise ConnectomeBenchError("the loops have too many corners; draw them again")
    try:
        sent: dict[str, Any] = json.loads(text)
        loops = {str(view): [_loop(loop) for loop in own] for view, own in sent.items() if own}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ConnectomeBenchError("the loops cannot be read; draw them again") from None
    if not loops or not set(loops) <= set(views):
        raise ConnectomeBenchError("there is no loop in a view of the row; draw one")
    return loops


def _loop(corners: Any) -> Loop:
    loop = [(float(column), float(row)) for column, row in corners]
    if len(loop) < _LEAST_CORNERS or not all(math.isfinite(c) and 0 <= c <= 1 for corner in loop for c in corner):
        raise ValueError("no loop")
    return loop


def inside(loops: Sequence[Loop], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels within at least one loop.

    Parameters
    ----------
    loops
        Of one view.
    shape
        Rows and columns of the picture.

    Returns
    -------
    bool, shape (rows, columns)
        A pixel is within by its centre. Where a loop crosses itself, what it goes round an odd number of times.

    Examples
    --------
    >>> inside([[(0, 0), (0.5, 0), (0.5, 1), (0, 1)]], (2, 4)).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0]]
    """
    from matplotlib.path import Path

    rows, columns = shape
    down, across = np.indices(shape) + 0.5
    centres = np.column_stack([across.ravel(), down.ravel()])
    found = np.zeros(rows * columns, np.bool_)
    for loop in loops:
        found |= Path(np.asarray(loop) * (columns, rows)).contains_points(centres)
    return found.reshape(shape)


def masks_of(loops: Mapping[str, Sequence[Loop]], views: Sequence[str], images: Sequence[StoredImage]) -> str:
    """Return the masks of a row in the form of answers (:func:`connectomebench.core.part_masks.encode_masks`).

    Parameters
    ----------
    loops
        View -> loops.
    views, images
        Columns of the row.
    """
    masks = {}
    for view, image in zip(views, images, strict=True):
        segment = silhouette(image)
        masks[view] = mask_of(segment, inside(loops.get(view, ()), segment.shape))
    return encode_masks(masks)
