"""Balanced accuracy, AUROC, group bootstrap, paired comparison and McNemar's test."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation import statistics
from connectomebench.evaluation.agreement import fleiss_kappa_statistic, kappa_statistic
from connectomebench.evaluation.auroc import answer_confidence, aurc_statistic, auroc_statistic, risk_statistic
from connectomebench.evaluation.calibration import brier_statistic, calibration_statistic
from connectomebench.evaluation.precision_recall import RATES
from connectomebench.evaluation.significance import mcnemar_exact
from connectomebench.evaluation.statistics import (
    balanced_accuracy,
    balanced_accuracy_statistic,
    bootstrap_interval,
    bootstrap_intervals,
    independent_difference,
    paired_difference,
)
from connectomebench.evaluation.weighted_statistics import OfSums, Statistic


@st.composite
def classified(draw):
    rows, classes = draw(st.integers(1, 50)), draw(st.integers(1, 4))
    numbers = arrays(np.int64, rows, elements=st.integers(0, classes))
    return draw(numbers), draw(numbers), draw(arrays(np.float64, rows, elements=st.floats(0, 3)))


def yes_no_rows(rows: int, skill: float, seed: int):
    """Labels, and predictions that are right with probability ``skill``."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows)
    return np.where(generator.random(rows) < skill, labels, 1 - labels), labels


def test_balanced_accuracy_by_hand():
    # ones: 3 of 4 right; zeros: 0 of 1
    assert balanced_accuracy([1, 1, 0, 1, 1], [1, 1, 1, 0, 1]) == pytest.approx(0.375)
    assert balanced_accuracy([1, 1, 0, 1, 1], [1, 1, 1, 0, 1], adjusted=True) == pytest.approx(-0.25)
    # weight 2 on the wrong one: 3 of 5
    assert balanced_accuracy([1, 1, 0, 1], [1, 1, 1, 1], sample_weight=[1, 1, 2, 1]) == pytest.approx(0.6)


def test_a_prediction_outside_the_classes_is_wrong():
    assert balanced_accuracy(["yes", "", "no"], ["yes", "yes", "no"]) == pytest.approx(0.75)
    assert balanced_accuracy(np.array(["yes", ""], dtype=object), np.array(["yes", "yes"], dtype=object)) == 0.5


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@settings(max_examples=60, deadline=None)
@given(classified())
def test_balanced_accuracy_agrees_with_scikit_learn(rows):
    from sklearn.metrics import balanced_accuracy_score

    said, truth, weights = rows
    assert balanced_accuracy(said, truth) == pytest.approx(balanced_accuracy_score(truth, said), abs=1e-9)
    if len(np.unique(truth)) > 1:
        theirs = balanced_accuracy_score(truth, said, adjusted=True)
        assert balanced_accuracy(said, truth, adjusted=True) == pytest.approx(theirs, abs=1e-9)
    if weights.any():
        theirs = balanced_accuracy_score(truth, said, sample_weight=weights)
        assert balanced_accuracy(said, truth, weights) == pytest.approx(theirs, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.integers(0, 1)), min_size=2, max_size=40))
def test_auroc_agrees_with_scikit_learn(rows):
    from sklearn.metrics import roc_auc_score

    score, labels = map(np.array, zip(*rows, strict=True))
    value = auroc_statistic(score, labels)(np.ones((1, len(labels))))[0]
    if len(np.unique(labels)) == 1:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(roc_auc_score(labels, score), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 25))
def test_weights_are_repeated_rows_for_every_statistic(seed, rows):
    generator = np.random.default_rng(seed)
    probabilities, labels = generator.random(rows).round(1), generator.integers(0, 2, rows)
    times = generator.integers(0, 4, (3, rows))
    times[:, 0] += 1

    def build(take):
        p, y = probabilities[take], labels[take]
        return (
            balanced_accuracy_statistic(p >= 0.5, y == 1),
            auroc_statistic(p, y),
            brier_statistic(p, y),
            calibration_statistic(p, y),
            calibration_statistic(p, y, norm="max"),
        )

    for which, statistic in enumerate(build(np.arange(rows))):
        values = statistic(times.astype(np.float64))
        for value, number in zip(values, times, strict=True):
            take = np.repeat(np.arange(rows), number)
            if len(np.unique(labels[take])) == len(np.unique(labels)):
                repeated = build(take)[which](np.ones((1, len(take))))[0]
                assert value == pytest.approx(repeated, abs=1e-12, nan_ok=True)
            elif which == 0:
                assert math.isnan(value)  # a class drew no rows


def test_interval_draws_groups_and_not_rows():
    """Copies of a row in its group add no information: same interval as without them."""
    said, truth = yes_no_rows(60, 0.8, seed=1)
    single = bootstrap_interval(balanced_accuracy_statistic(said, truth), np.arange(60))
    copied = bootstrap_interval(
        balanced_accuracy_statistic(np.repeat(said, 10), np.repeat(truth, 10)), np.repeat(np.arange(60), 10)
    )
    assert (copied.value, copied.lower, copied.upper) == pytest.approx((single.value, single.lower, single.upper))
    assert (single.n, single.n_groups, copied.n, copied.n_groups) == (60, 60, 600, 60)
    ignoring = bootstrap_interval(
        balanced_accuracy_statistic(np.repeat(said, 10), np.repeat(truth, 10)), np.arange(600)
    )
    assert ignoring.upper - ignoring.lower < 0.5 * (copied.upper - copied.lower)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        said, truth = yes_no_rows(150, 0.75, seed)
        estimate = bootstrap_interval(
            balanced_accuracy_statistic(said, truth), np.arange(150), resamples=300, seed=seed
        )
        covered += estimate.lower <= 0.75 <= estimate.upper
    assert 0.88 <= covered / 200 <= 0.99


def covered_ece(shift: float, method, samples: int = 80) -> float:
    """How often the interval holds the true ECE, which is ``shift``: P(yes) is always said that much too high."""
    covered = 0
    for seed in range(samples):
        generator = np.random.default_rng(seed)
        probabilities = (generator.integers(4, 15, 200) + 0.5) / 15  # in the middle of bins
        labels = (generator.random(200) < probabilities - shift).astype(int)
        statistic = calibration_statistic(probabilities, labels)
        estimate = bootstrap_interval(statistic, np.arange(200), resamples=300, method=method, bounds=(0, 1))
        assert 0 <= estimate.lower <= estimate.value <= estimate.upper <= 1
        covered += estimate.lower <= shift <= estimate.upper
    return covered / samples


def test_intervals_of_calibration_errors():
    """The reason for `method="basic"`: resampling adds noise, and noise adds to an error that is small against it."""
    assert covered_ece(0.05, "percentile") < 0.3
    assert covered_ece(0.05, "basic") > 0.6
    # an error that stands clear of the noise in every bin: either will do
    assert covered_ece(0.2, "percentile") > 0.8
    assert covered_ece(0.2, "basic") > 0.8


def test_interval_is_the_same_every_time_and_for_any_chunk(monkeypatch):
    said, truth = yes_no_rows(80, 0.7, seed=3)
    statistic = balanced_accuracy_statistic(said, truth)
    first = bootstrap_interval(statistic, np.arange(80) // 2, resamples=501, seed=5)
    monkeypatch.setattr("connectomebench.evaluation.statistics._CHUNK", 7)
    assert bootstrap_interval(statistic, np.arange(80) // 2, resamples=501, seed=5) == first
    assert bootstrap_interval(statistic, np.arange(80) // 2, resamples=501, seed=6) != first


def test_resamples_without_a_class_are_left_out_and_counted():
    # one "yes" in four groups: a resample misses it with probability (3/4)^4 = 0.32
    estimate = bootstrap_interval(balanced_accuracy_statistic([1, 0, 0, 1], [1, 0, 0, 0]), list("abcd"))
    assert 0.6 * 2000 < estimate.resamples < 0.76 * 2000
    assert estimate.lower <= estimate.value <= estimate.upper


def test_a_single_group_has_a_value_and_no_interval():
    estimate = bootstrap_interval(balanced_accuracy_statistic([1, 0], [1, 1]), ["one", "one"])
    assert estimate.value == 0.5
    assert math.isnan(estimate.lower) and math.isnan(estimate.upper)
    assert (estimate.n, estimate.n_groups, estimate.resamples) == (2, 1, 0)


def test_level_and_bounds():
    said, truth = yes_no_rows(100, 0.9, seed=2)
    statistic = balanced_accuracy_statistic(said, truth)
    wide, narrow = (bootstrap_interval(statistic, np.arange(100), level=level) for level in (0.99, 0.5))
    assert wide.lower < narrow.lower < narrow.upper < wide.upper
    cut = bootstrap_interval(statistic, np.arange(100), bounds=(0, wide.value + 0.001))
    assert cut.upper == wide.value + 0.001


def test_paired_difference_sees_what_separate_intervals_do_not():
    generator = np.random.default_rng(0)
    _, truth = yes_no_rows(300, 0.5, seed=4)
    hard = generator.random(300) < 0.4  # both fail on the hard ones, the second on a few more
    more = hard | (generator.random(300) < 0.06)
    first = balanced_accuracy_statistic(np.where(hard, 1 - truth, truth), truth)
    second = balanced_accuracy_statistic(np.where(more, 1 - truth, truth), truth)
    result = paired_difference(first, second, np.arange(300))
    one, other = bootstrap_interval(first, np.arange(300)), bootstrap_interval(second, np.arange(300))
    assert result.value == pytest.approx(one.value - other.value)
    assert one.lower < other.upper  # the separate intervals overlap
    assert result.lower > 0
    assert 2 / 2001 <= result.p < 0.01
    opposite = paired_difference(second, first, np.arange(300))
    assert (opposite.value, opposite.lower, opposite.upper) == pytest.approx(
        (-result.value, -result.upper, -result.lower)
    )
    same = paired_difference(first, first, np.arange(300))
    assert (same.value, same.lower, same.upper, same.p) == (0, 0, 0, 1)


def test_paired_p_values_are_uniform_enough_without_a_difference():
    small = 0
    for seed in range(150):
        first, truth = yes_no_rows(120, 0.7, 2 * seed)
        generator = np.random.default_rng(2 * seed + 1)
        second = np.where(generator.random(120) < 0.7, truth, 1 - truth)
        result = paired_difference(
            balanced_accuracy_statistic(first, truth),
            balanced_accuracy_statistic(second, truth),
            np.arange(120),
            resamples=200,
            seed=seed,
        )
        small += result.p < 0.05
    assert small / 150 < 0.12


def test_mcnemar_by_hand():
    # 1 against 6 discordant rows: 2 * (C(7,0) + C(7,1)) / 2^7
    first = [True] * 10 + [False] * 6 + [True]
    second = [True] * 10 + [True] * 6 + [False]
    assert mcnemar_exact(first, second) == pytest.approx(2 * 8 / 128)
    assert mcnemar_exact(second, first) == mcnemar_exact(first, second)
    assert mcnemar_exact(first, first) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balanced_accuracy([0.3, 0.8], [0, 1]), "not probabilities"),
        (lambda: balanced_accuracy(["yes"], [1]), "both be text"),
        (lambda: balanced_accuracy([1, 0], [1]), "one predicted and one true"),
        (lambda: balanced_accuracy([], []), "no rows"),
        (lambda: balanced_accuracy(["yes", None], ["yes", "no"]), "one in every row"),
        (lambda: balanced_accuracy([1, 1], [1, 1], adjusted=True), "at least two classes"),
        (lambda: balanced_accuracy([1, 1], [1, 1], [1]), "one weight"),
        (lambda: balanced_accuracy([1, 1], [1, 1], [1, -1]), "not negative"),
        (lambda: balanced_accuracy([1, 1], [1, 1], [0, 0]), "above zero"),
        (lambda: auroc_statistic([0.1, float("nan")], [0, 1]), "finite"),
        (lambda: auroc_statistic([0.1, 0.2], [0, 3]), "0 or 1"),
        (lambda: bootstrap_interval(brier_statistic([0.5], [1]), []), "at least one row"),
        (lambda: bootstrap_interval(brier_statistic([0.5], [1]), ["a"], resamples=0), "resamples"),
        (lambda: bootstrap_interval(brier_statistic([0.5], [1]), ["a"], level=95), "level"),
        (lambda: mcnemar_exact([True], [True, False]), "same rows"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ConnectomeBenchError, match=message):
        call()


def test_independent_sets_are_drawn_independently():
    said, labels = yes_no_rows(300, 0.8, seed=1)
    groups = np.arange(300) // 3
    accuracy = balanced_accuracy_statistic(said, labels)
    nothing = independent_difference(accuracy, groups, accuracy, groups, resamples=500)
    # the same rows twice: only draws of their own give a width, that of one set times the root of two
    alone = bootstrap_interval(accuracy, groups, resamples=500)
    assert nothing.value == 0 and (nothing.n, nothing.n_groups) == (600, 200)
    assert nothing.upper - nothing.lower == pytest.approx(math.sqrt(2) * (alone.upper - alone.lower), rel=0.2)
    other_said, other_labels = yes_no_rows(90, 0.6, seed=2)
    other = balanced_accuracy_statistic(other_said, other_labels)
    found = independent_difference(accuracy, groups, other, np.arange(90), resamples=500)
    expected = balanced_accuracy(said, labels) - balanced_accuracy(other_said, other_labels)
    assert found.value == pytest.approx(expected) and found.lower < found.value < found.upper
    one_group = independent_difference(accuracy, groups, other, np.zeros(90), resamples=500)
    assert one_group.value == pytest.approx(expected) and math.isnan(one_group.lower) and one_group.resamples == 0


def test_several_statistics_at_once_are_those_alone():
    said, labels = yes_no_rows(60, 0.7, seed=3)
    groups = np.arange(60) // 2
    statistics = {"accuracy": balanced_accuracy_statistic(said, labels), "ece": calibration_statistic(said, labels)}
    both = bootstrap_intervals(statistics, groups, resamples=300, basic=["ece"], bounds=(0.0, 1.0))
    for name, method in (("accuracy", "percentile"), ("ece", "basic")):
        alone = bootstrap_interval(statistics[name], groups, resamples=300, method=method, bounds=(0.0, 1.0))
        assert both[name] == alone


def every_statistic(rows: int, seed: int) -> tuple[dict[str, Statistic], np.ndarray]:
    """All statistics on answers with ties, and groups of one to five rows that lie apart."""
    generator = np.random.default_rng(seed)
    groups = generator.permutation(np.repeat(np.arange(rows), generator.integers(1, 6, rows))[:rows]).astype(str)
    label = generator.integers(0, 2, rows)
    probability = np.round(np.clip(generator.normal(0.35 + 0.3 * label, 0.25), 0, 1), generator.integers(1, 6))
    said, other = probability > 0.5, generator.random(rows) > 0.4
    confidence = answer_confidence(said, probability)
    right = said == label
    return {
        "balanced_accuracy": balanced_accuracy_statistic(said.astype(int), label),
        **{name: statistic(said, label) for name, statistic in RATES.items()},
        "ece": calibration_statistic(probability, label, norm="mean"),
        "mce": calibration_statistic(probability, label, norm="max"),
        "brier": brier_statistic(probability, label),
        "auroc": auroc_statistic(probability, label),
        "risk": risk_statistic(confidence, right, 0.8),
        "all": risk_statistic(confidence, right, 1.0),
        "aurc": aurc_statistic(confidence, right),
        "kappa": kappa_statistic(said.astype(int), other.astype(int)),
        "fleiss": fleiss_kappa_statistic([said.astype(int), other.astype(int), label]),
        "of rows": lambda weights: (weights * probability).max(axis=1),
    }, groups


def plainly(statistic: Statistic, groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Resample in a loop: draw groups, then weigh every row."""
    generator, (names, of_row) = np.random.default_rng(seed), np.unique(groups, return_inverse=True)
    chance = np.full(len(names), 1 / len(names))
    drawn = [generator.multinomial(len(names), chance)[of_row].astype(float) for _ in range(resamples)]
    return np.array([statistic(weights[np.newaxis])[0] for weights in drawn])


@pytest.mark.parametrize(("rows", "resamples"), [(7, 100), (60, 100), (6_000, 30)])
def test_many_rows_give_the_values_of_a_plain_loop(rows: int, resamples: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "_MANY_ROWS", 5)
    for seed in range(3):
        every, groups = every_statistic(rows, seed)
        _, drawn, _, _ = statistics._bootstrap(list(every.values()), groups, resamples, seed)
        for (name, statistic), values in zip(every.items(), drawn, strict=True):
            if len(values):
                expected = plainly(statistic, groups, resamples, seed)
                np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_differences_of_many_rows_are_paired(monkeypatch: pytest.MonkeyPatch):
    every, groups = every_statistic(300, 0)
    for other in ("recall", "of rows"):
        few = paired_difference(every["balanced_accuracy"], every[other], groups, resamples=300)
        with monkeypatch.context() as patch:
            patch.setattr(statistics, "_MANY_ROWS", 5)
            many = paired_difference(every["balanced_accuracy"], every[other], groups, resamples=300)
        assert dataclasses.astuple(many) == pytest.approx(dataclasses.astuple(few), abs=1e-12)


def test_few_rows_take_the_path_of_rows_and_many_that_of_groups(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(OfSums, "of_groups", lambda self, *given: asked.append(given) or (lambda times: times[:, 0]))
    for rows in (statistics._MANY_ROWS, statistics._MANY_ROWS + 1):
        bootstrap_interval(OfSums(np.ones((1, rows)), lambda sums: sums[:, 0]), np.arange(rows), resamples=2)
        assert len(asked) == (rows > statistics._MANY_ROWS)
