"""Derive the answer from an analysis alone, to check that a model's answer follows from its reasoning."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from connectomebench.core.tasks import Task

# every repetition has a bound, so that the time of a search is linear in the length of the reply
_TAG = re.compile(r"<\s{0,9}(/?)\s{0,9}(analysis|answer)\s{0,9}>", re.IGNORECASE)
_MARKS = re.compile(r"[*_`\"“”]")
_SENTENCE = re.compile(r"[.!?]\s|\n|;|—|\bhowever\b|\bbut\b", re.IGNORECASE)
# alternatives that are rejected, up to the end of the clause
_SET_ASIDE = re.compile(r"\b(?:rather than|instead of|as opposed to|unlike)\b[^,;]{0,400}", re.IGNORECASE)
_DENYING = (
    r"(?:\b(?:no|not|never|cannot|without|lack|lacks|lacking|absence|unlikely|nor|neither|against|avoid|hardly)\b"
    r"|n['’]t\b)"
)
# a negation reaches a verdict over a few words, and an observation over more words (lists included)
_DENIED_VERDICT = re.compile(rf"{_DENYING}(?:\s{{1,9}}[\w'’-]{{1,40}}){{0,6}}", re.IGNORECASE)
_DENIED = re.compile(rf"{_DENYING}(?:\W{{1,9}}[\w'’-]{{1,40}}){{0,9}}", re.IGNORECASE)
_THINGS = (
    r"(?:neur(?:on|ite|al)\w*|segments?|structures?|objects?|entit(?:y|ies)|process(?:es)?|cells?|axons?|dendrites?|parts?|"
    r"pieces?|portions?|filaments?|branch(?:es)?|bod(?:y|ies)|shafts?|arbors?)"
)
_BETWEEN = r"(?:[\w-]+[\s,/]+){0,3}"
_APART = (
    rf"\b(?:two|separate|distinct|different|unrelated|independent|individual|multiple)\s+{_BETWEEN}{_THINGS}",
    r"\b(?:separated?|distinct|unrelated|disconnected|independent|different)\b",
)
_ONE = (rf"\b(?:same|single|one)\s+{_BETWEEN}{_THINGS}", r"\bcontinu(?:ous|ation|es?|ity)\b", r"\bcontiguous\b")
_BAD_MERGE = (
    r"\b(?:bad|false|incorrect|invalid|wrong|erroneous|improper)\s+(?:\w+\s+)?merg\w+",
    r"\bmerg\w+\s+(?:\w+\s+){0,6}(?:incorrect\w*|inappropriate|wrong\w*|false\w*|erroneous\w*|errors?|mistake|artifact\w*|"
    r"artificial\w*|implausible|unwarranted|unjustified|inaccurate|misleading|invalid|creates?|"
    r"introduces?|corrupts?|conflates?|connects?|distorts?)\b",
    r"\b(?:inappropriate|incorrect|wrong|unwise|ruling out|rule out)\s+(?:\w+\s+){0,3}merg\w+",
    r"\bkeep\w*\s+(?:\w+\s+){0,3}(?:separated?|apart|unmerged)\b",
)

# Task -> weighted cues for yes (above 0) and no. Text matched by an earlier pattern is removed before later ones.
_Cues = tuple[tuple[re.Pattern[str], int], ...]


def _cues(*weighed: tuple[int, tuple[str, ...]]) -> _Cues:
    return tuple((re.compile(_bounded("|".join(patterns)), re.IGNORECASE), weight) for weight, patterns in weighed)


def _bounded(pattern: str) -> str:
    """Bound the length of words and of the space between them."""
    for written, bounds in ((r"\w", 40), (r"[\w-]", 40), (r"\s", 9), (r"[\s,/]", 9)):
        pattern = pattern.replace(f"{written}+", f"{written}{{1,{bounds}}}")
        pattern = pattern.replace(f"{written}*", f"{written}{{0,{bounds}}}")
    return pattern


_CUES: dict[str, _Cues] = {
    "merge_action": _cues(
        (-7, _BAD_MERGE),
        (7, (r"\bmerg(?:e|ed|es|ing)\b",)),
        (-2, _APART),
        (
            -1,
            (r"\b(?:cross\w*|gap|pass(?:es|ing)\s+(?:by|over|under|through)|adjacent|nearby|overlap\w*)\b",),
        ),
        (2, (*_ONE, r"\bbelongs?\b", r"\bsplit\b", r"\bcontinues\b")),
        (1, (r"\b(?:align\w*|connect\w*|seamless\w*|smooth\w*|consistent)\b",)),
    ),
    "merge_error_identification": _cues(
        (
            6,
            (
                r"\b(?:merge|merges|merged|merging|merger)\b",
                r"\b(?:fus(?:ed|ion|ions|ing|es)|mistakenly|erroneous\w*)\b",
            ),
        ),
        (
            2,
            (
                *_APART,
                r"\b(?:unnatural|abrupt\w*|suspicious|atypical|unusual|cross\w*|bridg\w*|loop\w*)\b",
            ),
        ),
        (-2, (*_ONE, r"\b(?:natural|normal|typical|plausible|consistent|characteristic)\b")),
    ),
    "split_action": _cues(
        (
            -6,
            (r"\b(?:bad|wrong|incorrect\w*|unnecessary|poor|inappropriate|arbitrary|over-?segment\w*|oversplit\w*)\b",),
        ),
        (
            6,
            (
                r"\b(?:split\w*|cut|separat(?:e|ed|es|ing|ion)|segmented|distinguish\w*|worth\w*)\b",
                r"\bmakes? sense\b",
            ),
        ),
        (4, (r"\b(?:correct|good|right|valid|appropriate|reasonable|successful)\w*\b",)),
        (2, _APART),
        (-2, _ONE),
    ),
}
for _task in ("merge_action", "merge_error_identification", "split_action"):
    _CUES[f"{_task}_with_em"] = _CUES[_task]


def derived_answer(reply: str, task: Task) -> str | None:
    """Derive the answer to a task from the analysis in a reply, ignoring the stated answer.

    Sentences are scored from last to first; the first with a nonzero weight decides. Cues for yes and no are a fixed
    weighted list per task; a negation flips their sign. This is a rough reading of English prose; docs/evaluation.md
    reports its agreement with published readings.

    Parameters
    ----------
    reply
        Any text; the last ``<analysis>`` is read, up to its end or the answer.
    task
        The task.

    Returns
    -------
    str or None
        ``yes`` or ``no``; None if there is no analysis, it is undecided, or the task has no cues.
    """
    cues = _CUES.get(task.name)
    analysis = _last_analysis(reply)
    if cues is None or analysis is None:
        return None
    for sentence in reversed(_SENTENCE.split(_MARKS.sub("", analysis))):
        weight = _weigh(sentence, cues)
        if weight:
            return "yes" if weight > 0 else "no"
    return None


def _last_analysis(reply: str) -> str | None:
    """Return the text of the last analysis, up to its end, the answer or the end of the reply."""
    start, found = None, None
    for tag in _TAG.finditer(reply):
        closes, name = bool(tag[1]), tag[2].lower()
        if start is None and name == "analysis" and not closes:
            start = tag.end()
        elif start is not None and closes == (name == "analysis"):
            found, start = reply[start : tag.start()], None
    return found if start is None else reply[start:]


def _weigh(sentence: str, cues: _Cues) -> int:
    """Sum the cue weights of a sentence."""
    left = _SET_ASIDE.sub("", sentence)
    verdicts = [match.span() for match in _DENIED_VERDICT.finditer(left)]
    things = [match.span() for match in _DENIED.finditer(left)]
    total = 0
    for pattern, weight in cues:
        denied = verdicts if abs(weight) > 6 else things
        for match in pattern.finditer(left):
            total += -weight if _reached(denied, match.end()) else weight
        left = pattern.sub(lambda match: " " * len(match[0]), left)
    return total


def _reached(spans: Sequence[tuple[int, int]], place: int) -> bool:
    """Check whether a place lies after the start of one of the ordered, separate spans, and at most at its end."""
    before = bisect_left(spans, (place, -1)) - 1
    return before >= 0 and place <= spans[before][1]
