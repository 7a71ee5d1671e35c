"""Draw numbered nodes of a skeleton into the views of a site.

A node lies inside its segment, so it is never in front of everything. It counts as hidden where another part of the
segments lies before it: where the line of sight from the node to the viewer leaves the segments and enters them again.
Hidden nodes are not drawn in that view. Labels are black on white, colours of no segment, never overlap each other or
a node, and stand on the background where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.clip import ViewMesh, clip_mesh
from connectomebench.rendering.colours import BACKGROUND

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_INK, _PAPER = (0, 0, 0), (255, 255, 255)
# sizes on a picture of 512 pixels
_DOT, _FONT, _PAD, _LINE = 4.0, 16.0, 2.0, 1.4
_SMALLEST_FONT = 10
_TURNS = np.array([(math.cos(math.pi * k / 12), math.sin(math.pi * k / 12)) for k in range(24)])
# lines of sight pass beside vertices and edges, on which voxel meshes and skeletons often share coordinates
_ASIDE = (1.37e-5, 2.31e-5)
_MOST_CROSSINGS = 512

Rectangle = tuple[int, int, int, int]
"""Left, upper, right and lower pixel, the last two exclusive."""


def seen_nodes(
    nodes_nm: Sequence[Point], meshes: Sequence[Mesh], center_nm: Point, extent_nm: float
) -> dict[str, NDArray[np.bool_]]:
    """Find the nodes that no surface hides in each view.

    Parameters
    ----------
    nodes_nm
        Points (x, y, z) inside the cube shown, nm.
    meshes
        All that is drawn, vertices in nm.
    center_nm, extent_nm
        Centre (x, y, z) and edge of the cube shown, nm.

    Returns
    -------
    dict
        View name -> bool, shape (n_nodes,).
    """
    clipped = [clip_mesh(mesh, center_nm, extent_nm) for mesh in meshes]
    points = (np.asarray(nodes_nm, np.float64).reshape(-1, 3) - np.asarray(center_nm)) / (extent_nm / 2)
    return {view: _seen_from(view, points, clipped) for view in MESH_VIEWS}


def _seen_from(view: str, points: NDArray[np.float64], clipped: Sequence[ViewMesh]) -> NDArray[np.bool_]:
    frame = view_frame(view)
    eyes = points @ frame.T
    eyes[:, :2] += _ASIDE
    found = [[] for _ in eyes]
    for mesh in clipped:
        corners = mesh.points.astype(np.float64) @ frame.T
        for node, eye in enumerate(eyes):
            found[node].append(_crossings(corners, mesh.faces, eye))
    return np.array([not _is_hidden(np.concatenate(crossings)) for crossings in found], np.bool_)


@numba.njit(cache=True, nogil=True)
def _crossings(corners, faces, eye):
    """Find where the line of sight from a node crosses faces inside the cube.

    Returns float64, shape (n, 2): distance from the node, and +1 where the line leaves the object, -1 where it enters.
    """
    hits = np.empty((_MOST_CROSSINGS, 2))
    count = 0
    px, py, pz = eye[0], eye[1], eye[2]
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, x1, x2 = corners[a, 0] - px, corners[b, 0] - px, corners[c, 0] - px
        if min(x0, x1, x2) > 0 or max(x0, x1, x2) < 0:
            continue
        y0, y1, y2 = corners[a, 1] - py, corners[b, 1] - py, corners[c, 1] - py
        if min(y0, y1, y2) > 0 or max(y0, y1, y2) < 0:
            continue
        w0, w1, w2 = x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1
        if not ((w0 > 0 and w1 > 0 and w2 > 0) or (w0 < 0 and w1 < 0 and w2 < 0)):
            continue
        depth = (w0 * corners[a, 2] + w1 * corners[b, 2] + w2 * corners[c, 2]) / (w0 + w1 + w2)
        if -1 <= depth < pz and count < _MOST_CROSSINGS:
            # columns run right and rows down, so a face seen from outside turns the other way round
            hits[count, 0], hits[count, 1] = pz - depth, 1.0 if w0 + w1 + w2 < 0 else -1.0
            count += 1
    return hits[:count]


def _is_hidden(crossings: NDArray[np.float64]) -> bool:
    """Tell whether a line of sight enters an object after it has left all that the node lies in."""
    turns = crossings[np.argsort(crossings[:, 0], kind="stable"), 1]
    around = max(1.0, float(turns.sum()))  # surfaces round the node: several where tubes overlap
    outside = around - np.cumsum(turns) <= 0
    return bool((outside[:-1] & (turns[1:] < 0)).any())


def draw_nodes(
    pictures: Mapping[str, NDArray[np.uint8]],
    nodes_nm: Sequence[Point],
    seen: Mapping[str, NDArray[np.bool_]],
    center_nm: Point,
    extent_nm: float,
) -> dict[str, Image.Image]:
    """Draw nodes with their numbers, from 1, the same in every view.

    Parameters
    ----------
    pictures
        View name -> uint8, shape (pixels, pixels, 3), of an engine.
    nodes_nm
        Points (x, y, z), nm.
    seen
        View name -> bool, shape (n_nodes,), from :func:`seen_nodes`.
    center_nm, extent_nm
        Centre (x, y, z) and edge of the cube shown, nm.

    Returns
    -------
    dict
        View name -> RGB image.
    """
    points = np.asarray(nodes_nm, np.float64).reshape(-1, 3) - np.asarray(center_nm)
    return {
        view: _draw_view(picture, points @ view_frame(view)[:2].T / extent_nm + 0.5, seen[view])
        for view, picture in pictures.items()
    }


def _draw_view(picture: NDArray[np.uint8], shares: NDArray[np.float64], seen: NDArray[np.bool_]) -> Image.Image:
    """Draw the nodes seen in one view; ``shares``, shape (n, 2), are their columns and rows as shares of the edge."""
    from PIL import Image, ImageDraw

    pixels = len(picture)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    scale = pixels / 512
    dot, line = max(2.0, _DOT * scale), max(1, round(_LINE * scale))
    numbers = [n for n in range(len(shares)) if seen[n]]
    at = {n: (float(shares[n, 0] * pixels), float(shares[n, 1] * pixels)) for n in numbers}
    labels = place_labels(picture, [at[n] for n in numbers], [str(n + 1) for n in numbers])
    for n, (left, upper, right, lower) in zip(numbers, labels, strict=True):
        for width, colour in ((line + 2, _PAPER), (line, _INK)):
            draw.line((*at[n], (left + right) / 2, (upper + lower) / 2), colour, width)
    for x, y in at.values():
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), _INK, _PAPER, max(1, round(scale)))
    font = _font(_font_size(pixels))
    for n, (left, upper, right, lower) in zip(numbers, labels, strict=True):
        draw.rectangle((left, upper, right - 1, lower - 1), _PAPER, _INK, 1)
        draw.text(((left + right) / 2, (upper + lower) / 2), str(n + 1), _INK, font, anchor="mm")
    return image


def place_labels(
    picture: NDArray[np.uint8], at: Sequence[tuple[float, float]], texts: Sequence[str]
) -> list[Rectangle]:
    """Find room for labels: inside the picture, on no other label and no node, near their own, best on background.

    Parameters
    ----------
    picture
        uint8, shape (pixels, pixels, 3).
    at
        Column and row of each node, pixels.
    texts
        What each label says.

    Returns
    -------
    list
        Rectangle of each label.
    """
    pixels = len(picture)
    covered = np.zeros((pixels + 1, pixels + 1), np.int64)
    covered[1:, 1:] = (picture != np.array(BACKGROUND, np.uint8)).any(axis=2).cumsum(axis=0).cumsum(axis=1)
    dot = max(2.0, _DOT * pixels / 512) + 1
    dots = [(int(x - dot), int(y - dot), math.ceil(x + dot), math.ceil(y + dot)) for x, y in at]
    begins = np.asarray(at, np.float64).reshape(-1, 2)
    blocked = np.asarray(dots, np.int64).reshape(-1, 4)
    placed = np.empty((len(texts), 4), np.int64)
    for n, ((x, y), text) in enumerate(zip(at, texts, strict=True)):
        width, height = _label_size(text, pixels)
        rings = np.arange(dot + max(width, height) / 2 + 2, 2 * pixels, 4.0)
        spot = _best_spot(covered, rings, _TURNS, (x, y), (width, height), blocked, begins, placed[:n])
        placed[n] = spot if spot[2] else _anywhere(pixels, width, height, placed[:n])
    return [(left, upper, right, lower) for left, upper, right, lower in placed.tolist()]


@numba.njit(cache=True, nogil=True)
def _best_spot(covered, rings, turns, at, size, dots, begins, placed):
    """Find the cheapest place of a label on rings around its node: near it, on background, off lines to other labels.

    Returns the rectangle; its right end is 0 where there is no room.
    """
    pixels = len(covered) - 1
    (x, y), (width, height) = at, size
    best, found = np.inf, (0, 0, 0, 0)
    # each ring lies a little farther out; once one has room, those just beyond it may stand clearer
    for ring in rings:
        if ring > best:
            break
        for k in range(len(turns)):
            left = round(x + ring * turns[k, 0] - width / 2)
            upper = round(y + ring * turns[k, 1] - height / 2)
            spot = (left, upper, left + width, upper + height)
            if left < 0 or upper < 0 or spot[2] > pixels or spot[3] > pixels:
                continue
            if _meets_any(spot, placed, 1) or _meets_any(spot, dots, 0):
                continue
            inside = covered[spot[3], spot[2]] - covered[upper, spot[2]] - covered[spot[3], left] + covered[upper, left]
            cost = ring + 40 * pixels / 512 * (inside / (width * height))
            if cost >= best:
                continue
            for n in range(len(placed)):
                if _is_crossed(placed[n], x, y, spot) or _is_crossed(spot, begins[n, 0], begins[n, 1], placed[n]):
                    cost += 100 * pixels / 512
                    break
            if cost < best:
                best, found = cost, spot
    return found


@numba.njit(cache=True, nogil=True)
def _meets_any(spot, others, gap):
    """Tell whether a rectangle comes as near as ``gap`` pixels to another."""
    for n in range(len(others)):
        if (
            spot[0] < others[n, 2] + gap
            and others[n, 0] < spot[2] + gap
            and spot[1] < others[n, 3] + gap
            and others[n, 1] < spot[3] + gap
        ):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _is_crossed(label, x, y, end):
    """Tell whether the line from a node to its label runs through another label."""
    right, down = (end[0] + end[2]) / 2 - x, (end[1] + end[3]) / 2 - y
    for k in range(1, 12):
        u, v = x + right * k / 12, y + down * k / 12
        if label[0] <= u < label[2] and label[1] <= v < label[3]:
            return True
    return False


def _anywhere(pixels: int, width: int, height: int, placed: NDArray[np.int64]) -> Rectangle:
    """Find room in a picture so small that labels cannot keep off all nodes."""
    for upper in range(0, pixels - height + 1):
        for left in range(0, pixels - width + 1):
            spot = (left, upper, left + width, upper + height)
            if not _meets_any(spot, placed, 1):
                return spot
    raise ValueError(f"a picture of {pixels} pixels has no room for its labels")


def _font_size(pixels: int) -> int:
    return max(_SMALLEST_FONT, round(_FONT * pixels / 512))


@lru_cache(maxsize=64)
def _label_size(text: str, pixels: int) -> tuple[int, int]:
    """Return width and height of a label, pixels."""
    font, pad = _font(_font_size(pixels)), max(1, round(_PAD * pixels / 512))
    left, upper, right, lower = font.getbbox("0" * len(text), anchor="mm")
    return math.ceil(right - left) + 2 * pad + 2, math.ceil(lower - upper) + 2 * pad + 2


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Open the font that comes with Pillow, the same on all machines."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType, and cannot draw numbers")
    return font
