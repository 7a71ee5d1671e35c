"""The metric `brier_score_multiclass`: known answers, scikit-learn, bad input, its app."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError

NAME = "brier_score_multiclass"


def test_known_answers(metric):
    assert metric(NAME).compute(predictions=[[0.5, 0.25, 0.25], [0, 1, 0]], references=[0, 1]) == {NAME: 0.1875}
    assert metric(NAME).compute(predictions=[[1.0, 0.0]], references=[1]) == {NAME: 2}
    assert metric(NAME).compute(predictions=[[0.25] * 4], references=[3]) == {NAME: 0.75}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(2, 6))
def test_agrees_with_scikit_learn(metric, seed, rows, classes):
    from sklearn.metrics import brier_score_loss

    generator = np.random.default_rng(seed)
    stated, truth = generator.dirichlet(np.full(classes, 0.5), rows), generator.integers(0, classes, rows)
    theirs = brier_score_loss(truth, stated, labels=list(range(classes)), scale_by_half=False)
    ours = metric(NAME).compute(predictions=stated, references=truth)[NAME]
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"predictions": [[2.5, -1.5]], "references": [0]}, ConnectomeBenchError, "logits"),
        ({"predictions": [[0.5, 0.2]], "references": [0]}, ConnectomeBenchError, "sum to one"),
        ({"predictions": [[0.5, 0.5]], "references": [2]}, ConnectomeBenchError, "0 to 1"),
        ({"predictions": [[0.5, 0.5]], "references": [0.9]}, ConnectomeBenchError, "whole numbers"),
        ({"predictions": [[0.5, 0.5], [1.0]], "references": [0, 0]}, ConnectomeBenchError, "same count"),
        ({"predictions": [0.5, 0.5], "references": [0, 1]}, ValueError, "don't match the expected format"),
        ({"predictions": [[0.5, 0.5]], "references": [0, 1]}, ValueError, "Mismatch in the number"),
        ({"predictions": [], "references": []}, ConnectomeBenchError, "rows x classes"),
    ],
)
def test_bad_input_is_named(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(NAME).compute(**arguments)


def test_app(app):
    import gradio as gr

    page = app(NAME)
    assert isinstance(page.build(), gr.Interface)
    assert page.score("[[0.5, 0.25, 0.25], [0, 1, 0]]", "[0, 1]") == {NAME: 0.1875}
    with pytest.raises(gr.Error, match="sum to one"):
        page.score("[[0.5, 0.1]]", "[0]")
