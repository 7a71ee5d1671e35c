"""Replies as models write them: one table, and searches whose work grows with the length of a reply alone."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from re import _parser  # type: ignore[attr-defined]
from types import FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_replies import ODD_REPLIES

from connectomebench.core.tasks import TASKS, get_task
from connectomebench.evaluation import answer_from_analysis
from connectomebench.evaluation.answer_from_analysis import derived_answer
from connectomebench.evaluation.responses import cues
from connectomebench.evaluation.responses.lexicon import find_mentions, read_lexicon
from connectomebench.finetuning import completions, rewards
from connectomebench.finetuning.completions import analysis_completion
from connectomebench.models import confidence, endpoint_errors, endpoint_requests, reply_parsing
from connectomebench.models.confidence import parse_confidence
from connectomebench.models.endpoint_errors import read_refusal
from connectomebench.models.reply_parsing import listed_answers, parse_answer

MERGE = get_task("merge_action")


@pytest.mark.parametrize(("task", "reply", "answer"), ODD_REPLIES)
def test_replies_are_read_by_one_table(task: str, reply: str, answer: str | None) -> None:
    assert parse_answer(reply, get_task(task)) == answer


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.labels])
def test_the_instruction_chooses_no_answer(task: Any) -> None:
    told = listed_answers(task.labels)
    assert parse_answer(f"I am to reply as {told}.", task) is None
    for label in task.labels:
        assert parse_answer(f"{told}: <answer>{label}</answer>", task) == label


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), task=st.sampled_from(list(TASKS.values())))
def test_what_is_read_is_an_answer_of_the_task_whatever_the_reply(text: str, task: Any) -> None:
    for reply in (text, f"<answer>{text}</answer>", f"\\boxed{{{text}}}", f"<think>{text}</think><answer>{text}"):
        answer = parse_answer(reply, task)
        assert answer is None or not task.labels or answer in task.labels
    if "<" not in text and not re.search(r"boxed|[{`]", text):
        assert parse_answer(text, task) is None, "nothing outside the tags is read"


# ------------------------------------------------------------------ linear in the length of a reply


def repetitions(pattern: Any) -> list[tuple[int, Any]]:
    """The bounds of all repetitions of a parsed pattern: at most how often, and what is repeated."""
    found = []
    for operation, argument in pattern:
        if str(operation) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, inner = argument
            found += [(most, inner), *repetitions(inner)]
            continue
        parts = argument if isinstance(argument, tuple | list) else (argument,)
        for part in parts:
            for inner in part if isinstance(part, list) else (part,):
                if isinstance(inner, _parser.SubPattern):
                    found += repetitions(inner)
    return found


def patterns(module: ModuleType) -> dict[str, re.Pattern[str]]:
    own = {name: value for name, value in vars(module).items() if isinstance(value, re.Pattern)}
    for name, value in vars(module).items():
        if isinstance(value, tuple):
            own |= {f"{name}[{k}]": part for k, part in enumerate(value) if isinstance(part, re.Pattern)}
        if isinstance(value, dict):
            flat = [part for entry in value.values() if isinstance(entry, tuple) for part in entry]
            own |= {f"{name}[{k}]": part[0] for k, part in enumerate(flat) if isinstance(part[0], re.Pattern)}
    return own


READERS = (
    reply_parsing,
    confidence,
    answer_from_analysis,
    cues,
    endpoint_errors,
    endpoint_requests,
    rewards,
    completions,
)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(pattern, id=f"{m.__name__.rsplit('.')[-1]}{name}")
        for m in READERS
        for name, pattern in patterns(m).items()
    ],
)
def test_every_repetition_in_a_pattern_over_replies_has_a_bound(pattern: re.Pattern[str]) -> None:
    unbounded = _parser.MAXREPEAT
    assert all(most < unbounded for most, _ in repetitions(_parser.parse(pattern.pattern, pattern.flags)))


def test_repetitions_without_a_bound_are_found_wherever_they_stand() -> None:
    for pattern in ("a*", "(?:b|(c+))x", "(?=d*)e", "(?:a{0,3}(?:b{2,})){0,2}", "x|y*?", "(?(1)a*|b)(c)"):
        try:
            parsed = _parser.parse(pattern)
        except re.error:
            continue
        assert any(most == _parser.MAXREPEAT for most, _ in repetitions(parsed)), pattern
    assert all(most < _parser.MAXREPEAT for most, _ in repetitions(_parser.parse("a{0,9}(?:b{1,3}|c?){0,2}")))


LEXICON = read_lexicon()
PIECES = {
    "spaces in a tag": ("<", " ", ""),
    "brackets": ("", "<", ""),
    "opened tags": ("", "<answer>", ""),
    "opened and spaces": ("", "< answer >    ", ""),
    "opened analyses": ("", "<analysis> no merge ", ""),
    "one long analysis": ("<analysis>", "they should not be merged, two separate neurons; ", "</analysis>"),
    "one clause": ("<analysis>", "no gap and not two merge ", "</analysis>"),
    "denials": ("<analysis>", "not " * 3, "merge</analysis>"),
    "spaces in an analysis": ("<analysis>not two", " ", "neurons merge</analysis>"),
    "one word": ("<analysis>no ", "smooth", "</analysis>"),
    "commas": ("", "gap, ", "or none"),
    "fences": ("", "```", "{"),
    "boxes": ("", "\\boxed{", ""),
    "braces": ("", "{", ""),
    "scripts": ("", "<script ", ""),
    "styles and spaces": ("<style>", "< /", ""),
    "numbers": ("<answer>", "1,", "</answer>"),
    "confidence": ("", "<confidence> ", ""),
}
PARSERS: dict[str, Callable[[str], Any]] = {
    "answer": lambda text: parse_answer(text, MERGE),
    "place": lambda text: parse_answer(text, get_task("split_proposal")),
    "confidence": parse_confidence,
    "derived": lambda text: derived_answer(text, MERGE),
    "cues": lambda text: find_mentions(cues.plain_text(text), LEXICON),
    "refusal": lambda text: read_refusal(400, text, {}),
    "teacher": lambda text: analysis_completion(text, {"task": MERGE.name, "answer": "yes"}),
}


def steps(parser: Callable[[str], Any], text: str) -> int:
    """Number of lines of Python that a call runs."""
    count = 0

    def trace(_: FrameType, event: str, __: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parser(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("parser", list(PARSERS))
@pytest.mark.parametrize("piece", list(PIECES))
def test_four_times_the_reply_takes_at_most_about_four_times_the_steps(parser: str, piece: str) -> None:
    first, again, last = PIECES[piece]

    def reply(letters: int) -> str:
        return first + again * (letters // len(again)) + last

    few, many = (steps(PARSERS[parser], reply(letters)) for letters in (500, 2000))
    assert many <= 5 * few + 200


@pytest.mark.parametrize("parser", list(PARSERS))
@pytest.mark.parametrize("piece", list(PIECES))
def test_a_quarter_of_a_megabyte_is_read_at_once(parser: str, piece: str) -> None:
    first, again, last = PIECES[piece]
    text = first + again * (2**18 // len(again)) + last
    began = time.process_time()
    PARSERS[parser](text)
    # a search that is quadratic in the length takes minutes
    assert time.process_time() - began < 20
