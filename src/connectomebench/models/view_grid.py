"""Views of a row beside each other in one square picture, as ResNets were published: 1 x 2, 2 x 2 or 2 x 3."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Literal

from connectomebench.rendering.colours import BACKGROUND

if TYPE_CHECKING:
    import torch

Layout = Literal["views", "grid"]


def grid_shape(views: int) -> tuple[int, int]:
    """Return rows and columns of the grid of so many views.

    Examples
    --------
    >>> [grid_shape(views) for views in (1, 2, 3, 4, 6)]
    [(1, 1), (1, 2), (2, 2), (2, 2), (2, 3)]
    """
    columns = next(n for n in range(1, views + 1) if n * n >= views)
    return ceil(views / columns), columns


def cell_px(views: int, px: int, layout: Layout) -> tuple[int, int]:
    """Return height and width of one view in the network's picture, px.

    Parameters
    ----------
    views
        Number of views a row.
    px
        Edge of the network's square picture.
    layout
        ``views``: each view is a picture. ``grid``: all of them are one, each squeezed into its cell.

    Examples
    --------
    >>> cell_px(2, 224, "grid"), cell_px(3, 224, "grid"), cell_px(6, 224, "grid"), cell_px(6, 224, "views")
    ((224, 112), (112, 112), (112, 74), (224, 224))
    """
    if layout == "views":
        return px, px
    rows, columns = grid_shape(views)
    return px // rows, px // columns


def arrange(cells: torch.Tensor, px: int, layout: Layout) -> torch.Tensor:
    """Make the network's pictures of the views of rows.

    Parameters
    ----------
    cells
        RGB, uint8, shape (rows, views, height, width, 3), of the size :func:`cell_px`.
    px
        Edge of the pictures.
    layout
        See :func:`cell_px`.

    Returns
    -------
    Tensor
        RGB, uint8, shape (rows, pictures, ``px``, ``px``, 3): as many pictures as views, or one grid, filled line by
        line in the order of the views. What no view covers has the colour of the background.
    """
    if layout == "views":
        return cells
    number, views, height, width, _ = cells.shape
    pictures = cells.new_tensor(BACKGROUND).repeat(number, 1, px, px, 1)
    columns = grid_shape(views)[1]
    for view in range(views):
        top, left = view // columns * height, view % columns * width
        pictures[:, 0, top : top + height, left : left + width] = cells[:, view]
    return pictures
