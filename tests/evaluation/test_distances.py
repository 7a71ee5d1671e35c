"""Fréchet and energy distance of feature vectors, and their correlation with drops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.distances import energy_distance, frechet_distance
from connectomebench.evaluation.domain_gap import Gap, correlate


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 6), st.integers(0, 99))
def test_frechet_is_the_formula_with_a_matrix_root(rows, other_rows, dim, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(0, 2, (rows, dim)), rng.normal(1, 1, (other_rows, dim))
    c1, c2 = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    # the root of a product of two covariances has the trace of the root of this, which is symmetric
    values, vectors = np.linalg.eigh(c1)
    half = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    root = np.sqrt(np.clip(np.linalg.eigvalsh(half @ c2 @ half), 0, None)).sum()
    gap = one.mean(0) - other.mean(0)
    expected = gap @ gap + np.trace(c1) + np.trace(c2) - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected, abs=1e-5)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_of_shifted_vectors_is_the_squared_shift():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    assert frechet_distance(rows, rows + np.array([3, 0, 4])) == pytest.approx(25)
    # twice the spread along one axis of standard deviation s: (2s - s)² more
    assert frechet_distance(rows[:, :1], 2 * rows[:, :1]) == pytest.approx(
        rows[:, 0].var(ddof=1) + rows[:, 0].mean() ** 2
    )


def test_energy_by_hand():
    # 2 * mean(|0-1|, |0-3|, |2-1|, |2-3|) - |0-2| - |1-3|
    assert energy_distance([[0], [2]], [[1], [3]]) == pytest.approx(2 * 1.5 - 2 - 2)


def test_energy_is_zero_on_average_for_one_distribution_and_rises_with_a_shift():
    rng = np.random.default_rng(0)
    same = [energy_distance(rng.normal(size=(15, 4)), rng.normal(size=(15, 4))) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(300)
    rows, other = rng.normal(size=(2, 100, 4))
    assert energy_distance(rows, other) < energy_distance(rows, other + 1) < energy_distance(rows, other + 2)


@pytest.mark.parametrize(
    "pair", [([[1.0]], [[1.0]]), ([[1.0, 2]] * 2, [[1.0]] * 2), ([1.0, 2], [1.0, 2]), ([[math.nan]] * 2, [[1.0]] * 2)]
)
def test_what_has_no_distance_is_refused(pair):
    for distance in (frechet_distance, energy_distance):
        with pytest.raises(ConnectomeBenchError, match=r"two sets of vectors|finite"):
            distance(*pair)


def gap(first, second, frechet, energy):
    return Gap("merge_action", first, second, "encoder", 9, frechet, energy)


def test_drops_are_correlated_from_three_pairs_on():
    gaps = [gap("a", "b", 1, 3), gap("a", "c", 2, 2), gap("b", "c", 4, 1)]
    drops = [("a", "b", 0.1), ("b", "a", 0.0), ("c", "a", 0.2), ("c", "b", 0.3), ("b", "c", math.nan), ("a", "z", 0.9)]
    frechet, energy = correlate(drops, gaps)
    assert (frechet.distance, frechet.n, frechet.pairs) == ("Fréchet", 4, 3)
    from scipy.stats import spearmanr

    assert frechet.spearman == pytest.approx(spearmanr([1, 1, 2, 4], [0.1, 0.0, 0.2, 0.3]).statistic)
    assert energy.spearman == pytest.approx(-frechet.spearman)
    assert [c.spearman for c in correlate(drops[:3], gaps)] == [None, None]
    assert [c.spearman for c in correlate([(a, b, 0.1) for a, b, _ in drops], gaps)] == [None, None]
    assert correlate(drops, []) == []
