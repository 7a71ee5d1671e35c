"""Answers and confidence levels offered to a person, and the result records made from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import PlaceAnswer, write_places
from connectomebench.core.tasks import YES_NO, Task
from connectomebench.core.version import __version__
from connectomebench.human_eval.session import Choice, Rating, Step
from connectomebench.models.place_baselines import places_asked
from connectomebench.models.reply_parsing import ANSWER_CLOSE, ANSWER_OPEN

PROTOCOL = "person-1"
"""Revision of a person in result records; incremented whenever display, choices or timing change."""

SURENESS: dict[str, tuple[str, float]] = {
    "1": ("a guess", 0.0),
    "2": ("unsure", 0.2),
    "3": ("rather sure", 0.5),
    "4": ("sure", 0.8),
    "5": ("certain", 0.98),
}
"""Key -> label, and position between a guess (0) and certainty (1)."""


_KEYS = "abcdefghijklmnoqrstuvwxyz"
"""Keys of nodes: digits say how sure one is, and p is the pause."""


def _node_choice(node: int, place: int) -> Choice:
    """Offer a node (from 0); no two steps share a key, and nodes beyond the letters have a button alone."""
    key = _KEYS[place] if place < len(_KEYS) else f"button {place}"
    return Choice(key, str(node + 1), str(node + 1))


def person(rater: str) -> str:
    """Name a person as a model of result records."""
    return f"person-{rater}"


def answer_steps(task: Task, most_nodes: int = 0) -> tuple[Step, ...]:
    """Return the steps of a rating: the answer, then the confidence.

    Parameters
    ----------
    task
        The task.
    most_nodes
        Largest number of nodes in a row, where answers are places: a person names a node, of a cut one on either side.

    Raises
    ------
    ConnectomeBenchError
        If the answer is a mask, which this page cannot take.
    """
    if task.scoring == "places":
        sides = ("Node on one side of the cut", "Node on the other side") if sum(places_asked(task)) == 2 else ("Node",)
        steps = [
            Step(side, tuple(_node_choice(n, number * most_nodes + n) for n in range(most_nodes)))
            for number, side in enumerate(sides)
        ]
        sure = tuple(Choice(key, key, words) for key, (words, _) in SURENESS.items())
        return (*steps, Step("How sure are you?", sure))
    if not task.labels:
        raise ConnectomeBenchError(
            f"the answer to {task.name} is a mask, which this page cannot take; rate yes/no and choice tasks"
        )
    labels = tuple(reversed(task.labels)) if task.labels == YES_NO else task.labels
    answers = tuple(Choice(label[0], label, label) for label in labels)
    sure = tuple(Choice(key, key, f"{words} ({_percent(key, task)})") for key, (words, _) in SURENESS.items())
    return Step("Your answer", answers), Step("How sure are you?", sure)


def stated_probability(sure: str, task: Task) -> float:
    """Return the probability that an answer is right, as stated by the person.

    Parameters
    ----------
    sure
        A key of `SURENESS`.
    task
        The task; a guess among k answers is right with probability 1/k.
    """
    guess = 1 / len(task.labels)
    return guess + (1 - guess) * SURENESS[sure][1]


def rating_records(
    rows: Mapping[str, Sequence[Any]],
    ratings: Sequence[Rating],
    task: Task,
    constant: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Convert ratings to result records.

    Parameters
    ----------
    rows
        Columns ``sample_id``, ``task``, ``species``, ``question``, ``answer`` and ``group``, including the rated rows.
    ratings
        Choices of `answer_steps`, keyed by sample id.
    task
        The task.
    constant
        ``model``, ``partition``, ``condition`` and ``dataset_fingerprint``.

    Returns
    -------
    list[dict]
        Rows for :func:`connectomebench.evaluation.results.write_results`; ``latency_s`` is the time to the answer.
    """
    number = {sample: i for i, sample in enumerate(rows["sample_id"])}
    return [_record(rows, number[rating.key], rating, task) | dict(constant) for rating in ratings]


def _record(rows: Mapping[str, Sequence[Any]], row: int, rating: Rating, task: Task) -> dict[str, Any]:
    same = ("sample_id", "task", "species", "question", "answer", "group")
    constant = {name: rows[name][row] for name in same} | {
        "model_revision": PROTOCOL,
        "code_version": __version__,
        "latency_s": rating.seconds,
    }
    if task.scoring == "places":
        first, *second = (int(number) for number in rating.choices[:-1])
        places = write_places(PlaceAnswer((first,), tuple(second)))
        # how sure a person is of a place is no probability of anything: places are nearer or farther
        sure = SURENESS[rating.choices[-1]][0]
        return constant | {"prediction": places, "reply": f"{ANSWER_OPEN}{places}{ANSWER_CLOSE} ({sure})"}
    said, sure = rating.choices
    right = stated_probability(sure, task)
    yes = right if said == "yes" else 1 - right
    return constant | {
        "prediction": said,
        "probability": yes if task.labels == YES_NO else right,
        "reply": f"{ANSWER_OPEN}{said}{ANSWER_CLOSE}<confidence>{right:.4g}</confidence>",
    }


def _percent(sure: str, task: Task) -> str:
    return f"{100 * stated_probability(sure, task):.0f}%"
