"""Draw what a camera sees: meshes with the rasteriser of the rows, or a slice of image data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.source import EMSlice
from connectomebench.core.tasks import EM_VIEWS
from connectomebench.dataset.neighbourhoods import NEIGHBOUR, NO_DATA, Neighbourhood
from connectomebench.environment.camera import PLANES, Camera
from connectomebench.rendering.clip import ViewMesh, clip_mesh
from connectomebench.rendering.colours import BACKGROUND, BLUE, EM_OUTLINE, ORANGE, RGB
from connectomebench.rendering.em_slices import draw_em
from connectomebench.rendering.rasterizer import rasterize

# of Okabe and Ito (2008), as the colours of parts are
OTHERS: tuple[RGB, ...] = ((0, 158, 115), (204, 121, 167), (213, 94, 0), (240, 228, 66))
_LETTERS: tuple[RGB, ...] = (ORANGE, *OTHERS)
_TINT = 0.35  # of the colour of an object, over a slice
_DIAGONAL = 3**0.5


def colours_of(place: Neighbourhood) -> list[RGB]:
    """Return the sRGB colour of each object: blue what is asked about, orange its partner, others for the rest.

    Candidates to choose from have orange for a, then green, purple and red; neighbours the colours that follow.
    """
    colours, others = [], [one for one in OTHERS if not _taken(one, place)]
    beside = 0
    for name in place.names:
        if name == NEIGHBOUR:
            colours.append(others[beside % len(others)] if others else (140, 144, 152))
            beside += 1
        elif name in ("candidate", "sink"):
            colours.append(ORANGE)
        elif len(name) == 1 and "a" <= name < "f":
            colours.append(_LETTERS[ord(name) - ord("a")])
        else:
            colours.append(BLUE)
    return colours


def _taken(colour: RGB, place: Neighbourhood) -> bool:
    return any(
        len(name) == 1 and "a" <= name < "f" and _LETTERS[ord(name) - ord("a")] == colour for name in place.names
    )


def draw(place: Neighbourhood, camera: Camera, pixels: int) -> NDArray[np.uint8]:
    """Draw a view; the same place, camera and size give the same bytes.

    Parameters
    ----------
    place
        What is there. Its meshes are indexed once, and then kept as long as it.
    camera
        Where one looks from.
    pixels
        Edge of the picture.

    Returns
    -------
    uint8, shape (pixels, pixels, 3)
        Rows downwards, columns to the right, sRGB.
    """
    return _draw_slice(place, camera, pixels) if camera.plane else _draw_meshes(place, camera, pixels)


def _draw_meshes(place: Neighbourhood, camera: Camera, pixels: int) -> NDArray[np.uint8]:
    meshes, colours = [], []
    for mesh, name, colour in zip(place.meshes, place.names, colours_of(place), strict=True):
        if name == NEIGHBOUR and not camera.neighbours:
            continue
        # the cube along the axes that holds the turned one; the rasteriser cuts at the turned one
        seen = clip_mesh(mesh, camera.offset_nm, camera.extent_nm * _DIAGONAL)
        if len(seen.faces):
            meshes.append(ViewMesh(seen.points * np.float32(_DIAGONAL), seen.normals, seen.faces, seen.cells))
            colours.append(colour)
    if not meshes:
        return np.full((pixels, pixels, 3), BACKGROUND, np.uint8)
    return rasterize(meshes, colours, pixels, 1, camera.matrix()[None])[0]


def _draw_slice(place: Neighbourhood, camera: Camera, pixels: int) -> NDArray[np.uint8]:
    number = EM_VIEWS.index(camera.plane)
    gray, labels = place.slices[number, camera.page], place.labels[number, camera.page]
    column_axis, row_axis, _ = PLANES[camera.plane]
    steps = ((np.arange(pixels) + 0.5) / pixels - 0.5) * camera.extent_nm
    columns = _indices(steps + camera.offset_nm[column_axis], place.extent_nm, len(gray))
    rows = _indices(steps + camera.offset_nm[row_axis], place.extent_nm, len(gray))
    where = np.ix_(np.clip(rows, 0, len(gray) - 1), np.clip(columns, 0, len(gray) - 1))
    known = (rows >= 0)[:, None] & (columns >= 0) & (rows < len(gray))[:, None] & (columns < len(gray))
    seen = labels[where]
    picture = draw_em(EMSlice(gray[where], seen.astype(np.uint64), known & (seen != NO_DATA)), {1: EM_OUTLINE}, pixels)
    for index, (name, colour) in enumerate(zip(place.names, colours_of(place), strict=True), 1):
        # what is asked about is outlined, as in the rows
        if index > 1 and (name != NEIGHBOUR or camera.neighbours):
            own = (seen == index) & known
            picture[own] = np.round(picture[own] * (1 - _TINT) + np.array(colour) * _TINT).astype(np.uint8)
    return picture


def _indices(places_nm: NDArray[np.float64], edge_nm: float, count: int) -> NDArray[np.int64]:
    return np.floor((places_nm / edge_nm + 0.5) * count).astype(np.int64)
