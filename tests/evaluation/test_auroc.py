"""Selective prediction: risk at a coverage and the area under the risk-coverage curve."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.auroc import (
    answer_confidence,
    aurc_statistic,
    risk_coverage_curve,
    risk_statistic,
)
from connectomebench.evaluation.weighted_statistics import plain_value

RANKED = st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.8, 1.0]), st.integers(0, 1)), min_size=1, max_size=6)


def test_risk_by_hand():
    confidence, right = [0.9, 0.6, 0.8, 0.7], [1, 0, 1, 0]
    assert plain_value(risk_statistic(confidence, right, 0.5), 4) == 0
    assert plain_value(risk_statistic(confidence, right, 0.75), 4) == pytest.approx(1 / 3)
    assert plain_value(risk_statistic(confidence, right, 1.0), 4) == pytest.approx(0.5)
    # 0.9 of four rows: three and 0.6 of the last, which is wrong
    assert plain_value(risk_statistic(confidence, right, 0.9), 4) == pytest.approx(1.6 / 3.6)
    assert plain_value(aurc_statistic(confidence, right), 4) == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)


@settings(max_examples=60, deadline=None)
@given(RANKED)
def test_ties_count_as_the_mean_over_all_their_orders(rows):
    confidence, right = map(np.array, zip(*rows, strict=True))
    n = len(rows)
    risks = []
    for order in permutations(range(n)):
        order = np.array(order)
        if np.all(np.diff(confidence[order]) <= 0):
            risks.append(np.cumsum(1 - right[order]) / np.arange(1, n + 1))
    mean = np.mean(risks, axis=0)
    assert plain_value(aurc_statistic(confidence, right), n) == pytest.approx(mean.mean())
    for answered in range(1, n + 1):
        found = plain_value(risk_statistic(confidence, right, answered / n), n)
        assert found == pytest.approx(mean[answered - 1])


@settings(max_examples=60, deadline=None)
@given(RANKED, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_a_weight_is_a_number_of_copies(rows, times):
    confidence, right = map(np.array, zip(*rows, strict=True))
    weights = np.array(times[: len(rows)])
    if not weights.any():
        return
    copies = np.repeat(confidence, weights), np.repeat(right, weights)
    for make in (aurc_statistic, lambda c, r: risk_statistic(c, r, 0.8)):
        expected = plain_value(make(*copies), weights.sum())
        assert plain_value(make(confidence, right), len(rows), weights) == pytest.approx(expected)


def test_the_curve_holds_the_risks():
    generator = np.random.default_rng(0)
    confidence = np.round(generator.uniform(0.5, 1, 200), 2)
    right = (generator.random(200) < confidence).astype(int)
    curve = risk_coverage_curve(confidence, right)
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx(1 - right.mean())
    assert np.all(np.diff(curve.coverage) > 0) and np.all(np.diff(curve.confidence) < 0)
    for threshold, coverage, risk in zip(curve.confidence, curve.coverage, curve.risk, strict=True):
        answered = confidence >= threshold
        assert (coverage, risk) == (pytest.approx(answered.mean()), pytest.approx(1 - right[answered].mean()))
        assert plain_value(risk_statistic(confidence, right, coverage), 200) == pytest.approx(risk)


def test_confidence_is_that_of_the_answer_given():
    assert answer_confidence([True, False, True], [0.9, 0.2, 0.3]).tolist() == pytest.approx([0.9, 0.8, 0.3])


@pytest.mark.parametrize(
    ("confidence", "right", "coverage", "words"),
    [
        ([0.5], [1], 0.0, "coverage is 0.0"),
        ([0.5], [1], 1.1, "coverage is 1.1"),
        ([0.5, float("nan")], [1, 0], 0.5, "finite confidence"),
        ([0.5, 0.6], [1, 2], 0.5, "right must be 0 or 1"),
        ([], [], 0.5, "at least one row"),
        ([0.5], [1, 0], 0.5, "one of right per row"),
    ],
)
def test_what_cannot_be_ranked_is_told(confidence, right, coverage, words):
    with pytest.raises(ConnectomeBenchError, match=words):
        risk_statistic(confidence, right, coverage)
