from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from classified_rows import (
    one_thread,
    reversed_png,
    write_classified_rows,
    write_task_rows,
    write_vision_transformer,
)

from connectomebench.models.model_record import read_record

SCRIPT = Path(__file__).parents[2] / "training" / "train_multitask.py"
OPTIONS = ["--data", "fly:merge_action", "mouse:split_action", "--backbone", "tiny-vit", "--init", "random"]
OPTIONS += ["--batch_size", "8", "--epochs", "2", "--learning_rate", "0.005", "--augment", "published"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    write_classified_rows(tmp_path)
    write_task_rows(tmp_path, "split_action", reversed_png, species="mouse")
    write_vision_transformer(tmp_path / "tiny-vit", weights=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with one_thread():
        yield tmp_path


def run(monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def error_of(monkeypatch, *options: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *options)
    return str(caught.value.code)


def test_trains_scores_and_saves(home: Path, monkeypatch, capsys) -> None:
    run(monkeypatch, *OPTIONS, "--output_dir", "model")
    scores = json.loads(capsys.readouterr().out)
    assert (scores["partition"], scores["chosen_on_these_rows"]) == ("validation", True)
    asked = [(one["task"], one["species"], one["rows"], one["groups"]) for one in scores["scores"]]
    assert asked == [("merge_action", "fly", 32, 17), ("split_action", "mouse", 32, 17)]
    assert all(0 <= one["balanced_accuracy"]["lower"] <= 1 for one in scores["scores"])
    assert set(scores["temperatures"]) == {"merge_action", "split_action"}
    assert not (home / "model-checkpoint").exists()
    record = read_record(home / "model")
    assert (record.species, record.base_model, record.config["epochs"]) == (("fly", "mouse"), None, 2)

    for data, problem in (
        ("merge_action", "cannot read 'merge_action'; give SPECIES:DATASET"),
        ("worm:merge_action", "merge_action holds no species 'worm'; it has fly"),
    ):
        options = ["--data", data, "--backbone", "tiny-vit", "--init", "random", "--output_dir", "other"]
        assert problem in error_of(monkeypatch, *options)
    assert "unknown mix 'some'; choose rows or equal" in error_of(
        monkeypatch, *OPTIONS, "--output_dir", "x", "--mix", "some"
    )
    assert not (home / "other").exists() and not (home / "x").exists()
