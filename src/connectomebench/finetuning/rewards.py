"""Reward functions for TRL's GRPOTrainer.

Each takes ``completions``, one conversation of one turn for each reply, and the columns of its row by name. It gives a
number in [0, 1], 1 being best, or None if it does not apply to the task; TRL leaves None out of the sum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial, update_wrapper, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.place_score import score_answer, score_row
from connectomebench.core.places import relative
from connectomebench.core.tasks import Task, get_task
from connectomebench.models.confidence import parse_confidence
from connectomebench.models.prompt import completion
from connectomebench.models.reply_parsing import ANSWER_CLOSE, ANSWER_OPEN, parse_answer

Reward = Callable[..., list[float | None]]
Completions = Sequence[Sequence[Mapping[str, Any]]]

DISTANCE_SCALE_NM = 1000.0
REWARD_COLUMNS = ("task", "question", "answer", "target_nm", "location_nm", "extent_nm")
"""Columns of stored rows that rewards read."""
_ANSWER_TAG = re.compile(r"<\s{0,9}/?\s{0,9}answer\s{0,9}>", re.IGNORECASE)


def exact_reward(completions: Completions, task: Sequence[str], answer: Sequence[str], **_: Any) -> list[float | None]:
    """Return 1 for the correct answer, else 0; parsed as in evaluation.

    Parameters
    ----------
    completions
        Replies.
    task, answer
        Columns of the rows. Where the answer is a place, it must be right to the nm; see :func:`place_reward`.
    """
    truths = _truths(task, answer)
    return [
        float(_right(reply, one, truth))
        for reply, one, truth in zip(map(_text, completions), map(get_task, task), truths, strict=True)
    ]


def format_reward(completions: Completions, task: Sequence[str], **_: Any) -> list[float | None]:
    """Return 1 if the reply ends with exactly one parsable ``<answer>...</answer>``, else 0.

    The tags must match exactly. Any text may precede them.

    Parameters
    ----------
    completions
        Replies.
    task
        Column of the rows.
    """
    return [float(_well_formed(_text(reply), get_task(name))) for reply, name in zip(completions, task, strict=True)]


def place_reward(
    completions: Completions,
    task: Sequence[str],
    answer: Sequence[str],
    target_nm: Sequence[Sequence[Sequence[float]]],
    location_nm: Sequence[Sequence[float]],
    extent_nm: Sequence[float],
    question: Sequence[str],
    **_: Any,
) -> list[float | None]:
    """Return the score of a place as the metrics have it; see :mod:`connectomebench.core.place_score`.

    Parameters
    ----------
    completions
        Replies. Without a readable place they are worth 0.
    task, answer, target_nm, location_nm, extent_nm, question
        Columns of the rows.

    Returns
    -------
    list of float or None
        None where the answer is no place.
    """
    rewards: list[float | None] = []
    columns = zip(task, answer, target_nm, location_nm, extent_nm, question, strict=True)
    for reply, (name, own, targets, location, extent, asked) in zip(map(_text, completions), columns, strict=True):
        one = get_task(name)
        row = {"answer": own, "target_nm": targets, "location_nm": location, "extent_nm": extent, "question": asked}
        rewards.append(None if one.labels else score_row(parse_answer(reply, one), row))
    return rewards


def distance_reward(
    completions: Completions,
    task: Sequence[str],
    answer: Sequence[str],
    target_nm: Sequence[Sequence[Sequence[float]]],
    location_nm: Sequence[Sequence[float]],
    question: Sequence[str],
    scale_nm: float = DISTANCE_SCALE_NM,
    **_: Any,
) -> list[float | None]:
    """Return ``exp(-distance / scale)``, averaged over places, 0 if none can be parsed.

    Unlike :func:`place_reward`, which is 0 beyond some distance, it prefers the nearer of two answers however far both
    are, so that training has a direction from the first step. Places are assigned to the true ones as there.

    Parameters
    ----------
    completions
        Replies.
    task, answer, target_nm, location_nm, question
        Columns of the rows.
    scale_nm
        Distance that is worth 1/e, nm. The default, 1000 nm, is a choice of this package.

    Returns
    -------
    list of float or None
        None where the answer is no place.
    """

    def nearness(distance_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-distance_nm / scale_nm)

    rewards: list[float | None] = []
    columns = zip(task, answer, target_nm, location_nm, question, strict=True)
    for reply, (name, own, targets, location, asked) in zip(map(_text, completions), columns, strict=True):
        one = get_task(name)
        true_nm = [relative(place, location) for place in targets]
        given = None if one.labels else parse_answer(reply, one)
        rewards.append(None if one.labels else score_answer(given, own, true_nm, asked, nearness))
    return rewards


def calibration_reward(
    completions: Completions,
    task: Sequence[str],
    answer: Sequence[str],
    **_: Any,
) -> list[float | None]:
    """Return ``1 - (p - right)^2`` for a stated confidence p, with right 1 or 0: one minus the Brier score.

    The expected reward is largest where p is the probability that the answer is right (Brier 1950). Taken alone it
    would be as large for a wrong reply of confidence 0, so :func:`make_rewards` requires `exact` as well,
    with no less weight: then a more probable answer is never worth less (Damani et al. 2025, arXiv:2507.16806).

    Parameters
    ----------
    completions
        Replies. Without one readable answer and one confidence in [0, 1] they are worth 0.
    task, answer
        Columns of the rows.

    Returns
    -------
    list of float or None
        None where the answer is a place, since such an answer is nearer or farther rather than right or wrong.
    """
    truths = _truths(task, answer)
    rewards: list[float | None] = []
    for reply, one, truth in zip(map(_text, completions), map(get_task, task), truths, strict=True):
        confidence = parse_confidence(reply)
        if not one.labels:
            rewards.append(None)
        elif confidence is None or parse_answer(reply, one) is None:
            rewards.append(0.0)
        else:
            rewards.append(1.0 - (confidence - _right(reply, one, truth)) ** 2)
    return rewards


REWARDS: dict[str, Reward] = {
    "exact": exact_reward,
    "format": format_reward,
    "place": place_reward,
    "distance": distance_reward,
    "calibration": calibration_reward,
}


def make_rewards(
    names: Sequence[str], weights: Sequence[float] | None, task: Task, scale_nm: float = DISTANCE_SCALE_NM
) -> tuple[list[Reward], list[float]]:
    """Choose rewards for a task.

    Parameters
    ----------
    names
        Of ``REWARDS``.
    weights
        One a reward; all 1 where None. TRL adds the weighted rewards up.
    task
        Task of the rows.
    scale_nm
        Of the distance reward, nm.

    Returns
    -------
    tuple
        Functions and weights, for `trl.GRPOTrainer` and `trl.GRPOConfig`.

    Raises
    ------
    ConnectomeBenchError
        If a name is unknown or named twice, numbers do not fit, a reward does not apply to the task, or
        confidence would outweigh correct answers.
    """
    for name in names:
        if name not in REWARDS:
            raise unknown_name("reward", name, REWARDS)
    if not names or len(set(names)) < len(names):
        raise ConnectomeBenchError(f"name each reward once, one at least, not {list(names)}")
    numbers = [1.0] * len(names) if weights is None else [float(weight) for weight in weights]
    if len(numbers) != len(names) or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ConnectomeBenchError(f"give each of {len(names)} rewards a weight above 0, not {numbers}")
    if not (math.isfinite(scale_nm) and scale_nm > 0):
        raise ConnectomeBenchError(f"the scale of the distance reward must be above 0 nm, not {scale_nm}")
    what, kinds = ("labels", ("distance", "place")) if task.labels else ("places", ("calibration",))
    for kind in kinds:
        if kind in names:
            raise ConnectomeBenchError(f"the answers of {task.name} are {what}, so leave out the {kind} reward")
    given = dict(zip(names, numbers, strict=True))
    if "calibration" in given and given["calibration"] > given.get("exact", 0.0):
        raise ConnectomeBenchError(
            "calibration needs exact with at least the same weight, or a wrong reply of confidence 0 would be worth as "
            "much as a right one"
        )
    # TRL logs a reward by the name of its function
    distance = update_wrapper(partial(distance_reward, scale_nm=scale_nm), distance_reward)
    chosen = dict(REWARDS, distance=distance)
    return [chosen[name] for name in names], numbers


def whole_replies(reward: Reward, end_tokens: Collection[int]) -> Reward:
    """Return the same reward, which finds no answer in replies that were cut at their maximum length.

    Parameters
    ----------
    reward
        Any reward.
    end_tokens
        Tokens that end a reply. TRL gives the tokens of every reply as ``completion_ids``.
    """

    @wraps(reward)
    def of_whole(completions: Completions, completion_ids: Sequence[Sequence[int]], **columns: Any) -> Any:
        replies = [
            reply if len(tokens) and tokens[-1] in end_tokens else [{"role": "assistant", "content": ""}]
            for reply, tokens in zip(completions, completion_ids, strict=True)
        ]
        return reward(completions=replies, completion_ids=completion_ids, **columns)

    return of_whole


def _text(reply: Sequence[Mapping[str, Any]]) -> str:
    return str(reply[-1]["content"])


def _truths(task: Sequence[str], answer: Sequence[str]) -> list[str]:
    """Return the true answers in the form of :func:`parse_answer`; raise if a row has none."""
    return [
        str(parse_answer(completion({"task": name, "answer": own}), get_task(name)))
        for name, own in zip(task, answer, strict=True)
    ]


def _right(reply: str, task: Task, truth: str) -> bool:
    return parse_answer(reply, task) == truth


def _well_formed(reply: str, task: Task) -> bool:
    return (
        _ANSWER_TAG.findall(reply) == [ANSWER_OPEN, ANSWER_CLOSE]
        and reply.rstrip().endswith(ANSWER_CLOSE)
        and parse_answer(reply, task) is not None
    )
