"""Calibration errors and Brier scores: known answers, agreement with torchmetrics and scikit-learn, bad input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.calibration import (
    brier_score,
    brier_score_multiclass,
    calibration_statistic,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)


@st.composite
def yes_no(draw, largest: float = 1.0):
    rows = draw(st.integers(1, 60))
    probabilities = draw(arrays(np.float64, rows, elements=st.floats(0, largest)))
    return probabilities, draw(arrays(np.int64, rows, elements=st.integers(0, 1)))


@st.composite
def many_classes(draw):
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    weights = draw(arrays(np.float64, (rows, classes), elements=st.floats(0.01, 1)))
    labels = draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    return weights / weights.sum(axis=1, keepdims=True), labels


def torch_errors(confidence, outcome, bins):
    """ECE and MCE by torchmetrics, in double precision."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    tensors = torch.tensor(confidence, dtype=torch.float64), torch.tensor(outcome)
    return tuple(float(binary_calibration_error(*tensors, n_bins=bins, norm=norm)) for norm in ("l1", "max"))


def off_edges(confidence, bins, margin=1e-9):
    """Whether binning is beyond dispute: torchmetrics rounds edges otherwise, and gives exactly 1 a further bin."""
    return bool(np.all(np.abs(confidence[:, None] * bins - np.arange(1, bins + 1)) > margin))


def test_binary_by_hand():
    # bins [0, 0.5) and [0.5, 1]: 0.1 and 0.3 with one yes, 0.5, 0.9 and 1.0 with two
    bins = reliability_bins([0.1, 0.3, 0.5, 0.9, 1.0], [0, 1, 0, 1, 1], bins=2)
    np.testing.assert_allclose(bins.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(bins.count, [2, 3])
    np.testing.assert_allclose(bins.confidence, [0.2, 0.8])
    np.testing.assert_allclose(bins.accuracy, [0.5, 2 / 3])
    ece = 2 / 5 * 0.3 + 3 / 5 * (0.8 - 2 / 3)
    assert expected_calibration_error([0.1, 0.3, 0.5, 0.9, 1.0], [0, 1, 0, 1, 1], bins=2) == pytest.approx(ece)
    assert maximum_calibration_error([0.1, 0.3, 0.5, 0.9, 1.0], [0, 1, 0, 1, 1], bins=2) == pytest.approx(0.3)


def test_top_label_by_hand():
    # confidences 0.7 (right), 0.8 (right), 0.4 (wrong), each in a bin of its own
    probabilities = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    assert expected_calibration_error(probabilities, [0, 1, 0]) == pytest.approx(0.3)
    assert maximum_calibration_error(probabilities, [0, 1, 0]) == pytest.approx(0.4)


def test_binary_and_top_label_are_two_things():
    # P(yes) 0.4 and 0.6 in one wide bin: half came true, half was stated; as confidences both are 0.6 and right
    assert expected_calibration_error([0.4, 0.6], [0, 1], bins=1) == pytest.approx(0)
    assert expected_calibration_error([[0.6, 0.4], [0.4, 0.6]], [0, 1], bins=1) == pytest.approx(0.4)


def test_equal_mass_by_hand():
    probabilities = [0.01, 0.02, 0.03, 0.04, 0.05, 0.9]
    bins = reliability_bins(probabilities, [0, 0, 0, 1, 0, 1], bins=3, scheme="equal_mass")
    np.testing.assert_array_equal(bins.count, [2, 2, 2])
    np.testing.assert_allclose(bins.confidence, [0.015, 0.035, 0.475])
    np.testing.assert_allclose(bins.accuracy, [0, 0.5, 0.5])
    ece = expected_calibration_error(probabilities, [0, 0, 0, 1, 0, 1], bins=3, scheme="equal_mass")
    assert ece == pytest.approx((0.015 + 0.465 + 0.025) / 3)


def test_equal_confidences_share_a_bin_whatever_their_order():
    labels = np.array([1, 0, 0, 1, 0, 1, 1, 1])
    for order in (np.arange(8), np.arange(8)[::-1]):
        bins = reliability_bins(np.full(8, 0.7), labels[order], bins=4, scheme="equal_mass")
        assert sorted(bins.count) == [0, 0, 0, 8]
        assert np.isnan(bins.accuracy[bins.count == 0]).all()
    assert expected_calibration_error(np.full(8, 0.7), labels, bins=4, scheme="equal_mass") == pytest.approx(0.075)


@pytest.mark.parametrize("bins", [5, 10, 15, 20])
def test_a_round_probability_lies_in_the_bin_it_begins(bins):
    for number in range(bins):
        assert reliability_bins([number / bins], [1], bins).count[number] == 1
    assert reliability_bins([1.0], [1], bins).count[-1] == 1


def test_brier_by_hand():
    assert brier_score([0.9, 0.2], [1, 1]) == pytest.approx((0.01 + 0.64) / 2)
    assert brier_score_multiclass([[0.5, 0.25, 0.25], [0, 1, 0]], [0, 1]) == pytest.approx(0.375 / 2)
    assert brier_score_multiclass([[1.0, 0.0]], [1]) == 2


@settings(max_examples=60, deadline=None)
@given(yes_no(largest=0.999), st.sampled_from([1, 2, 10, 15]))
def test_binary_agrees_with_torchmetrics(rows, bins):
    probabilities, labels = rows
    assume(off_edges(probabilities, bins))
    ece, mce = torch_errors(probabilities, labels, bins)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(ece, abs=1e-9)
    assert maximum_calibration_error(probabilities, labels, bins) == pytest.approx(mce, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(2, 6), st.sampled_from([1, 7, 15]))
def test_top_label_agrees_with_torchmetrics(seed, rows, classes, bins):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    # drawn by a generator: hypothesis likes equal numbers, and of equally probable classes any may be taken
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.7), rows)
    labels = generator.integers(0, classes, rows)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    assume(off_edges(confidence, bins, margin=1e-6))
    # torchmetrics computes the multi-class case in single precision; its binary function does the same sum in double
    ece, mce = torch_errors(confidence, right.astype(np.int64), bins)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(ece, abs=1e-9)
    assert maximum_calibration_error(probabilities, labels, bins) == pytest.approx(mce, abs=1e-9)
    single = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=classes, n_bins=bins
    )
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(float(single), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(yes_no(), st.sampled_from([1, 3, 15]))
def test_equal_mass_agrees_with_scikit_learn(rows, bins):
    from sklearn.calibration import calibration_curve

    probabilities, labels = rows
    ours = reliability_bins(probabilities, labels, bins, "equal_mass")
    came_true, stated = calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    filled = ours.count > 0
    np.testing.assert_allclose(ours.accuracy[filled], came_true, atol=1e-9)
    np.testing.assert_allclose(ours.confidence[filled], stated, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(yes_no())
def test_brier_agrees_with_scikit_learn(rows):
    from sklearn.metrics import brier_score_loss

    probabilities, labels = rows
    assert brier_score(probabilities, labels) == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-9)
    both = np.stack([1 - probabilities, probabilities], axis=1)
    assert brier_score_multiclass(both, labels) == pytest.approx(2 * brier_score(probabilities, labels), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(many_classes())
def test_brier_over_classes_agrees_with_scikit_learn(rows):
    from sklearn.metrics import brier_score_loss

    probabilities, labels = rows
    classes = range(probabilities.shape[1])
    theirs = brier_score_loss(labels, probabilities, labels=list(classes), scale_by_half=False)
    assert brier_score_multiclass(probabilities, labels) == pytest.approx(theirs, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(yes_no(), st.sampled_from(["equal_width", "equal_mass"]), st.integers(1, 20))
def test_errors_follow_from_the_bins(rows, scheme, bins):
    probabilities, labels = rows
    shown = reliability_bins(probabilities, labels, bins, scheme)
    filled = shown.count > 0
    gap = np.abs(shown.accuracy - shown.confidence)[filled]
    ece = expected_calibration_error(probabilities, labels, bins, scheme)
    mce = maximum_calibration_error(probabilities, labels, bins, scheme)
    assert shown.count.sum() == len(labels)
    assert ece == pytest.approx((gap * shown.count[filled]).sum() / len(labels), abs=1e-12)
    assert mce == pytest.approx(gap.max(), abs=1e-12)
    assert 0 <= ece <= mce + 1e-12 <= 1 + 2e-12


@settings(max_examples=60, deadline=None)
@given(yes_no(), st.integers(0, 2**31))
def test_a_weight_of_three_is_three_rows(rows, seed):
    probabilities, labels = rows
    times = np.random.default_rng(seed).integers(0, 4, len(labels))
    times[0] += 1
    repeated = np.repeat(probabilities, times), np.repeat(labels, times)
    for norm, error in (("mean", expected_calibration_error), ("max", maximum_calibration_error)):
        statistic = calibration_statistic(probabilities, labels, norm=norm)
        assert statistic(times[None].astype(float))[0] == pytest.approx(error(*repeated), abs=1e-12)


@pytest.mark.parametrize(
    ("probabilities", "labels", "options", "message"),
    [
        ([0.5, 1.5], [0, 1], {}, "logits"),
        ([0.5, float("nan")], [0, 1], {}, r"\[0, 1\]"),
        ([0.5, 0.5], [0, 2], {}, "0 to 1"),
        ([0.5, 0.5], [0, 0.5], {}, "whole numbers"),
        ([0.5], [0, 1], {}, "one label per row"),
        ([], [], {}, "no rows"),
        ([[0.5, 0.2]], [1], {}, "sum to one"),
        ([[1.0]], [0], {}, "two columns"),
        ([[0.5, 0.5], [1.0]], [0, 1], {}, "same count"),
        (["yes"], [1], {}, "must be numbers"),
        ([0.5], [1], {"bins": 0}, "bins"),
        ([0.5], [1], {"bins": 2.5}, "bins"),
        ([0.5], [1], {"scheme": "equal_with"}, "equal_width"),
    ],
)
def test_bad_input_is_named(probabilities, labels, options, message):
    for function in (reliability_bins, expected_calibration_error, maximum_calibration_error):
        with pytest.raises(ConnectomeBenchError, match=message):
            function(probabilities, labels, **options)


def test_brier_scores_do_not_take_each_other_s_input():
    with pytest.raises(ConnectomeBenchError, match="brier_score_multiclass"):
        brier_score([[0.5, 0.5]], [1])
    with pytest.raises(ConnectomeBenchError, match="rows x classes"):
        brier_score_multiclass([0.5], [1])


def test_importing_it_is_light():
    code = (
        "import sys, connectomebench.evaluation.results\n"
        "heavy = ('torch', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'datasets', 'evaluate')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
