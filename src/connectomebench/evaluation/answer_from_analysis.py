"""Derive the answer from an analysis alone, to check that a model's answer follows from its reasoning."""

from __future__ import annotations

import re

from connectomebench.core.tasks import Task

_ANALYSIS = re.compile(r"<\s*analysis\s*>(.*?)(?:<\s*/\s*analysis\s*>|<\s*answer\s*>|$)", re.IGNORECASE | re.DOTALL)
_MARKS = re.compile(r"[*_`\"“”]")
_SENTENCE = re.compile(r"[.!?]\s|\n|;|—|\bhowever\b|\bbut\b", re.IGNORECASE)
# alternatives that are rejected, up to the end of the clause
_SET_ASIDE = re.compile(r"\b(?:rather than|instead of|as opposed to|unlike)\b[^,;]*", re.IGNORECASE)
_DENYING = (
    r"(?:\b(?:no|not|never|cannot|without|lack|lacks|lacking|absence|unlikely|nor|neither|against|avoid|hardly)\b"
    r"|n['’]t\b)"
)
# a negation reaches a verdict over a few words, and an observation over more words (lists included)
_DENIED_VERDICT = re.compile(rf"{_DENYING}(?:\s+[\w'’-]+){{0,6}}", re.IGNORECASE)
_DENIED = re.compile(rf"{_DENYING}(?:\W+[\w'’-]+){{0,9}}", re.IGNORECASE)
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
    return tuple((re.compile("|".join(patterns), re.IGNORECASE), weight) for weight, patterns in weighed)


_CUES: dict[str, _Cues] = {
    "merge_action": _cues(
        (-7, _BAD_MERGE),
        (7, (r"\bmerg(?:e|ed|es|ing)\b",)),
        (-2, _APART),
        (-1, (r"\b(?:cross\w*|gap|pass(?:es|ing)\s+(?:by|over|under|through)|adjacent|nearby|overlap\w*)\b",)),
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
        (2, (*_APART, r"\b(?:unnatural|abrupt\w*|suspicious|atypical|unusual|cross\w*|bridg\w*|loop\w*)\b")),
        (-2, (*_ONE, r"\b(?:natural|normal|typical|plausible|consistent|characteristic)\b")),
    ),
    "split_action": _cues(
        (
            -6,
            (r"\b(?:bad|wrong|incorrect\w*|unnecessary|poor|inappropriate|arbitrary|over-?segment\w*|oversplit\w*)\b",),
        ),
        (
            6,
            (r"\b(?:split\w*|cut|separat(?:e|ed|es|ing|ion)|segmented|distinguish\w*|worth\w*)\b", r"\bmakes? sense\b"),
        ),
        (4, (r"\b(?:correct|good|right|valid|appropriate|reasonable|successful)\w*\b",)),
        (2, _APART),
        (-2, _ONE),
    ),
}


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
    analyses = _ANALYSIS.findall(reply)
    if cues is None or not analyses:
        return None
    for sentence in reversed(_SENTENCE.split(_MARKS.sub("", analyses[-1]))):
        weight = _weigh(sentence, cues)
        if weight:
            return "yes" if weight > 0 else "no"
    return None


def _weigh(sentence: str, cues: _Cues) -> int:
    """Sum the cue weights of a sentence."""
    left = _SET_ASIDE.sub("", sentence)
    verdicts = [match.span() for match in _DENIED_VERDICT.finditer(left)]
    things = [match.span() for match in _DENIED.finditer(left)]
    total = 0
    for pattern, weight in cues:
        for match in pattern.finditer(left):
            denied = verdicts if abs(weight) > 6 else things
            turned = any(start < match.end() <= end for start, end in denied)
            total += -weight if turned else weight
        left = pattern.sub(lambda match: " " * len(match[0]), left)
    return total
