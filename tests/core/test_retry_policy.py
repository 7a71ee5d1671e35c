"""The policy of repeated requests: how often, how long, and what a server may ask for."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from connectomebench.core.retry_policy import RetryPolicy, TransientError, asked_wait_s, failure_of, retry_after_s


def failed(attempt: int, error: BaseException) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, None))
    return state


@given(
    st.integers(1, 5000), st.floats(1e-6, 1e3), st.floats(1e-6, 1e4), st.floats(0, 1), st.sampled_from([None, OSError])
)
def test_a_wait_doubles_to_its_bound_and_varies_below(
    attempt: int, first_s: float, longest_s: float, share: float, kind: type[OSError] | None
) -> None:
    policy = RetryPolicy(10_000, first_s, longest_s, longest_asked_s=1e9, least_share=share)
    wait_s = policy.wait(failed(attempt, kind() if kind else TransientError("busy")))
    most_s = longest_s
    if attempt < 40:  # the doubling written out
        most_s = first_s
        for _ in range(attempt - 1):
            most_s *= 2
        most_s = min(most_s, longest_s)
    elif first_s * 2.0**39 < longest_s:
        most_s = max(first_s * 2.0**39, wait_s)
    assert share * most_s * (1 - 1e-9) <= wait_s <= most_s * (1 + 1e-9)


@given(st.integers(1, 9), st.integers(0, 12))
def test_a_call_is_tried_as_often_as_allowed(attempts: int, failures: int) -> None:
    policy = RetryPolicy(attempts, 1e-9, 1e-9, longest_asked_s=0.0)
    calls: list[int] = []
    given_up: list[int] = []

    def ask() -> str:
        calls.append(1)
        if len(calls) <= failures:
            raise TransientError("busy", wait_s=3600.0)
        return "answer"

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=policy.stop,
        wait=policy.wait,
        retry_error_callback=lambda state: given_up.append(state.attempt_number),
    )
    assert retrying(ask) == ("answer" if failures < attempts else None)
    assert len(calls) == min(failures + 1, attempts)
    assert given_up == ([] if failures < attempts else [attempts])


def test_what_the_server_asks_for_comes_first_and_is_bounded() -> None:
    policy = RetryPolicy(3, 1.0, 60.0, longest_asked_s=120.0)
    for asked_s, wait_s in ((0.0, 0.0), (7.5, 7.5), (3600.0, 120.0)):
        state = failed(1, TransientError("429 slow down", asked_s))
        assert policy.wait(state) == wait_s and asked_wait_s(state) == asked_s
        assert str(failure_of(state)) == "429 slow down"
    assert asked_wait_s(failed(1, OSError())) is None


@pytest.mark.parametrize("text", ["soon", "nan", "-5", "", "Wed, 99 Oct 2065"])
def test_a_retry_after_that_makes_no_sense_is_none(text: str) -> None:
    assert retry_after_s({"retry-after": text}) is None and retry_after_s({}) is None


def test_a_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s(CaseInsensitiveDict({"Retry-After": "7.5"})) == 7.5
    assert retry_after_s({"retry-after": formatdate(time.time() + 60, usegmt=True)}) == pytest.approx(60, abs=3)
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
