r"""Parse the answer from a reply: one table of rules for all tasks, linear in the length of the reply.

=========================================  ==========================================================================
reply                                      how it is read
=========================================  ==========================================================================
``<answer>yes</answer>``                   the last complete pair of tags counts; case and white space do not
``yes.``, ``**yes**``, ``"yes"``, ``(a)``  inside the tags: marks around a label do not count
``Yes, they are one.``                     inside the tags: a label and a mark before other words, unless these take it
                                           back (``yes, or no``)
``The answer is yes``, ``Candidate b``     inside the tags: a word that announces the label does not count
``\boxed{yes}``, ``{"answer": "yes"}``     inside the tags, or in place of them
``(10, 20, 30) nm``, ``x=10, y=20, z=30``  a place; several are separated by ``;``, lines or their brackets
``7``, ``node 7``, ``#7``                  the numbered node of that name, wherever a place may stand; three bare
                                           numbers are a point, so three nodes are ``node 1, node 2, node 3``
``sources=[(1, 2, 3), 7]; sinks=[4]``      the places on both sides of a cut; also ``source: 7, sink: 4``, and two
                                           places alone: first the source
``yes``, ``I say yes.``                    no answer: a bare word outside the tags is not read
``<think>`` without an end                 no answer; what comes before the last ``</think>`` is never read
the instruction, repeated                  no answer: a list of all allowed answers chooses none
``<answer>no</answer> <answer>yes``        no answer: a later answer was begun
=========================================  ==========================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectomebench.core.places import MOST_PLACES, Place, PlaceAnswer, write_places
from connectomebench.core.tasks import Task

ANSWER_OPEN = "<answer>"
ANSWER_CLOSE = "</answer>"

# every repetition has a bound, so that the time of a search is linear in the length of the reply
_TAG = re.compile(r"<\s{0,9}(/?)\s{0,9}(answer|think)\s{0,9}>", re.IGNORECASE)
_MOST_LETTERS = 2000
_MARKS = " \t\r\n*_`~\"'“”‘’«»$"
_ANNOUNCED = re.compile(
    r"(?:the |my )?(?:final |correct |best )?(?:answer|option|candidate|choice|label)(?: is)?\s{0,3}[:=]?\s{0,3}",
    re.IGNORECASE,
)
# a mark and a space, a new line, a dash, or a bracket; "e.g." and "yes/no" are none of these
_AFTER_LABEL = re.compile(r"[*_`\"'”’]{0,6}(?:[,.;:!)]{1,3}(?:\s|$)|\s{0,3}[\n–—]|\s{1,3}[-(])")
_WORD = re.compile(r"[^\W_]{1,40}")
_TAKEN_BACK = frozenset({"or", "and", "but", "maybe", "perhaps", "if", "unless", "though"})
_NONE_OF = re.compile(r"none of\b", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s{0,3}\{([^{}]{0,400})\}")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s{0,3}\{([^{}]{0,400})\}")
_FENCED = re.compile(r"```[a-z]{0,9}\s{0,9}(\{[^`]{0,2000}\})\s{0,9}```", re.IGNORECASE)


def answer_text(reply: str, labels: Sequence[str]) -> str | None:
    """Return what a reply gives as its answer: inside the last tags, or boxed, or as JSON; None if there is nothing."""
    if labels:
        reply = reply.replace(listed_answers(labels), " ")
    tags = [(match.start(), match.end(), match[2].lower(), bool(match[1])) for match in _TAG.finditer(reply)]
    thought = max((number for number, tag in enumerate(tags) if tag[2] == "think"), default=-1)
    if thought >= 0 and not tags[thought][3]:
        return None
    start = tags[thought][1] if thought >= 0 else 0
    answers = [tag for tag in tags[thought + 1 :] if tag[2] == "answer"]
    if not answers:
        return _marked(reply[start:])
    if len(answers) < 2 or answers[-2][3] or not answers[-1][3]:
        return None
    text = reply[answers[-2][1] : answers[-1][0]]
    if len(text) > _MOST_LETTERS or "<" in text or ">" in text:
        return None
    return _marked(text) or text


def listed_answers(labels: Sequence[str]) -> str:
    """Return all allowed answers in their tags, as the instruction lists them."""
    # "yes or no", as the questions have it
    ordered = reversed(labels) if tuple(labels) == ("no", "yes") else labels
    *others, last = (f"<answer>{label}</answer>" for label in ordered)
    return f"{', '.join(others)} or {last}"


def _marked(text: str) -> str | None:
    r"""Return the last ``\boxed{}``, or the ``answer`` of a JSON object: the whole text, or the last in a fence."""
    boxed = _BOXED.findall(_TEXT.sub(r"\1", text))
    if boxed:
        return boxed[-1]
    fenced = _FENCED.findall(text)
    written = fenced[-1] if fenced else text.strip()
    if len(written) > _MOST_LETTERS or not (written.startswith("{") and written.endswith("}")):
        return None
    try:
        # pairs, since a name may stand there twice
        pairs = json.loads(written, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    named = [value for key, value in pairs if key.casefold() == "answer"]
    return _as_text(named[0]) if len(named) == 1 else None


def _as_text(value: Any) -> str | None:
    """Return the text of a JSON value: a text, or lists of numbers."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, list) else None


def parse_label(text: str, labels: Sequence[str]) -> str | None:
    """Parse a label from the text of an answer; None if it is none of the labels."""
    text = _TEXT.sub(r"\1", text).strip(_MARKS)
    if announced := _ANNOUNCED.match(text):
        text = text[announced.end() :].strip(_MARKS)
    by_name = {label.casefold(): label for label in labels}
    if label := by_name.get(" ".join(text.strip(_MARKS + ".,;:!()[]{}").split()).casefold()):
        return label
    text = text.lstrip("([")
    first = _WORD.match(text)
    if first is None or (label := by_name.get(first[0].casefold())) is None:
        return None
    if label == "none" and _NONE_OF.match(text):
        return label
    after = _AFTER_LABEL.match(text, first.end())
    return label if after and not _is_taken_back(text[after.end() :], label, by_name) else None


def _is_taken_back(text: str, label: str, by_name: Mapping[str, str]) -> bool:
    """Check whether the words after a label name another one ("yes, or no", "a, b")."""
    first = _WORD.search(text)
    if first is None:
        return False
    word = first[0].casefold()
    if word == "no" and _WORD.match(text, first.end() + 1) and text[first.end()] == " ":
        return False  # "yes, no doubt"
    return word in _TAKEN_BACK or by_name.get(word, label) != label


_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_NODE = re.compile(r"\d{1,4}", re.ASCII)
_NAMED_NODE = re.compile(r"(?:(?:node|point)\s{0,3}#?|#)\s{0,3}(\d{1,4})", re.ASCII | re.IGNORECASE)
_NODES_OF = re.compile(r"^\s{0,9}(?:nodes|points)\s{0,3}[:=]?\s{1,9}", re.IGNORECASE)
_UNIT = re.compile(r"(?<=[\d\s])nm\b|\b[xyz]\s{0,3}[=:]", re.IGNORECASE)
_BETWEEN_PLACES = re.compile(
    r"[)\]]\s{0,9}[,;]?\s{0,9}[(\[]|[)\]]\s{0,9},\s{0,9}|\s{0,9},\s{0,9}[(\[]|\s{0,9}[;\n]\s{0,9}"
)
_PAIR = re.compile(r"\([^(),]{1,20},[^(),]{1,20}\)")
_SIDE = re.compile(r"\b(source|sink)s?\b\s{0,9}[:=]?", re.IGNORECASE)
_AROUND = " \t\r\n()[]"


def parse_answer(reply: str, task: Task) -> str | None:
    """Parse the answer from a complete reply; the module describes the rules.

    Parameters
    ----------
    reply
        Any text. A reply that was cut or withheld (:class:`connectomebench.models.chat.Reply`) has no answer and must
        not be parsed.
    task
        The task.

    Returns
    -------
    str or None
        One of the task's labels, or places as :func:`connectomebench.core.places.write_places` writes them.
        None if there is no valid answer, which counts as wrong.
    """
    text = answer_text(reply, task.labels)
    if text is None or task.scoring == "masks":  # no words are a mask
        return None
    if task.labels:
        return parse_label(text, task.labels)
    text = _UNIT.sub("", text.strip(_MARKS))
    if _PAIR.search(text):
        return None  # half a point, not two nodes
    places = _parse_cut(text) if task.answer_kind == "points" else _parse_place(text)
    return None if places is None else write_places(places)


def _parse_place(text: str) -> PlaceAnswer | None:
    """Parse one place; None if it is none, or several."""
    places = _parse_places(text)
    return PlaceAnswer(places) if len(places) == 1 else None


def _parse_cut(text: str) -> PlaceAnswer | None:
    """Parse the places on both sides of a cut; None unless there are both."""
    named = list(_SIDE.finditer(text))
    if not named:
        places = _parse_places(text)
        return PlaceAnswer(places[:1], places[1:]) if len(places) == 2 else None
    first, *others = named
    words = [match[1].casefold() for match in named]
    if len(others) != 1 or words[0] == words[1] or text[: first.start()].strip(_AROUND + "{"):
        return None
    sides = (text[first.end() : others[0].start()], text[others[0].end() :])
    places = dict(zip(words, (_parse_places(side.strip(_AROUND + ",;}")) for side in sides), strict=True))
    both = PlaceAnswer(places["source"], places["sink"])
    return both if both.sources and both.sinks else None


def _parse_places(text: str) -> tuple[Place, ...]:
    """Parse a list of places; empty if any of them is none, or there are too many."""
    text = _NODES_OF.sub("", text, count=1)
    parts = [part.strip(_AROUND) for part in _BETWEEN_PLACES.split(text.strip(_AROUND + "."))]
    places: list[Place] = []
    for part in parts:
        found = _parse_part([entry.strip() for entry in part.split(",")])
        places += found
        if not found or len(places) > MOST_PLACES:
            return ()
    return tuple(places)


def _parse_part(entries: Sequence[str]) -> list[Place]:
    """Parse what stands between two brackets or semicolons: one point, or nodes; empty if it is neither."""
    named = [match[1] if (match := _NAMED_NODE.fullmatch(entry)) else None for entry in entries]
    if any(named):
        return [int(number) for number in named if number] if all(named) else []
    if len(entries) == 3 and all(_NUMBER.fullmatch(entry) for entry in entries):
        x, y, z = (float(entry) for entry in entries)
        return [(x, y, z)]
    return [int(entry) for entry in entries] if all(_NODE.fullmatch(entry) for entry in entries) else []
