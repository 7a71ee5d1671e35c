"""The CPU rasteriser: what it promises by itself, and that octarine draws the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapes import middle, voxel_meshes

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE
from connectomebench.rendering.engines import CpuEngine, Engine

GOLDEN = Path(__file__).parent / "golden"
COLOURS = (BLUE, ORANGE)
EXTENT_NM = 1400.0


def silhouette(picture: np.ndarray) -> np.ndarray:
    return (picture != np.array(BACKGROUND, np.uint8)).any(axis=2)


def tetrahedron(scale_nm: float, at=(0.0, 0.0, 0.0)) -> Mesh:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32) * scale_nm + np.float32(at)
    return Mesh(corners, np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32))


def test_golden_pictures() -> None:
    """Any change of camera, light, colour or sampling shows here; written anew only on purpose."""
    drawn = CpuEngine().render(voxel_meshes(1), COLOURS, middle(), EXTENT_NM, 128)
    for view, picture in drawn.items():
        golden = np.asarray(Image.open(GOLDEN / f"tubes_{view}.png"))
        difference = np.abs(golden.astype(int) - picture.astype(int))
        assert difference.mean() < 0.5 and (difference > 24).mean() < 0.005, view


def test_each_view_looks_where_it_says() -> None:
    """A small body off the centre lies right and below as the table of the camera module says."""
    at = (300.0, -200.0, 100.0)
    drawn = CpuEngine().render([tetrahedron(60, at)], [BLUE], (0, 0, 0), 1000, 100)
    expected = {"front": (at[0], at[1]), "side": (at[1], at[2]), "top": (at[0], at[2])}
    assert list(drawn) == list(MESH_VIEWS)
    for view, (right, down) in expected.items():
        rows, columns = np.nonzero(silhouette(drawn[view]))
        assert columns.mean() == pytest.approx(50 + right / 10, abs=2)
        assert rows.mean() == pytest.approx(50 + down / 10, abs=2)


def test_nothing_beyond_the_cube_is_seen_in_depth_either() -> None:
    inside, before, behind = tetrahedron(50), tetrahedron(50, (0, 0, -700)), tetrahedron(50, (200, 0, 700))
    drawn = CpuEngine().render([inside, before, behind], [BLUE, ORANGE, ORANGE], (0, 0, 0), 1000, 64)
    alone = CpuEngine().render([inside], [BLUE], (0, 0, 0), 1000, 64)
    np.testing.assert_array_equal(drawn["front"], alone["front"])


def test_the_nearer_one_hides_the_other() -> None:
    drawn = CpuEngine().render(
        [tetrahedron(150, (0, 0, -300)), tetrahedron(150, (0, 0, 300))], COLOURS, (0, 0, 0), 1000, 64
    )["front"]
    centre = drawn[28:36, 28:36].astype(int)
    assert (centre[..., 2] > centre[..., 0]).all()  # blue lies nearer to the viewer (smaller z)


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(-5000, 5000)] * 3))
def test_a_mesh_moved_with_its_site_gives_the_same_picture(shift: tuple[int, int, int]) -> None:
    mesh = tetrahedron(256)
    moved = Mesh(mesh.vertices_nm + np.float32(shift), mesh.faces)
    here = CpuEngine().render([mesh], [BLUE], (0, 0, 0), 1024, 64)
    there = CpuEngine().render([moved], [BLUE], tuple(float(s) for s in shift), 1024, 64)
    for view in MESH_VIEWS:
        np.testing.assert_array_equal(here[view], there[view])


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_order_of_faces_and_number_of_threads_do_not_matter(seed: int) -> None:
    meshes = voxel_meshes(2, size=48)
    rng = np.random.default_rng(seed)
    shuffled = [Mesh(m.vertices_nm, m.faces[rng.permutation(len(m.faces))]) for m in meshes]
    one = CpuEngine(threads=1).render(meshes, COLOURS, middle(48), 700, 96)
    two = CpuEngine(threads=2).render(shuffled, COLOURS, middle(48), 700, 96)
    for view in MESH_VIEWS:
        np.testing.assert_array_equal(one[view], two[view])


def test_a_far_larger_mesh_gives_the_same_picture() -> None:
    """Faces outside the cube are clipped away before drawing."""
    near = voxel_meshes(3, size=48)[0]
    far = Mesh(near.vertices_nm + np.float32(5000), near.faces)
    both = Mesh(
        np.concatenate([near.vertices_nm, far.vertices_nm]),
        np.concatenate([near.faces, far.faces + np.int32(len(near.vertices_nm))]),
    )
    alone = CpuEngine().render([near], [BLUE], middle(48), 700, 96)
    together = CpuEngine().render([both], [BLUE], middle(48), 700, 96)
    for view in MESH_VIEWS:
        np.testing.assert_array_equal(alone[view], together[view])


def test_a_damaged_mesh_is_refused() -> None:
    broken = tetrahedron(100)
    broken.vertices_nm[0, 0] = np.nan
    with pytest.raises(ConnectomeBenchError, match="finite"):
        CpuEngine().render([broken], [BLUE], (0, 0, 0), 1000, 32)


@pytest.mark.parametrize("seed", [1, 4])
def test_octarine_draws_the_same(seed: int, octarine_engine: Engine) -> None:
    from skimage.metrics import structural_similarity

    meshes = voxel_meshes(seed)
    ours = CpuEngine().render(meshes, COLOURS, middle(), EXTENT_NM, 256)
    theirs = octarine_engine.render(meshes, COLOURS, middle(), EXTENT_NM, 256)
    for view in MESH_VIEWS:
        a, b = silhouette(ours[view]), silhouette(theirs[view])
        assert (a & b).sum() / (a | b).sum() >= 0.98, view
        rows, columns = np.nonzero(a | b)
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert structural_similarity(ours[view][box], theirs[view][box], channel_axis=2) >= 0.9, view
