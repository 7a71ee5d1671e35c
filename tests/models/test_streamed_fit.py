"""Heads fitted in blocks are those of scikit-learn, and no copy of the features is made."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models import streamed_fit
from connectomebench.models.head_io import load_head, save_head
from connectomebench.models.heads import HeadCandidate, _balanced_weights, balanced_accuracy, fit_head, sample_of_groups
from connectomebench.models.streamed_fit import blocks, fit_streamed


def pipeline(c: float, **settings: float) -> Pipeline:
    head = LogisticRegression(C=c, max_iter=2000, **settings)
    return Pipeline([("scale", StandardScaler()), ("head", head)])


def rows_of(count: int, classes: int, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Features of which some tell the classes, in very different units, float32; and codes, of unequal shares."""
    generator = np.random.default_rng(classes)
    codes = np.minimum(generator.geometric(0.5, count) - 1, classes - 1)
    features = generator.normal(size=(count, dim))
    features[:, :classes] += 1.2 * (codes[:, None] == np.arange(classes))
    return (features * np.geomspace(0.01, 100, dim) + 5).astype(np.float32), codes


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("c", [1e-4, 0.1])
def test_the_minimum_is_that_of_scikit_learn(classes: int, c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    features, codes = rows_of(700, classes)
    weights = _balanced_weights(codes)
    monkeypatch.setattr(streamed_fit, "BLOCK_BYTES", 100 * features.shape[1] * 4)
    assert len(list(blocks(features))) == 7
    found = fit_streamed(pipeline(c, tol=1e-8), features, codes, weights)
    exact = pipeline(c, tol=1e-8).fit(features.astype(np.float64), codes, head__sample_weight=weights)
    np.testing.assert_allclose(found["head"].coef_, exact["head"].coef_, atol=2e-4)
    np.testing.assert_allclose(found.predict_proba(features), exact.predict_proba(features), atol=2e-4)
    assert vars(found["head"]).keys() == vars(exact["head"]).keys()


def test_other_heads_are_refused() -> None:
    features, codes = rows_of(50, 2)
    wrong = Pipeline([("scale", StandardScaler()), ("head", RidgeClassifier())])
    with pytest.raises(ConnectomeBenchError, match=r"RidgeClassifier does not allow; use the head logistic or mlp"):
        fit_streamed(wrong, features, codes, np.ones(50))


def test_a_perceptron_in_blocks_learns_what_one_in_memory_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    features, codes = rows_of(1500, 3)
    features[:, 3] *= np.where(codes == 2, -1, 1)
    weights = _balanced_weights(codes)

    def perceptron() -> Pipeline:
        head = MLPClassifier((16,), alpha=1.0, max_iter=60, random_state=0)
        return Pipeline([("scale", StandardScaler()), ("head", head)])

    monkeypatch.setattr(streamed_fit, "BLOCK_BYTES", 200 * features.shape[1] * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = fit_streamed(perceptron(), features[:1000], codes[:1000], weights[:1000])
        again = fit_streamed(perceptron(), features[:1000], codes[:1000], weights[:1000])
        whole = perceptron().fit(features[:1000], codes[:1000], head__sample_weight=weights[:1000])
    np.testing.assert_array_equal(found.predict_proba(features), again.predict_proba(features))
    scores = [balanced_accuracy(codes[1000:], one.predict(features[1000:])) for one in (found, whole)]
    assert scores[0] > 0.6 and abs(scores[0] - scores[1]) < 0.06
    assert np.abs(found.predict_proba(features) - whole.predict_proba(features)).mean() < 0.06


def test_a_perceptron_stops_where_passes_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, codes = rows_of(400, 2)
    monkeypatch.setattr(streamed_fit, "BLOCK_BYTES", 100 * features.shape[1] * 4)
    head = MLPClassifier((4,), max_iter=100, random_state=0, tol=10.0, n_iter_no_change=2)
    fit_streamed(Pipeline([("scale", StandardScaler()), ("head", head)]), features, codes, np.ones(400))
    assert head.t_ == 4 * 400  # rows seen: a pass to begin with and three that gain nothing


def test_samples_are_whole_groups() -> None:
    groups = [f"g{i // 4}" for i in range(4000)]
    rows = sample_of_groups(groups, 1001, 0)
    assert 996 < len(rows) <= 1001 and len(rows) % 4 == 0 and (np.diff(rows) > 0).all()
    assert len({groups[row] for row in rows}) == len(rows) // 4
    assert rows.tolist() != sample_of_groups(groups, 1001, 1).tolist()
    assert rows.max() > 3900 and rows.min() < 100


def test_features_on_disk_are_never_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, codes = rows_of(20_000, 2, dim=100)  # 8 MB
    answers, groups = np.array(["no", "yes"])[codes].tolist(), [f"g{i // 20}" for i in range(len(codes))]
    candidates = [HeadCandidate({"head": "logistic", "C": c}, pipeline(c), scale_floor=1.0) for c in (1e-2,)]
    whole = fit_head(features, answers, groups, candidates, folds=2)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr(streamed_fit, "IN_MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr(streamed_fit, "BLOCK_BYTES", 1 << 18)
    tracemalloc.start()
    try:
        head = fit_head(mapped, answers, groups, candidates, folds=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20 < features.nbytes
    assert head.cross_validation["samples"] == 2620 and head.cross_validation["of_samples"] == 20_000
    assert head.prior == whole.prior
    np.testing.assert_allclose(head.pipeline["head"].coef_, whole.pipeline["head"].coef_, atol=5e-3)
    # calibrated on 2,620 rows in place of 20,000
    assert np.abs(head.probabilities(features) - whole.probabilities(features)).max() < 0.2
    save_head(tmp_path / "head", head, "probe", {})
    again, _ = load_head(tmp_path / "head", "probe")
    np.testing.assert_array_equal(again.probabilities(features[:50]), head.probabilities(features[:50]))
