"""A pair of images can be compared by a linear head; other rows stay as they are."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from connectomebench.models.pair_features import blocks_of, with_difference


def test_only_pairs_get_a_difference() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(2, 12)
    assert with_difference(rows, 3) is rows and with_difference(rows, 6) is rows
    pairs = with_difference(rows, 2)
    assert pairs.shape == (2, blocks_of(2) * 6)
    assert np.array_equal(pairs[:, :12], rows) and np.array_equal(pairs[:, 12:], np.full((2, 6), 6.0))


def test_a_linear_head_learns_whether_both_are_the_same() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(600, 8))
    same = rng.random(600) < 0.5
    second = np.where(same[:, None], first + 0.3 * rng.normal(size=(600, 8)), rng.normal(size=(600, 8)))
    rows = np.concatenate([first, second], axis=1)
    scores = []
    for features in (rows, with_difference(rows, 2)):
        head = LogisticRegression(max_iter=1000).fit(features[:400], same[:400])
        scores.append(head.score(features[400:], same[400:]))
    assert scores[0] < 0.65 and scores[1] > 0.9
