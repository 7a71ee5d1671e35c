from __future__ import annotations

import pytest
from small_replies import OTHER, analysed, votes_on
from stored_rows import partition_rows, row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.finetuning.completions import (
    StyleConfig,
    analysis_completion,
    choose_targets,
    describe_targets,
    kept_reply,
    partition_targets,
    uniform_draw,
)

TASK = get_task("merge_action")
ROW = row(1, "yes")


def replied(stored: dict, right: int, model: str = "teacher", **changes: str) -> list[dict]:
    return [
        {"model": model, "reply": changes.get("reply") or analysed(vote), "answer": vote}
        for vote in votes_on(stored, right)
    ]


def as_dataset(rows: list[dict]):
    from datasets import Dataset

    names = ("sample_id", "task", "answer", "target_nm", "teacher_replies")
    return Dataset.from_list([{name: one[name] for name in names} for one in rows])


def with_replies(partition: str, right: list[int]):
    rows = partition_rows()[partition]
    return as_dataset([{**one, "teacher_replies": replied(one, n)} for one, n in zip(rows, right, strict=True)])


def test_a_reply_is_learnt_in_one_form() -> None:
    wanted = "<analysis>\nA gap.\n</analysis>\n<answer>yes</answer>"
    for reply in (wanted, f"  {wanted}\n", "<analysis>A gap.</analysis><answer> Yes </answer>"):
        assert analysis_completion(reply, ROW) == wanted


@pytest.mark.parametrize(
    "reply",
    [
        "<answer>yes</answer>",
        analysed("no"),
        analysed("yes", " "),
        analysed("yes") + " I am sure.",
        "I think: " + analysed("yes"),
        analysed("no") + analysed("yes"),
        analysed("yes", "It is <answer>yes</answer>."),
        analysed("yes", "A gap.<|im_end|>"),
        "<analysis>cut off",
        "",
    ],
)
def test_no_other_reply_is_learnt(reply: str) -> None:
    assert analysis_completion(reply, ROW) is None


def test_a_teacher_must_be_right_in_four_of_five_votes() -> None:
    assert kept_reply({**ROW, "teacher_replies": replied(ROW, 4)}, 0.8) == ("teacher", analysed("yes"))
    assert kept_reply({**ROW, "teacher_replies": replied(ROW, 3)}, 0.8) is None
    assert kept_reply({**ROW, "teacher_replies": replied(ROW, 3)}, 0.6) == ("teacher", analysed("yes"))
    assert kept_reply({**ROW, "teacher_replies": []}, 0.8) is None
    unread = replied(ROW, 5)
    for vote in unread[:2]:
        vote["answer"] = None
    assert kept_reply({**ROW, "teacher_replies": unread}, 0.8) is None


def test_of_several_teachers_the_first_that_qualifies_is_learnt() -> None:
    wrong, bare = replied(ROW, 3, "a"), replied(ROW, 5, "b", reply="<answer>yes</answer>")
    good = replied(ROW, 4, "c")
    # the votes of one teacher do not help another
    assert kept_reply({**ROW, "teacher_replies": [*wrong, *bare, *good]}, 0.8) == ("c", analysed("yes"))
    assert kept_reply({**ROW, "teacher_replies": [*wrong, *replied(ROW, 5, "d", reply="none")]}, 0.5) is not None


def test_which_rows_leave_the_analysis_out_depends_on_seed_and_sample_alone() -> None:
    ids = [f"sample-{number}" for number in range(2000)]
    drawn = [uniform_draw(0, name) for name in ids]
    assert all(0 <= value < 1 for value in drawn)
    assert 0.46 < sum(value < 0.5 for value in drawn) / len(ids) < 0.54
    assert drawn[7] == uniform_draw(0, "sample-7") != uniform_draw(1, "sample-7")
    rows = with_replies("train", [5] * 8)
    settings = StyleConfig("analysis")
    whole, part = choose_targets(rows, TASK, settings, 3), choose_targets(rows.select(range(4, 8)), TASK, settings, 3)
    assert whole.replies[4:] == part.replies
    assert 0 < sum(reply is None for reply in whole.replies) < 8
    assert whole.fingerprint != choose_targets(rows, TASK, settings, 4).fingerprint
    assert whole.fingerprint == choose_targets(rows, TASK, settings, 3).fingerprint


def test_rows_without_a_kept_reply_are_left_out() -> None:
    rows = with_replies("train", [5, 4, 3, 2, 1, 0, 4, 5])
    full = choose_targets(rows, TASK, StyleConfig("analysis", rationale_dropout=0.0), 0)
    assert full.rows == [0, 1, 6, 7]
    assert full.counts == {"analysis": 4, "answer": 0, "left_out": 4}
    assert full.teachers == {"teacher": 4}
    answers = rows["answer"]
    assert all(str(full.replies[n]).endswith(f"<answer>{answers[n]}</answer>") for n in full.rows)
    assert not [n for n in full.rows if OTHER[answers[n]] in str(full.replies[n]).split("<answer>")[1]]
    half = choose_targets(rows, TASK, StyleConfig("analysis"), 0)
    assert half.rows == full.rows
    assert half.counts["analysis"] + half.counts["answer"] == 4
    assert half.counts["answer"] == sum(uniform_draw(0, rows["sample_id"][n]) < 0.5 for n in full.rows)
    assert "4 without a kept reply are left out (kept replies by teacher: teacher 4)" in describe_targets(half)


def test_validation_is_asked_for_the_answer_where_it_has_no_replies() -> None:
    partitions = {"train": with_replies("train", [5] * 8), "validation": with_replies("validation", [5, 5, 0, 0])}
    taught = partition_targets(partitions, TASK, StyleConfig("analysis"), 0)
    assert taught["validation"].rows == [0, 1]
    partitions["validation"] = with_replies("validation", [0] * 4)
    alone = partition_targets(partitions, TASK, StyleConfig("analysis"), 0)["validation"]
    assert (alone.rows, alone.replies, alone.teachers) == ([0, 1, 2, 3], [None] * 4, {})
    with pytest.raises(ConnectomeBenchError, match="no validation row has a kept reply"):
        partition_targets(partitions, TASK, StyleConfig("analysis", rationale_dropout=0.0), 0)
    with pytest.raises(ConnectomeBenchError, match=r"no training row has a well-formed reply.*80%"):
        partition_targets({**partitions, "train": with_replies("train", [3] * 8)}, TASK, StyleConfig("analysis"), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer_style": "essay"}, "unknown answer_style 'essay'"),
        ({"rationale_dropout": 0.2}, "rationale_dropout requires --answer_style analysis"),
        ({"teacher_agreement": 0.9}, "teacher_agreement requires --answer_style analysis"),
        ({"answer_style": "analysis", "rationale_dropout": 1.0}, r"must lie in \[0, 1\)"),
        ({"answer_style": "analysis", "teacher_agreement": 0.4}, r"must lie in \(0.5, 1\]"),
    ],
)
def test_refuses_settings_that_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=message):
        StyleConfig(**settings)


def test_places_have_no_teacher() -> None:
    with pytest.raises(ConnectomeBenchError, match="the answer to split_proposal is a place"):
        choose_targets(with_replies("train", [5] * 8), get_task("split_proposal"), StyleConfig("analysis"), 0)
