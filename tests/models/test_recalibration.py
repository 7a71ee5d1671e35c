"""Calibration maps: what they do to probabilities, and how they are kept."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.base import Answer
from connectomebench.models.recalibration import (
    FILE_NAME,
    RecalibratedModel,
    Recalibration,
    log_odds,
    read_recalibrations,
    recalibrate_answer,
    save_recalibration,
)

OF = ("merge_action", "fly", "probe", "abc", "f00d", 100, 50)
probability = st.floats(0, 1)


@settings(deadline=None)
@given(st.lists(probability, min_size=1), st.floats(0.1, 10))
def test_a_temperature_changes_no_answer_and_keeps_the_order(stated, temperature) -> None:
    found = Recalibration("temperature", (temperature,), *OF).apply(stated)
    assert np.all((found >= 0) & (found <= 1))
    away = np.abs(np.array(stated) - 0.5) > 1e-9
    assert np.array_equal((found >= 0.5)[away], (np.array(stated) >= 0.5)[away])
    order = np.argsort(stated, kind="stable")
    assert np.all(np.diff(found[order]) >= -1e-12)


@settings(deadline=None)
@given(st.lists(probability, min_size=1))
def test_a_temperature_of_one_is_no_change(stated) -> None:
    found = Recalibration("temperature", (1.0,), *OF).apply(stated)
    assert np.allclose(found, stated, atol=2e-6)


def test_platt_and_isotonic_by_hand() -> None:
    odds = log_odds([0.8])
    assert Recalibration("platt", (0.5, 1.0), *OF).apply([0.8]) == pytest.approx(1 / (1 + np.exp(-(0.5 * odds + 1.0))))
    knots = Recalibration("isotonic", (0.2, 0.6, 0.1, 0.9), *OF)
    assert knots.apply([0.0, 0.2, 0.4, 0.6, 1.0]).tolist() == pytest.approx([0.1, 0.1, 0.5, 0.9, 0.9])
    assert np.isnan(knots.apply([np.nan])[0])


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("temperature", ()),
        ("temperature", (0.0,)),
        ("temperature", (float("nan"),)),
        ("platt", (1.0,)),
        ("isotonic", (0.5, 0.2, 0.1, 0.9)),
        ("isotonic", (0.2, 0.5, 0.9, 0.1)),
        ("isotonic", (0.2, 0.5, 0.1, 1.1)),
        ("other", (1.0,)),
    ],
)
def test_parameters_that_are_no_map_are_refused(method, parameters) -> None:
    with pytest.raises(ConnectomeBenchError, match="fit it again"):
        Recalibration(method, parameters, *OF)


class Sure:
    """A model that is sure of yes."""

    name, revision = "sure", "abc"

    def predict(self, batch):
        return [Answer("yes", {"yes": 0.9, "no": 0.1}, reply="<answer>yes</answer>") for _ in batch["images"]]


def test_a_recalibrated_model_answers_with_the_likelier_one() -> None:
    turned = Recalibration("platt", (1.0, -3.0), *OF)
    model = RecalibratedModel(Sure(), turned)
    [answer] = model.predict({"images": [[]]})
    assert answer.prediction == "no" and answer.reply == "<answer>yes</answer>"
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert model.revision != Sure.revision
    assert model.revision != RecalibratedModel(Sure(), replace(turned, parameters=(1.0, -2.0))).revision


def test_rows_without_probabilities_and_other_answers() -> None:
    temperature = Recalibration("temperature", (2.0,), *OF)
    assert recalibrate_answer(Answer("no", {}), temperature) == Answer("no", {})
    with pytest.raises(ConnectomeBenchError, match="yes and no"):
        recalibrate_answer(Answer("a", {"a": 0.6, "none": 0.4}), temperature)


def test_a_folder_keeps_one_map_for_each_species(tmp_path) -> None:
    fly = Recalibration("temperature", (2.0,), *OF)
    mouse = replace(fly, species="mouse", method="isotonic", parameters=(0.2, 0.6, 0.1, 0.9))
    save_recalibration(tmp_path, fly)
    save_recalibration(tmp_path, mouse)
    save_recalibration(tmp_path, replace(fly, parameters=(3.0,)))
    kept = (replace(fly, parameters=(3.0,)), mouse)
    assert read_recalibrations(tmp_path) == kept
    assert json.loads((tmp_path / FILE_NAME).read_text())["format"] == 1
    other = replace(fly, task="split_action")
    save_recalibration(tmp_path, other)
    assert read_recalibrations(tmp_path) == (*kept, other)
    assert read_recalibrations(tmp_path / "elsewhere") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"format": 2, "species": {}}',
        '{"format": 3, "species": {}}',
        json.dumps({"format": 2, "tasks": {"other": {"fly": asdict(Recalibration("temperature", (2.0,), *OF))}}}),
        json.dumps({"format": 1, "species": {"mouse": asdict(Recalibration("temperature", (2.0,), *OF))}}),
        json.dumps({"format": 1, "species": {"fly": {"method": "temperature"}}}),
        json.dumps(
            {"format": 1, "species": {"fly": asdict(Recalibration("temperature", (2.0,), *OF)) | {"method": []}}}
        ),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ConnectomeBenchError, match="run connectomebench calibrate again") as caught:
        read_recalibrations(tmp_path)
    assert "\n" not in str(caught.value)
