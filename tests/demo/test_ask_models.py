"""Models that visitors ask: the right ones are found, they answer as always, and keep and tell nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from endpoint_server import completion, serve
from PIL import Image
from published_models import make_classifier
from swept_tubes import CENTER, EXTENT, crossing_tubes

from connectomebench import load_model
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.demo.ask_answer import answer_html, refusal_html
from connectomebench.demo.ask_models import (
    ENDPOINT_MODEL_VARIABLE,
    ENDPOINT_VARIABLE,
    MODELS_VARIABLE,
    AskableModel,
    ModelOpinion,
    ask,
    askable_tasks,
    find_models,
)
from connectomebench.demo.ask_pictures import draw_meshes
from connectomebench.models.base import Answer

TASK = get_task("merge_action")


@pytest.fixture(scope="module")
def folder(asked_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trivial model, an image classifier, and beside them what cannot be asked."""
    out = tmp_path_factory.mktemp("asked") / "models"
    shutil.copytree(asked_folder / "models", out)
    make_classifier(out / "resnet", asked_folder / "merge_action")
    record = json.loads((out / "resnet" / "connectomebench.json").read_text())
    for name, changed in {
        "of another task": {"task": "segment_identity"},
        "needs a GPU": {"kind": "vlm"},
        "damaged": {"format": "x"},
    }.items():
        (out / name).mkdir()
        (out / name / "model.safetensors").write_bytes(b"")
        (out / name / "connectomebench.json").write_text(json.dumps(record | changed))
    (out / "record alone").mkdir()
    (out / "record alone" / "connectomebench.json").write_text(json.dumps(record))
    return out.parent


@pytest.fixture(scope="module")
def views() -> list[Image.Image]:
    return draw_meshes(TASK, crossing_tubes(), CENTER, EXTENT)


def test_models_are_found_by_task_with_what_they_learnt_from(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = find_models(folder)
    assert set(found) == {task.name for task in askable_tasks()}
    told = {(m.name, m.kind, m.trained_on, m.simulated) for m in found.pop("merge_action")}
    assert told == {("resnet", "image_classifier", ("fly",), "no"), ("trivial", "trivial", ("fly",), "no")}
    assert not any(found.values())
    assert len(caplog.records) == 1 and "damaged" in caplog.text


def test_only_whether_all_or_some_errors_are_simulated_is_told(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "models" / "resnet" / "connectomebench.json").read_text())
    real = record["trained_on"][0]
    simulated = real | {"species": "mouse", "source": real["source"] | {"simulated_errors": True}}
    for name, trained_on in {"all": [simulated], "some": [real, simulated]}.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.safetensors").write_bytes(b"")
        path = tmp_path / "models" / name / "connectomebench.json"
        path.write_text(json.dumps(record | {"name": name, "trained_on": trained_on}))
    found = find_models(tmp_path)["merge_action"]
    assert {(m.name, m.simulated, m.trained_on) for m in found} == {
        ("all", "all", ("mouse",)),
        ("some", "some", ("fly", "mouse")),
    }


def test_they_answer_as_load_model_does(folder: Path, views: list[Image.Image]) -> None:
    opinions = ask(find_models(folder)["merge_action"], TASK, views)
    row = {"images": [views], "views": [list(TASK.views)], "task": [TASK.name], "question": [TASK.question]}
    assert len(opinions) == 2
    for opinion in opinions:
        (expected,) = load_model(str(opinion.model.source)).predict(row)
        assert opinion.answer is not None and opinion.answer.prediction == expected.prediction
        assert opinion.answer.probabilities == pytest.approx(expected.probabilities)


def test_nothing_of_a_visitor_is_kept(folder: Path, views: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered would not be looked at again."""
    from connectomebench.models import trivial_baseline as trivial

    model = next(m for m in find_models(folder)["merge_action"] if m.kind == "trivial")
    looked: list[object] = []
    real = trivial.image_features
    monkeypatch.setattr(trivial, "image_features", lambda image: (looked.append(image), real(image))[1])
    for times in (1, 2):
        ask([model], TASK, views)
        assert len(looked) == times * len(views)


def test_one_that_fails_does_not_keep_others_from_answering(
    folder: Path, views: list[Image.Image], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = sorted(find_models(folder)["merge_action"], key=lambda m: m.name)
    gone = type(models[0])("gone", "probe", str(tmp_path / "gone"), (), "no")
    opinions = ask([gone, *models], TASK, views)
    assert [opinion.answer is None for opinion in opinions] == [True, False, False]
    assert "there is no model folder" in caplog.text


def test_a_server_is_asked_in_words(views: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url)
        monkeypatch.setenv(ENDPOINT_MODEL_VARIABLE, "tiny")
        (model,) = find_models(tmp_path)["split_action"]
        server.next.extend([completion("ok"), completion("They cross. <answer>no</answer>")])
        (opinion,) = ask([model], get_task("split_action"), views)
        assert opinion.answer is not None and opinion.answer.prediction == "no"
        assert opinion.answer.reply == "They cross. <answer>no</answer>" and not opinion.answer.probabilities
        (asked,) = server.asked()
        assert json.dumps(asked).count("data:image/") == len(views)


def test_words_of_models_and_files_are_text(views: list[Image.Image]) -> None:
    opinion = ModelOpinion(AskableModel("<i>m", "endpoint", None, (), "no"), Answer("no", {}, reply="<img src=x>"))
    told = answer_html(TASK, views, "note", [opinion, ModelOpinion(opinion.model, None)])
    assert told.count("<img") == len(views) and "<i>m" not in told and "&lt;img src=x&gt;" in told
    assert "cannot be asked at present" in told and "not stated" in told and "not known" in told
    assert "No model that was trained" in answer_html(TASK, views, "note", [])
    assert "<b>" not in refusal_html("the file names <b>")


def test_a_wrong_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, "../../etc")
    with pytest.raises(ConnectomeBenchError, match=f"{MODELS_VARIABLE} holds '../../etc'"):
        find_models(tmp_path)
