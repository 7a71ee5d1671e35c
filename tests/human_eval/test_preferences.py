from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.human_eval.preferences import (
    PRIOR_WINS,
    PairwiseComparison,
    bradley_terry,
    elo,
    fit_preferences,
    preference_table,
)

MODELS = ("a", "b", "c")
PAIRS = [(x, y) for x in MODELS for y in MODELS if x != y]
COMPARISONS = st.lists(
    st.builds(
        lambda pair, outcome, group: PairwiseComparison(*pair, outcome, f"g{group}"),
        st.sampled_from(PAIRS),
        st.sampled_from(["first", "second", "tie", "both_bad"]),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=12,
)


def turned(c: PairwiseComparison) -> PairwiseComparison:
    other = {"first": "second", "second": "first"}.get(c.outcome, c.outcome)
    return PairwiseComparison(c.second, c.first, other, c.group)  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(COMPARISONS)
def test_sides_do_not_matter_and_strengths_are_zero_on_average(comparisons: list[PairwiseComparison]) -> None:
    found = fit_preferences(comparisons, MODELS, resamples=2)["models"]
    again = fit_preferences([turned(c) for c in comparisons], MODELS, resamples=2)["models"]
    assert sum(entry["strength"]["value"] for entry in found.values()) == pytest.approx(0, abs=1e-6)
    for model, entry in found.items():
        assert again[model]["strength"]["value"] == pytest.approx(entry["strength"]["value"], abs=1e-6)
        played = sum(model in (c.first, c.second) for c in comparisons)
        assert entry["won"] + entry["lost"] + entry["tie"] + entry["both_bad"] == played
        assert entry["strength"]["n"] == len(comparisons)
    assert sum(entry["elo"] for entry in found.values()) == pytest.approx(3 * 1500)


@given(st.integers(0, 40), st.integers(0, 40))
def test_two_models_have_the_odds_of_their_wins(one: int, other: int) -> None:
    strength = bradley_terry(np.array([[0.0, one], [other, 0.0]]))
    assert strength[0] - strength[1] == pytest.approx(math.log((one + PRIOR_WINS) / (other + PRIOR_WINS)), abs=1e-4)


def test_the_known_strengths_of_three_models_are_found_again() -> None:
    true = np.array([1.0, 0.0, -1.0])
    chance = 1 / (1 + np.exp(true[np.newaxis] - true[:, np.newaxis]))
    assert bradley_terry(chance * (1 - np.eye(3)) * 1e5) == pytest.approx(true, abs=1e-3)


def test_ties_of_any_kind_favour_nobody() -> None:
    comparisons = [PairwiseComparison("a", "b", "tie", "g1"), PairwiseComparison("b", "a", "both_bad", "g2")]
    found = fit_preferences(comparisons, ("a", "b"), resamples=20)["models"]
    assert found["a"]["strength"]["value"] == pytest.approx(0)
    assert found["a"]["elo"] == pytest.approx(1500)
    assert (found["a"]["tie"], found["a"]["both_bad"]) == (1, 1)


def test_rows_of_one_group_count_as_one_when_intervals_are_drawn() -> None:
    alone = [PairwiseComparison("a", "b", "first" if i < 14 else "second", f"g{i}") for i in range(20)]
    together = [
        PairwiseComparison(c.first, c.second, c.outcome, f"g{i % 5}") for i, c in enumerate(sorted(alone, key=str))
    ]
    one_group = [PairwiseComparison(c.first, c.second, c.outcome, "g") for c in alone]
    narrow = fit_preferences(alone, ("a", "b"), resamples=200)["models"]["a"]["strength"]
    assert narrow["lower"] < narrow["value"] == pytest.approx(0.5 * math.log(14.1 / 6.1), abs=1e-4)
    assert fit_preferences(together, ("a", "b"), resamples=50)["models"]["a"]["strength"]["n_groups"] == 5
    assert fit_preferences(one_group, ("a", "b"), resamples=50)["models"]["a"]["strength"]["lower"] is None


def test_elo_does_not_depend_on_the_order_in_which_comparisons_are_given() -> None:
    games = [PairwiseComparison("a", "b", "first" if i % 3 else "second", f"g{i}") for i in range(30)]
    assert elo(games, ("a", "b"))["a"] == pytest.approx(elo(games[::-1], ("a", "b"))["a"], abs=5)
    assert elo(games, ("a", "b"))["a"] > 1500 > elo(games, ("a", "b"))["b"]


def test_the_table_puts_the_best_first() -> None:
    found = fit_preferences(
        [PairwiseComparison("a", "b", "second", f"g{i}") for i in range(3)], ("a", "b"), resamples=20
    )
    head, first, second = preference_table(found).splitlines()
    assert head.split()[:2] == ["model", "strength"]
    assert (first[0], second[0]) == ("b", "a")


def test_nothing_judged_is_refused() -> None:
    with pytest.raises(ConnectomeBenchError, match="no comparisons"):
        fit_preferences([], MODELS)
