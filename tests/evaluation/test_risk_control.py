"""Cascades with a bound on wrong answers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from evaluation.some_results import records, write
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.risk_control import (
    NEVER,
    StagedAnswers,
    control_risk,
    mean_risk_over_resplits,
    outcome,
    pooled,
    staged_answers,
)


def simulated(n: int, seed: int, stages: int = 2, rows_a_group: int = 1) -> StagedAnswers:
    """Calibrated stages: each is right with the probability that it states."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.5, 1, (stages, n))
    wrong = generator.random((stages, n)) > confidence
    unknown = np.full((stages, n), np.nan)
    names = tuple(f"m{i}" for i in range(stages))
    return StagedAnswers(names, confidence, wrong, (np.arange(n) // rows_a_group).astype(str), unknown, unknown)


def by_hand(answers: StagedAnswers, threshold: float) -> tuple[float, dict[str, float]]:
    """Ask stage after stage, row by row; return the mean over groups of the share of wrong rows, and the shares."""
    losses: dict[str, list[float]] = {}
    counts = dict.fromkeys([*answers.stages, "person"], 0)
    for row, group in enumerate(answers.groups):
        name, wrong = "person", False
        for i, stage in enumerate(answers.stages):
            if answers.confidence[i, row] >= max(threshold, 0):
                name, wrong = stage, bool(answers.wrong[i, row])
                break
        counts[name] += 1
        losses.setdefault(group, []).append(float(wrong))
    return float(np.mean([np.mean(one) for one in losses.values()])), {
        k: v / len(answers.groups) for k, v in counts.items()
    }


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 1000), st.integers(1, 3), st.integers(1, 4), st.floats(0.4, 1.05))
def test_an_outcome_is_that_of_asking_row_by_row(n, seed, stages, rows_a_group, threshold) -> None:
    answers = simulated(n, seed, stages, rows_a_group)
    answers.confidence[0, 0] = -1
    found = outcome(answers, threshold)
    risk, shares = by_hand(answers, threshold)
    assert found.risk.value == pytest.approx(risk)
    assert found.shares == pytest.approx(shares)


@settings(deadline=None, max_examples=40)
@given(st.integers(5, 80), st.integers(0, 1000), st.integers(1, 3), st.floats(0.05, 0.5))
def test_the_chosen_threshold_is_the_lowest_whose_bound_holds_from_there_on(n, seed, stages, target) -> None:
    answers = simulated(n, seed, stages)
    chosen = control_risk(answers, target)
    levels = sorted({*answers.confidence.ravel().tolist(), NEVER})

    lost = {level: [by_hand_group(answers, level, g) for g in range(n)] for level in levels}

    def bound(threshold: float) -> float:
        # the largest loss of each group at this or a higher threshold, by brute force
        worst = np.max([lost[level] for level in levels if level >= threshold], axis=0)
        return (sum(worst) + 1) / (n + 1)

    allowed = [level for level in levels if bound(level) <= target]
    assert chosen == (min(allowed) if allowed else NEVER)


def by_hand_group(answers: StagedAnswers, threshold: float, row: int) -> float:
    for i in range(len(answers.stages)):
        if answers.confidence[i, row] >= threshold:
            return float(answers.wrong[i, row])
    return 0.0


@pytest.mark.parametrize("target", [0.05, 0.1, 0.2])
def test_the_mean_risk_on_new_rows_stays_under_the_target(target) -> None:
    risks = []
    for seed in range(200):
        threshold = control_risk(simulated(150, seed), target)
        new = simulated(400, 10_000 + seed)
        asked = new.confidence >= threshold
        risks.append(float(np.mean(asked.any(axis=0) & new.wrong[asked.argmax(axis=0), np.arange(400)])))
        assert seed or risks == [pytest.approx(by_hand(new, threshold)[0])]
    assert np.mean(risks) <= target + 2 * np.std(risks) / np.sqrt(len(risks))
    assert np.mean(risks) > target / 3  # and it does not simply hand everything on


def test_resplits_measure_the_same_and_too_few_groups_answer_nothing() -> None:
    both = pooled(simulated(150, 1), simulated(150, 2))
    found = mean_risk_over_resplits(both, 0.1)
    assert found.value <= 0.1 and found.resamples == 200 and found.n == 300 and found.n_groups == 300
    assert control_risk(simulated(8, 0), 0.1) == NEVER  # one over nine is more than the target
    with pytest.raises(ConnectomeBenchError, match="divided"):
        mean_risk_over_resplits(simulated(3, 0), 0.1)
    with pytest.raises(ConnectomeBenchError, match="target is"):
        control_risk(simulated(8, 0), 1.5)
    with pytest.raises(ConnectomeBenchError, match="different models"):
        pooled(simulated(8, 0), simulated(8, 0, stages=1))


def test_costs_are_those_of_the_stages_that_are_asked() -> None:
    confidence = np.array([[0.9, 0.6, 0.6], [0.9, 0.9, 0.5]])
    cost = np.array([[1.0, 1.0, 1.0], [10.0, 10.0, 10.0]])
    answers = StagedAnswers(
        ("a", "b"), confidence, np.zeros((2, 3), bool), np.array(["x", "y", "z"]), cost, cost * np.nan
    )
    found = outcome(answers, 0.8)
    assert found.cost_usd == pytest.approx((1 + 11 + 11) / 3) and found.latency_s is None
    assert found.shares == pytest.approx({"a": 1 / 3, "b": 1 / 3, "person": 1 / 3})
    assert found.wrong_of_answered == 0


def test_records_of_different_rows_or_of_one_model_twice_are_refused() -> None:
    one = pd.DataFrame(records()).assign(condition="default", cost_usd=np.nan)
    with pytest.raises(ConnectomeBenchError, match="stands twice"):
        staged_answers([one, one])
    with pytest.raises(ConnectomeBenchError, match="different rows"):
        staged_answers([one, one.assign(model="other").iloc[1:]])
    with pytest.raises(ConnectomeBenchError, match="2 evaluations"):
        staged_answers([pd.concat([one, one.assign(model="other")])])
    unparsed = one.assign(prediction=None)
    assert np.all(staged_answers([unparsed]).confidence == -1)


def test_the_command_reports_the_share_of_people_and_the_bound(tmp_path, capsys) -> None:
    for model, skill, seed in (("small", 0.8, 1), ("large", 0.95, 2)):
        for partition in ("validation", "test"):
            write(tmp_path, records(model, rows=200, skill=skill, seed=seed, partition=partition))
    words = ["cascade", str(tmp_path), "--model", "small", "--model", "large", "--task", "merge_action"]
    assert main([*words, "--species", "fly", "--target", "0.1", "--target", "0.001", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    usual, strict = found["targets"]
    assert usual["resplits"]["value"] <= 0.1 and sum(usual["test"]["shares"].values()) == pytest.approx(1)
    assert strict["test"]["threshold"] is None and strict["test"]["shares"]["person"] == 1
    assert main([*words, "--species", "fly", "--target", "0.1", "--target", "0.001", "--place-held-out"]) == 0
    text = capsys.readouterr().out
    assert "no guarantee holds there" in text and "everything goes to a person" in text
    assert main([*words, "--species", "human"]) == 2
    assert "no validation records of small" in capsys.readouterr().err
