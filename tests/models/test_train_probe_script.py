from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "training" / "train_probe.py"


@pytest.fixture
def folder(train, test_rows, tmp_path: Path) -> Path:
    """A dataset folder as the builder writes it."""
    (tmp_path / "task" / "fly").mkdir(parents=True)
    parts = {"train": train, "validation": test_rows}
    for name, rows in parts.items():
        rows.to_parquet(tmp_path / "task" / "fly" / f"{name}-00000-of-00001.parquet")
    files = "".join(f"  - split: {name}\n    path: fly/{name}-*.parquet\n" for name in parts)
    (tmp_path / "task" / "README.md").write_text(f"---\nconfigs:\n- config_name: fly\n  data_files:\n{files}---\n")
    return tmp_path


def run(*options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *options], cwd=cwd, capture_output=True, text=True, check=False)


def test_trains_scores_and_saves(folder: Path, encoder) -> None:
    from connectomebench.models.probe import load_probe

    options = ["--encoder", "efficientnet_lite0", "--folds", "2", "--c_grid", "0.001", "0.1"]
    result = run("--dataset", "task", "--output_dir", "probe", *options, cwd=folder)
    assert result.returncode == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["balanced_accuracy"] > 0.8
    assert scores["rows"] == 12
    probe = load_probe(folder / "probe", folder / "features", encoder=encoder)
    assert probe.config.c_grid == (0.001, 0.1)
    assert probe.head.cross_validation["folds"] == 2


def test_bad_settings_get_one_line(folder: Path) -> None:
    result = run("--dataset", "task", "--output_dir", "probe", "--head", "forest", cwd=folder)
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == "error: unknown head 'forest'; choose logistic or mlp"
    assert not (folder / "probe").exists()
