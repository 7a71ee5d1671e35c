"""The metric `calibration_error`: known answers, torchmetrics and scikit-learn, bad input, its app."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError

NAME = "calibration_error"
THREE_CLASSES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]


def test_known_answers(metric):
    binary = metric(NAME).compute(predictions=[0.25, 0.25, 0.75, 0.75], references=[0, 0, 1, 0], bins=2)
    assert binary == {"ece": 0.25, "mce": 0.25}
    top_label = metric(NAME).compute(predictions=THREE_CLASSES, references=[0, 1, 0])
    assert top_label == pytest.approx({"ece": 0.3, "mce": 0.4})
    # halves of three: means 0.02 and 0.5, of which 1 and 2 in 3 came true
    rows = {"predictions": [0.01, 0.02, 0.03, 0.04, 0.56, 0.9], "references": [0, 1, 0, 0, 1, 1]}
    equal_mass = metric(NAME).compute(**rows, bins=2, scheme="equal_mass")
    assert equal_mass == pytest.approx({"ece": (1 / 3 - 0.02 + 2 / 3 - 0.5) / 2, "mce": 1 / 3 - 0.02})


def test_fifteen_bins_of_equal_width_are_the_default(metric):
    generator = np.random.default_rng(0)
    rows = {"predictions": generator.random(50), "references": generator.integers(0, 2, 50)}
    default = metric(NAME).compute(**rows)
    assert default == metric(NAME).compute(**rows, bins=15, scheme="equal_width")
    assert default != metric(NAME).compute(**rows, bins=10)
    assert default != metric(NAME).compute(**rows, scheme="equal_mass")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(1, 100), st.integers(1, 20))
def test_agrees_with_torchmetrics(metric, seed, rows, bins):
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    generator = np.random.default_rng(seed)
    stated, truth = generator.random(rows), generator.integers(0, 2, rows)
    ours = metric(NAME).compute(predictions=stated, references=truth, bins=bins)
    for key, norm in (("ece", "l1"), ("mce", "max")):
        theirs = binary_calibration_error(torch.tensor(stated), torch.tensor(truth), n_bins=bins, norm=norm)
        assert ours[key] == pytest.approx(float(theirs), abs=1e-9)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(1, 100), st.integers(1, 20))
def test_equal_mass_agrees_with_scikit_learn(metric, seed, rows, bins):
    from sklearn.calibration import calibration_curve

    generator = np.random.default_rng(seed)
    stated, truth = generator.random(rows).round(2), generator.integers(0, 2, rows)
    came_true, mean = calibration_curve(truth, stated, n_bins=bins, strategy="quantile")
    ours = metric(NAME).compute(predictions=stated, references=truth, bins=bins, scheme="equal_mass")
    assert ours["mce"] == pytest.approx(np.abs(came_true - mean).max(), abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"predictions": [0.5, 1.2], "references": [0, 1]}, ConnectomeBenchError, "logits"),
        ({"predictions": [0.5, 0.2], "references": [0, 2]}, ConnectomeBenchError, "0 to 1"),
        ({"predictions": [0.5, 0.2], "references": [0, 0.9]}, ConnectomeBenchError, "whole numbers"),
        ({"predictions": [[0.5, 0.5], [1.0]], "references": [0, 1]}, ConnectomeBenchError, "same count"),
        ({"predictions": [[0.5, 0.2]], "references": [0]}, ConnectomeBenchError, "sum to one"),
        ({"predictions": [0.5], "references": [0], "bins": 0}, ConnectomeBenchError, "bins"),
        ({"predictions": [0.5], "references": [0], "scheme": "quantile"}, ConnectomeBenchError, "equal_mass"),
        ({"predictions": [0.5], "references": [0, 1]}, ValueError, "Mismatch in the number"),
        ({"predictions": [], "references": []}, ValueError, "no rows"),
    ],
)
def test_bad_input_is_named(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(NAME).compute(**arguments)


def test_app(app):
    import gradio as gr

    page = app(NAME)
    assert isinstance(page.build(), gr.Interface)
    assert page.score("[0.25, 0.25, 0.75, 0.75]", "[0, 0, 1, 0]", 2, "equal_width") == {"ece": 0.25, "mce": 0.25}
    assert page.score(str(THREE_CLASSES), "[0, 1, 0]", 15, "equal_width") == pytest.approx({"ece": 0.3, "mce": 0.4})
    with pytest.raises(gr.Error, match="logits"):
        page.score("[3.5]", "[1]", 15, "equal_width")
