"""Summarise replies: length, shares, cues, and which cues go with correct answers; 95% intervals over groups.

This is an association, not a cause: a model may name a cue because it has already decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connectomebench.evaluation.responses.cues import USES, Replies, Use
from connectomebench.evaluation.responses.lexicon import Lexicon
from connectomebench.evaluation.significance import holm
from connectomebench.evaluation.statistics import (
    RESAMPLES,
    Estimate,
    PairedDifference,
    bootstrap_interval,
    bootstrap_intervals,
    paired_difference,
)
from connectomebench.evaluation.weighted_statistics import Statistic, weighted_sums

TESTED: tuple[Use, ...] = ("affirmed", "denied")
"""What differences are tested for; ``mentioned`` is little more than both together."""
FEWEST = 5
"""Groups with a right reply, and with a wrong one, that there must be both with a cue and without it before they are
compared: where nearly all are right, a bootstrap finds differences that are not there."""


@dataclass(frozen=True)
class CueUse:
    """How often one cue is used in one way, and its association with correct answers.

    Attributes
    ----------
    cue, use
        The cue, and how it is used.
    share
        Share of all replies.
    right
        Share of correct answers among replies that use the cue in this way, minus that among the others; None for
        ``mentioned``, and where either group is too small (`FEWEST`).
    right_same_answer
        The same within replies of the same answer (Mantel-Haenszel weights over the answers), since cues go with
        the answer: a no to a merge affirms a gap. None as above, or where no answer was given both with and
        without the cue.
    holm
        The p-value of ``right_same_answer``, corrected for all cues of these replies (Holm); NaN if there is none.
    """

    cue: str
    use: Use
    share: Estimate
    right: PairedDifference | None
    right_same_answer: PairedDifference | None
    holm: float


@dataclass(frozen=True)
class ReplySummary:
    """Summary of the replies of one model in one condition to one partition.

    Attributes
    ----------
    replies
        The replies summarised.
    n_samples
        Rows replied to; `Estimate.n` counts replies.
    words, tokens
        Medians per reply; NaN for tokens if unknown.
    reasoned, parsed
        Shares of replies with an analysis, and with a readable answer.
    cues
        By cue in the order of the lexicon, then in that of `connectomebench.evaluation.responses.cues.USES`.
    """

    replies: Replies
    n_samples: int
    words: Estimate
    tokens: Estimate
    reasoned: Estimate
    parsed: Estimate
    cues: tuple[CueUse, ...]


def summarise_replies(
    replies: Replies, lexicon: Lexicon, *, resamples: int | None = None, seed: int = 0
) -> ReplySummary:
    """Estimate lengths, shares, cue use and its association with correct answers.

    Parameters
    ----------
    replies
        From :func:`connectomebench.evaluation.responses.cues.collect_replies`.
    lexicon
        The lexicon that the replies were read with.
    resamples, seed
        Number and seed of bootstrap resamples; by default `enough_resamples`.
    """
    resamples = resamples or enough_resamples(lexicon)
    n = len(replies.text)
    groups, group = np.unique(replies.group, return_inverse=True)
    flags = {"reasoned": replies.reasoned, "parsed": replies.prediction != ""}
    flags |= {f"{use} {c}": replies.uses[u, c] for u, use in enumerate(USES) for c in range(len(lexicon.cues))}
    whole = sums_by_group(np.ones(n, dtype=bool), group)
    shares = bootstrap_intervals(
        {name: share_statistic(sums_by_group(flag, group), whole) for name, flag in flags.items()},
        groups,
        resamples=resamples,
        seed=seed,
        bounds=(0.0, 1.0),
    )
    shares = {name: replace(share, n=n) for name, share in shares.items()}
    uses = []
    for c, cue in enumerate(lexicon.cues):
        for u, use in enumerate(USES):
            right = same = None
            if use in TESTED:
                right, same = _with_right(replies, replies.uses[u, c], groups, group, resamples, seed)
            uses.append(CueUse(cue.name, use, shares[f"{use} {c}"], right, same, float("nan")))
    corrected = holm([use.right_same_answer.p if use.right_same_answer else float("nan") for use in uses])
    return ReplySummary(
        replies,
        len(set(replies.sample_id.tolist())),
        _median(replies.words.astype(np.float64), replies.group, seed),
        _median(replies.tokens, replies.group, seed),
        shares["reasoned"],
        shares["parsed"],
        tuple(replace(use, holm=p) for use, p in zip(uses, corrected, strict=True)),
    )


def enough_resamples(lexicon: Lexicon) -> int:
    """Return how many resamples a test of every cue needs for the smallest possible p-value to survive Holm."""
    return max(RESAMPLES, 100 * len(TESTED) * len(lexicon.cues))


def sums_by_group(values: NDArray[np.bool_], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Count true values (replies,) in each group, shape (groups,); ``group`` holds the number of each reply's group."""
    return np.bincount(group, weights=values).astype(np.float64)


def share_statistic(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Statistic:
    """Return the share of ``part`` in ``whole``, sums per group of shape (groups,), as a function of group weights."""
    both = np.stack([part, whole])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = weighted_sums(weights, both)
        return _divide(sums[:, 0], sums[:, 1])

    return statistic


def median_statistic(values: NDArray[np.float64]) -> Statistic:
    """Return the median of values (rows,) as a function of row weights; with unit weights as in numpy."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        up_to = np.cumsum(weights[:, order], axis=1)
        half = up_to[:, -1:] / 2
        return (ranked[np.argmax(up_to >= half, axis=1)] + ranked[np.argmax(up_to > half, axis=1)]) / 2

    return statistic


def _median(values: NDArray[np.float64], group: NDArray[np.str_], seed: int) -> Estimate:
    """Estimate the median of the known values."""
    known = np.isfinite(values)
    if not known.any():
        return Estimate(float("nan"), float("nan"), float("nan"), 0, 0, 0)
    return bootstrap_interval(median_statistic(values[known]), group[known], seed=seed)


def _with_right(
    replies: Replies,
    used: NDArray[np.bool_],
    groups: NDArray[np.str_],
    group: NDArray[np.intp],
    resamples: int,
    seed: int,
) -> tuple[PairedDifference | None, PairedDifference | None]:
    """Return accuracy with a cue minus accuracy without it, over all replies and within the same answer."""
    n = len(used)
    right = replies.prediction == replies.answer
    if min(len(np.unique(group[arm & kind])) for arm in (used, ~used) for kind in (right, ~right)) < FEWEST:
        return None, None
    with_it, without = (
        share_statistic(sums_by_group(right & arm, group), sums_by_group(arm, group)) for arm in (used, ~used)
    )
    plain = paired_difference(with_it, without, groups, resamples=resamples, seed=seed)
    # an answer that occurs only with the cue, or only without it, allows no comparison
    answers = [a for a in np.unique(replies.prediction) if a and len(set(used[replies.prediction == a].tolist())) == 2]
    if not answers:
        return replace(plain, n=n), None
    parts = [
        np.stack(
            [sums_by_group(right & arm & gave, group) for arm in (used, ~used)]
            + [sums_by_group(arm & gave, group) for arm in (used, ~used)]
        )
        for gave in (replies.prediction == answer for answer in answers)
    ]
    compared = int(np.count_nonzero(np.isin(replies.prediction, answers)))
    same = paired_difference(
        _mantel_haenszel(parts), lambda weights: np.zeros(len(weights)), groups, resamples=resamples, seed=seed
    )
    return replace(plain, n=n), replace(same, n=compared)


def _mantel_haenszel(parts: list[NDArray[np.float64]]) -> Statistic:
    """Return the mean over strata of the difference of two shares (Greenland and Robins, Biometrics 41, 1985).

    Parameters
    ----------
    parts
        For each stratum right with, right without, all with and all without, shape (4, groups).
    """

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        above = np.zeros(len(weights))
        below = np.zeros(len(weights))
        for part in parts:
            right_with, right_without, with_it, without = weighted_sums(weights, part).T
            total = with_it + without
            above += np.nan_to_num(_divide(right_with * without - right_without * with_it, total))
            below += np.nan_to_num(_divide(with_it * without, total))
        return _divide(above, below)

    return statistic


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
