from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from classified_rows import one_thread, write_backbone, write_classified_rows

SCRIPT = Path(__file__).parents[2] / "training" / "train_image_classifier.py"


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    write_classified_rows(tmp_path)
    write_backbone(tmp_path / "tiny-vit", "vit", "none")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with one_thread():
        yield tmp_path


def run(monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_trains_scores_and_saves(home: Path, monkeypatch, capsys) -> None:
    from connectomebench.models.registry import open_model

    options = ["--dataset", "merge_action", "--backbone", "tiny-vit", "--init", "random", "--input_px", "32"]
    options += ["--batch_size", "8", "--epochs", "4", "--learning_rate", "0.003", "--output_dir", "model"]
    run(monkeypatch, *options)
    scores = json.loads(capsys.readouterr().out)
    assert (scores["partition"], scores["rows"], scores["groups"]) == ("validation", 32, 17)
    assert scores["chosen_on_these_rows"] is True
    assert scores["balanced_accuracy"]["value"] > 0.9
    assert scores["balanced_accuracy"]["lower"] <= scores["balanced_accuracy"]["value"]
    assert not (home / "model-checkpoint").exists()
    model, record = open_model(str(home / "model"))
    assert model.name == "vit"
    assert record is not None
    assert (record.config["epochs"], record.config["init"]) == (4, "random")

    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *options, "--init", "zeros", "--output_dir", "other")
    assert caught.value.code == "error: unknown init 'zeros'; choose pretrained or random"
    assert not (home / "other").exists()
