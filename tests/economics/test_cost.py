"""Cost against sums done by hand, and how it answers to its assumptions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.economics.assumptions import Assumptions
from connectomebench.economics.cost import RESULTS, SCENARIOS, cost, estimate, extrapolate
from connectomebench.economics.edit_table import EditTable

SHARE = st.floats(0.01, 1)
AMOUNT = st.floats(0, 100)
SOME = st.builds(
    Assumptions, merge_precision=SHARE, split_precision=SHARE, merge_s=AMOUNT, split_s=AMOUNT, votes=st.integers(0, 9),
    deferred_share=st.floats(0, 1), first_s=AMOUNT, first_usd_hour=AMOUNT,
    pricing=st.sampled_from(["hardware", "tokens"]),
    gpus=st.integers(1, 8), recall=st.floats(0, 1), accepted_precision=SHARE, review_share=st.floats(0, 1),
    by_hand_share=st.floats(0, 1), person_s=AMOUNT, edit_s=AMOUNT, person_usd_hour=AMOUNT,
)  # fmt: skip
EDITS = st.floats(0, 1e6)
BY_NAME = {s.name: s.changes for s in SCENARIOS}


def table(n: int = 30) -> EditTable:
    generator = np.random.default_rng(5)
    return EditTable("t", np.arange(n, dtype=np.uint64), generator.poisson(9, n), generator.poisson(4, n))


def test_the_published_formula_by_hand() -> None:
    a = dataclasses.replace(Assumptions(), **BY_NAME["edits_only"])
    found = cost(450.0, 1800.0, a)
    assert found["candidates"] == found["edits"] == 2250
    assert found["model_hours"] == pytest.approx((450 * 2.0 + 1800 * 2.5) / 3600) == 1.5
    assert (found["gpu_hours"], found["model_usd"], found["total_usd"]) == (3, 6, 6)
    assert (found["merge_gpu_hours"], found["split_gpu_hours"]) == (0.5, 2.5)
    assert found["people_hours"] == found["left"] == 0


def test_fifty_are_looked_at_for_each_error_at_two_percent() -> None:
    a = Assumptions()
    alone = cost(100.0, 40.0, dataclasses.replace(a, merge_precision=1, split_precision=1))
    found = cost(100.0, 40.0, a)
    assert found["candidates"] == pytest.approx(7000) and alone["candidates"] == 140
    assert found["gpu_hours"] == pytest.approx(50 * alone["gpu_hours"])
    assert found["people_hours"] == pytest.approx(alone["people_hours"], rel=0.15)  # capped by what is looked at


def test_cascade_votes_and_tokens_by_hand() -> None:
    a = Assumptions(
        merge_precision=0.5, split_precision=0.25, votes=5, deferred_share=0.1, first_s=0.36, first_usd_hour=2,
        pricing="tokens", prompt_tokens=1000, generated_tokens=100, prompt_usd_million=3, generated_usd_million=20,
    )  # fmt: skip
    found = cost(50.0, 25.0, a)
    assert found["candidates"] == 200 and found["model_calls"] == pytest.approx(100)
    assert found["model_usd"] == pytest.approx(100 * (1000 * 3 + 100 * 20) / 1e6) == pytest.approx(0.5)
    assert found["first_hours"] == pytest.approx(0.02) and found["first_usd"] == pytest.approx(0.04)
    assert found["gpu_hours"] == 0


def test_people_by_hand() -> None:
    a = Assumptions(recall=0.8, accepted_precision=0.5, review_share=0.5, person_s=9, by_hand_share=0.25, edit_s=72)
    found = cost(60.0, 40.0, a)
    assert found["checks"] == pytest.approx(80) and found["corrected"] == pytest.approx(80 + 5)
    assert found["left"] == pytest.approx(15)
    assert found["people_hours"] == pytest.approx((80 * 9 + 5 * 72) / 3600)


def test_people_alone_need_no_model() -> None:
    by_hand = cost(60.0, 40.0, dataclasses.replace(Assumptions(), **BY_NAME["people_edits"]))
    assert by_hand["people_hours"] == pytest.approx(100 * 79 / 3600) and by_hand["corrected"] == 100
    every = cost(60.0, 40.0, dataclasses.replace(Assumptions(), **BY_NAME["people_candidates"]))
    assert every["checks"] == pytest.approx(5000) and every["people_hours"] == pytest.approx(5000 * 9.5 / 3600)
    for found in (by_hand, every):
        assert found["model_usd"] == found["first_usd"] == found["model_calls"] == 0


@settings(max_examples=100, deadline=None)
@given(EDITS, EDITS, SOME)
def test_parts_add_up(merges: float, splits: float, a: Assumptions) -> None:
    for scenario in SCENARIOS:
        found = cost(merges, splits, dataclasses.replace(a, **scenario.changes))
        assert list(found) == list(RESULTS) and all(math.isfinite(v) for v in found.values())
        assert all(v >= -1e-6 * found["edits"] for v in found.values())
        assert found["total_usd"] == pytest.approx(found["model_usd"] + found["first_usd"] + found["people_usd"])
        assert found["gpu_hours"] == pytest.approx(found["merge_gpu_hours"] + found["split_gpu_hours"])
        assert found["corrected"] + found["left"] == pytest.approx(found["edits"])
        assert found["checks"] <= found["candidates"] * (1 + 1e-9) and found["edits"] <= found["candidates"] * (
            1 + 1e-9
        )


@settings(max_examples=50, deadline=None)
@given(EDITS, EDITS, SOME, st.floats(1, 20))
def test_twice_the_errors_twice_the_cost(merges: float, splits: float, a: Assumptions, factor: float) -> None:
    once, more = cost(merges, splits, a), cost(merges * factor, splits * factor, a)
    for name in RESULTS:
        assert more[name] == pytest.approx(factor * once[name], rel=1e-6, abs=1e-6)


def test_totals_and_their_interval() -> None:
    one = table()
    found = extrapolate(one, 3000, resamples=400, seed=2)
    assert found.merges == pytest.approx(3000 * one.merges.mean()) and found.splits == pytest.approx(
        3000 * one.splits.mean()
    )
    assert found.draws.shape == (400, 2)
    assert found.draws.mean(axis=0) == pytest.approx([found.merges, found.splits], rel=0.05)
    spread = one.merges.std() / math.sqrt(len(one)) * 3000
    assert found.draws[:, 0].std() == pytest.approx(spread, rel=0.15)
    assert (extrapolate(one, 3000, resamples=400, seed=2).draws == found.draws).all()
    costs = estimate(found, Assumptions())
    assert costs["total_usd"].lower < costs["total_usd"].value < costs["total_usd"].upper
    plain = cost(found.merges, found.splits, Assumptions())
    assert {n: e.value for n, e in costs.items()} == plain


def test_one_neuron_has_no_interval() -> None:
    found = extrapolate(table(1))
    assert found.population == 1 and found.draws.shape == (0, 2)
    assert math.isnan(estimate(found, Assumptions())["total_usd"].lower)
