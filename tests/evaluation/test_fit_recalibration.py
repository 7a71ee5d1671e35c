"""Calibrations fitted on validation records, and the command."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from evaluation.some_results import write
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.fit_recalibration import (
    calibrated_condition,
    effect_on,
    fit_recalibration,
    fit_warnings,
    write_calibrated,
)
from connectomebench.evaluation.results import read_results


def answers(n: int, temperature: float, seed: int = 0, shift: float = 0.0, **changes) -> list[dict]:
    """Rows whose true odds are the stated ones divided by a temperature, less a shift."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(0, 2, n)
    truth = generator.random(n) < expit(odds)
    stated = expit((odds + shift) * temperature)
    return [
        {
            "sample_id": f"s{i:05d}",
            "task": "merge_action",
            "species": "fly",
            "partition": "validation",
            "model": "probe",
            "model_revision": "abc",
            "dataset_fingerprint": "f00d",
            "code_version": "0.1.0",
            "question": "Merge?",
            "prediction": "yes" if stated[i] >= 0.5 else "no",
            "probability": float(stated[i]),
            "answer": "yes" if truth[i] else "no",
            "group": f"body{i // 2}",
            **changes,
        }
        for i in range(n)
    ]


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).assign(condition="default")


def test_the_temperature_of_simulated_answers_is_found() -> None:
    fit = fit_recalibration(frame(answers(4000, 2.5)), "temperature")
    assert fit.recalibration.parameters[0] == pytest.approx(2.5, rel=0.1)
    assert fit.improves and not fit_warnings(fit)
    assert fit.held_out.after.value < 0.03 < fit.held_out.before.value
    assert fit.held_out.brier.upper < 0
    assert fit.held_out.balanced_accuracy[0] == fit.held_out.balanced_accuracy[1]


def test_a_shift_needs_platt_and_auto_finds_that() -> None:
    rows = frame(answers(2000, 1.5, shift=1.0))
    fit = fit_recalibration(rows)
    assert fit.log_losses["platt"] < fit.log_losses["temperature"]
    assert fit.recalibration.method in ("platt", "isotonic")
    slope, intercept = fit_recalibration(rows, "platt").recalibration.parameters
    assert (slope, intercept) == (pytest.approx(1 / 1.5, rel=0.15), pytest.approx(-1.0, abs=0.2))


def test_isotonic_is_that_of_scikit_learn() -> None:
    rows = frame(answers(500, 2.0))
    found = fit_recalibration(rows, "isotonic").recalibration
    truth = (rows["answer"] == "yes").to_numpy(int)
    least = 1 / 502
    theirs = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(rows["probability"], truth)
    at = np.linspace(0, 1, 101)
    assert found.apply(at) == pytest.approx(theirs.predict(at))


def test_held_out_rows_do_not_judge_themselves() -> None:
    """Noise: a map that follows every row looks perfect on the rows it was fitted on, and bad on held-out groups."""
    generator = np.random.default_rng(3)
    rows = frame(answers(60, 1.0))
    rows["answer"] = generator.permutation(rows["answer"].to_numpy())
    fit = fit_recalibration(rows, "isotonic")
    itself = effect_on(rows, fit.recalibration)
    assert itself.after.value < fit.held_out.after.value
    # separable rows would drive the slope to infinity without Platt's targets
    sure = frame(answers(60, 1.0))
    sure["probability"] = np.where(sure["answer"] == "yes", 0.9, 0.1)
    assert fit_recalibration(sure, "platt").recalibration.parameters[0] < 5


def test_a_model_that_ranks_the_wrong_way_round_is_not_turned() -> None:
    rows = frame(answers(400, 1.0))
    rows["probability"] = 1 - rows["probability"]
    assert fit_recalibration(rows, "platt").recalibration.parameters[0] == 0


def test_few_groups_and_no_gain_are_warned_of() -> None:
    warnings = fit_warnings(fit_recalibration(frame(answers(24, 1.0)), "platt"))
    assert any("24 rows in 12 groups" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"partition": "test"}, "not all of the validation partition"),
        ({"answer": "a"}, "not yes and no; evaluate again"),
        ({"task": "segment_classification"}, "no yes/no task, but a choice among a, b, c"),
        ({"task": "split_proposal"}, "no probabilities of a yes to calibrate: its answers are places"),
        ({"task": "split_mask_generation"}, "no probabilities of a yes to calibrate: its answers are masks"),
        ({"probability": None}, "needs 20 with both answers"),
        ({"answer": "yes"}, "needs 20 with both answers"),
        ({"group": "one"}, "one group"),
    ],
)
def test_records_that_cannot_be_fitted_on(change, reason) -> None:
    with pytest.raises(ConnectomeBenchError, match=reason):
        fit_recalibration(frame(answers(100, 1.0, **change)))


def test_two_evaluations_at_once_are_refused() -> None:
    two = pd.concat([frame(answers(50, 1.0)), frame(answers(50, 1.0, model="other"))])
    with pytest.raises(ConnectomeBenchError, match="2 evaluations"):
        fit_recalibration(two)


def test_calibrated_records_are_the_same_rows_with_other_probabilities(tmp_path) -> None:
    fit = fit_recalibration(frame(answers(400, 3.0)), "temperature")
    more = {"partition": "test", "tokens": 7, "votes": ["yes", "no"], "replies": ["a", "b"]}
    path = write(tmp_path, answers(50, 3.0, seed=1, **more))
    before = read_results(path)
    before.loc[0, ["probability", "prediction"]] = [np.nan, None]
    after = read_results(write_calibrated(before, fit.recalibration, tmp_path))
    assert set(after["condition"]) == {"calibrated"}
    same = [c for c in before.columns if c not in ("probability", "prediction", "condition", "votes", "replies")]
    pd.testing.assert_frame_equal(before[same], after[same])
    assert [list(votes) for votes in after["votes"]] == [list(votes) for votes in before["votes"]]
    expected = expit(logit(np.clip(before["probability"], 1e-6, 1 - 1e-6)) / fit.recalibration.parameters[0])
    assert after["probability"].to_numpy()[1:] == pytest.approx(expected.to_numpy()[1:])
    assert np.isnan(after["probability"][0]) and after["prediction"][0] is None
    with pytest.raises(ConnectomeBenchError, match="model_revision"):
        write_calibrated(before.assign(model_revision="other"), fit.recalibration, tmp_path)


def test_conditions_name_the_species_that_was_fitted_on() -> None:
    own = fit_recalibration(frame(answers(60, 1.0, species="mouse_exm")), "platt").recalibration
    assert calibrated_condition(own, "mouse_exm") == "calibrated"
    assert calibrated_condition(own, "fly") == "calibrated-by-mouse-exm"
    assert calibrated_condition(own, "fly", "votes-5") == "votes-5+calibrated-by-mouse-exm"


def test_the_command_calibrates_test_records_of_every_species(tmp_path, capsys) -> None:
    write(tmp_path, answers(400, 3.0))
    write(tmp_path, answers(100, 3.0, seed=1, partition="test"))
    write(tmp_path, answers(100, 3.0, seed=2, partition="test", species="mouse"))
    words = ["calibrate", str(tmp_path), "--model", "probe", "--task", "merge_action", "--species", "fly"]
    assert main([*words, "--method", "temperature", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["calibration"]["parameters"][0] == pytest.approx(3, rel=0.25)
    for species in ("fly", "mouse"):
        effect = found["test"][species]
        assert effect["after"]["value"] < effect["before"]["value"] and effect["before"]["n"] == 100
    conditions = {(row["species"], row["condition"]) for _, row in read_results(tmp_path).iterrows()}
    assert {("fly", "calibrated"), ("mouse", "calibrated-by-fly")} <= conditions
    # a second run finds the same records and writes the same files
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    assert main([*words, "--method", "temperature"]) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before
    assert "ECE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", "other", "--species", "fly"], "no records of the model 'other'"),
        (["--model", "probe", "--species", "human"], "--partition validation first"),
    ],
)
def test_the_command_names_what_is_missing(tmp_path, capsys, words, reason) -> None:
    write(tmp_path, answers(40, 1.0))
    write(tmp_path, answers(4, 1.0, task="endpoint_localization", partition="test"))
    place = ["--model", "probe", "--task", "endpoint_localization", "--species", "fly"]
    assert main(["calibrate", str(tmp_path), *place]) == 2
    assert "endpoint_localization has no probabilities of a yes to calibrate: its" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path), "--task", "merge_action", *words]) == 2
    assert reason in capsys.readouterr().err
