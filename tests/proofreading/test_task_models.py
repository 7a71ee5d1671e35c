"""Which models a folder or a file names, and which of them know the place already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from endpoint_server import serve
from toy_models import ToyModel

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.dataset.rows import DataRecord
from connectomebench.models.base import Answer
from connectomebench.models.model_record import ModelRecord
from connectomebench.proofreading.person import Person
from connectomebench.proofreading.task_models import TaskModel, missing_steps, open_task_models, trained_here

BOUNDS = Box((0, 0, 0), (1000, 1000, 1000))
RIGHT = Box((500, 0, 0), (1000, 1000, 1000))
SOURCE = {"name": "cube", "version": "1+aa", "bounds_nm": [[0, 0, 0], [1000, 1000, 1000]]}


def known(**source) -> dict[str, TaskModel]:
    data = DataRecord("merge_action", "fly", "train", None, None, "f" * 32, {"yes": 1}, SOURCE | source)
    record = ModelRecord("probe", "probe", "1", "merge_action", None, None, {}, (data,), {})
    return {"merge_action": TaskModel("merge_action", ToyModel("merge_action"), (record,))}


def test_a_model_of_the_place_is_named_with_its_data():
    (line,) = trained_here(known(), "cube", "1+bb", BOUNDS, RIGHT)
    assert "merge_action: toy was trained on train rows of cube (dataset ffffffffffff" in line
    assert "0, 0, 0 to 1000, 1000, 1000 nm" in line


@pytest.mark.parametrize(
    ("source", "overlaps"),
    [
        ({"places_nm": [[0, 0, 0], [500, 1000, 1000]]}, False),  # the other half, up to the border
        ({"places_nm": [[0, 0, 0], [501, 1000, 1000]]}, True),
        ({"name": "elsewhere", "bounds_nm": [[0, 0, 0], [900, 1000, 1000]]}, False),
        ({"name": "renamed"}, True),  # the same bounds
        ({"name": "renamed", "version": "1+bb", "bounds_nm": None}, True),  # the same version
        ({"bounds_nm": None}, True),  # nobody knows which places
    ],
)
def test_places_decide_where_they_are_known(source: dict, overlaps: bool):
    assert bool(trained_here(known(**source), "cube", "1+bb", BOUNDS, RIGHT)) is overlaps


def test_models_of_others_are_not_suspected():
    models = {"merge_action": replace(known()["merge_action"], records=())}
    assert trained_here(models, "cube", "1+aa", BOUNDS, RIGHT) == []


def test_every_missing_step_is_a_line():
    def missing(*tasks: str) -> list[str]:
        return [line.split(":")[0] for line in missing_steps({task: known()["merge_action"] for task in tasks})]

    no_merges = "no model of merge_action or merge_action_with_em or merge_action_multiple_choice"
    no_splits = "no model of split_action or split_action_with_em"
    assert missing() == [no_merges, no_splits]
    # where nothing is proposed, nothing goes to correction
    assert missing("merge_action") == ["no model of endpoint_error_identification_with_em", no_splits]
    assert missing("split_action") == [no_merges, "no model of merge_error_identification"]
    assert missing("split_action", "merge_error_identification") == [no_merges]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_actoin: {model: x}", "did you mean merge_action"),
        ("merge_action: {model: x, enigne: vllm}", "models.yaml: merge_action.enigne: "),
        ("merge_action: {}", "merge_action.model: field required"),
        ("- x", "top level"),
        ("merge_action: {model: m, endpoint: {urll: x}}", "merge_action: endpoint: .*urll"),
        ("merge_action: [", "cannot read"),
        ("merge_action: nobody", "models.yaml: merge_action: "),
        ("merge_action: {model: m, fallback: {modle: n}}", "models.yaml: merge_action.fallback.m"),
        ("merge_error_identification: person", "a person decides corrections alone"),
        ("endpoint_error_identification: {model: m, fallback: person}", "a person decides corrections alone"),
        ("merge_action_multiple_choice: person", "write merge_action: person"),
        ("merge_action: {model: m, fallback: {model: n, fallback: person}}", "no fallback of its own"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(ConnectomeBenchError, match=message):
        open_task_models(tmp_path)


def test_no_model_is_one_line(tmp_path: Path):
    with pytest.raises(ConnectomeBenchError, match="holds no model of"):
        open_task_models(tmp_path)
    with pytest.raises(ConnectomeBenchError, match="there is no"):
        open_task_models(tmp_path / "missing")


def test_a_person_stands_in_the_place_of_a_model_or_after_one(tmp_path: Path):
    with serve() as server:
        first = f"model: tiny, endpoint: {{url: '{server.url}'}}"
        (tmp_path / "models.yaml").write_text(
            f"split_action: person\nmerge_action: {{{first}, fallback: person, min_confidence: 0.7}}\n"
        )
        models = open_task_models(tmp_path)
        (tmp_path / "models.yaml").write_text(f"merge_action: {{{first}, fallback: person, min_confidence: 2}}\n")
        with pytest.raises(ConnectomeBenchError, match="the threshold is 2"):
            open_task_models(tmp_path)
    alone, after = models["split_action"].model, models["merge_action"].model
    assert isinstance(alone, Person) and isinstance(after, Person) and alone.name == "person"
    assert after.name == "tiny-then-person-below-0.7" and after.revision != alone.revision
    assert alone.free and not after.free
    (left,) = alone.predict({"images": [[]]})
    assert left.prediction is None and left.cost_usd == 0 and alone.must_decide(left)
    sure, unsure = (Answer("no", {"no": p, "yes": 1 - p}) for p in (0.7, 0.69))
    assert not after.must_decide(sure) and after.must_decide(unsure) and after.must_decide(Answer(None, {}))
