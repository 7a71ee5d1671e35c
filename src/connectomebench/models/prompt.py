"""Prompts of vision-language models and parsing of their replies, shared by training and evaluation."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.tasks import YES_NO, Task, get_task

PROMPT_VERSION = 1
"""Incremented whenever a prompt text or the parsing of replies changes; part of a model's revision."""

ANSWER_OPEN = "<answer>"
ANSWER_CLOSE = "</answer>"
ANALYSIS_OPEN = "<analysis>"
ANALYSIS_CLOSE = "</analysis>"

AnswerStyle = Literal["answer", "analysis"]
"""Content of a reply: the answer alone, or an analysis followed by the answer."""

_VIEW_NAMES = {
    "em_xy": "image data, xy slice",
    "em_xz": "image data, xz slice",
    "em_yz": "image data, yz slice",
    "first": "first image",
    "second": "second image",
}
_TAGGED = re.compile(r"<\s*answer\s*>([^<>]*)<\s*/\s*answer\s*>", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_PLACES = {"point": 1, "points": 2}


def messages(
    row: Mapping[str, Any], views: Sequence[str] | None = None, style: AnswerStyle = "answer"
) -> list[dict[str, Any]]:
    """Build the chat messages for one stored row: one user turn.

    Images are placeholders: the ``n``-th ``{"type": "image"}`` stands for the ``n``-th image of the row, as
    transformers' processors and TRL's ``prompt`` column expect.

    Parameters
    ----------
    row
        A stored row; ``task``, ``question`` and ``views`` are read.
    views
        Names of the images, in order; None takes those of the row.
    style
        ``answer`` asks for the answer alone (:func:`answer_format`), ``analysis`` for an analysis before it
        (:func:`analysis_format`).

    Raises
    ------
    ConnectomeBenchError
        If task or style is unknown, or the question contains control tokens of a chat template.
    """
    if style not in _FORMATS:
        raise unknown_name("answer style", style, get_args(AnswerStyle))
    question = str(row["question"])
    if "<|" in question:
        raise ConnectomeBenchError(
            f"the question {question[:60]!r} contains a control token (<|...); correct the dataset"
        )
    content: list[dict[str, Any]] = []
    for view in row["views"] if views is None else views:
        content += [{"type": "text", "text": f"{_view_name(view)}:"}, {"type": "image"}]
    content.append({"type": "text", "text": f"{question}\n{_FORMATS[style](get_task(row['task']))}"})
    return [{"role": "user", "content": content}]


def completion(row: Mapping[str, Any]) -> str:
    """Return the correct reply to :func:`messages` of the same row, for example ``<answer>yes</answer>``.

    Parameters
    ----------
    row
        A stored row; ``task`` and ``answer`` are read, or ``target_nm`` if the answer is a place.

    Raises
    ------
    ConnectomeBenchError
        If the row has no valid answer.
    """
    task = get_task(row["task"])
    answer = row["answer"] if task.labels else _format_places(row["target_nm"])
    reply = f"{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"
    if parse_answer(reply, task) != answer:
        raise ConnectomeBenchError(f"a row of {task.name} has no valid answer ({answer!r:.60}); build it again")
    return reply


def answer_format(task: Task) -> str:
    """Return the answer-format instruction of a task, one sentence."""
    what, how = _asked(task)
    return f"Reply with {what} alone, {how}."


def analysis_format(task: Task) -> str:
    """Return the instruction to write an analysis and then the answer, two sentences.

    The tags match the published replies.
    """
    what, how = _asked(task)
    return (
        f"First tell what you see and what speaks for and against, as {ANALYSIS_OPEN}...{ANALYSIS_CLOSE}. "
        f"Then give {what}, {how}."
    )


def parse_answer(reply: str, task: Task) -> str | None:
    """Parse the answer from a reply.

    Parameters
    ----------
    reply
        Any text; the last complete ``<answer>...</answer>`` counts, ignoring case and spaces.
    task
        The task.

    Returns
    -------
    str or None
        One of the task's labels, or places ``x, y, z`` in whole nm, separated by ``; ``.
        None if there is no valid answer, which counts as wrong.
    """
    found = _TAGGED.findall(reply)
    if not found:
        return None
    text = " ".join(found[-1].split())
    if task.labels:
        return next((label for label in task.labels if label.casefold() == text.casefold()), None)
    places = [[number.strip() for number in place.split(",")] for place in text.split(";")]
    sound = all(len(place) == 3 and all(_NUMBER.fullmatch(number) for number in place) for place in places)
    if not sound or len(places) != _PLACES[task.answer_kind]:
        return None
    return _format_places([[float(number) for number in place] for place in places])


_FORMATS = {"answer": answer_format, "analysis": analysis_format}


def _asked(task: Task) -> tuple[str, str]:
    """Return what the task asks for and the required format."""
    if task.labels:
        # "yes or no", as the questions have it
        labels = reversed(task.labels) if task.labels == YES_NO else task.labels
        *others, last = (f"{ANSWER_OPEN}{label}{ANSWER_CLOSE}" for label in labels)
        return "the answer", f"as {', '.join(others)} or {last}"
    if task.answer_kind == "point":
        return "the place", f"in nm, as {ANSWER_OPEN}x, y, z{ANSWER_CLOSE}"
    places = f"{ANSWER_OPEN}x, y, z; x, y, z{ANSWER_CLOSE}"
    return "the two places", f"first the source and then the sink, in nm, as {places}"


def _format_places(places_nm: Sequence[Sequence[float]]) -> str:
    """Format places (n, 3), nm, as text; non-finite numbers are kept so that no parser accepts them."""
    return "; ".join(
        ", ".join(str(round(number)) if math.isfinite(number) else str(number) for number in place)
        for place in places_nm
    )


def _view_name(view: str) -> str:
    return _VIEW_NAMES.get(view, f"{view.replace('_', ' ')} view")
