"""Ids are read exactly or refused: none is rounded to the id of something else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.ids import LARGEST_ID, exact_column, exact_id

IDS = st.integers(1, LARGEST_ID)


@given(number=IDS)
def test_whole_numbers_and_their_digits_are_exact(number: int) -> None:
    assert exact_id(number) == exact_id(str(number)) == exact_id(f" {number} ") == number
    assert exact_id(np.uint64(number)) == number


@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_no_floating_point_number_is_an_id(value: float) -> None:
    for given_value in (value, np.float64(value), np.float32(value % 1e30) if value == value else value):
        with pytest.raises(ValueError, match="floating-point"):
            exact_id(given_value)


@pytest.mark.parametrize("text", ["3.6e17", "3.6E+17", "720575940628857210.0", "1e5", ".5", "1."])
def test_text_that_went_through_a_float_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="floating-point") as caught:
        exact_id(text)
    assert text in str(caught.value)


@pytest.mark.parametrize("value", [-1, 0, 2**64, "-1", "0", str(2**64), np.int64(-5)])
def test_numbers_out_of_range_are_told(value: object) -> None:
    with pytest.raises(ValueError, match=f"{value} is no id; ids go from 1"):
        exact_id(value)


@pytest.mark.parametrize("value", [True, None, "", "abc", "0x10", "1,2", "１２", [1], np.bool_(True)])
def test_what_is_no_number_is_told(value: object) -> None:
    with pytest.raises(ValueError, match="is no id"):
        exact_id(value)


@pytest.mark.parametrize("mark", [",", ".", "'", "’", "_", " ", "\u00a0", "\u202f"])
def test_marks_between_thousands_say_so(mark: str) -> None:
    with pytest.raises(ValueError, match="write the digits alone"):
        exact_id(f"{720575940628857210:,}".replace(",", mark))


@given(numbers=st.lists(IDS | st.none()))
def test_nullable_columns_are_exact(numbers: list[int | None]) -> None:
    present = [number for number in numbers if number is not None]
    for column in (numbers, pd.Series(numbers, dtype="UInt64"), np.asarray(present, np.uint64)):
        assert exact_column(column).tolist() == present
        assert exact_column(column).dtype == np.uint64
    small = [None if number is None else number % 2**63 for number in numbers]
    assert exact_column(pd.Series(small, dtype="Int64")).tolist() == [n for n in small if n]


def test_a_column_that_pandas_made_floating_point_is_refused() -> None:
    rounded = pd.Series([720575940628857210, None])
    assert rounded.dtype == np.float64
    with pytest.raises(ValueError, match="floating-point"):
        exact_column(rounded)
    assert exact_column(pd.Series([None, np.nan], dtype=np.float64)).tolist() == []
