"""Numbered nodes in views: hidden behind other parts or not, legible, apart, and the same as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Part, Site
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.numbered_nodes import draw_nodes, place_labels, seen_nodes
from connectomebench.rendering.views import EmptyView, ViewConfig, render_site
from connectomebench.sources.label_shapes import MeshConfig, mesh_labels

GOLDEN = Path(__file__).parent / "golden"
VOXEL_NM = 20.0
CENTER, EXTENT_NM = (960.0, 960.0, 960.0), 1800.0


def bars() -> Mesh:
    """A thick bar along x and a thin one before it (nearer in z) along y, in a cube of 96 voxels: one segment."""
    labels = np.zeros((96, 96, 96), np.uint8)
    labels[10:86, 40:56, 60:76] = 1
    labels[40:56, 10:86, 20:36] = 1
    labels[44:52, 44:52, 30:66] = 1  # what joins them
    return mesh_labels(labels, 1, (0, 0, 0), (VOXEL_NM,) * 3, np.ones((3, 2), bool), MeshConfig())[0]


def middle_of(voxel: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = (VOXEL_NM * (v + 0.5) for v in voxel)
    return (x, y, z)


NODES = tuple(
    middle_of(v)
    for v in [(14, 48, 68), (42, 48, 68), (80, 48, 68), (48, 14, 28), (48, 80, 28), (48, 48, 50), (30, 48, 68)]
)


def test_nodes_behind_another_part_are_hidden_and_no_others() -> None:
    seen = seen_nodes(NODES, [bars()], CENTER, EXTENT_NM)
    # from the front (towards +z) the thin bar lies before the middle of the thick one
    assert seen["front"].tolist() == [True, False, True, True, True, True, True]
    # along x one looks onto the end of the thick bar; nothing else is before the nodes in it
    assert seen["side"].tolist() == [True, True, True, True, True, True, True]
    assert seen["top"].tolist() == [True, True, True, True, True, True, True]


def test_hidden_as_a_second_way_of_looking_finds_it() -> None:
    """Step from each node towards the viewer through the voxels themselves: outside, and inside again."""
    labels = np.zeros((96, 96, 96), bool)
    labels[10:86, 40:56, 60:76] = labels[40:56, 10:86, 20:36] = labels[44:52, 44:52, 30:66] = True
    rng = np.random.default_rng(0)
    inside = np.argwhere(labels)
    chosen = inside[rng.choice(len(inside), 60, replace=False)]
    # not next to a surface, which meshing moves by up to a voxel
    core = [
        v for v in chosen if all(labels[tuple(v + d)] for d in np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)]))
    ]
    nodes = [middle_of(tuple(v)) for v in core]
    seen = seen_nodes(nodes, [bars()], CENTER, EXTENT_NM)
    for view in MESH_VIEWS:
        towards = -view_frame(view)[2].astype(int)
        for number, start in enumerate(core):
            line = [tuple(start + towards * step) for step in range(1, 96)]
            line = [labels[v] for v in line if min(v) >= 0 and max(v) < 96]
            gone = line.index(False) if False in line else len(line)
            assert seen[view][number] == (True not in line[gone:]), (view, core[number])


@settings(max_examples=12, deadline=None)
@given(
    at=st.lists(st.tuples(st.floats(0, 512), st.floats(0, 512)), min_size=1, max_size=16),
    clustered=st.booleans(),
)
def test_labels_are_inside_and_never_overlap(at: list[tuple[float, float]], clustered: bool) -> None:
    if clustered:
        at = [(250 + x / 40, 250 + y / 40) for x, y in at]
    picture = np.full((512, 512, 3), 255, np.uint8)
    picture[200:300] = (0, 114, 178)
    labels = place_labels(picture, at, [str(n + 1) for n in range(len(at))])
    for n, (left, upper, right, lower) in enumerate(labels):
        assert 0 <= left < right <= 512 and 0 <= upper < lower <= 512
        for other in labels[:n]:
            assert right <= other[0] or other[2] <= left or lower <= other[1] or other[3] <= upper
        for x, y in at:
            assert not (left < x < right and upper < y < lower)


def drawn(pixels: int = 512) -> dict[str, Image.Image]:
    part = Part(1, "base")
    site = Site("endpoint_localization", CENTER, EXTENT_NM, (part,), "0, 0, 0", (1,), (1,), "edit", nodes_nm=NODES)
    return render_site(site, [bars()], None, rules=ViewConfig(image_px=pixels), engine=CpuEngine(1))


def test_golden_pictures() -> None:
    """Any change of marks, labels or font shows here; write them again only on purpose."""
    for view, picture in drawn().items():
        golden = np.asarray(Image.open(GOLDEN / f"nodes_{view}.png"))
        difference = np.abs(golden.astype(int) - np.asarray(picture).astype(int))
        assert difference.mean() < 0.5 and (difference > 24).mean() < 0.005, view


def test_every_seen_node_has_its_mark_where_it_lies_and_hidden_ones_have_none() -> None:
    plain = CpuEngine(1).render([bars()], [(0, 114, 178)], CENTER, EXTENT_NM, 512)
    seen = seen_nodes(NODES, [bars()], CENTER, EXTENT_NM)
    for view, picture in drawn().items():
        pixels = np.asarray(picture)
        for number, node in enumerate(NODES):
            column, row = ((np.array(node) - CENTER) @ view_frame(view)[:2].T / EXTENT_NM + 0.5) * 512
            mark = pixels[round(float(row)), round(float(column))].tolist() == [0, 0, 0]
            assert mark == bool(seen[view][number]), (view, number)
        assert (pixels != plain[view]).any(axis=2).mean() < 0.06


def test_a_node_that_is_seen_nowhere_drops_the_site() -> None:
    inside = np.zeros((96, 96, 96), np.uint8)
    inside[20:76, 20:76, 20:76] = 1
    inside[24:72, 24:72, 24:72] = 0  # a closed box with a ball in it
    inside[44:52, 44:52, 44:52] = 1
    mesh = mesh_labels(inside, 1, (0, 0, 0), (VOXEL_NM,) * 3, np.ones((3, 2), bool), MeshConfig())[0]
    nodes = (middle_of((48, 48, 48)), middle_of((22, 48, 48)))
    part = Part(1, "base")
    site = Site("endpoint_localization", CENTER, EXTENT_NM, (part,), "0, 0, 0", (1,), (1,), "edit", nodes_nm=nodes)
    with pytest.raises(EmptyView, match="node 1 is hidden"):
        render_site(site, [mesh], None, rules=ViewConfig(image_px=128), engine=CpuEngine(1))


@pytest.mark.parametrize("pixels", [96, 224, 1024])
def test_other_sizes_have_room_for_all_labels(pixels: int) -> None:
    assert {picture.size for picture in drawn(pixels).values()} == {(pixels, pixels)}


def test_numbers_are_the_same_in_all_views() -> None:
    pictures = CpuEngine(1).render([bars()], [(0, 114, 178)], CENTER, EXTENT_NM, 512)
    seen = {view: np.arange(len(NODES)) == 4 for view in MESH_VIEWS}
    one = draw_nodes(pictures, NODES, seen, CENTER, EXTENT_NM)
    other = draw_nodes(pictures, (NODES[0],) * 4 + (NODES[4],), {v: s[:5] for v, s in seen.items()}, CENTER, EXTENT_NM)
    for view in MESH_VIEWS:
        assert np.array_equal(np.asarray(one[view]), np.asarray(other[view]))
