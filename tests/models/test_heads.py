from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.heads import HeadCandidate, balanced_accuracy, fit_head, floor_scale, grouped_folds


def logistic(c: float = 0.1) -> list[HeadCandidate]:
    return [HeadCandidate({"C": c}, Pipeline([("scale", StandardScaler()), ("head", LogisticRegression(C=c))]))]


def two_blobs(rows: int, distance: float, seed: int = 0, share: float = 0.5):
    random = np.random.default_rng(seed)
    codes = (random.random(rows) < share).astype(int)
    features = random.normal(size=(rows, 8)) + distance * codes[:, None] / np.sqrt(8)
    return features, np.array(["no", "yes"])[codes], [f"g{i // 3}" for i in range(rows)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.tuples(st.sampled_from(["no", "yes", "unsure"]), st.integers(0, 9)), min_size=4, max_size=80),
    folds=st.integers(2, 5),
    seed=st.integers(0, 3),
)
def test_no_group_is_on_both_sides(rows: list[tuple[str, int]], folds: int, seed: int) -> None:
    answers = [answer for answer, _ in rows]
    groups = [f"g{group}" for _, group in rows]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs = grouped_folds(answers, groups, folds, seed)
    except ConnectomeBenchError:
        return
    assert sorted(np.concatenate([held for _, held in pairs]).tolist()) == list(range(len(rows)))
    for kept, held in pairs:
        assert not {groups[i] for i in kept} & {groups[i] for i in held}
        assert {answers[i] for i in kept} == set(answers)
        assert len(held)


def test_too_few_groups() -> None:
    with pytest.warns(UserWarning, match="3 folds instead of 5"):
        assert len(grouped_folds(["yes", "no"] * 3, ["a", "a", "b", "b", "c", "c"], 5, 0)) == 3
    with pytest.raises(ConnectomeBenchError, match="'yes' come from 1 group"):
        grouped_folds(["yes", "yes", "no", "no"], ["a", "a", "a", "b"], 5, 0)
    with pytest.raises(ConnectomeBenchError, match="two different answers"):
        grouped_folds(["yes", "yes"], ["a", "b"], 5, 0)


def test_probabilities_are_calibrated_on_new_rows() -> None:
    """Overfitted on purpose (160 noise features, hardly a penalty): raw scores are near 0 and 1, ours are not."""

    def rows(count: int, seed: int):
        features, answers, groups = two_blobs(count, 2.0, seed)
        return np.hstack([features, np.random.default_rng(seed).normal(size=(count, 160))]), answers, groups

    features, answers, groups = rows(300, 1)
    head = fit_head(features, answers, groups, logistic(1e4))
    new, truth, _ = rows(4000, 2)
    yes = head.probabilities(new)[:, 1]
    raw = head.pipeline.predict_proba(new)[:, 1]

    def error(probability: np.ndarray) -> float:
        bins = np.minimum((probability * 15).astype(int), 14)
        parts = [
            (bins == b).sum() * abs(probability[bins == b].mean() - (truth[bins == b] == "yes").mean())
            for b in np.unique(bins)
        ]
        return sum(parts) / len(truth)

    assert error(raw) > 0.2
    assert error(yes) < 0.06


def test_rare_answers_are_still_predicted_and_their_probabilities_honest() -> None:
    features, answers, groups = two_blobs(1500, 2.0, share=0.1)
    head = fit_head(features, answers, groups, logistic())
    new, truth, _ = two_blobs(4000, 2.0, seed=5, share=0.1)
    predicted = np.array([a.prediction for a in head.answers(new)])
    found = [np.mean(predicted[truth == name] == name) for name in ("no", "yes")]
    assert abs(found[0] - found[1]) < 0.1 and np.mean(found) > 0.8
    assert abs(head.probabilities(new)[:, 1].mean() - 0.1) < 0.02


def test_what_cannot_be_learnt_gives_one_answer_and_the_prior() -> None:
    features = np.ones((60, 4))
    answers = ["yes"] * 20 + ["no"] * 40
    head = fit_head(features, answers, [str(i) for i in range(60)], logistic())
    assert len({a.prediction for a in head.answers(features)}) == 1
    np.testing.assert_allclose(head.probabilities(features)[0], [2 / 3, 1 / 3], atol=0.02)
    assert head.cross_validation["balanced_accuracy"] == 0.5


def test_the_better_candidate_is_chosen_and_the_scores_are_kept() -> None:
    features, answers, groups = two_blobs(200, 3.0)
    blind = HeadCandidate({"C": 1e-12}, logistic(1e-12)[0].pipeline)
    head = fit_head(features, answers, groups, [blind, *logistic(0.1)])
    report = head.cross_validation
    assert report["samples"] == 200 and report["groups"] == len(set(groups)) and report["folds"] == 5
    assert [len(c["folds"]) for c in report["candidates"]] == [5, 5]
    best = max(report["candidates"], key=lambda c: c["balanced_accuracy"])
    assert report["chosen"]["C"] == best["C"]


def test_more_than_two_answers() -> None:
    random = np.random.default_rng(0)
    codes = np.arange(150) % 3
    features = random.normal(size=(150, 5))
    features[np.arange(150), codes] += 4
    head = fit_head(features, np.array(["a", "b", "none"])[codes], [str(i) for i in range(150)], logistic())
    probabilities = head.probabilities(features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    predicted = np.array([head.classes.index(a.prediction) for a in head.answers(features)])
    assert balanced_accuracy(codes, predicted) > 0.95


def test_a_feature_that_hardly_varies_in_training_does_not_decide_new_rows() -> None:
    """Half a median deviation is nothing to a feature, but 500 deviations of one that is all but constant."""
    features, answers, groups = two_blobs(240, 3.0)
    flat = np.random.default_rng(1).normal(size=(240, 1)) * 1e-3
    flat += 1e-4 * (answers == "yes")[:, None]  # by chance it goes with the answer a little
    train = np.concatenate([features, flat], axis=1)
    new = train.copy()
    new[:, -1] += 0.5
    (plain,) = logistic()
    floored = HeadCandidate(plain.settings, plain.pipeline, scale_floor=1.0)
    right = {}
    for name, candidate in (("plain", plain), ("floored", floored)):
        head = fit_head(train, answers.tolist(), groups, [candidate])
        right[name] = np.mean([a.prediction == b for a, b in zip(head.answers(new), answers, strict=True)])
    assert right["floored"] > 0.9 > right["plain"]


@given(scales=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9), share=st.floats(0, 2), constant=st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_floor_raises_small_deviations_and_leaves_the_others(
    scales: list[float], share: float, constant: bool
) -> None:
    random = np.random.default_rng(0).normal(size=(20, len(scales))) * scales
    table = np.concatenate([random, np.ones((20, 1))], axis=1) if constant else random
    scaler = StandardScaler().fit(table)
    before = scaler.scale_.copy()
    floor_scale(scaler, share)
    least = share * np.median(table.std(axis=0)[: len(scales)])
    expected = np.maximum(before[: len(scales)], least)
    np.testing.assert_allclose(scaler.scale_[: len(scales)], expected)
    assert not constant or scaler.scale_[-1] == before[-1] == 1
