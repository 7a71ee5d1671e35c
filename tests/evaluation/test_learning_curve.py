"""Power laws and learning curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.learning_curve import (
    PowerLaw,
    Run,
    as_plain,
    fit_learning_curve,
    fit_power_law,
    samples_text,
)

SIZES = np.array([16, 32, 64, 128, 256, 512, 1024])


@settings(deadline=None)
@given(st.floats(0.3, 3), st.sampled_from([0.1, 0.3, 0.5, 1.0]), st.floats(0, 0.3))
def test_an_exact_power_law_is_found_again(scale, exponent, floor) -> None:
    law = PowerLaw(scale, exponent, floor)
    found = fit_power_law(SIZES, law.error(SIZES))
    assert found.error(SIZES) == pytest.approx(law.error(SIZES), abs=1e-3)


def test_it_is_the_optimum_that_scipy_finds() -> None:
    generator = np.random.default_rng(0)
    errors = PowerLaw(1.2, 0.45, 0.08).error(SIZES) + generator.normal(0, 0.004, len(SIZES))
    theirs, _ = curve_fit(lambda n, a, b, c: a * n**-b + c, SIZES, errors, p0=(1, 0.5, 0.1), bounds=(0, [9, 2, 1]))
    ours = fit_power_law(SIZES, errors)
    assert [ours.scale, ours.exponent, ours.floor] == pytest.approx(theirs, rel=0.05)


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_any_errors_give_a_law_that_does_not_rise(errors) -> None:
    law = fit_power_law(SIZES, errors)
    assert law.scale >= 0 and law.floor >= 0
    assert np.all(np.diff(law.error(SIZES)) <= 1e-12)


@given(st.floats(0.1, 3), st.floats(0.05, 2), st.floats(0, 0.3), st.floats(0.01, 0.9))
def test_samples_to_reach_invert_the_law(scale, exponent, floor, error) -> None:
    law = PowerLaw(scale, exponent, floor)
    samples = law.samples_to_reach(error)
    if math.isinf(samples):
        assert law.error(1e300) > error or error <= floor
    elif samples > 1 and samples < 1e12:
        assert float(law.error(samples)) == pytest.approx(error, rel=1e-6)


def simulated(law: PowerLaw, rows: int = 400, seeds: int = 5) -> tuple[list[Run], np.ndarray, np.ndarray]:
    """Runs that are wrong as often as a law says."""
    generator = np.random.default_rng(1)
    truth = np.array(["no", "yes"])[np.arange(rows) % 2]
    runs = []
    for size in SIZES.tolist():
        for seed in range(seeds):
            wrong = generator.random(rows) < law.error(size)
            runs.append(Run(size, seed, np.where(wrong, np.where(truth == "yes", "no", "yes"), truth)))
    return runs, truth, np.array([f"g{i // 2}" for i in range(rows)])


def test_the_curve_of_simulated_runs_covers_the_law_they_follow() -> None:
    law = PowerLaw(1.0, 0.4, 0.02)
    runs, truth, groups = simulated(law)
    curve = fit_learning_curve(runs, truth, groups, target=0.85, resamples=200)
    assert curve.accuracy == pytest.approx(1 - law.error(SIZES), abs=0.03)
    assert np.all(curve.lower <= curve.accuracy) and np.all(curve.accuracy <= curve.upper)
    assert curve.to_reach_lower <= law.samples_to_reach(0.15) <= curve.to_reach_upper
    assert curve.n == 400 and curve.n_groups == 200 and set(curve.runs) == {5}
    # the mean at a size is that of plain balanced accuracies
    own = [run for run in runs if run.samples == 64]
    plain = np.mean([np.mean([(run.predictions == truth)[truth == a].mean() for a in ("no", "yes")]) for run in own])
    assert curve.accuracy[2] == pytest.approx(plain)
    assert fit_learning_curve(runs, truth, groups, target=0.85, resamples=200).band.tolist() == curve.band.tolist()


def test_what_is_never_reached_or_was_not_measured_is_said() -> None:
    runs, truth, groups = simulated(PowerLaw(1.0, 0.5, 0.2))
    never = fit_learning_curve(runs, truth, groups, target=0.99, resamples=100)
    assert math.isinf(never.to_reach) and samples_text(never).startswith("no number of samples")
    assert as_plain(never)["samples_to_reach"] is None and never.is_extrapolated
    runs, truth, groups = simulated(PowerLaw(1.0, 0.3, 0.0))
    beyond = fit_learning_curve(runs, truth, groups, target=0.93, resamples=100)
    assert beyond.is_extrapolated and "beyond what was measured" in samples_text(beyond)
    none = fit_learning_curve(runs, truth, groups, resamples=100)
    assert none.to_reach is None and samples_text(none) == "no level to reach"


def test_too_few_sizes_and_other_rows_are_refused() -> None:
    runs, truth, groups = simulated(PowerLaw(1.0, 0.5, 0.2))
    with pytest.raises(ConnectomeBenchError, match="4 different numbers"):
        fit_learning_curve([run for run in runs if run.samples < 128], truth, groups)
    with pytest.raises(ConnectomeBenchError, match="different rows"):
        fit_learning_curve(runs, truth[1:], groups[1:])
