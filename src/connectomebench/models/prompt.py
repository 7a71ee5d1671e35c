"""Prompts of vision-language models, shared by training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.tasks import Task, get_task
from connectomebench.models.reply_parsing import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    listed_answers,
    parse_answer,
)

PROMPT_VERSION = 3
"""Incremented whenever a prompt text or the parsing of replies changes; part of a model's revision."""

ANALYSIS_OPEN = "<analysis>"
ANALYSIS_CLOSE = "</analysis>"

AnswerStyle = Literal["answer", "analysis"]
"""Content of a reply: the answer alone, or an analysis followed by the answer."""

_CONFIDENCE = (
    "the probability that your answer is right, from 0 (surely wrong) to 1 (surely right), "
    "as <confidence>0.8</confidence>"
)
_VIEW_NAMES = {
    "em_xy": "image data, xy slice",
    "em_xz": "image data, xz slice",
    "em_yz": "image data, yz slice",
    "first": "first image",
    "second": "second image",
}


def messages(
    row: Mapping[str, Any],
    views: Sequence[str] | None = None,
    style: AnswerStyle = "answer",
    *,
    confidence: bool = False,
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
    confidence
        Ask for the probability that the answer is right, too; it comes before the answer.

    Raises
    ------
    ConnectomeBenchError
        If task or style is unknown, the answer is a mask, or the question is missing or contains control tokens of a
        chat template.
    """
    if style not in _FORMATS:
        raise unknown_name("answer style", style, get_args(AnswerStyle))
    _check_words(get_task(row["task"]))
    question = question_of(row)
    content: list[dict[str, Any]] = []
    shown = row["views"] if views is None else views
    for view in shown:
        content += [{"type": "text", "text": f"{view_name(view)}:"}, {"type": "image"}]
    content.append(
        {"type": "text", "text": f"{question}\n{_FORMATS[style](get_task(row['task']).for_views(shown), confidence)}"}
    )
    return [{"role": "user", "content": content}]


def question_of(row: Mapping[str, Any]) -> str:
    """Return the question of a stored row.

    Raises
    ------
    ConnectomeBenchError
        If it is missing, no text or blank, or contains control tokens of a chat template.
    """
    question = row["question"]
    if not isinstance(question, str) or not question.strip():
        raise ConnectomeBenchError(f"a row of {row['task']} has no question ({question!r}); build the dataset again")
    if "<|" in question:
        raise ConnectomeBenchError(
            f"the question {question[:60]!r} contains a control token (<|...); correct the dataset"
        )
    return question


def completion(row: Mapping[str, Any]) -> str:
    """Return the correct reply to :func:`messages` of the same row, for example ``<answer>yes</answer>``.

    Parameters
    ----------
    row
        A stored row; ``task`` and ``answer`` are read.

    Raises
    ------
    ConnectomeBenchError
        If the row has no valid answer.
    """
    task = get_task(row["task"])
    _check_words(task)
    answer = row["answer"]
    reply = f"{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"
    if parse_answer(reply, task) != answer:
        raise ConnectomeBenchError(f"a row of {task.name} has no valid answer ({answer!r:.60}); build it again")
    return reply


def _check_words(task: Task) -> None:
    """Refuse a task whose answer cannot be written as words."""
    if task.scoring == "masks":
        raise ConnectomeBenchError(
            f"the answer to {task.name} is a mask, which no chat model can write; train training/train_masks.py on it"
        )


def answer_format(task: Task, confidence: bool = False) -> str:
    """Return the answer-format instruction of a task, one sentence."""
    what, how = _asked(task)
    if confidence:
        return f"Reply with two things alone: first {_CONFIDENCE}; then {what}, {how}."
    return f"Reply with {what} alone, {how}."


def analysis_format(task: Task, confidence: bool = False) -> str:
    """Return the instruction to write an analysis and then the answer, two sentences (three with a confidence).

    The tags match the published replies.
    """
    what, how = _asked(task)
    analysis = f"First tell what you see and what speaks for and against, as {ANALYSIS_OPEN}...{ANALYSIS_CLOSE}."
    stated = f" Then give {_CONFIDENCE}." if confidence else ""
    return f"{analysis}{stated} {'Last' if confidence else 'Then'} give {what}, {how}."


_FORMATS = {"answer": answer_format, "analysis": analysis_format}


def _asked(task: Task) -> tuple[str, str]:
    """Return what the task asks for and the required format."""
    if task.labels:
        return "the answer", f"as {listed_answers(task.labels)}"
    if task.answer_kind == "point":
        return "the place", (
            f"in nm relative to the centre of the views, as {ANSWER_OPEN}x, y, z{ANSWER_CLOSE}, or the number of a "
            f"node, as {ANSWER_OPEN}node n{ANSWER_CLOSE}"
        )
    return "the source and sink points", (
        f"in nm relative to the centre of the views, as {ANSWER_OPEN}sources=[(x, y, z), ...];sinks=[(x, y, z), ...]"
        f"{ANSWER_CLOSE}, or the numbers of nodes, as {ANSWER_OPEN}sources=[node n];sinks=[node m]{ANSWER_CLOSE}"
    )


def view_name(view: str) -> str:
    """Return the name of a view as a model reads it.

    Raises
    ------
    ConnectomeBenchError
        If it has none.

    Examples
    --------
    >>> view_name("front"), view_name("em_xy")
    ('front view', 'image data, xy slice')
    """
    if not isinstance(view, str) or not view:
        raise ConnectomeBenchError(f"a row has a view without a name ({view!r}); build the dataset again")
    return _VIEW_NAMES.get(view, f"{view.replace('_', ' ')} view")
