"""Stated confidences: asked for once, before the answer, and read strictly."""

from __future__ import annotations

from typing import Any

import pytest

from connectomebench.core.tasks import TASKS
from connectomebench.models.confidence import parse_confidence
from connectomebench.models.prompt import messages

# a mask cannot be written as words
IN_WORDS = [name for name, task in TASKS.items() if task.scoring != "masks"]


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


@pytest.mark.parametrize("style", ["answer", "analysis"])
@pytest.mark.parametrize("task", IN_WORDS)
def test_a_confidence_is_asked_for_before_the_answer_and_nothing_contradicts_it(task: str, style: Any) -> None:
    row = {"task": task, "question": "Well?", "views": ["front"]}
    (usual,), (turn,) = messages(row, style=style), messages(row, style=style, confidence=True)
    assert turn["content"][:-1] == usual["content"][:-1]
    asked = turn["content"][-1]["text"]
    assert asked.count("<confidence>0.8</confidence>") == 1
    assert asked.index("<confidence>") < asked.index("<answer>")
    assert "answer alone" not in asked
    assert "place alone" not in asked
    assert "places alone" not in asked
    if style == "analysis":
        assert asked.index("<analysis>") < asked.index("<confidence>")
    # what the answer may be is said in the same words, at the end
    assert asked.endswith(usual["content"][-1]["text"][usual["content"][-1]["text"].index("<answer>") :])
