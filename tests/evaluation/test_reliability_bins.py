"""Bins of a reliability diagram as rows with intervals."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from connectomebench.evaluation.calibration import (
    bin_rows,
    expected_calibration_error,
    reliability_bins,
    wilson_interval,
)

answers = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_the_ends_of_wilsons_interval_are_the_shares_that_the_score_test_just_allows(
    case: tuple[int, int], level: float
) -> None:
    successes, n = case
    share, z = successes / n, norm.ppf(0.5 + level / 2)
    low, high = wilson_interval(successes, n, level)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert math.isclose(abs(share - end), z * math.sqrt(end * (1 - end) / n), rel_tol=1e-6, abs_tol=1e-9)


@given(answers)
def test_rows_give_the_calibration_error(rows: list[tuple[float, int]]) -> None:
    stated, truth = np.array([p for p, _ in rows]), np.array([t for _, t in rows])
    filled = bin_rows(reliability_bins(stated, truth))
    assert sum(r.count for r in filled) == len(rows)
    gap = sum(r.count * abs(r.stated - r.found) for r in filled) / len(rows)
    np.testing.assert_allclose(gap, expected_calibration_error(stated, truth), atol=1e-12)
    assert all(r.found_lower <= r.found + 1e-12 and r.found <= r.found_upper + 1e-12 for r in filled)
    assert all(r.lower_edge <= r.stated <= r.upper_edge for r in filled)
