"""Pictures from any direction: those along the axes are the usual views, and a pair shows one object twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapes import middle, voxel_meshes

from connectomebench.core.paired_frames import REACH
from connectomebench.core.site import Part, SecondPlace, Site
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.colours import BLUE
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.turned_views import draw_pair, draw_turned, sites_to_mesh

GOLDEN = Path(__file__).parent / "golden"
ENGINE = CpuEngine(1)


def pair(shift_nm: float = 60.0) -> Site:
    x, y, z = middle()
    second = SecondPlace(2, (x + shift_nm, y, z), 700.0, (0.0, 0.0, 1.0))
    part = (Part(1, "base"),)
    return Site("segment_identity", (x, y, z), 1000.0, part, "no", (1, 2), (1, 2), "control", second=second)


@pytest.mark.parametrize("view", MESH_VIEWS)
def test_along_the_axes_it_is_the_usual_view(view: str) -> None:
    mesh = voxel_meshes(3)[0]
    usual = ENGINE.render([mesh], [BLUE], middle(), 900.0, 96)[view]
    turned = draw_turned(mesh, view_frame(view), middle(), 900.0, 96, ENGINE)
    # normals are summed in integers in the frame of the mesh, so that shades may differ by a step
    assert np.abs(turned.astype(int) - usual).max() <= 3


def test_a_turned_picture_shows_turned_points() -> None:
    angle = np.radians(30)
    frame = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    mesh = voxel_meshes(3)[0]
    picture = draw_turned(mesh, frame, middle(), 900.0, 200, ENGINE)
    seen = np.argwhere((picture != 255).any(axis=2))  # rows, columns
    right, down, ahead = ((mesh.vertices_nm - np.array(middle())) @ frame.T).T
    inside = (np.abs(right) < 440) & (np.abs(down) < 440) & (np.abs(ahead) < 440)
    columns, rows = ((right[inside] / 900 + 0.5) * 200).astype(int), ((down[inside] / 900 + 0.5) * 200).astype(int)
    drawn = (picture[rows, columns] != 255).any(axis=1)
    assert len(seen) > 200 and drawn.mean() > 0.97


def test_the_two_places_are_meshed_wide_enough() -> None:
    one, two = sites_to_mesh(pair())
    assert one.extent_nm == pytest.approx(1000 * REACH) and two.extent_nm == pytest.approx(700 * REACH)
    assert [p.segment_id for p in two.parts] == [2] and two.segment_ids == (2,)
    assert two.location_nm[0] == middle()[0] + 60 and one.second is None and two.second is None


def test_a_site_of_one_place_is_no_pair() -> None:
    alone = sites_to_mesh(pair())[0]
    with pytest.raises(ValueError, match="one place alone"):
        sites_to_mesh(alone)
    with pytest.raises(ValueError, match="one place alone"):
        draw_pair(alone, [], 32, ENGINE)


def test_a_pair_looks_as_it_did() -> None:
    tube = voxel_meshes(3)[0]
    x, y, z = (float(round(c)) for c in tube.vertices_nm.mean(axis=0, dtype=np.float64))
    second = SecondPlace(2, (x + 60.0, y, z), 700.0, (0.0, 0.0, 1.0))
    drawn = draw_pair(replace(pair(), location_nm=(x, y, z), second=second), [tube, tube], 128, ENGINE)
    assert list(drawn) == ["first", "second"]
    for view, picture in drawn.items():
        golden = np.asarray(Image.open(GOLDEN / f"pair_{view}.png"))
        # kernels may contract multiplications differently on another processor
        assert (np.abs(picture.astype(int) - golden) > 8).mean() < 0.002
