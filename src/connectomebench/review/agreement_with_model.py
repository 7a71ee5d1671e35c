"""Cohen's kappa of reviewers with the model, and with each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from connectomebench.evaluation.agreement import kappa_statistic
from connectomebench.evaluation.statistics import bootstrap_intervals
from connectomebench.review.review_state import ReviewState

MODEL_YES = 0.5
"""The model accepts an edit of at least this confidence."""


def kappa_with_model(state: ReviewState, reviewer: str | None = None) -> dict[str, Any]:
    """Compute Cohen's kappa of decisions with the model's: whether its confidence is at least 0.5.

    Parameters
    ----------
    state
        The review.
    reviewer
        Whose decisions; None takes the decision that counts of every edit.

    Returns
    -------
    dict
        ``kappa`` (None where it is undefined: too few decisions, or one answer throughout), ``share`` of equal
        decisions, and ``n``.
    """
    return _kappa(*_both(state, reviewer))


def _both(state: ReviewState, reviewer: str | None = None) -> tuple[list[bool], list[bool]]:
    """Return decisions and what the model said, of the edits that a model judged."""
    decisions = {e: one for e, one in state.decided(reviewer).items() if state.edits[e].correction is not None}
    mine = [one == "accept" for one in decisions.values()]
    return mine, [state.edits[edit_id].confidence >= MODEL_YES for edit_id in decisions]


def kappa_between_reviewers(state: ReviewState) -> list[dict[str, Any]]:
    """Compute Cohen's kappa of each two reviewers on the edits that both decided."""
    found = []
    for first, second in combinations(sorted({entry.reviewer for entry in state.entries}), 2):
        one, other = state.decided(first), state.decided(second)
        shared = [edit_id for edit_id in one if edit_id in other]
        if shared:
            found.append({"reviewers": [first, second], **_kappa(*([d[e] for e in shared] for d in (one, other)))})
    return found


def kappa_interval(state: ReviewState) -> dict[str, Any]:
    """Return :func:`kappa_with_model` of all decisions with a 95% interval over edits (bootstrap)."""
    found = kappa_with_model(state)
    if found["kappa"] is None:
        return found
    mine, theirs = _both(state)
    statistic = kappa_statistic(np.array(mine, np.int8), np.array(theirs, np.int8))
    estimate = bootstrap_intervals({"kappa": statistic}, np.arange(len(mine)))["kappa"]
    return {**found, "interval": [estimate.lower, estimate.upper]}


def _kappa(first: Sequence[Any], second: Sequence[Any]) -> dict[str, Any]:
    n = len(first)
    if not n:
        return {"kappa": None, "share": None, "n": 0}
    one, other = np.asarray(first), np.asarray(second)
    if one.dtype == bool:
        one, other = one.astype(np.int8), other.astype(np.int8)
    value = float(kappa_statistic(one, other)(np.ones((1, n)))[0])
    return {"kappa": value if np.isfinite(value) else None, "share": float((one == other).mean()), "n": n}
