"""Wordings: what they add, that nothing of the truth is in them, and examples that stay apart from what is asked."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pyarrow as pa
import pytest
from datasets import Dataset
from stored_rows import row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import TASKS
from connectomebench.dataset.schema import features
from connectomebench.evaluation.ablations import ablate
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.prompt_variants import (
    SIMPLE_QUESTION,
    Adaptation,
    PromptVariant,
    Style,
    build_messages,
    condition,
    draw_examples,
)
from connectomebench.models.prompt import analysis_format, answer_format, messages

# a mask cannot be written as words
IN_WORDS = [name for name, task in TASKS.items() if task.scoring != "masks"]

HIDDEN = ("sample_id", "answer", "label", "target_nm", "location_nm", "segment_ids", "body_ids", "group", "origin")


def stored(task: str = "merge_action", number: int = 1, answer: str = "yes") -> dict[str, Any]:
    labels = TASKS[task].labels
    return row(number, answer if answer in labels else labels[number % len(labels)] if labels else "", task)


def text(task: str, wording: PromptVariant, **other: Any) -> str:
    (turn,) = build_messages(stored(task) | other, wording)
    return turn["content"][-1]["text"]


@pytest.mark.parametrize("task", IN_WORDS)
def test_usual_words_are_those_of_the_prompt_and_analysis_asks_for_one(task: str) -> None:
    one = stored(task)
    assert build_messages(one, PromptVariant()) == messages(one)
    assert build_messages(one, PromptVariant("analysis")) == messages(one, style="analysis")
    shown = TASKS[task].for_views(one["views"])
    assert text(task, PromptVariant("analysis")).endswith(f"{one['question']}\n{analysis_format(shown)}")


@pytest.mark.parametrize("style", get_args(Style))
@pytest.mark.parametrize("adaptation", [name for name in get_args(Adaptation) if name != "few_shot"])
def test_nothing_of_the_truth_is_in_any_wording(style: Style, adaptation: Adaptation) -> None:
    wording = PromptVariant(style, adaptation)
    for task in TASKS:
        one, other = stored(task), stored(task, 2, "no")
        try:
            asked = build_messages(one, wording)
        except ConnectomeBenchError as error:
            assert not TASKS[task].labels, error
            continue
        changed = one | {name: other[name] for name in HIDDEN}
        assert build_messages(changed, wording) == asked
        assert one["answer"] not in ("yes", "no") or text(task, wording).count("<answer>no</answer>") == 1


def test_added_words_stand_between_question_and_format() -> None:
    for adaptation in ("conservative", "context", "hints"):
        for task in map(TASKS.__getitem__, IN_WORDS):
            if adaptation == "conservative" and not task.labels:
                continue
            question, last = text(task.name, PromptVariant(adaptation=adaptation)).split("\n")
            one = stored(task.name)
            assert last == answer_format(task.for_views(one["views"]))
            assert question.startswith(f"{one['question']} ")


def test_conservative_names_the_costly_error_of_the_task() -> None:
    conservative = PromptVariant(adaptation="conservative")
    assert "false merge joins" in text("merge_action", conservative)
    assert "false split cuts" in text("split_action", conservative)
    assert "otherwise answer none" in text("merge_action_multiple_choice", conservative)
    assert "answer f" in text("segment_classification", conservative)
    with pytest.raises(ConnectomeBenchError, match="asks for a place"):
        text("split_proposal", conservative)


def test_context_claims_no_more_of_the_data_than_is_known() -> None:
    context = PromptVariant(adaptation="context")
    told = text("merge_action", context, species="mouse", source="minnie65_public", extent_nm=7500.0)
    assert SPECIES["mouse"].title in told
    assert "8 x 8 x 40 nm" in told
    assert "7.5 micrometres" in told
    other = text("merge_action", context, species="mouse", source="another volume", extent_nm=float("nan"))
    assert "The data are from: mouse." in other
    assert "MICrONS" not in other
    assert "voxel" not in other
    assert "micrometres" not in other
    assert "from: my worm." in text("merge_action", context, species="my_worm")


def test_the_simple_question_takes_the_place_of_the_question() -> None:
    assert text("merge_action", PromptVariant("simple")) == f"{SIMPLE_QUESTION}\n{answer_format(TASKS['merge_action'])}"
    with pytest.raises(ConnectomeBenchError, match="simple style leaves out"):
        text("endpoint_localization", PromptVariant("simple"))


def partition(numbers: range, task: str = "merge_action", yes: int = 2) -> Dataset:
    """Rows of which every ``yes``-th is right."""
    rows = [stored(task, number, ("yes", "no")[number % yes > 0]) for number in numbers]
    return Dataset(pa.Table.from_pylist(rows, schema=features(TASKS[task]).arrow_schema))


@pytest.fixture(scope="module")
def train() -> Dataset:
    return partition(range(0, 20), yes=4)


@pytest.fixture(scope="module")
def test_rows() -> Dataset:
    return partition(range(20, 30))


def test_examples_are_balanced_drawn_by_seed_and_apart(train: Dataset, test_rows: Dataset) -> None:
    drawn = {
        seed: draw_examples(train, test_rows, PromptVariant(adaptation="few_shot", shots=5, seed=seed))
        for seed in range(4)
    }
    for examples in drawn.values():
        counts = Counter(example["answer"] for example in examples)
        assert sorted(counts.values()) == [2, 3]
        assert len({example["sample_id"] for example in examples}) == 5
        assert {example["sample_id"] for example in examples} <= set(train["sample_id"])
    ids = [tuple(example["sample_id"] for example in examples) for examples in drawn.values()]
    assert len(set(ids)) == 4
    again = draw_examples(train, test_rows, PromptVariant(adaptation="few_shot", shots=5, seed=1))
    assert [example["sample_id"] for example in again] == list(ids[1])
    orders = {
        tuple(
            example["answer"]
            for example in draw_examples(train, test_rows, PromptVariant("simple", "few_shot", 4, seed))
        )
        for seed in range(12)
    }
    assert len({order[0] for order in orders}) == 2
    assert any(order[0] == order[1] for order in orders), "answers do not simply take turns"
    assert draw_examples(train, test_rows, PromptVariant("analysis")) == []


def test_examples_never_share_a_sample_or_a_group_with_what_is_asked(train: Dataset, test_rows: Dataset) -> None:
    wording = PromptVariant(adaptation="few_shot", shots=2)
    with pytest.raises(ConnectomeBenchError, match="only 0 training rows"):
        draw_examples(train, train, wording)
    # every right training row but one is of the segment of an evaluated one
    kept = next(n for n, answer in enumerate(train["answer"]) if answer == "yes")
    groups = [
        test_rows["group"][0] if answer == "yes" and number != kept else group
        for number, (answer, group) in enumerate(zip(train["answer"], train["group"], strict=True))
    ]
    mixed = train.remove_columns("group").add_column("group", groups)
    for seed in range(5):
        examples = draw_examples(mixed, test_rows, PromptVariant(adaptation="few_shot", shots=2, seed=seed))
        assert [e["sample_id"] for e in examples if e["answer"] == "yes"] == [train["sample_id"][kept]]
    with pytest.raises(ConnectomeBenchError, match="only 3 training rows"):
        draw_examples(mixed, test_rows, PromptVariant(adaptation="few_shot", shots=4))
    with pytest.raises(ConnectomeBenchError, match="must be of the evaluated task"):
        draw_examples(partition(range(4), "split_action"), test_rows, wording)


def test_examples_are_shown_as_the_rows_are(train: Dataset, test_rows: Dataset) -> None:
    examples = draw_examples(
        train, test_rows, PromptVariant(adaptation="few_shot", shots=2), lambda batch: ablate(batch, "one_view")
    )
    asked = build_messages(stored(), PromptVariant("analysis", "few_shot", 2), examples)
    assert [example["views"] for example in examples] == [["front"]] * 2
    assert [sum(part["type"] == "image" for part in turn["content"]) for turn in asked] == [1, 0, 1, 0, 3]
    task = TASKS["merge_action"]
    assert [turn["content"][-1]["text"].split("\n")[-1] for turn in asked[::2]] == [
        answer_format(task),
        answer_format(task),
        analysis_format(task),
    ]
    assert [turn["content"][0]["text"] for turn in asked[1::2]] == [f"<answer>{e['answer']}</answer>" for e in examples]


@pytest.mark.parametrize(
    ("way", "wording", "ablation", "name"),
    [
        (AnswerMode("scored"), PromptVariant(), None, "default"),
        (AnswerMode("generated"), PromptVariant(), None, "generated"),
        (AnswerMode("generated", max_new_tokens=8), PromptVariant(), None, "generated-n8"),
        (AnswerMode("votes", 5, 0.7), PromptVariant(), None, "votes5-t0.7"),
        (AnswerMode("votes", 25, 1.0, 64), PromptVariant("analysis"), None, "votes25-t1-n64+analysis"),
        (AnswerMode("confidence"), PromptVariant("simple"), "no_em", "confidence+simple+no_em"),
        (AnswerMode("scored"), PromptVariant(), "blank_images", "blank_images"),
        (AnswerMode("scored"), PromptVariant(shots=9, seed=3), None, "default"),
        (AnswerMode("scored"), PromptVariant(adaptation="few_shot"), None, "few_shot4"),
        (
            AnswerMode("generated"),
            PromptVariant("analysis", "few_shot", 2, 3),
            "one_view",
            "generated+analysis+few_shot2-s3+one_view",
        ),
        (AnswerMode("scored"), PromptVariant(adaptation="hints"), "base_model", "hints+base_model"),
    ],
)
def test_a_condition_names_all_that_is_unlike_the_usual(
    way: AnswerMode, wording: PromptVariant, ablation: str | None, name: str
) -> None:
    assert condition(way, wording, ablation) == name


def test_the_usual_is_that_of_the_model() -> None:
    endpoint = AnswerMode("generated")
    assert condition(endpoint, PromptVariant(), default_mode=endpoint) == "default"
    assert condition(AnswerMode("scored"), PromptVariant(), default_mode=endpoint) == "scored"
    learnt = PromptVariant("analysis")
    assert condition(endpoint, learnt, default_mode=endpoint, default_variant=learnt) == "default"
    assert condition(endpoint, PromptVariant(), default_mode=endpoint, default_variant=learnt) == "answer_only"
    with pytest.raises(ConnectomeBenchError, match="did you mean blank_images"):
        condition(endpoint, ablation="blank_image")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "rude"}, "unknown style"),
        ({"adaptation": "few_shots"}, "did you mean few_shot"),
        ({"adaptation": "few_shot", "shots": 0}, "at least 1 example"),
        ({"adaptation": "few_shot", "seed": -1}, "seed of at least 0"),
    ],
)
def test_wordings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=message):
        PromptVariant(**options)
