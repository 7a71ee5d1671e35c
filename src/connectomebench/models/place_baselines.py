"""Answers to questions for places that need no look at the pictures: chance, and lazy rules.

A dataset whose rows a lazy rule answers better than chance gives something away. One of them is no flaw: split errors
lie at ends, so a node far from the others is more often right, which is knowledge of the task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.place_score import score_row
from connectomebench.core.places import PlaceAnswer, nodes_in, write_places
from connectomebench.core.site import Point
from connectomebench.core.tasks import Task, get_task
from connectomebench.models.base import Answer, Batch, column

Nodes = NDArray[np.float64]
"""Nodes of a row, shape (n, 3), nm relative to the centre of the views; the first has number 1."""


def _random(nodes: Nodes, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(len(nodes))


def _central(nodes: Nodes, seed: int) -> NDArray[np.float64]:
    return -np.linalg.norm(nodes, axis=1)


def _outermost(nodes: Nodes, seed: int) -> NDArray[np.float64]:
    return np.linalg.norm(nodes, axis=1)


def _apart(nodes: Nodes, seed: int) -> NDArray[np.float64]:
    return np.sort(np.linalg.norm(nodes[:, None] - nodes[None], axis=2), axis=1)[:, 1]


def _tip(nodes: Nodes, seed: int) -> NDArray[np.float64]:
    return np.linalg.norm(nodes - nodes.mean(axis=0), axis=1)


def _first(nodes: Nodes, seed: int) -> NDArray[np.float64]:
    return -np.arange(len(nodes), dtype=np.float64)


RULES: dict[str, Callable[[Nodes, int], NDArray[np.float64]]] = {
    "random_node": _random,
    "first_node": _first,
    "central_node": _central,
    "outermost_node": _outermost,
    "lonely_node": _apart,
    "tip_node": _tip,
}
"""Name -> value of each node; the best one answers, of a cut the best two."""

INHERENT_RULES = ("lonely_node", "tip_node")
"""Rules that may be better than chance because of what the tasks ask."""

_CENTRE: Point = (0.0, 0.0, 0.0)


class PlaceBaseline:
    """Answers questions for places by a rule; a model like any other.

    Parameters
    ----------
    rule
        Of :data:`RULES`, or ``centre``: the centre of the views, which has no meaning for a cut.

    Raises
    ------
    ConnectomeBenchError
        If there is no such rule.
    """

    def __init__(self, rule: str) -> None:
        if rule not in (*RULES, "centre"):
            raise unknown_name("rule", rule, (*RULES, "centre"))
        self.name = rule
        self.revision = "1"

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row from the nodes in its ``question``; see :class:`connectomebench.models.base.Model`.

        Raises
        ------
        ConnectomeBenchError
            If a task asks for no place, or a question lists too few nodes.
        """
        return [
            Answer(self._answer(get_task(task), question), {})
            for task, question in zip(column(batch, "task"), column(batch, "question"), strict=True)
        ]

    def _answer(self, task: Task, question: str) -> str:
        if self.name == "centre":
            first, second = places_asked(task)
            return write_places(PlaceAnswer((_CENTRE,) * first, (_CENTRE,) * second))
        nodes = node_array(question)
        # the seed is what is shown, so that no answer depends on ids or on other rows
        seed = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big")
        return best_nodes(RULES[self.name](nodes, seed), task)


def places_asked(task: Task) -> tuple[int, int]:
    """Return how many places a lazy answer names on each side: (1, 0) for a place, (1, 1) for a cut.

    Raises
    ------
    ConnectomeBenchError
        If the task asks for no place.
    """
    if task.labels:
        raise ConnectomeBenchError(f"the answers of {task.name} are labels, not places; choose another model")
    return (1, 1) if task.answer_kind == "points" else (1, 0)


def best_nodes(values: Sequence[float] | NDArray[np.floating], task: Task) -> str:
    """Answer with the node of the largest value, or for a cut with the two of the largest values.

    Parameters
    ----------
    values
        One a node, shape (n,), in the order of their numbers; ties go to the lower number.
    task
        A task that asks for places.
    """
    order = np.argsort(-np.asarray(values, np.float64), kind="stable") + 1
    first, second = places_asked(task)
    return write_places(PlaceAnswer(tuple(order[:first].tolist()), tuple(order[first : first + second].tolist())))


def node_array(question: str) -> Nodes:
    """Return the nodes that a question lists, shape (n, 3), nm relative to the centre.

    Raises
    ------
    ConnectomeBenchError
        If it lists fewer than two.
    """
    nodes = nodes_in(question)
    if len(nodes) < 2 or sorted(nodes) != list(range(1, len(nodes) + 1)):
        raise ConnectomeBenchError("a question for a place lists no numbered nodes; build the dataset again")
    return np.array([nodes[number] for number in sorted(nodes)], np.float64)


def chance_score(row: Mapping[str, Any]) -> float:
    """Return the mean score of all nodes of a row, or for a cut of all pairs: what guessing a node is worth.

    Parameters
    ----------
    row
        A stored row of a task that asks for places.
    """
    return float(np.mean(_scores_of_nodes(row)))


def best_score(row: Mapping[str, Any]) -> float:
    """Return the score of the best node, or for a cut the best pair: the most that naming nodes can reach."""
    return float(np.max(_scores_of_nodes(row)))


def _scores_of_nodes(row: Mapping[str, Any]) -> list[float]:
    numbers = range(1, len(node_array(row["question"])) + 1)
    if places_asked(get_task(row["task"]))[1]:
        answers = [PlaceAnswer((a,), (b,)) for a, b in combinations(numbers, 2)]
    else:
        answers = [PlaceAnswer((number,)) for number in numbers]
    return [score_row(write_places(answer), row) for answer in answers]
