"""Score answers that are places: full credit near the truth, none far from it, sets by the best assignment.

Full credit is given within :func:`full_credit_nm` of the true place, 500 nm on views of 5 µm or more, and none from
four times that distance (2000 nm) on; between them it falls linearly. On smaller views the distances shrink with the
edge of the view, ``extent_nm`` of the row, since there 500 nm may be the whole picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import PlaceAnswer, list_nodes, nodes_in, read_places, relative
from connectomebench.core.site import Point

Worth = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps distances in nm, of any shape, to their value between 0 and 1."""

FULL_NM = 500.0
"""Largest distance of full credit on views of at least 5 µm, nm."""
SHARE_OF_VIEW = 0.1
"""The same as a share of the edge of a smaller view."""
NONE_AT = 4.0
"""No credit from this many times the distance of full credit on."""


def full_credit_nm(extent_nm: float) -> float:
    """Return the largest distance that gets full credit: 500 nm, or a tenth of the view where that is less.

    Examples
    --------
    >>> full_credit_nm(6000.0), full_credit_nm(1200.0)
    (500.0, 120.0)
    """
    return min(FULL_NM, SHARE_OF_VIEW * extent_nm)


def credit(distance_nm: ArrayLike, full_nm: float = FULL_NM) -> NDArray[np.float64]:
    """Return the credit of distances to the truth.

    Parameters
    ----------
    distance_nm
        Distances, nm; any shape.
    full_nm
        Largest distance of full credit, nm.

    Returns
    -------
    float64, same shape
        1 up to ``full_nm``, 0 from ``NONE_AT`` times as far on, linear between them.

    Examples
    --------
    >>> credit([0, 500, 1250, 2000, 9000]).tolist()
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    far = (np.asarray(distance_nm, np.float64) / full_nm - 1) / (NONE_AT - 1)
    return np.clip(1 - far, 0.0, 1.0)


def point_score(given_nm: ArrayLike, true_nm: ArrayLike, worth: Worth = credit) -> float:
    """Return what a place is worth: by its distance to the nearest of the true places.

    Parameters
    ----------
    given_nm
        Shape (3,), nm.
    true_nm
        Shape (n, 3), nm: all places that are right.
    worth
        Value of a distance in nm, between 0 and 1, falling with it.
    """
    apart = np.linalg.norm(np.atleast_2d(np.asarray(true_nm, np.float64)) - np.asarray(given_nm, np.float64), axis=1)
    return float(worth(apart).max())


def set_score(given_nm: ArrayLike, true_nm: ArrayLike, worth: Worth = credit) -> float:
    """Return what a set of places is worth under the best one-to-one assignment to the true ones.

    Parameters
    ----------
    given_nm, true_nm
        Shapes (m, 3) and (n, 3), nm; at least one each.
    worth
        Value of a distance in nm.

    Returns
    -------
    float
        Sum of the assigned values over the larger number of places: what is missing and what is too much both cost.
    """
    from scipy.optimize import linear_sum_assignment

    given, true = np.atleast_2d(np.asarray(given_nm, np.float64)), np.atleast_2d(np.asarray(true_nm, np.float64))
    values = worth(np.linalg.norm(given[:, None] - true[None], axis=2))
    rows, columns = linear_sum_assignment(values, maximize=True)
    return float(values[rows, columns].sum() / max(values.shape))


def cut_score(given: PlaceAnswer, true: PlaceAnswer, worth: Worth = credit) -> float:
    """Return what the places on both sides of a cut are worth, which side is called source being no matter.

    Parameters
    ----------
    given, true
        Points on both sides, nm (no numbers of nodes).
    worth
        Value of a distance in nm.

    Returns
    -------
    float
        Mean of both sides' :func:`set_score`, for the better of both ways to pair the sides.

    Examples
    --------
    >>> true = PlaceAnswer(((0, 0, 0),), ((4000, 0, 0),))
    >>> cut_score(PlaceAnswer(((4000, 0, 0),), ((0, 1250, 0),)), true)
    0.75
    """
    ways = ((given.sources, given.sinks), (given.sinks, given.sources))
    return max((set_score(a, true.sources, worth) + set_score(b, true.sinks, worth)) / 2 for a, b in ways)


def score_answer(
    prediction: str | None, answer: str, true_nm: Sequence[Point], question: str, worth: Worth = credit
) -> float:
    """Score an answer in the form of :func:`connectomebench.core.places.write_places`.

    Parameters
    ----------
    prediction
        The answer given; None, or text that is no place or names a node that the question does not list, scores 0.
    answer
        A true answer in the same form.
    true_nm
        Where a single place is asked for, all places that are right, nm relative to the centre of the views; empty
        takes that of ``answer``.
    question
        Lists the nodes; see :func:`connectomebench.core.places.nodes_in`.
    worth
        Value of a distance in nm.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ConnectomeBenchError
        If the true answer is no place.
    """
    nodes = nodes_in(question)
    given, true = read_places(prediction), read_places(answer)
    given, true = given and given.points(nodes), true and true.points(nodes)
    if true is None:
        raise ConnectomeBenchError(f"{answer!r:.60} is no place of a row; build the dataset again")
    if given is None or bool(given.sinks) != bool(true.sinks):
        return 0.0
    if true.sinks:
        return cut_score(given, true, worth)
    return point_score(np.asarray(given.sources[0], np.float64), [*true_nm] or [*true.sources], worth)


def score_row(prediction: str | None, row: Mapping[str, Any]) -> float:
    """Score an answer to a stored row by :func:`credit` on the scale of its view.

    Parameters
    ----------
    prediction
        The answer given; None for an unparsed reply.
    row
        ``answer``, ``target_nm``, ``location_nm``, ``question`` and ``extent_nm`` are read.
    """
    full_nm = full_credit_nm(float(row["extent_nm"]))
    true_nm = [relative(place, row["location_nm"]) for place in row["target_nm"]]
    return score_answer(prediction, row["answer"], true_nm, row["question"], partial(credit, full_nm=full_nm))


def write_truth(row: Mapping[str, Any]) -> str:
    """Write all that a score needs of a stored row as one text, so that a result record can be scored by itself.

    Parameters
    ----------
    row
        ``answer``, ``target_nm``, ``location_nm``, ``question`` and ``extent_nm`` are read.

    Returns
    -------
    str
        JSON with ``answer``; ``right``, all places that are right where one is asked for, nm relative to the centre of
        the views; ``nodes``, those that the question lists, in the order of their numbers; and ``full_nm``, the largest
        distance of full credit.

    Raises
    ------
    ConnectomeBenchError
        If the answer is no place.
    """
    if read_places(row["answer"]) is None:
        raise ConnectomeBenchError(f"{row['answer']!r:.60} is no place of a row; build the dataset again")
    nodes = nodes_in(row["question"])
    truth = {
        "answer": row["answer"],
        "right": [[round(c, 1) for c in relative(place, row["location_nm"])] for place in row["target_nm"]],
        "nodes": [nodes[number] for number in sorted(nodes)],
        "full_nm": full_credit_nm(float(row["extent_nm"])),
    }
    return json.dumps(truth, separators=(",", ":"))


def score_text(prediction: str | None, truth: str) -> float:
    """Score an answer against what :func:`write_truth` wrote.

    Raises
    ------
    ConnectomeBenchError
        If the truth is something else.
    """
    try:
        known = json.loads(truth)
        answer, right, nodes = str(known["answer"]), known["right"], known["nodes"]
        question = list_nodes([(x, y, z) for x, y, z in nodes], (0.0, 0.0, 0.0))
        true_nm = [(float(x), float(y), float(z)) for x, y, z in right]
        worth = partial(credit, full_nm=float(known["full_nm"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConnectomeBenchError(f"{truth!r:.60} is no true place of a result record; evaluate again") from None
    return score_answer(prediction, answer, true_nm, question, worth)
