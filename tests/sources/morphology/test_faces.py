"""Faces at which neurites end: both sides fit, whatever the face; tubes of a stretch join without a bulge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from connectomebench.sources.morphology.faces import (
    FaceDraw,
    Stretch,
    draw_face,
    face_row,
    has_face,
    open_stretch,
    tilted,
)
from connectomebench.sources.morphology.tube_kernels import ROUGHNESS_MAX_NM, face_field, tube_field
from connectomebench.sources.morphology.tubes import cones_between, with_faces

VOXEL = 20.0


def straight(radius: float, length: float = 4000.0) -> Stretch:
    along = np.linspace(0, length, 41)
    points = np.zeros((41, 3))
    points[:, 0] = along
    return Stretch(points, np.full(41, radius), along)


def inside(cones: np.ndarray, first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    field = np.full(shape, 1e6, np.float32)
    tube_field(cones[np.argsort(cones[:, 9], kind="stable")], np.array(first), VOXEL, field)
    return field < 0


@st.composite
def draws(draw):
    unit = st.floats(0, 1)
    return FaceDraw(
        draw(st.booleans()),
        draw(unit),
        6.28 * draw(unit),
        draw(st.sampled_from([0.0, 40.0, 80.0])),
        draw(st.sampled_from([0.0, 10.0, 30.0])),
        draw(st.floats(70, 200)),
        draw(st.integers(1, 2**31 - 1)),
        (0.3 + 0.6 * draw(unit), 0.3 + 0.6 * draw(unit)),
    )


@given(draw=draws(), radius=st.floats(60, 220), stub=st.booleans())
@settings(max_examples=20, deadline=None)
def test_both_sides_fit_and_together_are_the_neurite(draw, radius, stub):
    at = 403.7 if stub else 2003.7  # no face on the lattice, where both distances are 0
    opening = open_stretch(straight(radius), at, draw, stub=stub)
    assume(opening is not None)
    first, shape = (int(at / VOXEL) - 20, -20, -20), (40, 40, 40)
    before, after, whole = (inside(c, first, shape) for c in (*opening.cones, opening.body_cones))
    assert not (before & after).any()
    assert not ((before | after) & ~whole).any()
    missing = whole & ~(before | after)
    if draw.gap_nm == 0:
        assert missing.sum() <= 0.002 * whole.sum()
    else:
        section = np.pi * (radius + ROUGHNESS_MAX_NM) ** 2
        tilt = 1 / np.cos(0.6) if not (draw.along and not stub) else np.hypot(1, 320 / 60)
        assert missing.sum() * VOXEL**3 <= 1.5 * section * (draw.gap_nm + VOXEL) * tilt
    assert before.any() and after.any()


@given(draw=draws(), radius=st.floats(60, 200))
@settings(max_examples=30, deadline=None)
def test_new_skeletons_stay_in_their_neurite_and_end_near_the_face(draw, radius):
    opening = open_stretch(straight(radius), 2000.0, draw)
    assert opening is not None
    for side, sign in enumerate((-1, 1)):
        nodes, radii = opening.nodes_nm[side], opening.radii_nm[side]
        assert len(nodes) == len(radii) >= 1
        off_axis = np.hypot(nodes[:, 1], nodes[:, 2])
        assert (off_axis + radii <= 1.01 * radius).all()
        assert np.linalg.norm(nodes[-1] - [2000.0, 0, 0]) < 380.0  # within the radius of a candidate
        assert sign * (nodes[0, 0] - 2000.0) > sign * (nodes[-1, 0] - 2000.0) or len(nodes) == 1
    ends = [opening.nodes_nm[side][-1] for side in (0, 1)]
    gap = np.linalg.norm(ends[0] - ends[1]) - opening.radii_nm[0][-1] - opening.radii_nm[1][-1]
    # side by side the distance of the ends along the neurite says nothing; end to end they touch
    assert draw.along or gap <= draw.gap_nm + 1


def test_no_room_is_no_opening():
    draw = draw_face(np.random.default_rng(0), 80.0)
    assert open_stretch(straight(100.0, 300.0), 150.0, draw) is None
    assert open_stretch(straight(100.0), 3950.0, draw) is None


def test_kinds_come_in_the_shares_that_are_meant():
    rng = np.random.default_rng(1)
    faces = [draw_face(rng, 80.0) for _ in range(3000)]
    assert np.mean([f.along for f in faces]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([f.gap_nm == 0 for f in faces]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([f.amplitude_nm <= 2 for f in faces]) == pytest.approx(0.4, abs=0.03)
    assert max(f.gap_nm for f in faces) <= 80.0
    # noise no steeper than this keeps the face in one piece
    assert max(f.amplitude_nm / f.wavelength_nm for f in faces) < 0.3


def test_tubes_of_a_stretch_join_without_rings():
    places = np.linspace(0, 2000, 15)
    points = np.zeros((15, 3))
    points[:, 0] = places
    one = cones_between(points[:1], points[-1:], np.array([150.0]), np.array([150.0]))
    radii = np.full(14, 150.0)
    many = cones_between(points[:-1], points[1:], radii, radii, np.zeros(14, np.int64))
    first, shape = np.array([20, -14, -14]), (60, 28, 28)
    fields = []
    for cones in (one, many):
        fields.append(np.full(shape, 1e6, np.float32))
        tube_field(cones, first, VOXEL, fields[-1])
    near = np.abs(fields[0]) < 60
    assert np.abs(fields[0] - fields[1])[near].max() < 1e-3


def test_tilted_keeps_the_angle():
    rng = np.random.default_rng(2)
    for _ in range(50):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        angle, turn = rng.uniform(0, 1.4), rng.uniform(0, 6.28)
        normal, across = tilted(way, angle, turn)
        assert np.linalg.norm(normal) == pytest.approx(1) and normal @ way == pytest.approx(np.cos(angle))
        assert across @ way == pytest.approx(0, abs=1e-12) and normal @ across == pytest.approx(np.sin(angle))


def test_faces_point_outwards_on_either_side():
    draw = FaceDraw(False, 0.0, 0.0, 10.0, 4.0, 100.0, 7, (0.5, 0.5))
    face = face_row(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0]), draw)
    cones = cones_between(np.zeros((2, 3)), np.ones((2, 3)), np.ones(2), np.ones(2))
    assert not has_face(cones).any()
    behind, before = with_faces(cones, face, 1), with_faces(cones, face, -1)
    assert has_face(behind).all() and (behind[:, 13:16] == -before[:, 13:16]).all()
    assert (behind[:, 17] == 4.0).all() and (before[:, 17] == -4.0).all() and (before[:, 16] == 5.0).all()
    field = np.empty((5, 1, 1), np.float32)
    face_field(np.array([-1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]), np.array([1.0, 2, 3, 1, 0, 0, 9, 0, 1, 1]), field)
    assert field.ravel().tolist() == [-2, -1, 0, 1, 2]
