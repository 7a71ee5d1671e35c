from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import list_nodes
from connectomebench.core.tasks import MESH_VIEWS, TASKS, get_task
from connectomebench.evaluation.results import write_results
from connectomebench.human_eval.answers import SURENESS, answer_steps, offered, rating_records, stated_probability
from connectomebench.human_eval.session import Rating
from connectomebench.models.confidence import parse_confidence
from connectomebench.models.reply_parsing import parse_answer

CHOICE_TASKS = [task for task in TASKS.values() if task.labels]


@pytest.mark.parametrize("task", CHOICE_TASKS, ids=lambda task: task.name)
def test_every_answer_has_its_own_key(task) -> None:
    answers, sure = answer_steps(task)
    assert {choice.value for choice in answers.choices} == set(task.labels)
    keys = [choice.key for step in (answers, sure) for choice in step.choices]
    assert len(set(keys)) == len(keys)
    assert "p" not in keys  # which is the pause


@pytest.mark.parametrize("task", CHOICE_TASKS, ids=lambda task: task.name)
def test_a_guess_is_as_good_as_chance_and_surer_is_more(task) -> None:
    stated = [stated_probability(sure, task) for sure in SURENESS]
    assert stated[0] == pytest.approx(1 / len(task.labels))
    assert stated == sorted(stated)
    assert stated[-1] < 1


@pytest.mark.parametrize(("name", "sides"), [("endpoint_localization", 1), ("split_proposal", 2)])
def test_places_are_named_by_their_nodes(name: str, sides: int) -> None:
    *nodes, sure = answer_steps(get_task(name), 12)
    assert len(nodes) == sides and [choice.value for choice in nodes[0].choices] == [str(n) for n in range(1, 13)]
    keys = [choice.key for step in (*nodes, sure) for choice in step.choices]
    assert len(set(keys)) == len(keys) and "p" not in keys
    many = [choice.key for step in answer_steps(get_task(name), 40) for choice in step.choices]
    assert len(set(many)) == len(many)
    choices = ("3", "7")[:sides]
    rows = {column: ["x"] for column in ("sample_id", "task", "species", "question", "answer", "group")}
    [record] = rating_records(rows, [Rating("x", (*choices, "4"), 2.0)], get_task(name), {"model": "person-ada"})
    expected = "node 3" if sides == 1 else "sources=[node 3];sinks=[node 7]"
    assert record["prediction"] == expected == parse_answer(record["reply"], get_task(name))
    assert record.get("probability") is None


def test_a_row_offers_its_own_answers_alone() -> None:
    task = get_task("merge_action_multiple_choice")
    assert offered(task, "?", task.views_of(2)) == (("a", "b", "none"),)
    assert offered(get_task("merge_action"), "?", MESH_VIEWS) == ()
    question = f"Where?\n{list_nodes([(0.0, 0.0, 0.0)] * 3, (0.0, 0.0, 0.0))}"
    assert offered(get_task("endpoint_localization"), question, MESH_VIEWS) == (("1", "2", "3"),)
    assert offered(get_task("split_proposal"), question, MESH_VIEWS) == (("1", "2", "3"),) * 2


@pytest.mark.parametrize(("candidates", "guess"), [(1, 1 / 2), (2, 1 / 3), (4, 1 / 5)])
def test_a_guess_among_few_candidates_is_worth_more(candidates: int, guess: float) -> None:
    task = get_task("merge_action_multiple_choice")
    rows = {column: ["x"] for column in ("sample_id", "task", "species", "question", "answer", "group")}
    rows["views"] = [task.views_of(candidates)]
    [record] = rating_records(rows, [Rating("x", ("a", "1"), 2.0)], task, {})
    assert record["probability"] == pytest.approx(guess)


def test_masks_need_the_pictures_of_their_rows() -> None:
    task = get_task("split_mask_generation")
    drawn, sure = answer_steps(task, views=MESH_VIEWS)
    assert (drawn.views, drawn.choices) == (MESH_VIEWS, ()) and len(sure.choices) == len(SURENESS)
    with pytest.raises(ConnectomeBenchError, match="pictures"):
        rating_records({"sample_id": ["x"]}, [Rating("x", ("{}", "1"), 1.0)], task, {})


@given(
    st.sampled_from(CHOICE_TASKS),
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(list(SURENESS)), st.floats(0, 900)), min_size=1, max_size=6),
)
def test_records_say_what_was_said(task, said: list[tuple[int, str, float]]) -> None:
    n = len(said)
    rows = {
        "sample_id": [f"s{i}" for i in range(n)],
        "task": [task.name] * n,
        "species": ["fly"] * n,
        "question": ["?"] * n,
        "answer": [task.labels[0]] * n,
        "views": [task.views_of(4)] * n,
        "group": [f"g{i}" for i in range(n)],
    }
    ratings = [Rating(f"s{i}", (task.labels[a % len(task.labels)], sure), t) for i, (a, sure, t) in enumerate(said)]
    constant = {"model": "person-ada", "partition": "test", "condition": "default", "dataset_fingerprint": "f"}
    records = rating_records(rows, ratings[::-1], task, constant)
    assert [record["sample_id"] for record in records] == [f"s{i}" for i in range(n)][::-1]
    for record, rating in zip(records, ratings[::-1], strict=True):
        right = stated_probability(rating.choices[1], task)
        assert record["prediction"] == rating.choices[0] == parse_answer(record["reply"], task)
        assert parse_confidence(record["reply"]) == pytest.approx(right, abs=1e-4)
        assert record["latency_s"] == rating.seconds
        assert record["group"] == f"g{record['sample_id'][1:]}"
        if set(task.labels) == {"yes", "no"}:
            assert record["probability"] == pytest.approx(right if rating.choices[0] == "yes" else 1 - right)
        else:
            assert record["probability"] == pytest.approx(right)


def test_records_fit_the_schema_of_results(tmp_path) -> None:
    rows = {name: ["x"] for name in ("sample_id", "species", "question", "group")} | {
        "task": ["merge_action"],
        "answer": ["yes"],
    }
    constant = {"model": "person-ada", "partition": "test", "condition": "default", "dataset_fingerprint": "f"}
    records = rating_records(rows, [Rating("x", ("no", "4"), 1.0)], get_task("merge_action"), constant)
    assert write_results(tmp_path / "r.parquet", records).exists()
