"""The metric `balanced_accuracy`: known answers, scikit-learn, bad input, its app."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError

NAME = "balanced_accuracy"


def test_known_answers(metric):
    assert metric(NAME).compute(predictions=[1, 1, 0, 1, 1], references=[1, 1, 1, 0, 1]) == {NAME: 0.375}
    assert metric(NAME).compute(predictions=["yes", "no", "no"], references=["yes", "yes", "no"]) == {NAME: 0.75}
    adjusted = metric(NAME).compute(predictions=["yes", "", "no"], references=["yes", "yes", "no"], adjusted=True)
    assert adjusted == {NAME: 0.5}
    weighted = metric(NAME).compute(predictions=[1, 0, 0], references=[1, 1, 0], sample_weight=[3, 1, 1])
    assert weighted == {NAME: 0.875}


def test_rows_can_be_added_in_batches(metric):
    module = metric(NAME)
    module.add_batch(predictions=[1, 1, 0], references=[1, 1, 1])
    module.add(prediction=1, reference=0)
    module.add_batch(predictions=[1], references=[1])
    assert module.compute() == {NAME: 0.375}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3), st.floats(0.1, 3)), min_size=1, max_size=40))
def test_agrees_with_scikit_learn(metric, rows):
    from sklearn.metrics import balanced_accuracy_score

    said, truth, weights = map(list, zip(*rows, strict=True))
    ours = metric(NAME).compute(predictions=said, references=truth, sample_weight=weights)[NAME]
    assert ours == pytest.approx(balanced_accuracy_score(truth, said, sample_weight=weights), abs=1e-9)
    if len(set(truth)) > 1:
        ours = metric(NAME).compute(predictions=np.array(said), references=np.array(truth), adjusted=True)[NAME]
        assert ours == pytest.approx(balanced_accuracy_score(truth, said, adjusted=True), abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"predictions": [0.3, 0.8], "references": [0, 1]}, ConnectomeBenchError, "not probabilities"),
        ({"predictions": [1, 0, 1], "references": [1, 0]}, ValueError, "Mismatch in the number"),
        ({"predictions": [], "references": []}, ValueError, "no rows"),
        ({"predictions": [1, 1], "references": [1, 1], "adjusted": True}, ConnectomeBenchError, "two classes"),
        ({"predictions": [1], "references": [1], "sample_weight": [1, 2]}, ConnectomeBenchError, "one weight"),
        ({"predictions": ["yes"], "references": [1]}, ValueError, "don't match the expected format"),
        ({"predictions": [1], "references": [1], "adjust": True}, TypeError, "adjust"),
    ],
)
def test_bad_input_is_named(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(NAME).compute(**arguments)


def test_app(app):
    import gradio as gr

    page = app(NAME)
    assert isinstance(page.build(), gr.Interface)
    assert page.score("[1, 1, 0, 1, 1]", "[1, 1, 1, 0, 1]", False) == {NAME: 0.375}
    assert page.score(json.dumps(["yes", "no"]), json.dumps(["yes", "no"]), True) == {NAME: 1}
    for wrong in ("[1, 1", "[0.5, 0.5]", "[1]"):
        with pytest.raises(gr.Error):
            page.score(wrong, "[1, 0]", False)
    assert page.score("[1, 1, 0, 1, 1]", "[1, 1, 1, 0, 1]", False) == {NAME: 0.375}  # errors leave nothing behind
