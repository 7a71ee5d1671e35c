"""What a place is worth: known distances, sets under the best assignment, smaller views."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.place_score import (
    credit,
    cut_score,
    full_credit_nm,
    point_score,
    score_answer,
    score_row,
    set_score,
)
from connectomebench.core.places import PlaceAnswer

coordinate = st.floats(-3000, 3000)
point = st.tuples(coordinate, coordinate, coordinate)
places = st.lists(point, min_size=1, max_size=4)


@given(first=st.floats(0, 1e5), second=st.floats(0, 1e5), full=st.floats(1, 500))
def test_credit_falls_from_1_to_0(first: float, second: float, full: float) -> None:
    near, far = sorted((first, second))
    values = credit([near, far], full)
    assert 0 <= values[1] <= values[0] <= 1
    assert near > full or values[0] == 1
    assert far < 4 * full or values[1] == pytest.approx(0, abs=1e-12)
    assert credit(2.5 * full, full) == pytest.approx(0.5)


def test_small_views_have_a_smaller_scale() -> None:
    assert [full_credit_nm(extent) for extent in (500.0, 2000.0, 5000.0, 8000.0)] == [50.0, 200.0, 500.0, 500.0]


@settings(max_examples=60, deadline=None)
@given(given_nm=places, true_nm=places)
def test_a_set_has_the_best_of_all_assignments(given_nm: list, true_nm: list) -> None:
    few, many = sorted((given_nm, true_nm), key=len)
    best = max(
        sum(float(credit(np.linalg.norm(np.subtract(a, b)))) for a, b in zip(few, order, strict=True))
        for order in permutations(many, len(few))
    )
    assert set_score(given_nm, true_nm) == pytest.approx(best / len(many))
    assert set_score(given_nm, true_nm) == pytest.approx(set_score(true_nm, given_nm))
    assert set_score(true_nm, true_nm) == 1.0


@settings(max_examples=60, deadline=None)
@given(sources=places, sinks=places, other=places)
def test_source_and_sink_may_be_swapped(sources: list, sinks: list, other: list) -> None:
    true = PlaceAnswer(tuple(sources), tuple(sinks))
    given_one, given_two = PlaceAnswer(tuple(other), tuple(sinks)), PlaceAnswer(tuple(sinks), tuple(other))
    assert cut_score(given_one, true) == pytest.approx(cut_score(given_two, true))
    assert cut_score(PlaceAnswer(true.sinks, true.sources), true) == 1.0
    assert 0.5 - 1e-9 <= cut_score(given_one, true) <= 1


def test_the_nearest_true_place_counts() -> None:
    assert point_score((0, 0, 0), [(9000, 0, 0), (0, 1250, 0)]) == 0.5


QUESTION = "Where?\n1: (0, 0, 0)\n2: (1250, 0, 0)"


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("0, 0, 0", 1.0),
        ("node 1", 1.0),
        ("node 2", 0.5),
        ("node 3", 0.0),
        ("1250, 0, 0", 0.5),
        (None, 0.0),
        ("yes", 0.0),
        ("", 0.0),
    ],
)
def test_answers_are_points_or_nodes(prediction: str | None, score: float) -> None:
    assert score_answer(prediction, "0, 0, 0", [], QUESTION) == score
    row = {
        "answer": "0, 0, 0",
        "target_nm": [[100.0, 200.0, 300.0]],
        "location_nm": [100.0, 200.0, 300.0],
        "extent_nm": 6000.0,
        "question": QUESTION,
    }
    assert score_row(prediction, row) == score
    small = row | {"extent_nm": 3000.0}  # full credit up to 300 nm, none from 1200 nm on
    assert score_row(prediction, small) == (score if score != 0.5 else 0.0)


def test_a_second_right_place_of_a_row_counts_as_well() -> None:
    row = {
        "answer": "5000, 0, 0",
        "target_nm": [[5000.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        "location_nm": [0.0, 0.0, 0.0],
        "extent_nm": 8000.0,
        "question": QUESTION,
    }
    assert score_row("node 1", row) == 1.0 and score_row("0, 0, 1250", row) == 0.5


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("sources=[node 1];sinks=[node 2]", 1.0),
        ("sources=[node 2];sinks=[node 1]", 1.0),
        ("sources=[node 1, node 1];sinks=[node 2]", 0.75),
        ("sources=[node 1];sinks=[node 1]", 0.75),
        ("sources=[node 1];sinks=[node 4]", 0.0),
        ("node 1", 0.0),
    ],
)
def test_cuts(prediction: str, score: float) -> None:
    # the nodes are 1250 nm apart, which is worth a half
    assert score_answer(prediction, "sources=[(0, 0, 0)];sinks=[(1250, 0, 0)]", [], QUESTION) == score


def test_a_row_without_a_true_place_is_named() -> None:
    with pytest.raises(ConnectomeBenchError, match="no place of a row"):
        score_answer("node 1", "yes", [], QUESTION)
