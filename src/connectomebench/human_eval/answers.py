"""Answers and confidence levels offered to a person, and the result records made from both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import PlaceAnswer, nodes_in, write_places
from connectomebench.core.tasks import MESH_VIEWS, YES_NO, Task
from connectomebench.core.version import __version__
from connectomebench.human_eval.loops import masks_of, read_loops
from connectomebench.human_eval.session import Choice, Rating, Step
from connectomebench.models.images import StoredImage
from connectomebench.models.place_baselines import places_asked
from connectomebench.models.reply_parsing import ANSWER_CLOSE, ANSWER_OPEN

PROTOCOL = "person-2"
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


def answer_steps(task: Task, most_nodes: int = 0, views: Sequence[str] = MESH_VIEWS) -> tuple[Step, ...]:
    """Return the steps of a rating: the answer, then the confidence.

    Parameters
    ----------
    task
        The task.
    most_nodes
        Largest number of nodes in a row, where answers are places: a person names a node, of a cut one on either side.
    views
        Views of the rows, where answers are masks: a person draws loops in them.
    """
    words_alone = tuple(Choice(key, key, words) for key, (words, _) in SURENESS.items())
    if task.scoring == "masks":
        prompt = "Draw round the part that the right split takes away, in every view that shows it"
        return Step(prompt, (), tuple(views)), Step("How sure are you?", words_alone)
    if task.scoring == "places":
        sides = ("Node on one side of the cut", "Node on the other side") if sum(places_asked(task)) == 2 else ("Node",)
        steps = [
            Step(side, tuple(_node_choice(n, number * most_nodes + n) for n in range(most_nodes)))
            for number, side in enumerate(sides)
        ]
        return (*steps, Step("How sure are you?", words_alone))
    labels = tuple(reversed(task.labels)) if task.labels == YES_NO else task.labels
    answers = tuple(Choice(label[0], label, label) for label in labels)
    if task.has_candidates:  # how much a guess is worth depends on how many candidates a row has
        return Step("Your answer", answers), Step("How sure are you?", words_alone)
    sure = tuple(Choice(key, key, f"{words} ({_percent(key, task)})") for key, (words, _) in SURENESS.items())
    return Step("Your answer", answers), Step("How sure are you?", sure)


def offered(task: Task, question: str, views: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the answers that one row can have, for each step before the confidence; empty where all can be given.

    Parameters
    ----------
    task
        The task.
    question, views
        Columns of the row: nodes that the question lists, candidates that have views.
    """
    if task.scoring == "places":
        return (tuple(str(node) for node in nodes_in(question)),) * sum(places_asked(task))
    return (task.for_views(views).labels,) if task.has_candidates else ()


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
    images: Callable[[int], Sequence[StoredImage]] | None = None,
) -> list[dict[str, Any]]:
    """Convert ratings to result records.

    Parameters
    ----------
    rows
        Columns ``sample_id``, ``task``, ``species``, ``question``, ``answer`` and ``group``, including the rated rows;
        for choices among candidates and for masks ``views``, too.
    ratings
        Choices of `answer_steps`, keyed by sample id.
    task
        The task.
    constant
        ``model``, ``partition``, ``condition`` and ``dataset_fingerprint``.
    images
        Gives the pictures of a row by its number, where answers are masks.

    Returns
    -------
    list[dict]
        Rows for :func:`connectomebench.evaluation.results.write_results`; ``latency_s`` is the time to the answer.

    Raises
    ------
    ConnectomeBenchError
        If answers are masks and there are no pictures.
    """
    number = {sample: i for i, sample in enumerate(rows["sample_id"])}
    if task.scoring == "masks" and images is None:
        raise ConnectomeBenchError("loops become masks with the pictures of their rows; give these as well")
    return [_record(rows, number[rating.key], rating, task, images) | dict(constant) for rating in ratings]


def _record(
    rows: Mapping[str, Sequence[Any]],
    row: int,
    rating: Rating,
    task: Task,
    images: Callable[[int], Sequence[StoredImage]] | None,
) -> dict[str, Any]:
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
    if images is not None and task.scoring == "masks":
        views = rows["views"][row]
        masks = masks_of(read_loops(said, views), views, images(row))
        return constant | {"prediction": masks, "reply": f"{said} ({SURENESS[sure][0]})"}
    right = stated_probability(sure, task.for_views(rows["views"][row]) if task.has_candidates else task)
    yes = right if said == "yes" else 1 - right
    return constant | {
        "prediction": said,
        "probability": yes if task.labels == YES_NO else right,
        "reply": f"{ANSWER_OPEN}{said}{ANSWER_CLOSE}<confidence>{right:.4g}</confidence>",
    }


def _percent(sure: str, task: Task) -> str:
    return f"{100 * stated_probability(sure, task):.0f}%"
