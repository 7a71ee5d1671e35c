"""The draft's numbers, checked by sums done here in another way."""

from __future__ import annotations

import numpy as np
import pytest

from connectomebench.economics.published import (
    POPULATIONS,
    SAMPLES,
    decision_hours,
    nearest_sample,
    sample,
    slips,
    tail_without_ties,
)

BY_SUBJECT = {s.subject: s for s in slips()}


def test_hours_by_the_stated_formula() -> None:
    row = sample("mouse", 500)
    merges = 951_000 * 0.463
    expected = (merges * 2.0 / 3600, (951_000 - merges) * 2.5 / 3600)
    assert decision_hours(row) == pytest.approx(expected)


def test_the_stated_hours_belong_to_other_samples_than_the_stated_totals() -> None:
    assert nearest_sample("mouse", 614).n == 100 and nearest_sample("fly", 1568).n == 500
    assert sum(decision_hours(sample("mouse", 100))) == pytest.approx(614, abs=0.5)
    assert sum(decision_hours(sample("fly", 500))) == pytest.approx(1568, abs=0.5)
    assert "599.3 h" in BY_SUBJECT["mouse: GPU-hours"].recomputed
    assert "1,444.8 h" in BY_SUBJECT["fly: GPU-hours"].recomputed


def test_totals_are_means_times_neurons() -> None:
    for row in SAMPLES:
        assert row.total / POPULATIONS[row.species] == pytest.approx(row.mean, rel=0.005)


def test_what_the_draft_says_twice_is_shown_twice() -> None:
    assert "1,228 GPU-hours in Figure 8, 614" in BY_SUBJECT["mouse: hours in Figure 8"].stated
    shares = BY_SUBJECT["mouse: merges / splits in Figure 8"]
    assert "42% / 58%" in shares.stated and "46% / 54%" in shares.stated and "41.6% of hours" in shares.recomputed
    fly = BY_SUBJECT["fly: hours or dollars"]
    assert "1,568 GPU-hours, and $1,568" in fly.stated and "$3,136" in fly.recomputed
    assert "10.6% beside 14.1%" in BY_SUBJECT["mouse: heavy tail"].stated
    assert "23.6 and 23.4" in BY_SUBJECT["edits a neuron, mouse / fly"].stated
    assert "23.4 (headline" in BY_SUBJECT["edits a neuron, mouse / fly"].recomputed


def test_candidates_multiply_the_cost_by_fifty() -> None:
    found = BY_SUBJECT["mouse: candidates left out"].recomputed
    hours = 2 * sum(decision_hours(sample("mouse", 500)))
    assert "50 places are looked at" in found and f"{50 * hours:,.0f} GPU-hours" in found and f"{hours:,.0f}" in found


@pytest.mark.parametrize("n", [1, 2, 20, 21, 99, 100, 500, 1000])
def test_neurons_above_the_threshold_without_ties(n: int) -> None:
    values = np.random.default_rng(n).permutation(n)
    assert tail_without_ties(n) == (values > np.percentile(values, 95)).sum()
