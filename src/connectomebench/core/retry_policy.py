"""Retry policy for all servers: when to repeat a failed request and how long to wait, run by tenacity."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenacity import RetryCallState


class TransientError(Exception):
    """A failure that may go away when the request is repeated.

    Attributes
    ----------
    reason
        In a few words.
    wait_s
        Wait that the server asks for, s; None where it asks for none.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


@dataclass(frozen=True)
class RetryPolicy:
    """Number of attempts, and the waits between them.

    Attributes
    ----------
    attempts
        Greatest number of tries, the first one included.
    first_wait_s, longest_wait_s
        Wait after the first failure, doubled after each further one, and its bound, s.
    least_share
        Each wait is drawn evenly between this share of it and the whole, so that threads that failed together do not
        come back together.
    longest_asked_s
        Bound of a wait that the server asks for, s.
    """

    attempts: int
    first_wait_s: float
    longest_wait_s: float
    longest_asked_s: float
    least_share: float = 0.0

    def wait(self, state: RetryCallState) -> float:
        """Return the wait after a failed attempt, s: what the server asks for, or a growing random wait."""
        asked_s = asked_wait_s(state)
        if asked_s is not None:
            return min(asked_s, self.longest_asked_s)
        doublings = min(state.attempt_number - 1, 60)  # more would leave the range of a float
        most = min(self.first_wait_s * 2.0**doublings, self.longest_wait_s)
        return random.uniform(self.least_share * most, most)

    def stop(self, state: RetryCallState) -> bool:
        """Return whether all attempts are used up."""
        return state.attempt_number >= self.attempts


def failure_of(state: RetryCallState) -> BaseException:
    """Return the exception of the last attempt, which must have failed."""
    failure = state.outcome.exception() if state.outcome else None
    assert failure is not None
    return failure


def asked_wait_s(state: RetryCallState) -> float | None:
    """Return the wait the server asked for, s; None where it asked for none."""
    failure = failure_of(state)
    return failure.wait_s if isinstance(failure, TransientError) else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait that ``Retry-After`` asks for, s: a number, or a date (RFC 9110, 10.2.3).

    Parameters
    ----------
    headers
        Of an answer; names are looked up as ``retry-after``, so the mapping has to ignore case.

    Returns
    -------
    float or None
        At least 0, and 0 for a date that has passed; None where the header is missing or invalid.
    """
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except ValueError:
            return None
    return seconds if seconds >= 0 else None
