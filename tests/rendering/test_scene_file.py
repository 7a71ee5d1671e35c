"""Scene files: another reader finds in them the faces that the views draw."""

from __future__ import annotations

import io

import numpy as np
import pytest
from swept_tubes import CENTER, EXTENT, crossing_tubes

from connectomebench.core.geometry import EMPTY_MESH
from connectomebench.core.site import Part, Site
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import BLUE, ORANGE, linear_to_srgb
from connectomebench.rendering.scene_file import read_cube, site_scene

trimesh = pytest.importorskip("trimesh", reason="needs trimesh")
IDS = (2**63 + 1, 7)
SITE = Site("merge_action", CENTER, EXTENT, (Part(IDS[0], "base"), Part(7, "candidate")), "no", IDS, (), "control")


def test_another_reader_finds_the_drawn_faces():
    meshes = crossing_tubes()
    content = site_scene(SITE, meshes)
    assert content == site_scene(SITE, meshes) and read_cube(content) == (CENTER, EXTENT)
    scene = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
    assert list(scene.geometry) == ["base", "candidate"]
    for mesh, name, colour in zip(meshes, ("base", "candidate"), (BLUE, ORANGE), strict=True):
        seen = clip_mesh(mesh, CENTER, EXTENT)
        transform, own = scene.graph[name]
        found = scene.geometry[own]
        points = trimesh.transform_points(np.asarray(found.vertices), transform)
        expected = seen.points * (EXTENT / 2)
        assert (np.asarray(found.faces) == seen.faces).all()
        # half a step of the quantisation, and what float32 loses
        assert np.abs(points - expected).max() <= 0.51 * np.ptp(expected, axis=0).max() / 65_535 + 1e-3
        linear = np.asarray(found.visual.material.baseColorFactor[:3], np.float64)
        linear = linear / 255 if linear.max() > 1 else linear
        assert np.abs(linear_to_srgb(linear).astype(int) - colour).max() <= 3
    assert str(IDS[0]).encode() in content  # ids stay exact, as text
    assert len(content) < 60 * sum(len(clip_mesh(mesh, CENTER, EXTENT).faces) for mesh in meshes)


def test_a_part_that_is_not_there_keeps_its_place():
    scene = trimesh.load(io.BytesIO(site_scene(SITE, [EMPTY_MESH, crossing_tubes()[0]])), file_type="glb")
    assert list(scene.geometry) == ["candidate"]
    assert read_cube(site_scene(SITE, [EMPTY_MESH, EMPTY_MESH])) == (CENTER, EXTENT)
    for wrong in (b"", b"glTF", b"\0" * 40):
        with pytest.raises(ValueError, match="no scene file"):
            read_cube(wrong)
