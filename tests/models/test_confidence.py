"""Stated confidences: asked for once, at the end, and read strictly."""

from __future__ import annotations

import pytest

from connectomebench.models.confidence import ask_confidence, parse_confidence
from connectomebench.models.prompt import messages


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("<confidence>0.8</confidence>", 0.8),
        ("<confidence> 1 </confidence> <answer>yes</answer>", 1.0),
        ("<confidence>.25</confidence>", 0.25),
        ("<confidence>1.01</confidence>", None),
        ("<confidence>80</confidence>", None),
        ("<confidence>80%</confidence>", None),
        ("<confidence>-0.1</confidence>", None),
        ("<confidence>nan</confidence>", None),
        ("<confidence>0.2</confidence><confidence>0.9</confidence>", None),
        ("<confidence>0.2</confidence><confidence>high</confidence>", None),
        ("0.8", None),
    ],
)
def test_confidence_is_read_strictly(reply: str, value: float | None) -> None:
    assert parse_confidence(reply) == value


def test_confidence_is_asked_for_at_the_end_of_the_last_turn() -> None:
    row = {"task": "merge_action", "question": "Merge?", "views": ["front"]}
    turns = [*messages(row), {"role": "assistant", "content": []}, *messages(row)]
    asked = ask_confidence(turns)
    assert asked[:-1] == turns[:-1]
    assert turns[2:] == messages(row)
    assert asked[-1]["content"][:-1] == turns[-1]["content"]
    assert "<confidence>0.8</confidence>" in asked[-1]["content"][-1]["text"]
