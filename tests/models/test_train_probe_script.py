from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from classified_rows import write_classified_rows

from connectomebench.models.model_record import read_record

SCRIPT = Path(__file__).parents[2] / "training" / "train_probe.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classified_rows(tmp_path_factory.mktemp("rows")).parent


def run(*options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *options], cwd=cwd, capture_output=True, text=True, check=False)


def test_trains_scores_and_saves(folder: Path, encoder) -> None:
    from connectomebench.models.probe import load_probe

    options = ["--encoder", "efficientnet_lite0", "--folds", "2", "--c_grid", "0.001", "0.1"]
    result = run("--dataset", "merge_action", "--output_dir", "probe", *options, cwd=folder)
    assert result.returncode == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["balanced_accuracy"] > 0.8
    assert scores["rows"] == 32
    record = read_record(folder / "probe")
    assert (record.task, record.species, record.trained_on[0].rows) == ("merge_action", ("fly",), {"no": 30, "yes": 18})
    probe = load_probe(folder / "probe", folder / "features", encoder=encoder)
    assert probe.config.c_grid == (0.001, 0.1)
    assert probe.head.cross_validation["folds"] == 2


def test_bad_settings_get_one_line(folder: Path) -> None:
    result = run("--dataset", "merge_action", "--output_dir", "other", "--head", "forest", cwd=folder)
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == "error: unknown head 'forest'; choose logistic or mlp"
    assert not (folder / "other").exists()
