from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swept_tubes import CENTER, EXTENT, crossing_tubes, tube

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frame, view_frames
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import (
    AMBIENT,
    BLUE,
    DIFFUSE,
    ORANGE,
    cut_colour,
    linear_to_srgb,
    srgb_to_linear,
)
from connectomebench.rendering.engines import CpuEngine

COLOURS = (BLUE, ORANGE)
TUBES = crossing_tubes()


def draw(meshes, center=CENTER, extent=EXTENT, pixels=96, threads=2, colours=COLOURS):
    return CpuEngine(threads).render(meshes, colours[: len(meshes)], center, extent, pixels)


def assert_same(a, b):
    for view in MESH_VIEWS:
        np.testing.assert_array_equal(a[view], b[view], err_msg=view)


def drawn(picture):
    return (picture < 255).any(axis=2)


def patch(corners):
    """Two faces that make a quadrilateral."""
    return Mesh(np.array(corners, np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32))


def test_frames_are_rotations_and_views_lie_on_slices():
    for frame in view_frames():
        np.testing.assert_allclose(np.cross(frame[0], frame[1]), frame[2])
    for view, (columns, rows) in {"front": (0, 1), "side": (1, 2), "top": (0, 2)}.items():
        frame = view_frame(view)
        assert frame[0][columns] == 1
        assert frame[1][rows] == 1


def test_each_view_shows_a_point_where_its_slice_does():
    """A small spindle off the centre along all axes appears at the right pixel of each view."""
    place = np.array(CENTER) + EXTENT * np.array([-0.25, 0.125, 0.375])
    spindle = tube(place + np.outer((-90, 0, 90), (1, 0, 0)), [1.0, 90.0, 1.0])
    views = draw([spindle], pixels=128)
    for view, (columns, rows) in {"front": (0, 1), "side": (1, 2), "top": (0, 2)}.items():
        r, c = np.nonzero(drawn(views[view]))
        expected = 64 + 128 * np.array([-0.25, 0.125, 0.375])
        np.testing.assert_allclose([c.mean() + 0.5, r.mean() + 0.5], expected[[columns, rows]], atol=0.7)


def test_the_cube_fills_the_picture_exactly():
    x, y, z = CENTER
    h = EXTENT / 4
    square = patch([(x - h, y - h, z), (x + h, y - h, z), (x + h, y + h, z), (x - h, y + h, z)])
    mask = drawn(draw([square], pixels=64)["front"])
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = True
    np.testing.assert_array_equal(mask, expected)


def test_what_is_nearer_hides_what_is_farther():
    """From the front one looks along +z: smaller z is nearer. From the top along -y: larger y is nearer."""
    x, y, z = CENTER

    def wall(axis, at):
        corners = np.full((4, 3), CENTER)
        others = [a for a in range(3) if a != axis]
        corners[:, others[0]] += np.array([-1, 1, 1, -1]) * 1000
        corners[:, others[1]] += np.array([-1, -1, 1, 1]) * 1000
        corners[:, axis] = at
        return patch(corners)

    for axis, center, view, nearer in ((2, z, "front", -500), (0, x, "side", -500), (1, y, "top", 500)):
        near, far = wall(axis, center + nearer), wall(axis, center - nearer)
        for meshes, blue in (([near, far], True), ([far, near], False)):
            pixel = draw(meshes, pixels=32)[view][16, 16].astype(int)
            assert (pixel[2] > pixel[0]) == blue, view


def test_nothing_before_or_behind_the_cube_is_drawn():
    x, y, z = CENTER
    corners = np.array([(x - 900, y - 900, 0), (x + 900, y - 900, 0), (x + 900, y + 900, 0), (x - 900, y + 900, 0)])
    for depth, seen in ((z - EXTENT, False), (z, True), (z + EXTENT, False)):
        corners[:, 2] = depth
        assert drawn(draw([patch(corners)])["front"]).any() == seen
    # a sheet along the line of sight, from before the cube to behind it: only the middle of the slope remains
    slope = patch([(x - 9000, y - 900, z - 9000), (x + 9000, y - 900, z + 9000), (x + 9000, y + 900, z + 9000),
                   (x - 9000, y + 900, z - 9000)])  # fmt: skip
    assert drawn(draw([slope], pixels=64)["front"]).any(axis=0).all()
    steep = patch([(x - 2000, y - 900, z - 6000), (x + 2000, y - 900, z + 6000), (x + 2000, y + 900, z + 6000),
                   (x - 2000, y + 900, z - 6000)])  # fmt: skip
    columns = np.nonzero(drawn(draw([steep], pixels=60)["front"]).any(axis=0))[0]
    assert (columns.min(), columns.max()) == (20, 39)


def test_a_surface_facing_the_light_has_the_colour_of_its_role_and_one_turned_away_the_ambient_part():
    from connectomebench.rendering.colours import light_direction

    right, down, towards = light_direction()
    normal = np.array([right, down, -towards])  # in the world, for the front view
    u = np.cross(normal, (1.0, 0, 0))
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    # counter-clockwise seen from outside: the outside is lit, the inside has the even colour of a cut
    for turned, colour in ((u, cut_colour(BLUE)), (-u, BLUE)):
        square = patch(CENTER + 1500 * np.array([turned + v, turned - v, -turned - v, -turned + v]))
        np.testing.assert_allclose(draw([square])["front"][48, 48].astype(int), colour, atol=1)
    floor = patch(CENTER + 1500 * np.array([-u + normal, -u - normal, u - normal, u + normal]))
    seen = draw([floor])["front"]
    shade = seen[48, 48].astype(int)
    expected = linear_to_srgb(AMBIENT * srgb_to_linear(BLUE))
    np.testing.assert_allclose(shade, expected, atol=1)
    assert pytest.approx(1) == AMBIENT + DIFFUSE


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(-200, 200)] * 3).map(lambda t: tuple(64 * i for i in t)))
def test_moving_mesh_and_site_together_changes_nothing(shift):
    moved = [Mesh(m.vertices_nm + np.array(shift, np.float32), m.faces) for m in TUBES]
    assert_same(draw(TUBES), draw(moved, tuple(c + s for c, s in zip(CENTER, shift, strict=True))))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_faces_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    shuffled = [Mesh(m.vertices_nm, rng.permutation(m.faces)) for m in TUBES]
    assert_same(draw(TUBES), draw(shuffled))


def test_faces_that_coincide_do_not_flicker_with_their_order():
    twice = Mesh(TUBES[0].vertices_nm, np.concatenate([TUBES[0].faces, TUBES[0].faces[::-1, ::-1]]))
    backwards = Mesh(twice.vertices_nm, twice.faces[::-1].copy())
    assert_same(draw([twice]), draw([backwards]))


def test_closed_meshes_are_turned_outside_out_and_open_patches_are_left():
    """A bowl, as of a cube that holds a piece of a surface alone, is drawn as it comes, whichever side is outside."""
    turned = [Mesh(m.vertices_nm, m.faces[:, ::-1].copy()) for m in TUBES]
    assert_same(draw(TUBES), draw(turned))
    ball = tube(np.array(CENTER) + np.outer((-900, -600, 0, 600, 900), (0, 0, 1)), [1.0, 600.0, 900.0, 600.0, 1.0])
    half = ball.faces[(ball.vertices_nm[ball.faces][..., 2] >= CENTER[2] - 1).all(axis=1)]
    for faces in (half, half[:, ::-1].copy()):
        index = clip_mesh(Mesh(ball.vertices_nm, faces), CENTER, EXTENT)
        corners = index.points[index.faces].astype(float)
        outward = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * corners.mean(axis=1)).sum()
        assert (outward > 0) == (faces is half)


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_the_number_of_threads_does_not_matter(threads):
    for pixels in (97, 130, 200):
        assert_same(draw(TUBES, pixels=pixels, threads=threads), draw(TUBES, pixels=pixels, threads=2))


# up to 8000 nm the larger cube is narrower than the tubes are long, so that there is always something to cut off
@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(-2500, 2500)] * 3), st.integers(1500, 8000))
def test_clipping_beforehand_changes_nothing(shift, extent):
    """Drawn from a mesh already cut down to a somewhat larger cube, pictures are the same."""
    center = tuple(c + s for c, s in zip(CENTER, shift, strict=True))
    box = Box.around(center, extent * 1.5)
    clipped = []
    for mesh in TUBES:
        corners = mesh.vertices_nm[mesh.faces]
        beyond = (corners < box.lower_nm).all(axis=1).any(axis=1) | (corners > box.upper_nm).all(axis=1).any(axis=1)
        clipped.append(Mesh(mesh.vertices_nm, mesh.faces[~beyond]))
    assert sum(len(m.faces) for m in clipped) < sum(len(m.faces) for m in TUBES)
    assert_same(draw(TUBES, center, extent), draw(clipped, center, extent))


def test_clip_keeps_normals_of_the_whole_mesh_and_drops_the_rest():
    whole = clip_mesh(TUBES[0], CENTER, 100_000.0)
    small = clip_mesh(TUBES[0], CENTER, 2000.0)
    assert len(whole.faces) == len(TUBES[0].faces)
    assert 0 < len(small.faces) < len(whole.faces) / 3
    nm = {tuple(np.round(p * 50_000).astype(int)): n for p, n in zip(whole.points, whole.normals, strict=True)}
    for p, n in zip(small.points, small.normals, strict=True):
        np.testing.assert_allclose(nm[tuple(np.round(p * 1000).astype(int))], n, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(small.normals, axis=1), 1, atol=1e-6)


def test_empty_and_far_meshes_draw_nothing():
    far = Mesh(TUBES[0].vertices_nm + np.float32(1e5), TUBES[0].faces)
    for picture in draw([EMPTY_MESH, far]).values():
        assert (picture == 255).all()


@pytest.mark.parametrize("damage", ["index", "negative", "nan"])
def test_a_broken_mesh_is_named(damage):
    vertices, faces = TUBES[0].vertices_nm.copy(), TUBES[0].faces.copy()
    if damage == "index":
        faces[5, 1] = len(vertices)
    elif damage == "negative":
        faces[5, 1] = -1
    else:
        vertices[100] = np.nan
    with pytest.raises(ConnectomeBenchError, match="make the mesh again"):
        draw([Mesh(vertices, faces)])


def test_octarine_agrees_and_keeps_nothing_of_the_sample_before(octarine_engine):
    for meshes, colours, pixels in ((TUBES, COLOURS, 200), (TUBES[1:], COLOURS[1:], 256)):
        ours = draw(meshes, pixels=pixels, colours=colours)
        theirs = octarine_engine.render(meshes, colours, CENTER, EXTENT, pixels)
        for view in MESH_VIEWS:
            a, b = drawn(ours[view]), drawn(theirs[view])
            assert (a & b).sum() / (a | b).sum() >= 0.98
            assert np.abs(ours[view].astype(int) - theirs[view].astype(int)).mean() < 0.5


def test_too_many_parts_are_refused():
    with pytest.raises(ValueError, match="at most 7"):
        draw([EMPTY_MESH] * 8, colours=(BLUE,) * 8)


def test_forked_children_can_draw():
    import multiprocessing

    before = draw(TUBES)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert_same(before, pool.apply_async(draw, (TUBES,)).get(timeout=60))
