"""Geometry channels against the pictures they stand beside, and against surfaces whose depth and normals are known."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapes import middle, voxel_meshes
from toy_segmentation import write_toy

from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.geometry_channels import GEOMETRY_PX, pack_channels, read_geometry
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.rasterizer import rasterize_geometry

EXTENT_NM = 1200.0


@pytest.fixture(scope="module")
def tubes() -> tuple[list[Mesh], np.ndarray]:
    meshes = voxel_meshes(3)
    clipped = [clip_mesh(mesh, middle(), EXTENT_NM) for mesh in meshes]
    return meshes, rasterize_geometry(clipped, [False, True], GEOMETRY_PX, 1)


def test_silhouette_and_masks_are_those_of_the_pictures(tubes) -> None:
    meshes, channels = tubes
    same = CpuEngine(1).render(meshes, [BLUE, ORANGE], middle(), EXTENT_NM, GEOMETRY_PX)
    large = CpuEngine(1).render(meshes, [BLUE, ORANGE], middle(), EXTENT_NM, 2 * GEOMETRY_PX)
    for view, own in zip(MESH_VIEWS, channels, strict=True):
        shown = (same[view] != BACKGROUND).any(axis=2)
        assert 0.02 < shown.mean() < 0.98
        assert (shown == (own[0] > 0)).all()
        # the picture of twice the size has one pixel where these have one sample
        fine = (large[view] != BACKGROUND).any(axis=2).astype(np.float32)
        resized = np.asarray(Image.fromarray(fine).resize((GEOMETRY_PX, GEOMETRY_PX), Image.Resampling.BOX))
        assert np.abs(resized - own[0]).mean() < 0.02
        assert np.allclose(own[5] + own[6], own[0])
        red, blue = same[view][..., 0].astype(int), same[view][..., 2].astype(int)
        assert (blue > red)[own[5] == 1].all() and (red > blue)[own[6] == 1].all()
        assert own[5].max() == own[6].max() == 1


def test_normals_are_unit_vectors_that_face_the_viewer(tubes) -> None:
    _, channels = tubes
    for view, own in zip(MESH_VIEWS, channels, strict=True):
        seen = own[0] > 0
        lengths = np.linalg.norm(own[2:5], axis=0)
        assert np.allclose(lengths[seen], 1, atol=1e-3) and (own[:, ~seen] == 0).all()
        away = np.einsum("i,iyx->yx", view_frame(view)[2], own[2:5])
        assert np.mean(away[seen] < 0.05) > 0.99


def test_a_sphere_has_the_depth_and_normals_of_a_sphere() -> None:
    import trimesh

    ball = trimesh.creation.icosphere(5, 400.0)
    mesh = Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32))
    channels = rasterize_geometry([clip_mesh(mesh, (0, 0, 0), 1000.0)], [False], GEOMETRY_PX, 2)
    at = ((np.arange(GEOMETRY_PX) + 0.5) / GEOMETRY_PX - 0.5) * 1000
    right, down = np.meshgrid(at, at)
    inside = np.hypot(right, down) < 380
    forward = -np.sqrt(np.maximum(400**2 - right**2 - down**2, 0))
    for view, own in zip(MESH_VIEWS, channels, strict=True):
        assert (own[0] > 0)[inside].all() and not own[6].any()
        assert np.abs(own[1] * 1000 - 500 - forward)[inside].max() < 15
        true = np.einsum("iyx,ij->jyx", np.stack([right, down, forward]) / 400, view_frame(view))
        assert np.abs(own[2:5] - true)[:, inside].max() < 0.03


def _plate(at_nm: float) -> Mesh:
    """A plate across the front view, ``at_nm`` behind the middle; it faces the viewer."""
    corners = np.array([[-300, -300, at_nm], [300, -300, at_nm], [300, 300, at_nm], [-300, 300, at_nm]], np.float32)
    return Mesh(corners, np.array([[0, 2, 1], [0, 3, 2]], np.int32))


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.floats(-480, 480), st.floats(-480, 480)))
def test_depth_follows_a_moved_plate(places: tuple[float, float]) -> None:
    depths = []
    for at_nm in sorted(places):
        front = rasterize_geometry([clip_mesh(_plate(at_nm), (0, 0, 0), 1000.0)], [False], GEOMETRY_PX, 1)[0]
        inside = front[0] == 1
        depths.append(float(front[1][inside].mean()))
        assert np.allclose(front[1][inside] * 1000 - 500, at_nm, atol=0.1)
    assert depths[0] <= depths[1]


def test_packed_channels_come_back(tubes) -> None:
    _, channels = tubes
    files = [pack_channels(view) for view in channels]
    assert Image.open(io.BytesIO(files[0])).size == (GEOMETRY_PX, 7 * GEOMETRY_PX)
    found = read_geometry([{"bytes": file} for file in files])
    assert found.shape == channels.shape and found.dtype == np.float32
    assert np.abs(found - channels).max() < 1e-4
    assert (found[:, :, channels[0, 0] == 0][0] == 0).all()
    assert (read_geometry([Image.open(io.BytesIO(file)) for file in files]) == found).all()
    with pytest.raises(ConnectomeBenchError, match="no geometry channels"):
        read_geometry([])
    with pytest.raises(ConnectomeBenchError, match="damaged or of another layout"):
        read_geometry([{"bytes": files[0][:200]}])
    with pytest.raises(ConnectomeBenchError, match="it has 3 x 3 px in mode RGB"):
        read_geometry([Image.new("RGB", (3, 3))])


def test_only_a_build_with_channels_has_another_fingerprint(tmp_path: Path) -> None:
    path = write_toy(tmp_path)
    plain, off = load_config(path), load_config(path, {"views.geometry": False})
    on = load_config(path, {"views.geometry": True})
    assert plain.fingerprint() == off.fingerprint() != on.fingerprint()
    assert on.views == replace(plain.views, geometry=True)
