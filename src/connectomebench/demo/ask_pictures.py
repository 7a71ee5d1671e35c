"""Pictures of what a visitor uploads: meshes drawn as those of the datasets are, or three finished views."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
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
_NEAR = 200_000  # vertices of which the nearest pair is sought


def meeting_point(meshes: Sequence[Mesh]) -> Point:
    """Choose the place that is shown where the visitor names none.

    Parameters
    ----------
    meshes
        One, or two.

    Returns
    -------
    tuple of float
        Of two meshes the middle between their two nearest vertices, of one the vertex nearest to the middle of its box;
        x, y, z in nm. Of very large meshes only every k-th vertex is looked at.
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


def draw_meshes(task: Task, meshes: Sequence[Mesh], point_nm: Point, extent_nm: float) -> list[Image.Image]:
    """Draw the three views of uploaded meshes as a dataset has them.

    Parameters
    ----------
    task
        Without image data; it says how many meshes there are.
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
        If meshes are missing, do not reach the cube or are hardly to be seen in it.
    """
    from connectomebench.rendering.views import EmptyView, ViewRules, render_site

    if len(meshes) != len(task.roles):
        raise ConnectomeBenchError(f"{task.title} shows {len(task.roles)} pieces; upload that many meshes")
    if not EXTENTS_NM[0] <= extent_nm <= EXTENTS_NM[1]:
        lowest, highest = (edge / 1000 for edge in EXTENTS_NM)
        raise ConnectomeBenchError(f"the view must be {lowest:g} to {highest:g} micrometres wide")
    parts = tuple(Part(number, role) for number, role in enumerate(task.roles, 1))  # type: ignore[arg-type]
    site = Site(task.name, point_nm, extent_nm, parts, "", tuple(part.segment_id for part in parts), (), "control")
    try:
        pictures = render_site(site, meshes, None, rules=ViewRules(image_px=IMAGE_PX), engine=_engine())
    except EmptyView:
        raise ConnectomeBenchError(
            "not every piece can be seen there; name a point where the pieces meet, or take a wider view"
        ) from None
    return [pictures[view] for view in task.views]


def read_views(files: Sequence[bytes]) -> list[Image.Image]:
    """Read three finished views; size and kind are checked before a pixel is decoded.

    Parameters
    ----------
    files
        PNG or JPEG, in the order front, side, top.

    Returns
    -------
    list of Image
        RGB, as large as they came.

    Raises
    ------
    ConnectomeBenchError
        If they are not three, too large, not square or no such pictures.
    """
    from PIL import Image

    if len(files) != len(MESH_VIEWS):
        raise ConnectomeBenchError(f"upload one picture for each view: {', '.join(MESH_VIEWS)}")
    views = []
    for name, data in zip(MESH_VIEWS, files, strict=True):
        if len(data) > MOST_PICTURE_BYTES:
            raise ConnectomeBenchError(f"the {name} view has more than {MOST_PICTURE_BYTES // 1_000_000} MB")
        try:
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = picture.size
            if max(width, height) > MOST_PIXELS or min(width, height) < 32:
                raise ConnectomeBenchError(f"the {name} view must be 32 to {MOST_PIXELS} pixels wide and high")
            if width != height:
                raise ConnectomeBenchError(f"the {name} view is {width} by {height} pixels; views are square")
            views.append(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise ConnectomeBenchError(f"the {name} view is no whole PNG or JPEG picture") from None
    return views


@lru_cache(maxsize=1)
def _engine() -> Engine:
    """Return the rasteriser of the CPU: a Space has no graphics, and draws as all others do."""
    from connectomebench.rendering.engines import CpuEngine

    return CpuEngine()


def draw_something(task: Task) -> list[Image.Image]:
    """Draw something small, so that what is compiled at first use is there when a visitor waits."""
    corners: Any = np.array([[0, 0, 0], [400, 0, 0], [0, 400, 0], [0, 0, 400]], np.float32)
    mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32))
    beside = Mesh(corners + np.float32(500), mesh.faces)
    return draw_meshes(task, [mesh, beside][: len(task.roles)], (400.0, 400.0, 400.0), 2000.0)
