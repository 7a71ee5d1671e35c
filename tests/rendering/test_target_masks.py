from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swept_tubes import CENTER, EXTENT, crossing_tubes

from connectomebench.core.geometry import EMPTY_MESH, Mesh
from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN, read_mask
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import BLUE, cut_colour
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.rasterizer import rasterize, rasterize_owners
from connectomebench.rendering.target_masks import face_owners, part_masks

PARTS = tuple(crossing_tubes())


def joined(meshes):
    offsets = np.cumsum([0] + [len(m.vertices_nm) for m in meshes[:-1]])
    faces = [m.faces + np.int32(o) for m, o in zip(meshes, offsets, strict=True)]
    return Mesh(np.concatenate([m.vertices_nm for m in meshes]), np.concatenate(faces))


WHOLE = joined(PARTS)


@settings(max_examples=8, deadline=None)
@given(st.tuples(*[st.integers(-1500, 1500)] * 3), st.integers(2500, 7000), st.integers(1, 3))
def test_a_pixel_is_in_the_mask_where_the_picture_has_the_part(shift, extent, threads):
    """Drawn as one mesh, the mask agrees with the colours of the two parts drawn as two meshes."""
    center = tuple(float(c) for c in np.add(CENTER, shift))
    found = part_masks(WHOLE, PARTS, center, float(extent), 64, threads)
    alone = CpuEngine(1).render([WHOLE], [BLUE], center, float(extent), 64)
    # pure red and green: where all samples of a pixel are of one part, the other colour is absent
    two = CpuEngine(1).render(PARTS, [(255, 0, 0), (0, 255, 0)], center, float(extent), 64)
    for view in MESH_VIEWS:
        mask = found.views[view]
        np.testing.assert_array_equal(mask != NOTHING, (alone[view] < 255).any(axis=2))
        red, green = two[view][..., 0].astype(int), two[view][..., 1].astype(int)
        # blue is there in white and in cuts alone
        whole = two[view][..., 2] == 0
        first = mask == (TAKEN if found.taken == 0 else STAYS)
        assert first[whole & (green == 0)].all()
        assert not first[whole & (red == 0)].any()


def test_the_part_with_fewer_pixels_is_taken_whichever_comes_first():
    one = part_masks(WHOLE, PARTS, CENTER, EXTENT, 96, 1)
    other = part_masks(WHOLE, PARTS[::-1], CENTER, EXTENT, 96, 1)
    counts = [sum(int((mask == value).sum()) for mask in one.views.values()) for value in (TAKEN, STAYS)]
    assert counts[0] < counts[1] and one.taken == 1 - other.taken
    assert one.shares == pytest.approx((counts[0] / sum(counts), counts[1] / sum(counts), 0))
    for view in MESH_VIEWS:
        np.testing.assert_array_equal(one.views[view], other.views[view])
    assert one.problem is None


def test_a_mask_agrees_with_points_thrown_on_the_surface():
    """A second, dumb computation: the nearest of many points of each part along every line of sight."""
    pixels = 48
    found = part_masks(WHOLE, PARTS, CENTER, EXTENT, pixels, 1)
    rng = np.random.default_rng(0)
    for view in MESH_VIEWS:
        depth = np.full((2, pixels, pixels), np.inf)
        for number, part in enumerate(PARTS):
            a, b, c = (part.vertices_nm[part.faces[:, k]].astype(np.float64) for k in range(3))
            for _ in range(12):
                u, v = rng.random((2, len(a), 1))
                u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
                points = (a + u * (b - a) + v * (c - a) - CENTER) / (EXTENT / 2)
                x, y, z = view_frame(view) @ points.T
                inside = (np.abs([x, y, z]) < 1).all(axis=0)
                column, line = (((p[inside] + 1) / 2 * pixels).astype(int) for p in (x, y))
                np.minimum.at(depth[number], (line, column), z[inside])
        seen = np.isfinite(depth).any(axis=0)
        first = depth.argmin(axis=0) == found.taken
        mask = found.views[view]
        sure = seen & (mask != NOTHING)
        assert (mask[sure] == TAKEN).tolist() != [] and sure.sum() > 0.85 * (mask != NOTHING).sum()
        agree = (mask[sure] == TAKEN) == first[sure]
        assert agree.mean() > 0.97, view


def box(lower, upper, rounds=5):
    """A closed box of small faces."""
    x, y, z = zip(lower, upper, strict=True)
    corners = [(a, b, c) for a in x for b in y for c in z]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([[corners[i] for i in f] for a, b, c, d in quads for f in ((a, b, c), (a, c, d))], np.float64)
    for _ in range(rounds):
        a, b, c = faces[:, 0], faces[:, 1], faces[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        faces = np.concatenate([np.stack(f, axis=1) for f in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return Mesh(faces.reshape(-1, 3).astype(np.float32), np.arange(3 * len(faces), dtype=np.int32).reshape(-1, 3))


def test_where_the_cube_cuts_the_segment_open_the_part_that_is_cut_counts():
    """A bar along z leaves the cube before; its near end is the one part, the rest the other."""
    whole = box((-60, -60, -900), (60, 60, 400))
    near, rest = box((-60, -60, -900), (60, 60, -300)), box((-60, -60, -300), (60, 60, 400))
    found = part_masks(whole, (near, rest), (0.0, 0.0, 0.0), 1000.0, 50, 1)
    # seen from the front one looks into the near part, though the wall behind it is of the other part
    value = TAKEN if found.taken == 0 else STAYS
    assert (found.views["front"][23:27, 23:27] == value).all()
    rows = found.views["side"][:, 25]
    assert (rows[1:9] == value).all() and (rows[11:44] == (STAYS if value == TAKEN else TAKEN)).all()


def test_faces_that_are_near_neither_part_are_nothing():
    third = Mesh(PARTS[1].vertices_nm + np.float32(1200), PARTS[1].faces)
    found = part_masks(joined([*PARTS, third]), PARTS, CENTER, EXTENT, 96, 1)
    assert found.shares[2] > 0.1 and found.problem == "the split leaves much of the visible segment on neither side"
    assert found.shares == pytest.approx(tuple(found.shares)) and sum(found.shares) == pytest.approx(1)
    hidden = part_masks(PARTS[0], (PARTS[0], EMPTY_MESH), CENTER, EXTENT, 64, 1)
    assert hidden.problem == "one part of the split is hardly to be seen" and hidden.shares[0] == 0


def test_owners_keep_depth_and_refuse_too_many_parts():
    view = clip_mesh(WHOLE, CENTER, EXTENT)
    owners = face_owners(view, [clip_mesh(part, CENTER, EXTENT) for part in PARTS])
    assert set(np.unique(owners)) == {0, 1}
    seen, cuts = rasterize_owners(view, owners, 80, 2)
    picture = rasterize([view], [BLUE], 80, 1)
    np.testing.assert_array_equal(seen > 0, (picture < 255).any(axis=3))
    np.testing.assert_array_equal(seen, rasterize_owners(view, owners, 80, 1)[0])
    # open ends of the tubes show their inside, which is drawn in the colour of a cut
    cut = (picture == cut_colour(BLUE)).all(axis=3)
    assert cut.any() and cuts[cut].all() and not cuts[seen == 0].any()
    with pytest.raises(ValueError, match="at most 7 parts"):
        rasterize_owners(view, np.full(len(view.faces), 7, np.uint8), 16, 1)


@pytest.mark.parametrize("view", MESH_VIEWS)
def test_golden_masks(view):
    """Masks that were looked at, over the pictures of the same tubes."""
    golden = read_mask((Path(__file__).parent / "golden" / f"tubes_mask_{view}.png").read_bytes())
    np.testing.assert_array_equal(part_masks(WHOLE, PARTS, CENTER, EXTENT, 96, 2).views[view], golden)
