"""Choices among candidates: each is judged as a row of its own, and none has a weight."""

from __future__ import annotations

from dataclasses import replace

import datasets
import numpy as np
import pyarrow as pa
import pytest
from stored_rows import row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import MESH_VIEWS, get_task
from connectomebench.dataset.schema import features
from connectomebench.models.base import Answer
from connectomebench.models.choices import (
    ChoiceModel,
    by_candidate,
    candidate_rows,
    choose,
    choosing,
    fit_none_weight,
    is_choice,
    letters_of,
    train_any,
)
from connectomebench.models.model_record import ModelRecord
from connectomebench.models.prompt import messages

TASK = "merge_action_multiple_choice"
LETTERS = ("a", "b", "c", "d")


def rows(n: int = 12, counts: tuple[int, ...] = (4, 2, 3)) -> datasets.Dataset:
    """Rows with as many candidates as one says; every fifth has none that is right."""
    made = []
    for i in range(n):
        count = counts[i % len(counts)]
        one = row(i, "a", TASK)
        answer = "none" if i % 5 == 4 else LETTERS[i % count]
        one |= {"images": one["images"][: 3 * count], "views": one["views"][: 3 * count], "answer": answer}
        made.append(one | {"label": get_task(TASK).labels.index(answer), "choices": one["choices"][:count]})
    return datasets.Dataset(pa.Table.from_pylist(made, schema=features(get_task(TASK)).arrow_schema))


class Judge:
    """Knows the right candidates by their pictures, and is as sure as one says."""

    name, revision = "judge", "1"

    def __init__(self, known: datasets.Dataset, sure: float = 0.9) -> None:
        each = candidate_rows(known).cast_column("images", datasets.List(datasets.Image(decode=False)))
        self.right = {one["images"][0]["bytes"] for one in each if one["answer"] == "yes"}
        self.sure = sure

    def predict(self, batch):
        assert set(map(tuple, batch["views"])) == {MESH_VIEWS} and set(batch["task"]) == {"merge_action"}
        sure = [self.sure if images[0]["bytes"] in self.right else 1 - self.sure for images in batch["images"]]
        return [Answer("yes" if p > 0.5 else "no", {"no": 1 - p, "yes": p}) for p in sure]


def raw(dataset: datasets.Dataset) -> datasets.Dataset:
    return dataset.cast_column("images", datasets.List(datasets.Image(decode=False)))


def test_every_candidate_becomes_a_row_with_its_own_pictures() -> None:
    stored = raw(rows())
    each = raw(candidate_rows(stored))
    want = []
    for one in stored:
        for k, letter in enumerate(letters_of(one["views"])):
            files = [image["bytes"] for image in one["images"][3 * k : 3 * k + 3]]
            want.append((f"{one['sample_id']}/{letter}", files, one["answer"] == letter))
    assert [(o["sample_id"], [i["bytes"] for i in o["images"]], o["answer"] == "yes") for o in each] == want
    assert len(each) == 36 and set(each["task"]) == {"merge_action"} and each["group"][0] == stored["group"][0]
    # rows that were chosen from others are those rows, and pictures can still be decoded
    some = candidate_rows(rows().select([3, 1]))
    assert some["sample_id"][:4] == [f"{stored['sample_id'][3]}/{letter}" for letter in LETTERS]
    assert some[0]["images"][0].size == rows()[3]["images"][0].size
    assert is_choice(stored) and not is_choice(each) and not is_choice(stored.select([]))


def test_a_model_that_judges_well_chooses_well_and_none_where_all_are_wrong() -> None:
    stored = raw(rows(30))
    model = ChoiceModel(Judge(stored), fit_none_weight(Judge(stored), stored))
    answers = model.predict(stored[:])
    assert [one.prediction for one in answers] == stored["answer"]
    for one, views in zip(answers, stored["views"], strict=True):
        assert tuple(one.probabilities) == (*letters_of(views), "none")
        assert sum(one.probabilities.values()) == pytest.approx(1)
    assert model.name == "judge" and model.revision != ChoiceModel(model.inner, 2.0).revision
    assert model.predict({"images": []}) == []


def test_the_weight_of_none_is_the_likeliest() -> None:
    stored, judge = raw(rows(30)), Judge(raw(rows(30)), 0.6)
    weight = fit_none_weight(judge, stored)

    def likelihood(w: float) -> float:
        said = ChoiceModel(judge, w).predict(stored[:])
        return (
            sum(np.log(o.probabilities[a]) for o, a in zip(said, stored["answer"], strict=True)) - 0.05 * np.log(w) ** 2
        )

    assert all(likelihood(weight) >= likelihood(weight * factor) for factor in (0.5, 0.9, 1.1, 2.0))
    # more rows with none make none likelier
    nones = stored.filter(lambda one: one["answer"] == "none")
    assert fit_none_weight(judge, nones) > weight
    assert fit_none_weight(judge, stored.select([])) == pytest.approx(1, abs=0.01)


def test_odds_are_shared_out() -> None:
    answer = choose([1.0, 2.0, 1.0], 4.0)
    assert answer.prediction == "none" and answer.probabilities == {"a": 0.125, "b": 0.25, "c": 0.125, "none": 0.5}


def test_training_takes_candidates_only_where_there_are_some() -> None:
    stored, seen = raw(rows(20)), []

    def learn(dataset: datasets.Dataset) -> Judge:
        seen.append(set(dataset["task"]))
        return Judge(stored)

    assert isinstance(train_any(stored, stored, learn), ChoiceModel) and seen == [{"merge_action"}]
    each = candidate_rows(stored)
    assert isinstance(train_any(each, each, learn), Judge)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConnectomeBenchError, match="3 images for each"):
        by_candidate([[1, 2, 3, 4]])
    with pytest.raises(ConnectomeBenchError, match="lack the columns group"):
        candidate_rows(rows().remove_columns(["group"]))

    class Silent:
        name, revision = "silent", "1"

        def predict(self, batch):
            return [Answer("yes", {}) for _ in batch["images"]]

    with pytest.raises(ConnectomeBenchError, match="no probability of yes"):
        ChoiceModel(Silent(), 1.0).predict(raw(rows(2))[:])


def test_a_saved_weight_is_checked() -> None:
    record = ModelRecord("probe", "probe", "1", TASK, None, None, {}, (), {})
    judge = Judge(raw(rows(2)))
    assert choosing(judge, None) is judge and choosing(judge, record) is judge
    assert choosing(judge, replace(record, config={"none_weight": 0.5})).none_weight == 0.5  # type: ignore[attr-defined]
    for bad in (0, -1, "1", True, float("inf"), float("nan")):
        with pytest.raises(ConnectomeBenchError, match="no sound none_weight"):
            choosing(judge, replace(record, config={"none_weight": bad}))


def test_the_prompt_names_the_candidates_that_there_are() -> None:
    stored = rows(3, (2,))
    talk = messages(stored[0])[0]["content"]
    text = " ".join(part["text"] for part in talk if part["type"] == "text")
    assert text.startswith("a front view:") and "b top view:" in text and "c front" not in text
    assert "<answer>b</answer>" in text and "<answer>none</answer>" in text and "<answer>c</answer>" not in text
    assert sum(part["type"] == "image" for part in talk) == 6
