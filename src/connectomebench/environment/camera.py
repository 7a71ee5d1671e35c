"""Where one looks from, and how an action changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.site import Point
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.dataset.neighbourhoods import Neighbourhood
from connectomebench.rendering.camera import view_frame

STEP = 0.25  # of a move, in edges of the view
ZOOM = 1.5
TURN_DEGREES = 30.0
CLOSEST = 8.0  # least edge of a view: that of the row divided by this

_MOVES = {
    "move_right": (1, 0, 0),
    "move_left": (-1, 0, 0),
    "move_down": (0, 1, 0),
    "move_up": (0, -1, 0),
    "move_forward": (0, 0, 1),
    "move_back": (0, 0, -1),
}
_ZOOMS = {"zoom_in": 1 / ZOOM, "zoom_out": ZOOM}
# axis of the camera (0 right, 1 down) and direction
_TURNS = {"turn_left": (1, -1), "turn_right": (1, 1), "turn_up": (0, 1), "turn_down": (0, -1)}
_PAGES = {"next_page": 1, "previous_page": -1}
NEIGHBOURS = "neighbours"

VIEW_ACTIONS: tuple[str, ...] = (
    *MESH_VIEWS, *_TURNS, *_MOVES, *_ZOOMS, *EM_VIEWS, *_PAGES, NEIGHBOURS
)  # fmt: skip
"""Actions that give a view: a camera of the rows, a turn, a move, a zoom, slices, another page, neighbours or not."""

# axes of columns, rows and pages in the world
PLANES = {"em_xy": (0, 1, 2), "em_xz": (0, 2, 1), "em_yz": (1, 2, 0)}


@dataclass(frozen=True)
class Camera:
    """What is looked at.

    Attributes
    ----------
    offset_nm
        Centre of the view relative to that of the row (x, y, z), nm.
    extent_nm
        Edge of the view, nm.
    frame
        Right, down and forward as vectors of the world, row after row; 9 numbers.
    plane
        ``em_xy``, ``em_xz`` or ``em_yz`` where slices are looked at, else empty.
    page
        Which slice, counted from 0.
    neighbours
        Whether segments that the row does not ask about are shown.
    """

    offset_nm: Point
    extent_nm: float
    frame: tuple[float, ...]
    plane: str
    page: int
    neighbours: bool

    def matrix(self) -> NDArray[np.float64]:
        """Return right, down and forward, shape (3, 3)."""
        return np.array(self.frame).reshape(3, 3)


def seen_at(camera: Camera) -> tuple[float, float]:
    """Return where the place of the row is seen, as shares of the view's edge from the left and from the top.

    Examples
    --------
    >>> from connectomebench.environment.camera import Camera, seen_at
    >>> seen_at(Camera((250.0, 0.0, 0.0), 1000.0, (1, 0, 0, 0, 1, 0, 0, 0, 1), "", 0, False))
    (0.25, 0.5)
    """
    axes = np.eye(3)[list(PLANES[camera.plane])] if camera.plane else camera.matrix()
    right, down, _ = (axes @ -np.array(camera.offset_nm) / camera.extent_nm + 0.5).tolist()
    return right, down


def first_camera(place: Neighbourhood) -> Camera:
    """Return the camera of the first view of a row: from the front, without neighbours."""
    return Camera((0.0, 0.0, 0.0), place.extent_nm, _flat(view_frame("front")), "", place.pages // 2, False)


def can(action: str, camera: Camera, place: Neighbourhood) -> bool:
    """Tell whether an action of :data:`VIEW_ACTIONS` changes what is seen; others give the same view again."""
    return moved(camera, action, place) != camera


def moved(camera: Camera, action: str, place: Neighbourhood) -> Camera:
    """Return the camera after an action of :data:`VIEW_ACTIONS`.

    Nothing moves out of what is known: centres stay in the cube of meshes, edges between that cube and an eighth of the
    row's, pages within the slices. Moves and turns go along the axes of the view; slices are not turned.

    Raises
    ------
    ValueError
        If there is no such action.
    """
    if action in MESH_VIEWS:
        return replace(camera, frame=_flat(view_frame(action)), plane="")
    if action in _TURNS:
        return camera if camera.plane else replace(camera, frame=_turned(camera, *_TURNS[action]))
    if action in _MOVES:
        return _shifted(camera, np.array(_MOVES[action], np.float64), place)
    if action in _ZOOMS:
        extent = camera.extent_nm * _ZOOMS[action]
        return replace(camera, extent_nm=min(max(extent, place.extent_nm / CLOSEST), place.reach_nm))
    if action in PLANES:
        return replace(camera, plane=action) if place.pages else camera
    if action in _PAGES:
        page = min(max(camera.page + _PAGES[action], 0), max(place.pages - 1, 0))
        return replace(camera, page=page) if camera.plane else camera
    if action == NEIGHBOURS:
        return replace(camera, neighbours=not camera.neighbours)
    raise ValueError(f"no action {action!r}")


def _shifted(camera: Camera, along: NDArray[np.float64], place: Neighbourhood) -> Camera:
    axes = camera.matrix()
    if camera.plane:
        if along[2]:
            return camera  # pages do that
        axes = np.eye(3)[list(PLANES[camera.plane])]
    limit = place.reach_nm / 2
    x, y, z = np.clip(np.array(camera.offset_nm) + STEP * camera.extent_nm * (along @ axes), -limit, limit).tolist()
    return replace(camera, offset_nm=(x, y, z))


def _turned(camera: Camera, axis: int, direction: int) -> tuple[float, ...]:
    """Turn about an axis of the camera; rounded, so that twelve turns come back to where they began."""
    angle = np.deg2rad(direction * TURN_DEGREES)
    cosine, sine = np.cos(angle), np.sin(angle)
    one, two = ((1, 2), (2, 0))[axis]
    turn = np.eye(3)
    turn[[one, two], [one, two]] = cosine
    turn[one, two], turn[two, one] = -sine, sine
    u, _, v = np.linalg.svd(turn @ camera.matrix())
    return _flat(u @ v)


def _flat(frame: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple((np.round(frame, 12) + 0.0).ravel().tolist())
