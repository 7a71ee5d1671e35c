"""Statistics of edits against numpy, resample by resample, and on samples whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.economics.distribution import (
    PERCENTILES,
    _statistics,
    compare_samples,
    describe,
    heavy_tail,
)
from connectomebench.economics.edit_table import EditTable

COUNTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=40)


def table(pairs: list[tuple[int, int]], name: str = "t") -> EditTable:
    counts = np.array(pairs, np.int64)
    return EditTable(name, np.arange(1, len(counts) + 1, dtype=np.uint64), counts[:, 0], counts[:, 1])


def by_numpy(pairs: np.ndarray, population: int) -> dict[str, float]:
    """Every statistic of plainly repeated rows."""
    edits = pairs.sum(axis=1)
    found = {"mean": edits.mean(), "median": np.median(edits), "total": population * edits.mean()}
    found["sd"] = edits.std(ddof=1) if len(edits) > 1 else math.nan
    found |= {f"p{q}": np.percentile(edits, q) for q in PERCENTILES}
    above = edits > np.percentile(edits, 95)
    found["tail_share"] = edits[above].sum() / edits.sum() if edits.sum() else math.nan
    found["merge_share"] = pairs[:, 0].sum() / edits.sum() if edits.sum() else math.nan
    return {name: float(value) for name, value in found.items()}


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.data())
def test_a_resample_equals_numpy_on_repeated_rows(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 4), min_size=len(pairs), max_size=len(pairs)).filter(any))
    expected = by_numpy(np.repeat(np.array(pairs), weights, axis=0), 1000)
    statistics = _statistics(table(pairs), 1000)
    assert set(statistics) == set(expected)
    for name, statistic in statistics.items():
        found = float(statistic(np.array([weights], np.float64))[0])
        assert found == pytest.approx(expected[name], rel=1e-9, abs=1e-7, nan_ok=True), name


@settings(max_examples=20, deadline=None)
@given(COUNTS)
def test_intervals_hold_the_value_and_scale_with_the_population(pairs: list[tuple[int, int]]) -> None:
    found = describe(table(pairs), 5000, resamples=50)
    for estimate in found.estimates.values():
        assert estimate.n == len(pairs)
        assert math.isnan(estimate.lower) or estimate.lower <= estimate.value <= estimate.upper
    mean, total = found.estimates["mean"], found.estimates["total"]
    assert (total.value, total.lower, total.upper) == pytest.approx(
        (5000 * mean.value, 5000 * mean.lower, 5000 * mean.upper)
    )


def test_the_interval_covers_the_mean_of_the_population() -> None:
    generator = np.random.default_rng(7)
    population = generator.geometric(1 / 20, 20_000) - 1
    covered = 0
    for seed in range(100):
        drawn = generator.choice(population, 200, replace=False)
        mean = describe(table([(int(v), 0) for v in drawn]), resamples=400, seed=seed).estimates["mean"]
        covered += mean.lower <= population.mean() <= mean.upper
    assert 88 <= covered <= 100


@pytest.mark.parametrize(("n", "above"), [(100, 5), (500, 25), (1000, 50)])
def test_a_twentieth_is_in_the_tail_where_no_two_are_equal(n: int, above: int) -> None:
    tail = heavy_tail(np.arange(n))
    assert tail.neurons == above and tail.neuron_share == 0.05
    assert tail.edit_share == pytest.approx(np.arange(n)[-above:].sum() / np.arange(n).sum())


def test_a_sample_without_edits_has_no_shares() -> None:
    found = describe(table([(0, 0), (0, 0), (0, 0)]), 10)
    assert found.estimates["mean"].value == 0 and found.tail.neurons == 0
    assert math.isnan(found.tail.edit_share) and math.isnan(found.estimates["merge_share"].value)


def test_one_neuron_gives_values_without_intervals() -> None:
    found = describe(table([(3, 4)]), 10).estimates
    assert found["mean"].value == 7 and math.isnan(found["mean"].lower) and math.isnan(found["sd"].value)


def test_a_population_below_the_sample_is_refused() -> None:
    with pytest.raises(ConnectomeBenchError, match="population of 1 is smaller than the sample of 2"):
        describe(table([(1, 1), (2, 2)]), 1)


def test_same_seed_same_numbers() -> None:
    one = table([(i % 7, i % 5) for i in range(50)])
    assert describe(one, 100, seed=3).estimates == describe(one, 100, seed=3).estimates
    assert describe(one, 100, seed=3).estimates != describe(one, 100, seed=4).estimates


def test_samples_of_the_same_population_hardly_differ_and_others_do() -> None:
    generator = np.random.default_rng(1)

    def drawn(n: int, mean: float, name: str):
        return describe(table([(int(v), int(v) // 2) for v in generator.poisson(mean, n)], name), 5000, resamples=300)

    small, large, other = drawn(100, 40, "small"), drawn(500, 40, "large"), drawn(100, 80, "other")
    found = {d.statistic: d for d in compare_samples(small, large, resamples=300)}
    assert set(found) == {"mean", "total", "tail_share"}
    assert abs(found["mean"].relative) < 0.05 and found["mean"].difference.lower < 0 < found["mean"].difference.upper
    assert found["mean"].relative == pytest.approx(found["total"].relative)
    expected = small.estimates["mean"].value / large.estimates["mean"].value - 1
    assert found["mean"].relative == pytest.approx(expected)
    far = next(d for d in compare_samples(other, large, resamples=300) if d.statistic == "mean")
    assert far.difference.lower > 0 and far.relative == pytest.approx(1, abs=0.2)
