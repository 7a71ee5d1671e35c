"""Compare who looks around, with intervals: whether more views help where a model was unsure, and their worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.environment.episode import EpisodeConfig
from connectomebench.environment.policies import Policy, play_all
from connectomebench.environment.recording import EpisodeRecord
from connectomebench.environment.samples import Samples
from connectomebench.evaluation.statistics import Estimate, bootstrap_interval

UNSURE_BELOW = 0.8


@dataclass(frozen=True)
class PolicyScore:
    """How one policy did.

    Attributes
    ----------
    policy
        Its name.
    accuracy
        Share of right answers.
    reward
        Reward an episode, prices taken off.
    views
        Views an episode, beside the first.
    """

    policy: str
    accuracy: Estimate
    reward: Estimate
    views: float


@dataclass(frozen=True)
class MoreViews:
    """What more views changed, on the rows of which the model was unsure after the first ones.

    Attributes
    ----------
    policy, against
        The policy with more views, and the one with those of the row.
    unsure_below
        A row counts where the most probable answer had less than this.
    rows
        How many rows count.
    accuracy, reward
        Mean difference a decision, with an interval over groups; None without such rows.
    extra_views
        More views a decision.
    worth_a_view
        Accuracy gained by each more view: the price at which a view pays for itself where a right answer earns 1; None
        where there were no more views.
    """

    policy: str
    against: str
    unsure_below: float
    rows: int
    accuracy: Estimate | None
    reward: Estimate | None
    extra_views: float
    worth_a_view: float | None


@dataclass(frozen=True)
class Exploration:
    """All policies on the same rows.

    Attributes
    ----------
    scores
        Of each policy.
    more
        Of each policy with more views than those of the row.
    episodes
        Everything that happened.
    """

    scores: tuple[PolicyScore, ...]
    more: tuple[MoreViews, ...]
    episodes: tuple[EpisodeRecord, ...]

    def summary(self) -> dict[str, Any]:
        """Return scores and differences for JSON; a value that is not known is null."""
        return _plain({"policies": [asdict(one) for one in self.scores], "more_views": [asdict(m) for m in self.more]})


def explore(
    samples: Samples, policies: Sequence[Policy], config: EpisodeConfig, unsure_below: float = UNSURE_BELOW
) -> Exploration:
    """Play every row with every policy, and compare.

    Parameters
    ----------
    samples
        Rows with neighbourhoods.
    policies
        The first of the name ``fixed views`` is what ``all views`` and ``greedy`` are compared with.
    config
        Prices and rewards.
    unsure_below
        See :class:`MoreViews`.

    Raises
    ------
    ConnectomeBenchError
        If ``unsure_below`` is no probability.
    """
    if not 0 < unsure_below <= 1:
        raise ConnectomeBenchError(f"unsure_below is {unsure_below}; it must be above 0 and at most 1")
    groups = [row.group for row in samples.rows]
    played = {policy.name: play_all(samples, policy, config) for policy in policies}
    scores = tuple(_score(name, records, groups) for name, (records, _) in played.items())
    more: list[MoreViews] = []
    if "fixed views" in played:
        records, beliefs = played["fixed views"]
        unsure = np.array([max(one.values()) < unsure_below for one in beliefs], bool)
        for name in ("all views", "greedy"):
            if name in played:
                more.append(_compare(name, played[name][0], records, unsure, groups, unsure_below))
    episodes = tuple(record for records, _ in played.values() for record in records)
    return Exploration(scores, tuple(more), episodes)


def _score(name: str, records: Sequence[EpisodeRecord], groups: Sequence[str]) -> PolicyScore:
    views = float(np.mean(_views(records)))
    return PolicyScore(name, mean_interval(_right(records), groups), mean_interval(_reward(records), groups), views)


def _compare(
    name: str,
    records: Sequence[EpisodeRecord],
    against: Sequence[EpisodeRecord],
    unsure: NDArray[np.bool_],
    groups: Sequence[str],
    unsure_below: float,
) -> MoreViews:
    rows = int(unsure.sum())
    if not rows:
        return MoreViews(name, "fixed views", unsure_below, 0, None, None, 0.0, None)
    own = np.array(groups)[unsure]
    accuracy = mean_interval((_right(records) - _right(against))[unsure], own)
    reward = mean_interval((_reward(records) - _reward(against))[unsure], own)
    extra = float((_views(records) - _views(against))[unsure].mean())
    worth = accuracy.value / extra if extra > 0 else None
    return MoreViews(name, "fixed views", unsure_below, rows, accuracy, reward, extra, worth)


def mean_interval(values: NDArray[np.float64], groups: ArrayLike) -> Estimate:
    """Estimate a mean and its 95% interval by bootstrap over groups; shapes (rows,)."""
    return bootstrap_interval(lambda weights: weights @ values / weights.sum(axis=1), groups)


def _right(records: Sequence[EpisodeRecord]) -> NDArray[np.float64]:
    return np.array([one.prediction == one.answer for one in records], np.float64)


def _reward(records: Sequence[EpisodeRecord]) -> NDArray[np.float64]:
    return np.array([sum(one.rewards) for one in records], np.float64)


def _views(records: Sequence[EpisodeRecord]) -> NDArray[np.float64]:
    return np.array([len(one.actions) - (one.prediction is not None) for one in records], np.float64)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def as_text(found: Exploration) -> str:
    """Write scores and differences as lines for people."""
    lines = [f"{'policy':<16} {'accuracy (95%)':<22} {'reward (95%)':<22} views"]
    for one in found.scores:
        lines.append(f"{one.policy:<16} {_shown(one.accuracy):<22} {_shown(one.reward):<22} {one.views:.1f}")
    for more in found.more:
        where = f"where the views of the row left P below {more.unsure_below:g} ({more.rows} rows)"
        if more.accuracy is None or more.reward is None:
            lines.append(f"{more.policy}: no rows {where}")
            continue
        worth = "" if more.worth_a_view is None else f", {more.worth_a_view:+.4f} accuracy a view"
        lines.append(
            f"{more.policy} against {more.against} {where}: accuracy {_shown(more.accuracy)}, reward "
            f"{_shown(more.reward)} a decision, {more.extra_views:+.1f} views{worth}"
        )
    return "\n".join(lines)


def _shown(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.lower:.3f}, {one.upper:.3f})" if np.isfinite(one.lower) else f"{one.value:.3f}"
