"""Make views from a visitor's upload: meshes rendered as in the datasets, or three finished views."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.limited_process import run_limited
from connectomebench.core.site import Part, Point, Site
from connectomebench.core.tasks import MESH_VIEWS, Task

if TYPE_CHECKING:
    from PIL import Image

    from connectomebench.rendering.engines import Engine

IMAGE_PX = 512
MOST_PIXELS = 4096
MOST_PICTURE_BYTES = 20_000_000
EXTENTS_NM = (100.0, 100_000.0)
_FORMATS = ("PNG", "JPEG")
_NEAR = 200_000  # vertices searched for the nearest pair


def meeting_point(meshes: Sequence[Mesh]) -> Point:
    """Choose the place to show if the visitor names none.

    Parameters
    ----------
    meshes
        One, or two.

    Returns
    -------
    tuple of float
        For two meshes the midpoint of their two nearest vertices, for one the vertex nearest to the centre of its box;
        x, y, z in nm. Very large meshes are searched at every k-th vertex only.
    """
    from scipy.spatial import KDTree

    first, *others = [mesh.vertices_nm[:: len(mesh.vertices_nm) // _NEAR + 1].astype(np.float64) for mesh in meshes]
    if others:
        distances, nearest = KDTree(others[0]).query(first)
        place = int(np.argmin(distances))
        point = (first[place] + others[0][np.asarray(nearest)[place]]) / 2
    else:
        middle = (first.min(axis=0) + first.max(axis=0)) / 2
        point = first[int(np.argmin(np.linalg.norm(first - middle, axis=1)))]
    x, y, z = (float(value) for value in point)
    return x, y, z


def mesh_scene(task: Task, meshes: Sequence[Mesh], point_nm: Point, extent_nm: float) -> bytes:
    """Make the 3D scene of what :func:`draw_meshes` draws; the same parameters."""
    from connectomebench.rendering.colours import ROLE_COLOURS
    from connectomebench.rendering.scene_file import write_scene

    colours = [ROLE_COLOURS[role] for role in task.roles]  # type: ignore[index]
    return write_scene(meshes, [(role, "") for role in task.roles], colours, point_nm, extent_nm)


def draw_meshes(task: Task, meshes: Sequence[Mesh], point_nm: Point, extent_nm: float) -> list[Image.Image]:
    """Render the three views of uploaded meshes as in a dataset.

    Parameters
    ----------
    task
        A task without image data; its roles set the number of meshes.
    meshes
        One for each role of the task.
    point_nm, extent_nm
        Centre and edge of the cube that is shown, nm.

    Returns
    -------
    list of Image
        RGB, `IMAGE_PX` wide and high, in the order of the task's views.

    Raises
    ------
    ConnectomeBenchError
        If meshes are missing, do not reach the cube or are hardly visible in it.
    """
    from connectomebench.rendering.views import EmptyView, ViewConfig, render_site

    if len(meshes) != len(task.roles):
        raise ConnectomeBenchError(f"{task.title} shows {len(task.roles)} pieces; upload that many meshes")
    if not EXTENTS_NM[0] <= extent_nm <= EXTENTS_NM[1]:
        lowest, highest = (edge / 1000 for edge in EXTENTS_NM)
        raise ConnectomeBenchError(f"the view must be {lowest:g} to {highest:g} micrometres wide")
    parts = tuple(Part(number, role) for number, role in enumerate(task.roles, 1))  # type: ignore[arg-type]
    site = Site(task.name, point_nm, extent_nm, parts, "", tuple(part.segment_id for part in parts), (), "control")
    try:
        pictures = render_site(site, meshes, None, rules=ViewConfig(image_px=IMAGE_PX), engine=_engine())
    except EmptyView:
        raise ConnectomeBenchError(
            "not every piece can be seen there; name a point where the pieces meet, or take a wider view"
        ) from None
    return [pictures[view] for view in task.views]


def read_views(files: Sequence[bytes]) -> list[Image.Image]:
    """Read three finished views; size and kind are checked before any pixel is decoded, in a process with limits.

    Parameters
    ----------
    files
        PNG or JPEG, in the order front, side, top.

    Returns
    -------
    list of Image
        RGB, in their original size.

    Raises
    ------
    ConnectomeBenchError
        If there are not exactly three, or one is too large, not square, or neither PNG nor JPEG.
    """
    from PIL import Image

    if len(files) != len(MESH_VIEWS):
        raise ConnectomeBenchError(f"upload one picture for each view: {', '.join(MESH_VIEWS)}")
    for name, data in zip(MESH_VIEWS, files, strict=True):
        if len(data) > MOST_PICTURE_BYTES:
            raise ConnectomeBenchError(f"the {name} view has more than {MOST_PICTURE_BYTES // 1_000_000} MB")
    views = []
    for pixels in run_limited(f"{__name__}:pixels_of_views", files, "the views"):
        edge = isqrt(len(pixels) // 3)
        views.append(Image.frombytes("RGB", (edge, edge), pixels))
    return views


def pixels_of_views(files: list[bytes]) -> list[bytes]:
    """Decode pictures to RGB pixels; their size and kind are checked before.

    Parameters
    ----------
    files
        As for :func:`read_views`, which calls this in a process with limits.

    Returns
    -------
    list of bytes
        Red, green and blue of each pixel, row by row, of one square picture each.

    Raises
    ------
    ConnectomeBenchError
        As for :func:`read_views`.
    """
    from PIL import Image

    found = []
    for name, data in zip(MESH_VIEWS, files, strict=True):
        try:
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = picture.size
            if max(width, height) > MOST_PIXELS or min(width, height) < 32:
                raise ConnectomeBenchError(f"the {name} view must be 32 to {MOST_PIXELS} pixels wide and high")
            if width != height:
                raise ConnectomeBenchError(f"the {name} view is {width} by {height} pixels; views are square")
            found.append(picture.convert("RGB").tobytes())
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise ConnectomeBenchError(f"the {name} view is no whole PNG or JPEG picture") from None
    return found


@lru_cache(maxsize=1)
def _engine() -> Engine:
    """Return the CPU rasteriser: a Space has no graphics card, and the images are the same everywhere."""
    from connectomebench.rendering.engines import CpuEngine

    return CpuEngine()


def draw_something(task: Task) -> list[Image.Image]:
    """Render a small mesh to compile kernels before the first visitor needs them."""
    corners: Any = np.array([[0, 0, 0], [400, 0, 0], [0, 400, 0], [0, 0, 400]], np.float32)
    mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32))
    beside = Mesh(corners + np.float32(500), mesh.faces)
    return draw_meshes(task, [mesh, beside][: len(task.roles)], (400.0, 400.0, 400.0), 2000.0)
