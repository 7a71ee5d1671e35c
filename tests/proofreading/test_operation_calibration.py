"""Confidence and thresholds from a place with truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_models import toy_models
from toy_segmentation import write_toy

from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.calibration import Calibration, OperationCalibration, calibrate, choose_threshold
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_comparison import compare_runs
from connectomebench.proofreading.run_options import ProofreadConfig


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_no_lower_threshold_is_as_precise(pairs: list[tuple[int, bool]], wanted: float):
    sure, right = np.array([p for p, _ in pairs], float), np.array([r for _, r in pairs], bool)
    threshold, edits, precision = choose_threshold(sure, right, wanted)
    reached = {
        t: right[sure >= t].mean()
        for t in set(sure.tolist())
        if (sure >= t).sum() >= 5 and right[sure >= t].sum() + 1 >= wanted * ((sure >= t).sum() + 2)
    }
    assert threshold == (min(reached) if reached else None)
    if threshold is not None:
        assert edits == (sure >= threshold).sum() and precision == pytest.approx(reached[threshold])


def test_a_useless_feature_is_left_and_a_useful_one_ranks():
    rng = np.random.default_rng(0)
    useful, useless = rng.normal(size=400), rng.normal(size=400)
    right = rng.random(400) < 1 / (1 + np.exp(-3 * useful))
    numbers, alike = np.arange(400), np.ones(400)
    learnt = calibrate(np.stack([useless, useful], axis=1), right, alike, numbers // 2, numbers, numbers, 0.9)
    assert learnt is not None and learnt.weights[1] > 2 > 0.4 > abs(learnt.weights[0])
    assert learnt.threshold is not None and learnt.precision is not None and learnt.precision >= 0.9
    assert learnt.edits >= 80 and learnt.right == right.sum()
    # edits that gain alike leave nothing to weigh
    assert learnt.value_weights == pytest.approx(learnt.weights) and learnt.value_intercept == pytest.approx(
        learnt.intercept
    )
    assert calibrate(np.stack([useful], axis=1), np.zeros(400, bool), alike, numbers, numbers, numbers, 0.9) is None


def test_the_chance_of_an_expected_gain_follows_the_edits_that_gain_most():
    rng = np.random.default_rng(2)
    small, large = rng.normal(size=2000), rng.normal(size=2000)
    # one cue tells small right edits from wrong ones, another the few large ones
    gains = np.where(rng.random(2000) < 0.1, 100.0, 0.1)
    right = rng.random(2000) < 1 / (1 + np.exp(-3 * np.where(gains > 1, large, small)))
    numbers = np.arange(2000)
    learnt = calibrate(np.stack([small, large], axis=1), right, gains, numbers, numbers, numbers, 0.9)
    assert learnt is not None
    assert learnt.weights[0] > 1 > abs(learnt.weights[1])
    assert learnt.value_weights[1] > 1 > abs(learnt.value_weights[0])
    # as often right as predicted, each counted by its gain
    values = np.stack([small, large], axis=1)
    chances = np.array([learnt.predict(row, learnt.value_weights, learnt.value_intercept) for row in values])
    assert np.average(chances, weights=gains) == pytest.approx(np.average(right, weights=gains), abs=0.02)


def test_without_the_answers_of_models_only_the_rest_counts():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(600, 4))
    right = rng.random(600) < 1 / (1 + np.exp(-2 * (values[:, 1] + values[:, 2])))
    numbers = np.arange(600)
    learnt = calibrate(values, right, np.ones(600), numbers, numbers, numbers, 0.9)
    assert learnt is not None and learnt.value_weights[1] > 1
    assert learnt.contact_weights[:2] == (0, 0) and learnt.contact_weights[2] > 1 > abs(learnt.contact_weights[3])
    # the same regression on what is left
    from sklearn.linear_model import LogisticRegression

    standard = (values - learnt.mean) / learnt.scale
    alone = LogisticRegression().fit(standard[:, 2:], right)
    assert learnt.contact_weights[2:] == pytest.approx(alone.coef_[0], rel=1e-3)
    assert learnt.contact_intercept == pytest.approx(alone.intercept_[0], abs=1e-3)


def test_scores_say_what_the_order_would_be_without_the_models(tmp_path: Path, monkeypatch):
    nothing = (0.0,) * 9
    believes_models = (0.0, 1.0, *nothing[2:])
    small_first = (*nothing[:3], -6.0, *nothing[4:])  # of the log of the gain: the wrong way round
    learnt = OperationCalibration(
        nothing, nothing, (1.0,) * 9, 0.0, believes_models, 0.0, small_first, -30.0, None, 10, 5, 0, None
    )
    monkeypatch.setattr("connectomebench.proofreading.run.calibrate_on", lambda *_: Calibration(learnt, None, 0.9))
    config = load_config(write_toy(tmp_path), truth_needed=False)
    low, high = (300, 0, 40, 420, 640, 360), (420, 0, 40, 1500, 640, 360)
    options = ProofreadConfig(box_nm=high, validation_box_nm=low, ablation=False)
    page = proofread(config, toy_models(), tmp_path / "out", tmp_path, options)
    effort = json.loads((tmp_path / "out" / "scores.json").read_text())["effort"]
    assert effort["contact_look"]["right"] == effort["expected_gain"]["right"] >= 2
    assert effort["contact_look"]["area"] < effort["expected_gain"]["area"]
    compared = compare_runs([tmp_path / "out"]).group.values
    shares = [effort[order]["share_in_first_30_percent"] for order in ("expected_gain", "contact_look")]
    assert compared["first_30_percent_contact_look"] == pytest.approx([shares[1]])
    assert compared["first_30_percent_contact_look_lead"] == pytest.approx([shares[0] - shares[1]])
    text = page.read_text()
    assert '<th scope="row">contact look</th>' in text and "without the answers of the models" in text


def test_a_merge_that_both_sides_propose_counts_once():
    rng = np.random.default_rng(1)
    useful = rng.normal(size=300)
    right = rng.random(300) < 1 / (1 + np.exp(-3 * useful))
    # right merges are proposed from both ends, wrong ones from one
    twice = np.concatenate([np.arange(300), np.flatnonzero(right)])
    values, numbers = useful[twice, None], np.arange(len(twice))
    alike = np.ones(len(twice))
    once = calibrate(values, right[twice], alike, twice, numbers, twice, 0.9)
    assert once is not None and once.threshold is not None
    doubled = calibrate(values, right[twice], alike, twice, numbers, numbers, 0.9)
    assert doubled is not None and doubled.threshold is not None
    assert doubled.threshold < once.threshold and doubled.edits > once.edits


def test_few_edits_do_not_promise_a_precision():
    sure = np.linspace(1, 0.5, 60)
    for n, found in ((7, None), (8, 8)):  # 8 of 9 expected of seven right ones, 9 of 10 of eight
        right = np.arange(60) < n
        assert choose_threshold(sure, right, 0.9)[1] == (found or 0)


def test_a_validation_box_must_lie_apart_and_have_truth(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    low, high = (300, 0, 40, 900, 640, 360), (900, 0, 40, 1500, 640, 360)
    with pytest.raises(ConnectomeBenchError, match="overlaps the place to proofread"):
        proofread(config, toy_models(), tmp_path / "out", tmp_path, ProofreadConfig(validation_box_nm=low))
    lines: list[str] = []
    options = ProofreadConfig(box_nm=high, validation_box_nm=low, ablation=False)
    proofread(config, toy_models(), tmp_path / "out", tmp_path, options, lines.append)
    assert lines[0] == "merges: too few corrections in the validation box to learn from; none is applied by itself"
    assert any(line.startswith("0 edits applied") for line in lines)
    blind = load_config(write_toy(tmp_path, truth=False), truth_needed=False)
    with pytest.raises(ConnectomeBenchError, match="--validation-box needs truth"):
        proofread(blind, toy_models(), tmp_path / "other", tmp_path, options)
