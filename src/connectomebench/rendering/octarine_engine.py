"""Render offscreen with octarine3d (pygfx, wgpu), using the cameras, light and colours of the CPU rasteriser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.adapters import require_octarine
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import AMBIENT, BACKGROUND, DIFFUSE, RGB, cut_colour, light_direction
from connectomebench.rendering.rasterizer import SUPERSAMPLING, average_samples

# The frame of a camera is (right, down, forward); that of pygfx is (right, up, backward).
_TO_PYGFX = np.diag([1.0, -1.0, -1.0])


class OctarineEngine:
    """One offscreen viewer, reused for all samples.

    The meshes are rotated in front of a fixed camera, which is equivalent to moving camera and light around
    them. The camera sees the cube from -1 to 1 and nothing before or behind it.

    Raises
    ------
    ConnectomeBenchError
        If octarine is not installed, or no graphics adapter has the features and limits that it needs.
    """

    name = "octarine"

    def __init__(self) -> None:
        require_octarine()
        import octarine
        import pygfx

        self._pygfx = pygfx
        self._viewer: Any = octarine.Viewer(offscreen=True, show=False, camera="ortho")
        viewer = self._viewer
        viewer.renderer.pixel_ratio = SUPERSAMPLING
        viewer.renderer.ppaa = "none"  # averaging samples is the only smoothing
        viewer.set_bgcolor(_rgb(BACKGROUND))
        for light in viewer.lights:
            light.parent.remove(light)
        # pygfx divides by pi (Lambert); an intensity of pi lights a facing surface with its own colour.
        sun = pygfx.DirectionalLight(intensity=DIFFUSE * math.pi)  # pyright: ignore[reportArgumentType]
        right, down, towards = light_direction()
        sun.local.position = (right, -down, towards)
        viewer.scene.add(pygfx.AmbientLight(intensity=AMBIENT * math.pi), sun)
        viewer.camera.set_state(
            {
                "position": (0, 0, 0),
                "rotation": (0, 0, 0, 1),
                "width": 2,
                "height": 2,
                "zoom": 1,
                "depth_range": (-1, 1),
            }
        )
        viewer.show()

    def render(
        self, meshes: Sequence[Mesh], colours: Sequence[RGB], center_nm: Point, extent_nm: float, pixels: int
    ) -> dict[str, NDArray[np.uint8]]:
        """See :meth:`connectomebench.rendering.engines.Engine.render`."""
        viewer, pygfx = self._viewer, self._pygfx
        if viewer.size != (pixels, pixels):
            viewer.resize((pixels, pixels))
        visuals = []
        for mesh, colour in zip(meshes, colours, strict=True):
            clipped = clip_mesh(mesh, center_nm, extent_nm)
            if len(clipped.faces) == 0:
                continue
            geometry = pygfx.Geometry(indices=clipped.faces, positions=clipped.points, normals=clipped.normals)
            outside = pygfx.MeshPhongMaterial(color=_rgb(colour), specular="black", side="front")
            # seen from inside, where the cube cuts the mesh open: even, without light
            inside = pygfx.MeshBasicMaterial(color=_rgb(cut_colour(colour)), side="back")
            visuals += [pygfx.Mesh(geometry, outside), pygfx.Mesh(geometry, inside)]
        viewer.scene.add(*visuals)
        pictures = {}
        for view in MESH_VIEWS:
            turn = np.eye(4)
            turn[:3, :3] = _TO_PYGFX @ view_frame(view)
            for visual in visuals:
                visual.local.matrix = turn
            picture = viewer.screenshot(filename=None, alpha=False)
            pictures[view] = average_samples(np.asarray(picture)[..., :3])
        viewer.scene.remove(*visuals)
        return pictures


def _rgb(colour: RGB) -> tuple[float, float, float]:
    red, green, blue = (c / 255 for c in colour)
    return red, green, blue
