"""The metric `place_score`: known answers, several right places, bad input, its app."""

from __future__ import annotations

import json

import pytest

from connectomebench.core.errors import ConnectomeBenchError

NAME = "place_score"
CUT = "sources=[(0, 0, 0)];sinks=[(4000, 0, 0)]"


def test_known_answers(metric):
    here = ["0, 0, 0"]
    assert metric(NAME).compute(predictions=["500, 0, 0"], references=here) == {NAME: 1.0, "hit_rate": 1.0}
    assert metric(NAME).compute(predictions=["0, 2000, 0"], references=here) == {NAME: 0.0, "hit_rate": 0.0}
    assert metric(NAME).compute(predictions=[""], references=here) == {NAME: 0.0, "hit_rate": 0.0}
    assert metric(NAME).compute(predictions=[CUT], references=[CUT]) == {NAME: 1.0, "hit_rate": 1.0}
    two = {"predictions": ["0, 0, 0", "1250, 0, 0"], "references": here * 2}
    assert metric(NAME).compute(**two) == {NAME: 0.75, "hit_rate": 0.5}
    assert metric(NAME).compute(**two, sample_weight=[1, 3])[NAME] == 0.625
    assert metric(NAME).compute(**two, extent_nm=[5000, 1000])[NAME] == 0.5


def test_several_right_places_and_nodes(metric):
    answer = metric(NAME).compute(
        predictions=["node 1", "node 2"],
        references=[["9000, 0, 0", "0, 0, 0"], ["0, 0, 0"]],
        questions=["Where?\n1: (0, 0, 1250)"] * 2,
    )
    assert answer == {NAME: 0.25, "hit_rate": 0.0}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"predictions": ["1, 2, 3"], "references": ["yes"]}, ConnectomeBenchError, "no place"),
        ({"predictions": ["1, 2, 3"] * 2, "references": ["1, 2, 3"]}, ValueError, "Mismatch in the number"),
        ({"predictions": [], "references": []}, ValueError, "no rows"),
        (
            {"predictions": ["1, 2, 3"], "references": ["1, 2, 3"], "extent_nm": [1, 2]},
            ConnectomeBenchError,
            "2 extent",
        ),
        ({"predictions": ["1, 2, 3"], "references": ["1, 2, 3"], "extent_nm": [0]}, ConnectomeBenchError, "above 0"),
        (
            {"predictions": ["1, 2, 3"], "references": ["1, 2, 3"], "sample_weight": [-1]},
            ConnectomeBenchError,
            "weight",
        ),
    ],
)
def test_bad_input_is_named(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(NAME).compute(**arguments)


def test_app(app):
    import gradio as gr

    page = app(NAME)
    assert isinstance(page.build(), gr.Interface)
    assert page.score('["0, 0, 0", "1250, 0, 0"]', '["0, 0, 0", "0, 0, 0"]', 5000) == {NAME: 0.75, "hit_rate": 0.5}
    assert page.score(json.dumps([CUT]), json.dumps([CUT]), 5000)[NAME] == 1
    for wrong in ('["0, 0', '["yes"]', "[]"):
        with pytest.raises(gr.Error):
            page.score('["0, 0, 0"]', wrong, 5000)
