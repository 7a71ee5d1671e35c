"""A pair of images can be compared by a linear head, and directions averaged; other rows stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.pair_features import blocks_of, over_directions, with_difference


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


@given(st.permutations(range(3)), st.permutations(range(3)), st.integers(1, 2))
def test_which_axis_is_which_says_nothing(first: list[int], second: list[int], kinds: int) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 3 * kinds, 5))
    order = [*first, *(3 + k for k in second)][: 3 * kinds]
    found = over_directions(rows.reshape(4, -1), 3 * kinds)
    assert found.shape == (4, 5 * kinds)
    np.testing.assert_allclose(over_directions(rows[:, order].reshape(4, -1), 3 * kinds), found)
    np.testing.assert_allclose(found[:, :5], rows[:, :3].sum(axis=1) / 3)


def test_views_that_do_not_come_in_threes_are_not_averaged() -> None:
    with pytest.raises(ConnectomeBenchError, match="the rows have 4 images; choose views or grid"):
        over_directions(np.zeros((2, 8)), 4)
