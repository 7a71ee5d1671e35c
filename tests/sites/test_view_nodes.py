"""Nodes of a view: evenly spread, the same whatever the skeleton's order, and no hint where the place is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.place_score import credit, full_credit_nm
from connectomebench.sites.view_nodes import NodeConfig, choose_nodes, nearest_node, shifted_centre

EVERYWHERE = Box((-1e6,) * 3, (1e6,) * 3)
RULES = NodeConfig()


def spacing_nm(extent_nm: float) -> float:
    return RULES.spacing * full_credit_nm(extent_nm)


def tree(seed: int, nodes: int = 60) -> Skeleton:
    """A random tree that grows through a few µm."""
    rng = np.random.default_rng(seed)
    points, edges = [np.zeros(3)], []
    for n in range(1, nodes):
        parent = int(rng.integers(max(0, n - 4), n))
        points.append(points[parent] + rng.normal(scale=400, size=3))
        edges.append((parent, n))
    return Skeleton(np.array(points, np.float32), np.array(edges, np.int32), np.full(nodes, 50, np.float32))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), extent=st.floats(1000, 8000))
def test_nodes_are_apart_in_the_cube_and_on_the_skeleton(seed: int, extent: float) -> None:
    skeleton = tree(seed)
    nodes = np.array(choose_nodes(skeleton, (0.0, 0.0, 0.0), extent, EVERYWHERE, RULES)).reshape(-1, 3)
    if not len(nodes):
        return
    assert RULES.least <= len(nodes) <= RULES.most
    assert np.abs(nodes).max() <= RULES.shift * extent + 0.1
    apart = np.linalg.norm(nodes[:, None] - nodes[None], axis=2)[~np.eye(len(nodes), dtype=bool)]
    assert apart.min() >= spacing_nm(extent) - 0.2
    worth = credit(np.linalg.norm(nodes[:, None] - nodes[None], axis=2), full_credit_nm(extent))
    assert worth.mean() <= RULES.max_chance + 0.01
    # a second, dumb computation: the distance to every edge
    a, b = (skeleton.nodes_nm[skeleton.edges[:, k]].astype(float) for k in (0, 1))
    along = np.einsum("nej,ej->ne", nodes[:, None] - a, b - a) / np.maximum(np.sum((b - a) ** 2, axis=1), 1e-9)
    foot = a + np.clip(along, 0, 1)[..., None] * (b - a)
    assert np.linalg.norm(nodes[:, None] - foot, axis=2).min(axis=1).max() < 0.2
    # no place of the skeleton in the cube is farther from a node than nodes are from each other
    inside = skeleton.nodes_nm[np.abs(skeleton.nodes_nm).max(axis=1) < RULES.shift * extent]
    gaps = np.linalg.norm(inside[:, None] - nodes[None], axis=2).min(axis=1)
    assert gaps.max(initial=0) <= apart.min() + 0.3 or gaps.max() <= spacing_nm(extent) + 0.3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_a_skeleton_does_not_matter(seed: int) -> None:
    skeleton = tree(seed)
    order = np.random.default_rng(seed).permutation(len(skeleton.nodes_nm))
    back = np.argsort(order)
    shuffled = Skeleton(skeleton.nodes_nm[order], back[skeleton.edges[::-1]].astype(np.int32), skeleton.radii_nm[order])
    for extent in (2000.0, 5000.0):
        args = ((100.0, 0.0, 50.0), extent, EVERYWHERE, RULES)
        assert choose_nodes(skeleton, *args) == choose_nodes(shuffled, *args)


def test_numbers_say_nothing_about_the_place() -> None:
    """Over many views the node nearest to the place shown has every number alike, and lies anywhere in the cube."""
    skeleton = tree(3, nodes=400)
    ranks, ways = [], []
    for n in range(400):
        place = tuple(float(c) for c in skeleton.nodes_nm[n])
        center = shifted_centre(place, 5000.0, f"place {n}", RULES)
        nodes = choose_nodes(skeleton, center, 5000.0, EVERYWHERE, RULES)
        if len(nodes) == RULES.most:
            ranks.append(nearest_node(nodes, place)[0])
            ways.append((np.array(place) - center) / 5000)
    counts = np.bincount(ranks, minlength=RULES.most)
    expected = len(ranks) / RULES.most
    assert len(ranks) > 200 and ((counts - expected) ** 2 / expected).sum() < 32  # chi², 11 degrees: p = 0.001
    ways = np.array(ways)
    assert np.abs(ways).max() <= RULES.shift and np.abs(ways.mean(axis=0)).max() < 0.06
    assert ways.std(axis=0) == pytest.approx(RULES.shift / np.sqrt(3), abs=0.03)


def test_shifts_follow_name_and_seed_alone() -> None:
    place = (10.0, 20.0, 30.0)
    first = shifted_centre(place, 1000.0, "a", RULES)
    assert first == shifted_centre(place, 1000.0, "a", RULES)
    assert first != shifted_centre(place, 1000.0, "b", RULES)
    assert first != shifted_centre(place, 1000.0, "a", NodeConfig(seed=1))


def test_nothing_is_put_at_the_border_of_the_data() -> None:
    line = Skeleton(
        np.array([[0, 0, 0], [2000, 0, 0]], np.float32), np.array([[0, 1]], np.int32), np.ones(2, np.float32)
    )
    bounds = Box((0.0, -500.0, -500.0), (2000.0, 500.0, 500.0))
    nodes = choose_nodes(line, (1000.0, 0.0, 0.0), 4000.0, bounds, NodeConfig(least=2, max_chance=1))
    assert choose_nodes(line, (1000.0, 0.0, 0.0), 4000.0, bounds, NodeConfig(least=2, max_chance=0.4)) == ()
    assert min(x for x, _, _ in nodes) >= 200 and max(x for x, _, _ in nodes) <= 1800
    assert choose_nodes(line, (1000.0, 3000.0, 0.0), 4000.0, bounds, RULES) == ()


@pytest.mark.parametrize(
    "wrong", [{"least": 1}, {"most": 41}, {"spacing": 0.0}, {"shift": 0.6}, {"least": 9, "most": 8}]
)
def test_impossible_rules_are_named(wrong: dict) -> None:
    with pytest.raises(ConnectomeBenchError, match="nodes"):
        NodeConfig(**wrong)
