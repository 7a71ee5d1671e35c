"""Render the images of a site: three orthographic views, and slices of image data if the task has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Part, Site
from connectomebench.core.source import EMSlice
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS, get_task
from connectomebench.rendering.colours import BACKGROUND, BLUE, RGB, ROLE_COLOURS
from connectomebench.rendering.engines import Engine, EngineName
from connectomebench.rendering.turned_views import draw_pair

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ViewConfig:
    """How sites are rendered.

    Attributes
    ----------
    image_px
        Edge of a view of meshes, pixels.
    em_px
        Edge of a slice of image data, pixels.
    engine
        ``auto``, ``cpu`` or ``octarine``; see :func:`connectomebench.rendering.engines.choose_engine`.
    min_visible_px
        Each part must cover this many pixels in at least one view, else the site is not rendered.
    geometry
        Store depth, normals and masks of the views of meshes beside the pictures, in the column ``geometry``; see
        :mod:`connectomebench.core.geometry_channels`.
    """

    image_px: int = 512
    em_px: int = 512
    engine: EngineName = "auto"
    min_visible_px: int = 16
    geometry: bool = False


class EmptyView(Exception):
    """Raised for a site with an empty image or an invisible part; such sites are dropped and counted."""


def render_site(
    site: Site, meshes: Sequence[Mesh], em: dict[str, EMSlice] | None, *, rules: ViewConfig, engine: Engine
) -> dict[str, Image.Image]:
    """Render all images of a site.

    Parameters
    ----------
    site
        The site to render.
    meshes
        Mesh of each part, in the order of ``site.parts``; they may be far larger than the view. For a site of two
        places those of both, see :func:`connectomebench.rendering.turned_views.sites_to_mesh`.
    em
        Slices ``em_xy``, ``em_xz``, ``em_yz`` of edge ``site.extent_nm``; required if the task shows image data.
    rules, engine
        Rendering rules and engine.

    Returns
    -------
    dict
        View name -> RGB image, in the order of the site's views.

    Raises
    ------
    EmptyView
        If a part does not reach the cube shown or is hardly visible in any view, or an image is empty.
    ConnectomeBenchError
        If the task shows image data and none are available.
    """
    from PIL import Image

    from connectomebench.rendering.em_slices import draw_parts

    task = get_task(site.task)
    if task.has_em and em is None:
        raise ConnectomeBenchError(f"task {task.name} needs image data and the source has none; leave the task out")
    if site.choices:
        return _render_choices(site, meshes, rules, engine)
    if site.second is not None:
        return _render_pair(site, meshes, rules, engine)
    views = _render_parts(site, site.parts, meshes, rules, engine)
    if site.nodes_nm:
        return _with_nodes(site, meshes, views)
    pictures = {}
    for view in task.views:
        if view in MESH_VIEWS:
            pictures[view] = Image.fromarray(views[view])
        elif view in EM_VIEWS and em is not None:
            if not em[view].inside.any():
                raise EmptyView(f"slice {view} lies outside the image data")
            pictures[view] = Image.fromarray(draw_parts(em[view], site.parts, rules.em_px))
        else:
            raise ConnectomeBenchError(
                f"task {task.name} has the view {view}, which cannot be drawn from a single site"
            )
    return pictures


def _with_nodes(site: Site, meshes: Sequence[Mesh], views: Mapping[str, NDArray[np.uint8]]) -> dict[str, Image.Image]:
    """Draw the numbered nodes of a site into its views; each must be seen in one of them."""
    from connectomebench.rendering.numbered_nodes import draw_nodes, seen_nodes

    seen = seen_nodes(site.nodes_nm, meshes, site.location_nm, site.extent_nm)
    nowhere = np.flatnonzero(~np.any(list(seen.values()), axis=0))
    if len(nowhere):
        raise EmptyView(f"node {nowhere[0] + 1} is hidden in every view")
    return draw_nodes(views, site.nodes_nm, seen, site.location_nm, site.extent_nm)


def _render_choices(site: Site, meshes: Sequence[Mesh], rules: ViewConfig, engine: Engine) -> dict[str, Image.Image]:
    """Render the base segment with each candidate by itself, all with the same camera."""
    from PIL import Image

    base, *candidates = zip(site.parts, meshes, strict=True)
    pictures = []
    for part, mesh in candidates:
        views = _render_parts(site, (base[0], part), (base[1], mesh), rules, engine)
        pictures += [Image.fromarray(views[view]) for view in MESH_VIEWS]
    return dict(zip(site.views, pictures, strict=True))


def _render_pair(site: Site, meshes: Sequence[Mesh], rules: ViewConfig, engine: Engine) -> dict[str, Image.Image]:
    """Render the two places of a site, each by itself, and check that both are seen."""
    from PIL import Image

    pictures = draw_pair(site, meshes, rules.image_px, engine)
    for view, picture in pictures.items():
        if visible_pixels(picture, [BLUE])[0] < rules.min_visible_px:
            raise EmptyView(f"the segment is hardly to be seen in the {view} image")
    return {view: Image.fromarray(picture) for view, picture in pictures.items()}


def _render_parts(
    site: Site, parts: Sequence[Part], meshes: Sequence[Mesh], rules: ViewConfig, engine: Engine
) -> dict[str, NDArray[np.uint8]]:
    """Render some parts of a site in the three views, and check that each is seen."""
    colours = [ROLE_COLOURS[part.role] for part in parts]
    views = engine.render(meshes, colours, site.location_nm, site.extent_nm, rules.image_px)
    seen = {view: visible_pixels(picture, colours) for view, picture in views.items()}
    for view, counts in seen.items():
        if counts.sum() == 0:
            raise EmptyView(f"nothing is to be seen from the {view}")
    for part, most in zip(parts, np.max(list(seen.values()), axis=0), strict=True):
        if most < rules.min_visible_px:
            raise EmptyView(f"segment {part.segment_id} ({part.role}) covers at most {most} pixels of a view")
    return views


def visible_pixels(picture: NDArray[np.uint8], colours: Sequence[RGB]) -> NDArray[np.int64]:
    """Count the pixels that each part covers.

    Parameters
    ----------
    picture
        uint8, shape (rows, columns, 3), of an engine.
    colours
        Colour of each part. Parts of the same colour are indistinguishable: all of their pixels count for each.

    Returns
    -------
    int64, shape (len(colours),)
        A pixel belongs to the part whose hue it is nearest to, however dark.
    """
    hues = np.array(colours, np.float32)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    return _count_hues(np.ascontiguousarray(picture), hues, np.array(BACKGROUND, np.uint8))


@numba.njit(cache=True, nogil=True)
def _count_hues(picture, hues, background):
    """Count for each hue (float32, shape (n, 3), unit length) the pixels that no other hue is nearer to."""
    counts = np.zeros(len(hues), np.int64)
    likeness = np.empty(len(hues), np.float32)
    before = background.copy()  # neighbours are often alike, and then nearest to the same hues
    nearest = np.zeros(len(hues), np.int64)
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            r, g, b = picture[y, x, 0], picture[y, x, 1], picture[y, x, 2]
            if r == background[0] and g == background[1] and b == background[2]:
                continue
            if r != before[0] or g != before[1] or b != before[2]:
                before[0], before[1], before[2] = r, g, b
                most = np.float32(-1)
                for k in range(len(hues)):
                    likeness[k] = r * hues[k, 0] + g * hues[k, 1] + b * hues[k, 2]
                    most = max(most, likeness[k])
                for k in range(len(hues)):
                    nearest[k] = likeness[k] >= most
            for k in range(len(hues)):
                counts[k] += nearest[k]
    return counts
