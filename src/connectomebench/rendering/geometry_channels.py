"""Draw the geometry channels of a site: what its pictures show, as depth, normals and masks.

The CPU rasteriser draws them whichever engine draws the pictures: octarine gives finished pictures, neither depth nor
normals. Both engines show the same surfaces from the same cameras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Mesh
from connectomebench.core.geometry_channels import GEOMETRY_PX
from connectomebench.core.site import Part, Point, Site
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import ORANGE, ROLE_COLOURS
from connectomebench.rendering.rasterizer import available_threads, rasterize_geometry
from connectomebench.rendering.turned_views import turned_pair


def site_channels(site: Site, meshes: Sequence[Mesh], threads: int = 0) -> dict[str, NDArray[np.float32]]:
    """Draw the channels of every view of meshes of a site.

    Parameters
    ----------
    site
        What is shown; its answer and its right cut are not read.
    meshes
        As for :func:`connectomebench.rendering.views.render_site`.
    threads
        0 for all cores of the process; the result does not depend on it.

    Returns
    -------
    dict
        View -> float32, shape (7, 224, 224), in the order of the site's views; see
        :mod:`connectomebench.core.geometry_channels`. Slices of image data have none.
    """
    threads = threads or available_threads()
    if site.second is not None:
        return {
            view: _channels([mesh], [False], (0.0, 0.0, 0.0), extent_nm, threads)[0]
            for view, (mesh, extent_nm) in turned_pair(site, meshes).items()
        }
    if site.choices:
        base, *candidates = zip(site.parts, meshes, strict=True)
        shown = [(base, candidate) for candidate in candidates]
    else:
        shown = [tuple(zip(site.parts, meshes, strict=True))]
    drawn = [
        view
        for pairs in shown
        for view in _channels(
            [mesh for _, mesh in pairs],
            [_is_second(part) for part, _ in pairs],
            site.location_nm,
            site.extent_nm,
            threads,
        )
    ]
    return dict(zip(site.views[: len(drawn)], drawn, strict=True))


def _is_second(part: Part) -> bool:
    return ROLE_COLOURS[part.role] == ORANGE


def _channels(
    meshes: Sequence[Mesh], second: Sequence[bool], center_nm: Point, extent_nm: float, threads: int
) -> NDArray[np.float32]:
    """Draw the three views; float32, shape (3, 7, 224, 224)."""
    clipped = [clip_mesh(mesh, center_nm, extent_nm) for mesh in meshes]
    found = rasterize_geometry(clipped, second, GEOMETRY_PX, threads)
    assert len(found) == len(MESH_VIEWS)
    return found
