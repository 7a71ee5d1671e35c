"""Which models a folder or a file names, and which of them know the place already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_models import ToyModel

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.dataset.rows import DataRecord
from connectomebench.models.model_record import ModelRecord
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
    assert [line.split(":")[0] for line in missing_steps({})] == [
        "no model of endpoint_error_identification_with_em",
        "no model of merge_error_identification",
        "no model of merge_action or merge_action_with_em or merge_action_multiple_choice",
        "no model of split_action",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_actoin: {model: x}", "did you mean merge_action"),
        ("merge_action: {model: x, enigne: vllm}", "models.yaml: merge_action.enigne: "),
        ("merge_action: {}", "merge_action.model: field required"),
        ("- x", "top level"),
        ("merge_action: {model: m, endpoint: {urll: x}}", "merge_action: endpoint: .*urll"),
        ("merge_action: [", "cannot read"),
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
