"""How the pictures of a row stand beside each other for people: every slice under the view of its own plane.

A view and the slice in its plane show the same columns and rows (:mod:`connectomebench.rendering.camera`), so that the
outline of the slice lies in the silhouette above it. Stored rows keep the order of ``views``, which models are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectomebench.core.tasks import candidate_view

PLANES = {"front": "xy", "side": "yz", "top": "xz"}
"""The plane of each mesh view; ``em_`` before it names its slice."""


def plane(view: str) -> str | None:
    """Name the plane of a view or slice (``xy``, ``yz``, ``xz``); None for pictures of no fixed plane."""
    slices = {f"em_{axes}": axes for axes in PLANES.values()}
    return PLANES.get(candidate_view(view)[1]) or slices.get(view)


def plane_columns(views: Sequence[str]) -> list[list[int]]:
    """Group the pictures of a row into columns.

    Parameters
    ----------
    views
        Names in the stored order.

    Returns
    -------
    list of list of int
        Indices of the pictures of each column from top to bottom: a mesh view and the slice in its plane, in the order
        of the views, or the view of each candidate; any other picture alone.

    Examples
    --------
    >>> plane_columns(["front", "side", "top", "em_xy", "em_xz", "em_yz"])
    [[0, 3], [1, 5], [2, 4]]
    >>> plane_columns(["a_front", "a_side", "a_top", "b_front", "b_side", "b_top"])
    [[0, 3], [1, 4], [2, 5]]
    """
    columns: list[list[int]] = []
    by_plane: dict[str, list[int]] = {}
    meshes = {i: PLANES[own] for i, view in enumerate(views) if (own := candidate_view(view)[1]) in PLANES}
    for i, axes in meshes.items():
        if axes not in by_plane:
            by_plane[axes] = []
            columns.append(by_plane[axes])
        by_plane[axes].append(i)
    for i, view in enumerate(views):
        if i in meshes:
            continue
        above = by_plane.get(plane(view) or "")
        if above is None:
            columns.append([i])
        else:
            above.append(i)
    return columns


def plane_rows(views: Sequence[str]) -> list[list[int]]:
    """Give the same pictures line by line: the top of every column, then what stands below.

    Examples
    --------
    >>> plane_rows(["front", "side", "top", "em_xy", "em_xz", "em_yz"])
    [[0, 1, 2], [3, 5, 4]]
    """
    columns = plane_columns(views)
    deepest = max((len(column) for column in columns), default=0)
    return [[column[row] for column in columns if len(column) > row] for row in range(deepest)]


def view_caption(view: str) -> str:
    """Name a picture for people, with its plane.

    Examples
    --------
    >>> view_caption("side"), view_caption("em_yz"), view_caption("first")
    ('side view, yz plane', 'image slice, yz plane', 'first')
    >>> view_caption("b_side")
    'b: side view, yz plane'
    """
    letter, own = candidate_view(view)
    if letter:
        return f"{letter}: {view_caption(own)}"
    axes = plane(view)
    if axes is None:
        return view.replace("_", " ")
    return f"{view} view, {axes} plane" if view in PLANES else f"image slice, {axes} plane"
