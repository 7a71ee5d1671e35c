"""Draw the two pictures of a pair: each from its own direction, at its own zoom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Mesh
from connectomebench.core.paired_frames import REACH, first_frame, second_frame
from connectomebench.core.site import Part, Site
from connectomebench.rendering.colours import BLUE
from connectomebench.rendering.engines import Engine

if TYPE_CHECKING:
    from connectomebench.core.site import Point


def sites_to_mesh(site: Site) -> tuple[Site, Site]:
    """Return the two places of a pair as sites of one segment each, so large that every turned view lies inside.

    Parameters
    ----------
    site
        With a second place.
    """
    second = site.second
    if second is None:
        raise ValueError(f"a site of {site.task} shows one place alone")
    one = replace(site, extent_nm=site.extent_nm * REACH, segment_ids=(site.parts[0].segment_id,), second=None)
    two = replace(
        one,
        location_nm=second.location_nm,
        extent_nm=second.extent_nm * REACH,
        parts=(Part(second.segment_id, "base"),),
        segment_ids=(second.segment_id,),
    )
    return one, two


def draw_pair(site: Site, meshes: Sequence[Mesh], pixels: int, engine: Engine) -> dict[str, NDArray[np.uint8]]:
    """Draw both pictures of a pair in blue.

    Parameters
    ----------
    site
        With a second place.
    meshes
        Of the two sites of :func:`sites_to_mesh`.
    pixels
        Edge of a picture.
    engine
        Draws them.

    Returns
    -------
    dict
        ``first`` and ``second`` -> uint8, shape (pixels, pixels, 3).
    """
    second = site.second
    if second is None:
        raise ValueError(f"a site of {site.task} shows one place alone")
    frame = first_frame(site.location_nm)
    turned = second_frame(frame, second.location_nm)
    return {
        "first": draw_turned(meshes[0], frame, site.location_nm, site.extent_nm, pixels, engine),
        "second": draw_turned(meshes[1], turned, second.location_nm, second.extent_nm, pixels, engine),
    }


def draw_turned(
    mesh: Mesh, frame: NDArray[np.floating], center_nm: Point, extent_nm: float, pixels: int, engine: Engine
) -> NDArray[np.uint8]:
    """Draw a mesh in blue as the camera of a frame sees it; nothing outside the turned cube is shown.

    Parameters
    ----------
    mesh
        Covers at least the cube along the axes with :data:`connectomebench.core.paired_frames.REACH` times the edge.
    frame
        Right, down and forward as vectors of the world, shape (3, 3).
    center_nm, extent_nm
        Centre (x, y, z) and edge of the cube shown, nm.
    pixels
        Edge of the picture.
    engine
        Draws it.

    Returns
    -------
    uint8, shape (pixels, pixels, 3)
        Rows downwards, columns to the right, sRGB.
    """
    center = np.asarray(center_nm, np.float64)
    turned = (mesh.vertices_nm.astype(np.float64) - center) @ np.asarray(frame, np.float64).T
    # the first view of an engine looks along z, with x to the right and y down: a turned mesh is seen in the frame
    standing = Mesh(turned.astype(np.float32), mesh.faces)
    return engine.render([standing], [BLUE], (0.0, 0.0, 0.0), extent_nm, pixels)["front"]
