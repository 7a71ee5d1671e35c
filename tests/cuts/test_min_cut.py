import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.cut import CutConfig, CutGraph
from connectomebench.core.site import Cut
from connectomebench.cuts.min_cut import SeedsTouch, apply_cut, cut_place_nm, judge_cut

ORIGIN = np.zeros(3)


def chain(capacities, voxels) -> CutGraph:
    """Pieces 100 nm apart along x."""
    n = len(voxels)
    points = np.column_stack([np.arange(n) * 100.0, np.zeros(n), np.zeros(n)]).astype(np.float32)
    edges = np.column_stack([np.arange(n - 1), np.arange(1, n)]).astype(np.int32)
    voxels = np.asarray(voxels, np.float64)
    bodies = np.arange(1, voxels.shape[1] + 1, dtype=np.uint64)
    return CutGraph(points, edges, np.asarray(capacities, np.float32), bodies, voxels)


def cut(graph: CutGraph, source: int, sink: int) -> Cut:
    def point(i):
        return tuple(float(c) for c in graph.points_nm[i])

    return Cut((point(source),), (point(sink),), (0.0, 0.0, 0.0), 10_000.0)


def test_the_weakest_edge_is_cut():
    graph = chain([9, 9, 1, 9], [[1000, 0]] * 3 + [[0, 1000]] * 2)
    sides = apply_cut(graph, cut(graph, 0, 4))
    assert sides.tolist() == [1, 1, 1, -1, -1]
    np.testing.assert_allclose(cut_place_nm(graph, sides), [250, 0, 0])


def test_pieces_not_connected_to_a_seed_belong_to_neither_side():
    graph = chain([9, 1, 9], [[1000]] * 4)
    graph = CutGraph(graph.points_nm, graph.edges[:2], graph.capacities[:2], graph.bodies, graph.voxels)
    assert apply_cut(graph, cut(graph, 0, 2)).tolist() == [1, 1, -1, 0]


def test_seeds_in_one_piece_are_refused():
    graph = chain([1, 1], [[10]] * 3)
    with pytest.raises(SeedsTouch):
        apply_cut(graph, cut(graph, 1, 1))


def test_a_cut_between_bodies_is_good_and_one_within_a_body_is_not():
    voxels = [[2000, 0]] * 3 + [[0, 2000]] * 3
    between = chain([9, 9, 1, 9, 9], voxels)
    within = chain([9, 1, 9, 9, 9], voxels)
    rules = CutConfig(k=20, min_body_voxels=1000, cutout_nm=5000)
    good = judge_cut(between, apply_cut(between, cut(between, 0, 5)), ORIGIN, rules)
    bad = judge_cut(within, apply_cut(within, cut(within, 0, 5)), ORIGIN, rules)
    assert good.good and good.relevant == 2 and good.worst_ratio == np.inf
    # body 1 keeps 4000 of 6000 on the far side: 6000 good against 2000 bad is far from 20 to 1
    assert not bad.good and bad.worst_ratio == pytest.approx(3.0)


@pytest.mark.parametrize(("slop", "expected"), [(99, True), (101, False)])
def test_the_ratio_k_decides(slop, expected):
    # the sink side holds 2000 voxels of body 2 and `slop` of body 1: good needs 2000 > 20 * slop
    graph = chain([1], [[5000, 0], [slop, 2000]])
    verdict = judge_cut(graph, np.array([1, -1], np.int8), ORIGIN, CutConfig())
    assert verdict.good is expected


def test_small_bodies_do_not_count_and_nothing_relevant_is_not_good():
    graph = chain([1], [[900, 0], [0, 900]])
    verdict = judge_cut(graph, np.array([1, -1], np.int8), ORIGIN, CutConfig())
    assert not verdict.good and verdict.relevant == 0


def test_pieces_outside_the_cutout_do_not_count():
    graph = chain([1, 1], [[5000, 0], [0, 5000], [5000, 0]])
    graph.points_nm[2] = (9000, 0, 0)
    sides = np.array([1, -1, -1], np.int8)
    assert judge_cut(graph, sides, ORIGIN, CutConfig(cutout_nm=5000)).good
    assert not judge_cut(graph, sides, ORIGIN, CutConfig(cutout_nm=50_000)).good


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_other_parting_is_cheaper(data):
    """Against all partings of a small random graph."""
    n = data.draw(st.integers(3, 7))
    pairs = [p for p in itertools.combinations(range(n), 2) if data.draw(st.booleans())]
    capacities = [data.draw(st.integers(1, 9)) for _ in pairs]
    points = np.random.default_rng(0).uniform(0, 1000, (n, 3)).astype(np.float32)
    graph = CutGraph(
        points,
        np.asarray(pairs, np.int32).reshape(-1, 2),
        np.asarray(capacities, np.float32),
        np.array([1], np.uint64),
        np.ones((n, 1)),
    )
    sides = apply_cut(graph, cut(graph, 0, n - 1))
    assert sides[0] == 1 and sides[n - 1] == -1

    def cost(source_side):
        return sum(c for (a, b), c in zip(pairs, capacities, strict=True) if source_side[a] != source_side[b])

    best = min(cost((True, *rest, False)) for rest in itertools.product((True, False), repeat=n - 2))
    parted = [c for (a, b), c in zip(pairs, capacities, strict=True) if sides[a] * sides[b] == -1]
    assert sum(parted) == best
