"""Test which cues are used more or less often by the last checkpoint of a training run than by the first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.responses.cues import USES, Replies, Use
from connectomebench.evaluation.responses.lexicon import Lexicon
from connectomebench.evaluation.responses.summary import (
    TESTED,
    enough_resamples,
    share_statistic,
    sums_by_group,
)
from connectomebench.evaluation.significance import holm
from connectomebench.evaluation.statistics import PairedDifference, paired_difference

_CHECKPOINT = re.compile(r"(?P<before>.*?[-_/]?)checkpoint[-_](?P<step>\d{1,9})(?P<after>.*)", re.ASCII | re.DOTALL)
LEVEL = 0.05
"""Corrected p-value up to which a cue is said to be used more or less often."""
FEWEST_CHANGED = 10
"""Groups in which the use of a cue must differ before it is tested: a bootstrap is too sure of fewer."""


@dataclass(frozen=True)
class CueChange:
    """Change in the use of one cue between two models on the same samples.

    Attributes
    ----------
    first, last
        The models, as `connectomebench.evaluation.results.label` names them.
    task, species, partition
        Where both were evaluated.
    n_samples
        Rows that both replied to.
    cue, use
        The cue, and how it is used.
    difference
        Share of replies of the last minus that of the first, by paired bootstrap over groups; ``n`` counts the replies
        of both.
    holm
        Its p-value, corrected for all cues and uses of these two models at this place (Holm); NaN if fewer than
        `FEWEST_CHANGED` groups differ.
    """

    first: str
    last: str
    task: str
    species: str
    partition: str
    n_samples: int
    cue: str
    use: Use
    difference: PairedDifference
    holm: float

    @property
    def verdict(self) -> str:
        """``more often`` or ``less often`` where the corrected p-value is at most `LEVEL`, else ``undecided``."""
        if not self.holm <= LEVEL:
            return "undecided"
        return "more often" if self.difference.value > 0 else "less often"


def checkpoint_series(replies: Sequence[Replies]) -> list[tuple[str, ...]]:
    """Order models whose names differ only in the checkpoint number (``NAME-checkpoint-100``).

    Returns
    -------
    list
        One series per name, condition and suffix after the number; labels by step, at least two in each.
    """
    steps: dict[tuple[str, str, str], dict[int, str]] = defaultdict(dict)
    for one in replies:
        if found := _CHECKPOINT.fullmatch(one.model):
            steps[found["before"], found["after"], one.condition][int(found["step"])] = one.name
    return [
        tuple(by_step[step] for step in sorted(by_step)) for _, by_step in sorted(steps.items()) if len(by_step) > 1
    ]


def given_series(replies: Sequence[Replies], order: Sequence[str]) -> tuple[str, ...]:
    """Validate an order of models given by hand.

    Raises
    ------
    ConnectomeBenchError
        If it names fewer than two models, one twice, or one without replies.
    """
    known = sorted({one.name for one in replies})
    if len(order) < 2 or len(set(order)) < len(order):
        raise ConnectomeBenchError(
            "--order takes two or more different models, the first and the last of them compared"
        )
    for name in order:
        if name not in known:
            raise ConnectomeBenchError(f"--order: there are no replies of {name!r}; there are {', '.join(known)}")
    return tuple(order)


def find_changes(
    replies: Sequence[Replies], series: Sequence[str], lexicon: Lexicon, *, seed: int = 0
) -> list[CueChange]:
    """Compare the first and last model of a series on the samples both replied to.

    Parameters
    ----------
    replies
        From :func:`connectomebench.evaluation.responses.cues.collect_replies`.
    series
        From `checkpoint_series` or `given_series`.
    lexicon
        The lexicon that the replies were read with.
    seed
        Seed of the bootstrap.

    Returns
    -------
    list[Change]
        By place, cue and use; only samples that both replied to count. May be empty.

    Raises
    ------
    ConnectomeBenchError
        If samples of one name differ in their truth or group.
    """
    first, last = series[0], series[-1]
    by_place = {(one.name, one.place): one for one in replies}
    changes = []
    for place in sorted({one.place for one in replies}):
        pair = [by_place.get((name, place)) for name in (first, last)]
        if pair[0] is not None and pair[1] is not None:
            changes += _changes(pair[0], pair[1], lexicon, seed)
    return changes


def _changes(first: Replies, last: Replies, lexicon: Lexicon, seed: int) -> list[CueChange]:
    """Compare two models at one place; empty if they share no sample."""
    truths = [dict(zip(one.sample_id, zip(one.answer, one.group, strict=True), strict=True)) for one in (first, last)]
    shared = sorted(truths[0].keys() & truths[1].keys())
    if not shared:
        return []
    if any(truths[0][sample] != truths[1][sample] for sample in shared):
        raise ConnectomeBenchError(
            f"{first.name} and {last.name} saw different data under the name {'/'.join(first.place)}; evaluate both on "
            "the same dataset"
        )
    groups = np.unique([truths[0][sample][1] for sample in shared])
    kept = [np.isin(one.sample_id, shared) for one in (first, last)]
    group = [np.searchsorted(groups, one.group[keep]) for one, keep in zip((first, last), kept, strict=True)]
    whole = [sums_by_group(np.ones(len(of), dtype=bool), of) for of in group]
    found = []
    for c, cue in enumerate(lexicon.cues):
        for use in TESTED:
            was, became = (
                sums_by_group(one.uses[USES.index(use), c, keep], of)
                for one, keep, of in zip((first, last), kept, group, strict=True)
            )
            difference = paired_difference(
                share_statistic(became, whole[1]),
                share_statistic(was, whole[0]),
                groups,
                resamples=enough_resamples(lexicon),
                seed=seed,
            )
            differing = np.count_nonzero(was * whole[1] != became * whole[0])
            p = difference.p if differing >= FEWEST_CHANGED else float("nan")
            found.append((cue.name, use, replace(difference, n=int(sum(keep.sum() for keep in kept)), p=p)))
    corrected = holm([difference.p for _, _, difference in found])
    return [
        CueChange(first.name, last.name, *first.place, len(shared), cue, use, difference, p)
        for (cue, use, difference), p in zip(found, corrected, strict=True)
    ]
