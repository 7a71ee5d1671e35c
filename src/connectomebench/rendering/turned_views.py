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
    return {
        view: engine.render([mesh], [BLUE], (0.0, 0.0, 0.0), extent_nm, pixels)["front"]
        for view, (mesh, extent_nm) in turned_pair(site, meshes).items()
    }


def turned_pair(site: Site, meshes: Sequence[Mesh]) -> dict[str, tuple[Mesh, float]]:
    """Turn the meshes of a pair so that a front view at the origin sees each as its picture does.

    Parameters
    ----------
    site, meshes
        As for :func:`draw_pair`.

    Returns
    -------
    dict
        ``first`` and ``second`` -> mesh (right, down and forward in nm from the centre) and edge of the cube shown, nm.
    """
    second = site.second
    if second is None:
        raise ValueError(f"a site of {site.task} shows one place alone")
    frame = first_frame(site.location_nm)
    turned = second_frame(frame, second.location_nm)
    return {
        "first": (_turned(meshes[0], frame, site.location_nm), site.extent_nm),
        "second": (_turned(meshes[1], turned, second.location_nm), second.extent_nm),
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
    standing = _turned(mesh, frame, center_nm)
    return engine.render([standing], [BLUE], (0.0, 0.0, 0.0), extent_nm, pixels)["front"]


def _turned(mesh: Mesh, frame: NDArray[np.floating], center_nm: Point) -> Mesh:
    """Turn a mesh into a frame around a centre: a front view looks along z, with x to the right and y down."""
    center = np.asarray(center_nm, np.float64)
    turned = (mesh.vertices_nm.astype(np.float64) - center) @ np.asarray(frame, np.float64).T
    return Mesh(turned.astype(np.float32), mesh.faces)
