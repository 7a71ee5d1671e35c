"""Agreement between raters: Cohen's and Fleiss' kappa, alone and on result records of persons."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_results import records, write

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.agreement import (
    agreement,
    fleiss_kappa_statistic,
    kappa_statistic,
    pairwise_agreement,
)
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.weighted_statistics import plain_value

ANSWERS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(ANSWERS)
def test_kappa_agrees_with_scikit_learn(rows):
    from sklearn.metrics import cohen_kappa_score

    first, second, weights = map(np.array, zip(*rows, strict=True))
    for weight in (np.ones(len(rows)), weights) if weights.any() else (np.ones(len(rows)),):
        used = weight > 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs divides by zero where ours is NaN on purpose
            theirs = cohen_kappa_score(first[used], second[used], sample_weight=weight[used])
        assert plain_value(kappa_statistic(first, second), len(rows), weight) == pytest.approx(theirs, nan_ok=True)


def test_kappa_by_hand():
    # Cohen (1960) style table: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no; po = 0.7, pe = 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert plain_value(kappa_statistic(first, second), 50) == pytest.approx(0.4)
    assert math.isnan(plain_value(kappa_statistic(["yes"] * 3, ["yes"] * 3), 3))


def test_fleiss_kappa_is_that_of_its_textbook_example():
    # ten subjects, fourteen raters, five categories: kappa 0.210
    counts = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    answers = np.array([np.repeat(np.arange(5), row) for row in counts]).T
    assert plain_value(fleiss_kappa_statistic(list(answers)), 10) == pytest.approx(0.210, abs=5e-4)
    with pytest.raises(ConnectomeBenchError, match="two raters"):
        fleiss_kappa_statistic([answers[0]])


def test_persons_are_compared_on_what_both_answered(tmp_path):
    anna, bert, carl = (records(f"person-{name}", rows=60, seed=seed) for seed, name in enumerate("abc"))
    for row in anna[:4]:
        row["prediction"] = None
    write(tmp_path, anna)
    write(tmp_path, bert[:50])
    write(tmp_path, carl)
    frame = read_results(tmp_path)
    (found,) = agreement(frame, "person-a", "person-b", resamples=200)
    assert (found.task, found.species, found.partition) == ("merge_action", "fly", "test")
    assert found.left_out == 4 and found.kappa.n == found.share.n == 46 and found.kappa.n_groups == 23
    one, other = ([row["prediction"] for row in rows[4:50]] for rows in (anna, bert))
    from sklearn.metrics import cohen_kappa_score

    assert found.kappa.value == pytest.approx(cohen_kappa_score(one, other))
    assert found.share.value == pytest.approx(np.mean(np.array(one) == np.array(other)))
    assert found.kappa.lower < found.kappa.value < found.kappa.upper
    pairs = pairwise_agreement(frame, ["person-a", "person-b", "person-c"], resamples=20)
    assert [(p.first[-1], p.second[-1]) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_raters_who_share_nothing_are_told(tmp_path):
    write(tmp_path, records("person-a"))
    write(tmp_path, [row | {"sample_id": f"x{row['sample_id']}"} for row in records("person-b")])
    write(tmp_path, [row | {"prediction": None} for row in records("person-c")])
    frame = read_results(tmp_path)
    with pytest.raises(ConnectomeBenchError, match="no samples on the same partition"):
        agreement(frame, "person-a", "person-b")
    with pytest.raises(ConnectomeBenchError, match="no results of person-d; there are results of person-a, person-b"):
        agreement(frame, "person-a", "person-d")
    with pytest.raises(ConnectomeBenchError, match="two raters"):
        pairwise_agreement(frame, ["person-a"])
    (silent,) = agreement(frame, "person-a", "person-c")
    assert silent.left_out == 40 and silent.kappa.n == 0 and math.isnan(silent.kappa.value)


@pytest.mark.parametrize("rows", [([], []), (["a"], ["a", "b"]), ([1], ["a"])])
def test_answers_that_do_not_belong_together_are_refused(rows):
    with pytest.raises(ConnectomeBenchError, match=r"same rows|must be numbers, or text"):
        kappa_statistic(*rows)
