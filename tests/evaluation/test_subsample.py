"""A part of a partition: balanced, and the same for everyone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.subsample import balanced_sample


def test_a_column_is_read_once_and_not_row_by_row() -> None:
    class Column(list[str]):
        """A column that counts how often a single row is read."""

        reads = 0

        def __getitem__(self, number: Any) -> Any:
            Column.reads += 1
            return super().__getitem__(number)

    answers = ["yes", "no", "no"] * 50
    assert balanced_sample(Column(answers), 40, seed=3) == balanced_sample(answers, 40, seed=3)
    assert Column.reads == 0


@given(st.lists(st.sampled_from(["yes", "no", "none"]), min_size=1, max_size=60), st.data())
def test_a_sample_is_balanced_as_far_as_there_are_rows(answers: list[str], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(answers)))
    seed = data.draw(st.integers(0, 5))
    numbers = balanced_sample(answers, n, seed)
    assert len(set(numbers)) == len(numbers) == n
    assert numbers == balanced_sample(answers, n, seed)
    there, drawn = Counter(answers), Counter(answers[number] for number in numbers)
    most = max(drawn.values())
    assert all(drawn[answer] >= min(most - 1, there[answer]) for answer in there)


def test_the_order_tells_no_answer_and_seeds_differ() -> None:
    answers = ["yes", "no"] * 50
    first = [answers[number] for number in balanced_sample(answers, 40, 0)]
    assert 5 < sum(a != b for a, b in pairwise(first)) < 35
    assert set(balanced_sample(answers, 40, 0)) != set(balanced_sample(answers, 40, 1))


def test_more_rows_than_there_are() -> None:
    with pytest.raises(ConnectomeBenchError, match="ask for 1 to 2"):
        balanced_sample(["yes", "no"], 3)
