from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from classified_rows import TASK, orange_png, write_task_rows

from connectomebench.models.model_record import read_record

SCRIPT = Path(__file__).parents[2] / "training" / "train_probe.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": (9, 6), "validation": (4, 4), "test": (1, 1)}
    return write_task_rows(tmp_path_factory.mktemp("rows"), TASK, orange_png, counted=counts).parent


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the script as from the command line, in this process."""
    monkeypatch.chdir(folder)

    def script(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return script


def test_trains_scores_and_saves(folder: Path, encoder, run, capsys) -> None:
    from connectomebench.models.probe import load_probe

    options = ["--encoder", "efficientnet_lite0", "--folds", "2", "--c_grid", "0.001", "0.1"]
    run("--dataset", "merge_action", "--output_dir", "probe", *options)
    scores = json.loads(capsys.readouterr().out)
    assert scores["balanced_accuracy"] > 0.8
    assert scores["rows"] == 8
    record = read_record(folder / "probe")
    assert (record.task, record.species, record.trained_on[0].rows) == ("merge_action", ("fly",), {"no": 9, "yes": 6})
    probe = load_probe(folder / "probe", folder / "features", encoder=encoder)
    assert probe.config.c_grid == (0.001, 0.1)
    assert probe.head.cross_validation["folds"] == 2


def test_bad_settings_get_one_line(folder: Path, run) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--dataset", "merge_action", "--output_dir", "other", "--head", "forest")
    assert caught.value.code == "error: unknown head 'forest'; choose logistic or mlp"
    assert not (folder / "other").exists()
