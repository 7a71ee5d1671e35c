"""Places next to each other come into one group."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.spatial_batches import group_by_place

POINTS = st.lists(st.tuples(*[st.floats(-1e7, 1e7, width=32)] * 3), max_size=60)


@given(points=POINTS, edge=st.floats(1, 1e6), size=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_each_point_is_in_one_group_of_the_size_asked_for(
    points: list[tuple[float, float, float]], edge: float, size: int
) -> None:
    places = np.asarray(points, float).reshape(-1, 3)
    groups = group_by_place(places, edge, size)
    assert sorted(row for group in groups for row in group.tolist()) == list(range(len(points)))
    assert all(len(group) == size for group in groups[:-1])
    assert all(0 < len(group) <= size for group in groups)
    again = group_by_place(places.astype(np.float64), edge, size)
    assert [g.tolist() for g in groups] == [g.tolist() for g in again]


@given(points=POINTS.filter(bool), edge=st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_points_of_a_cube_follow_each_other_in_their_order(points: list[tuple[float, float, float]], edge: int) -> None:
    places = np.asarray(points, float)
    (order,) = group_by_place(places, edge, len(points))
    cubes = [tuple(c) for c in np.floor((places - places.min(axis=0)) / edge)[order].tolist()]
    runs = [cube for cube, _ in itertools.groupby(cubes)]
    far = max(max(c) for c in cubes) >= 2**20  # what lies further is put together
    assert far or len(runs) == len(set(cubes))
    for cube in set(runs):
        rows = [row for row, c in zip(order.tolist(), cubes, strict=True) if c == cube]
        assert rows == sorted(rows)


@pytest.mark.parametrize("edge", [2, 4])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (-2.995e5, 7.0005e6, 123.0)])
def test_groups_of_a_full_grid_are_its_blocks(edge: int, offset: tuple[float, float, float]) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = np.random.default_rng(0).permutation(grid)
    for group in group_by_place(grid * 500.0 + offset, 500.0, edge**3):
        blocks = np.unique(grid[group] // edge, axis=0)
        assert len(blocks) == 1
        assert len(np.unique(grid[group], axis=0)) == edge**3


def test_far_clusters_come_apart() -> None:
    rng = np.random.default_rng(1)
    middles = rng.integers(0, 30, (12, 3)) * 10000.0 + 5000
    middles = np.unique(middles, axis=0)
    near = middles[:, None] + rng.uniform(-400, 400, (len(middles), 16, 3))
    shuffled = rng.permutation(len(middles) * 16)
    corner = np.zeros((16, 3))
    places = np.concatenate([corner, near.reshape(-1, 3)[shuffled]])
    cluster = np.concatenate([np.full(16, -1), np.repeat(np.arange(len(middles)), 16)[shuffled]])
    groups = group_by_place(places, 10000.0, 16)
    assert len(groups) == len(middles) + 1
    assert all(len(set(cluster[group].tolist())) == 1 for group in groups)


def test_no_points_no_groups() -> None:
    assert group_by_place(np.zeros((0, 3)), 100.0, 4) == []
