"""A segment as a graph of pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from connectomebench.core.geometry import Box
from connectomebench.sources.supervoxels import (
    PieceConfig,
    piece_graph,
    pieces_of_balls,
    pieces_of_supervoxels,
    relative_brightness,
    touching_pieces,
    values_of_pieces,
)

VOXEL = (10.0, 10.0, 10.0)


def test_a_supervoxel_in_two_parts_makes_two_pieces() -> None:
    mask = np.ones((9, 3, 3), np.bool_)
    supervoxels = np.full((9, 3, 3), 2**40, np.uint64)
    supervoxels[3:6] = 0
    mask[8] = False
    pieces = pieces_of_supervoxels(mask, supervoxels)
    assert [len(np.unique(pieces[a:b])) for a, b in ((0, 3), (3, 6), (6, 8))] == [1, 1, 1]
    assert sorted(np.unique(pieces).tolist()) == [0, 1, 2, 3]
    assert (pieces > 0).tolist() == mask.tolist()


def test_graph_counts_faces_voxels_and_bodies() -> None:
    pieces = np.zeros((6, 4, 5), np.uint32)
    pieces[:2], pieces[2:5] = 1, 2
    proofread = np.zeros((6, 4, 5), np.uint64)
    proofread[:3], proofread[3:] = 2**50, 7
    graph = piece_graph(pieces, proofread, None, (100, 0, 0), VOXEL, PieceConfig())
    assert graph.points_nm.tolist() == [[1010, 20, 25], [1035, 20, 25]]
    assert graph.edges.tolist() == [[0, 1]]
    assert graph.capacities.tolist() == [20]
    assert graph.bodies.tolist() == [7, 2**50]
    assert graph.voxels.tolist() == [[0, 40], [40, 20]]


def test_faces_of_flat_voxels_count_by_their_area() -> None:
    pieces = np.ones((2, 2, 2), np.uint32)
    for axis in (0, 2):
        pieces[:] = 1
        pieces[(slice(None),) * axis + (1,)] = 2
        graph = piece_graph(pieces, pieces, None, (0, 0, 0), (10.0, 10.0, 40.0), PieceConfig())
        areas = np.array([400.0, 400.0, 100.0])
        assert graph.capacities.tolist() == pytest.approx([4 * areas[axis] / areas.mean()])


def test_a_dark_border_is_cheaper_to_cut() -> None:
    pieces = np.repeat(np.repeat(np.arange(1, 4, dtype=np.uint32), 4)[:, None, None], 3, 1).repeat(3, 2)
    gray = np.full(pieces.shape, 160, np.uint8)
    gray[3:5] = 80  # a membrane between pieces 1 and 2
    graph = piece_graph(pieces, pieces, gray, (0, 0, 0), VOXEL, PieceConfig(brightness_exponent=4))
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.capacities.tolist() == pytest.approx([9 / 16, 9])
    plain = piece_graph(pieces, pieces, gray, (0, 0, 0), VOXEL, PieceConfig(brightness_exponent=0))
    assert plain.capacities.tolist() == [9, 9]


@given(seed=st.integers(0, 100), with_supervoxels=st.booleans())
@settings(max_examples=25, deadline=None)
def test_pieces_cover_the_segment_and_faces_are_all_counted(seed: int, with_supervoxels: bool) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 8, 7)) < 0.7
    mask[0, 0, 0] = True
    if with_supervoxels:
        pieces = pieces_of_supervoxels(mask, rng.integers(0, 4, mask.shape).astype(np.uint32))
    else:
        pieces = pieces_of_balls(mask, VOXEL, 2.0)
    assert np.array_equal(pieces > 0, mask)
    graph = piece_graph(pieces, np.ones(mask.shape, np.uint8), None, (0, 0, 0), VOXEL, PieceConfig())
    assert graph.voxels.sum() == mask.sum()
    faces = 0
    for axis in range(3):
        a, b = (np.take(pieces, range(*r), axis=axis) for r in ((0, mask.shape[axis] - 1), (1, mask.shape[axis])))
        faces += int(((a != b) & (a > 0) & (b > 0)).sum())
    assert graph.capacities.sum() == pytest.approx(faces)
    assert (graph.edges[:, 0] < graph.edges[:, 1]).all()


SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
VOXELS = st.sampled_from([VOXEL, (8.0, 8.0, 40.0), (3.3, 4.7, 29.0)])


@given(seed=st.integers(0, 1000), shape=SHAPES, voxel=VOXELS, with_image=st.booleans(), fortran=st.booleans())
@settings(max_examples=60, deadline=None)
def test_edges_and_centres_are_those_of_a_plain_loop(
    seed: int, shape: tuple[int, int, int], voxel: tuple[float, float, float], with_image: bool, fortran: bool
) -> None:
    rng = np.random.default_rng(seed)
    used, numbers = np.unique(rng.integers(0, 6, shape), return_inverse=True)
    # without gaps, as pieces are numbered
    pieces = (numbers.reshape(shape) + (used[0] > 0)).astype(np.uint32, order="F" if fortran else "C")
    n = int(pieces.max())
    assume(n > 0)
    gray = rng.integers(1, 255, shape).astype(np.uint8) if with_image else None
    brightness = relative_brightness(gray, pieces)
    area = np.prod(voxel) / np.asarray(voxel)
    area /= area.mean()
    expected: dict[tuple[int, int], float] = {}
    for axis in range(3):
        for at in np.argwhere(pieces >= 0).tolist():
            after = [c + (a == axis) for a, c in enumerate(at)]
            if after[axis] == shape[axis]:
                continue
            one, other = int(pieces[tuple(at)]), int(pieces[tuple(after)])
            if one and other and one != other:
                cost = np.float64(area[axis])
                if brightness is not None:
                    mean = (brightness[tuple(at)] + brightness[tuple(after)]) / 2
                    cost *= np.clip(mean, 0.0, 1.0) ** 4.0
                pair = (min(one, other) - 1, max(one, other) - 1)
                expected[pair] = expected.get(pair, 0.0) + cost
    edges, capacities = touching_pieces(pieces, n, brightness, voxel, 4.0)
    assert edges.dtype == np.int32 and capacities.dtype == np.float32
    assert [tuple(edge) for edge in edges.tolist()] == sorted(expected)
    # numpy takes powers of many floats in another way than of one
    exact = [expected[pair] for pair in sorted(expected)]
    assert (
        np.allclose(capacities, exact, rtol=1e-6)
        if with_image
        else np.array_equal(capacities, np.array(exact, np.float32))
    )
    graph = piece_graph(pieces, pieces, gray, (4, 0, -2), voxel, PieceConfig())
    centres = np.array([np.argwhere(pieces == number).mean(axis=0) for number in range(1, n + 1)])
    assert np.allclose(graph.points_nm, (centres + np.array([4.5, 0.5, -1.5])) * voxel, atol=1e-3)


@given(seed=st.integers(0, 1000), dtype=st.sampled_from([np.uint8, np.uint32, np.uint64]))
@settings(max_examples=40, deadline=None)
def test_pieces_do_not_depend_on_the_names_of_supervoxels(seed: int, dtype: type[np.unsignedinteger]) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 5, 7)) < 0.7
    names = rng.integers(0, 4, mask.shape)
    largest = np.iinfo(dtype).max
    supervoxels = np.array([0, 1, largest - 1, largest], dtype)[names]
    pieces = pieces_of_supervoxels(mask, supervoxels)
    assert np.array_equal(pieces, pieces_of_supervoxels(mask, names.astype(np.uint16)))
    values = values_of_pieces(pieces, supervoxels)
    assert len(values) == pieces.max() and np.array_equal(values[pieces[mask] - 1], supervoxels[mask])


def test_a_segment_of_one_body_or_none_has_the_voxels_of_its_pieces() -> None:
    pieces = np.zeros((4, 3, 2), np.uint32)
    pieces[:2], pieces[2:3] = 1, 2
    for body in (0, 9):
        bodies = np.broadcast_to(np.uint64(body), pieces.shape)
        graph = piece_graph(pieces, bodies, None, (0, 0, 0), VOXEL, PieceConfig())
        assert graph.bodies.tolist() == [9] * (body > 0)
        assert graph.voxels.tolist() == ([[12], [6]] if body else [[], []])


def test_balls_part_two_spheres_at_their_neck() -> None:
    grid = np.indices((50, 25, 25)).astype(float)
    left, right = (((grid - np.array([x, 12, 12])[:, None, None, None]) ** 2).sum(0) <= 9**2 for x in (12, 34))
    neck = (np.abs(grid[1] - 12) <= 1) & (np.abs(grid[2] - 12) <= 1) & (grid[0] > 12) & (grid[0] < 34)
    pieces = pieces_of_balls(left | right | neck, VOXEL, 4.0)
    middles = [pieces[12, 12, 12], pieces[34, 12, 12]]
    assert middles[0] != middles[1]
    assert not np.intersect1d(np.unique(pieces[left]), np.unique(pieces[right]))[1:].size
    assert (pieces[left] == middles[0]).mean() > 0.8


@given(seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_voxels_are_counted_inside_a_box_not_pieces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = pieces_of_supervoxels(rng.random((9, 8, 7)) < 0.8, rng.integers(0, 3, (9, 8, 7)).astype(np.uint32))
    bodies = rng.integers(0, 3, pieces.shape).astype(np.uint64)
    graph = piece_graph(pieces, bodies, None, (5, -3, 2), VOXEL, PieceConfig())
    corner = np.array([5, -3, 2]) * VOXEL
    low = corner + rng.uniform(-1, 6, 3) * VOXEL
    box = Box(tuple(low), tuple(low + rng.uniform(0, 8, 3) * VOXEL))
    counted = np.zeros_like(graph.voxels)
    for index in np.argwhere(pieces > 0):
        body = bodies[tuple(index)]
        if body and box.contains((corner + (index + 0.5) * VOXEL)[None])[0]:
            counted[pieces[tuple(index)] - 1, graph.bodies.tolist().index(body)] += 1
    assert np.array_equal(graph.voxels_inside(box), counted)


def test_no_segment_no_pieces() -> None:
    graph = piece_graph(np.zeros((0, 0, 0), np.uint32), np.zeros((0, 0, 0)), None, (0, 0, 0), VOXEL, PieceConfig())
    assert len(graph.points_nm) == 0
