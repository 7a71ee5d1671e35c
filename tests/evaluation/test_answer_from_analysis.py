"""Answers read out of analyses alone: denials, the last word, and how often published readings agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectomebench.core.tasks import TASKS
from connectomebench.evaluation.answer_from_analysis import derived_answer

PUBLISHED = Path(__file__).parents[2].parent / "shared/data/published_results/final_data"


@pytest.mark.parametrize(
    ("task", "analysis", "answer"),
    [
        ("merge_action", "Both are parts of one continuous neurite. They should be merged.", "yes"),
        ("merge_action", "They run alongside each other. Therefore they should **not** be merged.", "no"),
        ("merge_action", "There is no evidence of continuity between the two.", "no"),
        ("merge_action", "There is no gap or crossing that would speak for separate structures.", "yes"),
        ("merge_action", "Merging them would create a false connection.", "no"),
        ("merge_action", "This is a bad merge.", "no"),
        (
            "merge_action",
            "The two cross each other rather than forming one continuous neurite.",
            "no",
        ),
        ("merge_action", "At first they seem to be distinct structures. But they belong to the same neuron.", "yes"),
        ("merge_action", "At first they seem to belong to the same neuron. But they are distinct structures.", "no"),
        ("merge_action", "The picture shows something blue.", None),
        ("merge_error_identification", "This star-like junction is where two neurites were fused.", "yes"),
        ("merge_error_identification", "There are no abrupt fusions that suggest a merge.", "no"),
        ("merge_error_identification", "One continuous neurite with natural branching.", "no"),
        ("split_action", "These are different neurons, so splitting them makes sense.", "yes"),
        ("split_action", "Both parts are one structure, so splitting them does not make sense.", "no"),
        ("segment_identity", "They should be merged, they are the same segment.", None),
        ("endpoint_localization", "They should be merged.", None),
    ],
)
def test_an_analysis_is_read_by_its_last_telling_sentence(task: str, analysis: str, answer: str | None) -> None:
    for stated in ("yes", "no", "pass"):
        reply = f"<analysis>\n{analysis}\n</analysis>\n<answer>{stated}</answer>"
        assert derived_answer(reply, TASKS[task]) == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("They should be merged. <answer>yes</answer>", None),
        ("", None),
        ("<analysis>They should be merged.", "yes"),
        ("<analysis>They should be merged. <answer>no, they are separate neurons</answer>", "yes"),
        ("<analysis>Separate neurons.</analysis> <Analysis>They should be merged.</Analysis>", "yes"),
    ],
)
def test_only_the_analysis_is_read(reply: str, answer: str | None) -> None:
    assert derived_answer(reply, TASKS["merge_action"]) == answer


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs ../shared/data/published_results, which is not here")
def test_published_derived_answers_agree_for_the_most_part() -> None:
    told = agree = n = 0
    for path in sorted(PUBLISHED.glob("eval_*.json")):
        record = json.loads(path.read_text())
        task = TASKS[record["task_name"]]
        for sample in record["predictions"]:
            published = sample.get("all_derived_answers", [])
            for reply, derived in zip(sample["all_responses"], published, strict=bool(published)):
                own = derived_answer(reply, task)
                n += 1
                told += own is not None
                agree += own == ("yes" if derived else "no")
    assert n == 640
    assert told == 640
    assert agree >= 590
