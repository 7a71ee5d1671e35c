"""Scores on cases computed by hand, and against a second computation that is slow and plain."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import variation_of_information

from connectomebench.core.geometry import Skeleton
from connectomebench.proofreading.scores import adapted_rand_error, expected_run_length
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels
from connectomebench.proofreading.truth_table import TruthTable, size_gain

volumes = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Supervoxels, the object of each, and bodies, all with background."""
    n = int(rng.integers(1, 8))
    pieces = rng.integers(0, n + 1, (4, 3, 5))
    pieces.ravel()[:n] = np.arange(1, n + 1)
    return pieces, rng.integers(1, 4, n).astype(np.uint64), rng.integers(0, 4, pieces.shape)


def plainly(pieces: np.ndarray, objects: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Split, merge and Rand error by going through voxels and pairs of voxels one by one."""
    voxels = [
        (int(objects[p - 1]), int(t)) for p, t in zip(pieces.ravel(), truth.ravel(), strict=True) if p > 0 and t > 0
    ]
    if not voxels:
        return 0.0, 0.0, 0.0
    both, one, other = Counter(voxels), Counter(o for o, _ in voxels), Counter(t for _, t in voxels)
    n = len(voxels)
    split = -sum(c / n * math.log2(c / other[t]) for (_, t), c in both.items())
    merge = -sum(c / n * math.log2(c / one[o]) for (o, _), c in both.items())
    pairs = list(itertools.product(voxels, voxels))
    same = sum(a == b for a, b in pairs)
    precision = same / sum(a[0] == b[0] for a, b in pairs)
    recall = same / sum(a[1] == b[1] for a, b in pairs)
    return split, merge, 1 - 2 * precision * recall / (precision + recall)


@settings(max_examples=60, deadline=None)
@given(volumes)
def test_scores_are_those_of_a_plain_count(rng: np.random.Generator):
    pieces, objects, truth = drawn(rng)
    table = TruthTable.of_arrays(pieces, truth, len(objects))
    split, merge, rand = plainly(pieces, objects, truth)
    assert table.variation(objects) == pytest.approx((split, merge), abs=1e-9)
    assert adapted_rand_error(table.objects_by_body(objects)) == pytest.approx(rand, abs=1e-9)
    both = (pieces > 0) & (truth > 0)
    if both.any():
        labels = objects[np.maximum(pieces, 1) - 1][both].astype(np.int64)
        # scikit-image gives H(truth | objects) last when the truth comes first
        assert variation_of_information(labels, truth[both]) == pytest.approx((merge, split), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(volumes)
def test_the_gain_of_an_edit_is_the_difference_of_the_scores(rng: np.random.Generator):
    pieces, objects, truth = drawn(rng)
    n = len(objects)
    table = TruthTable.of_arrays(pieces, truth, n)
    edges = np.array([[i, i + 1] for i in range(n - 1)], np.int32).reshape(-1, 2)
    points = rng.random((n, 3)).astype(np.float32)
    counts = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    graph = SegmentationGraph(
        Supervoxels(objects, points, counts, edges, np.ones(len(edges), np.float32), np.zeros(n, np.uint64))
    )
    before = sum(table.variation(graph.objects))
    pair = [(a, b) for a, b in itertools.combinations(range(n), 2) if graph.objects[a] != graph.objects[b]]
    if pair:
        gain = table.merge_gain(graph, *(int(graph.objects[i]) for i in pair[0]))
        graph.merge(*pair[0])
        assert before - sum(table.variation(graph.objects)) == pytest.approx(gain, abs=1e-9)
        before = sum(table.variation(graph.objects))
        plan = graph.plan_split([pair[0][0]], [pair[0][1]], 2.0)
        gain = table.split_gain(plan)
        graph.split([pair[0][0]], [pair[0][1]], 2.0)
        assert before - sum(table.variation(graph.objects)) == pytest.approx(gain, abs=1e-9)


def test_a_body_in_two_halves_loses_a_bit():
    pieces = np.array([1, 1, 2, 2])
    table = TruthTable.of_arrays(pieces, np.array([7, 7, 7, 7]), 2)
    assert table.variation(np.array([1, 2], np.uint64)) == (1.0, 0.0)
    fused = TruthTable.of_arrays(pieces, np.array([7, 7, 8, 8]), 2)
    assert fused.variation(np.array([1, 1], np.uint64)) == (0.0, 1.0)
    assert size_gain(2, 2, 4) == 1.0


def line(n: int, step: float = 10.0, start: float = 0.0) -> Skeleton:
    nodes = np.stack([start + np.arange(n) * step, np.zeros(n), np.zeros(n)], axis=1).astype(np.float32)
    edges = np.array([[i, i + 1] for i in range(n - 1)], np.int32)
    return Skeleton(nodes, edges, np.ones(n, np.float32))


def test_run_length_by_hand():
    whole, other = line(11), line(6)  # 100 and 50 nm
    ids = np.ones(11, np.uint64), np.full(6, 2, np.uint64)
    perfect = expected_run_length([(whole, ids[0]), (other, ids[1])])
    assert perfect.erl_nm == pytest.approx((100**2 + 50**2) / 150)
    assert perfect.normalised == perfect.edge_accuracy == 1
    # cut between nodes 4 and 5: runs of 40 and 50 nm, the edge between them is lost
    cut = ids[0].copy()
    cut[5:] = 3
    found = expected_run_length([(whole, cut), (other, ids[1])])
    assert found.erl_nm == pytest.approx((40**2 + 50**2 + 50**2) / 150)
    assert found.edge_accuracy == pytest.approx(140 / 150)
    # the second half is fused with the other body: both runs are wrong
    cut[5:] = 2
    assert expected_run_length([(whole, cut), (other, ids[1])]).erl_nm == pytest.approx(40**2 / 150)
    # one stray node is no merge, but cuts its own run; background likewise
    stray = ids[0].copy()
    stray[3] = 2
    assert expected_run_length([(whole, stray), (other, ids[1])]).erl_nm == pytest.approx((20**2 + 60**2 + 50**2) / 150)
    stray[3] = 0
    assert expected_run_length([(whole, stray)]).erl_nm == pytest.approx((20**2 + 60**2) / 100)
    assert expected_run_length([]).erl_nm == 0
    apart = replace(whole, edges=np.delete(whole.edges, 4, axis=0))
    assert expected_run_length([(apart, ids[0])]).normalised == 1
