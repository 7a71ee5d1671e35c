"""Precision, recall, false positive rate and F1 against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.precision_recall import RATES
from connectomebench.evaluation.weighted_statistics import plain_value


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=20))
def test_rates_agree_with_scikit_learn(rows):
    said, truth, weights = map(np.array, zip(*rows, strict=True))
    for weight in (np.ones(len(rows)), weights) if weights.any() else (np.ones(len(rows)),):
        options = {"sample_weight": weight, "zero_division": math.nan}
        expected = {
            "precision": precision_score(truth, said, **options),
            "recall": recall_score(truth, said, **options),
            # recall of "no" is its complement
            "false_positive_rate": 1 - recall_score(1 - truth, 1 - said, **options),
            "f1": f1_score(truth, said, **options),
        }
        for name, make in RATES.items():
            found = plain_value(make(said, truth), len(rows), weight)
            assert found == pytest.approx(expected[name], nan_ok=True), name


@pytest.mark.parametrize(
    ("said", "truth", "undefined"),
    [
        ([0, 0], [0, 1], {"precision"}),
        ([0, 1], [0, 0], {"recall"}),
        ([0, 1], [1, 1], {"false_positive_rate"}),
        ([0, 0], [0, 0], {"precision", "recall", "f1"}),
    ],
)
def test_what_is_undefined_is_nan(said, truth, undefined):
    assert {name for name, make in RATES.items() if math.isnan(plain_value(make(said, truth), 2))} == undefined


@pytest.mark.parametrize("rows", [([1], [1, 0]), ([], []), ([2], [1]), ([0.5], [1]), ([[1]], [[1]])])
def test_what_is_no_answer_is_refused(rows):
    with pytest.raises(ConnectomeBenchError, match=r"must be 0 or 1|one answer and one truth per row"):
        RATES["f1"](*rows)
