from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.finetuning.network_script import DatasetArguments, RunArguments

SCRIPTS = sorted((Path(__file__).parents[2] / "training").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_shows_its_options(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_folders_and_partitions_of_a_run(tmp_path: Path) -> None:
    run = RunArguments(output_dir=tmp_path / "model")
    assert run.checkpoints == tmp_path / "model-checkpoint" and run.partitions == ["train", "validation"]
    assert run.chosen_on_these_rows
    other = DatasetArguments(output_dir=tmp_path, dataset="d", eval_partition="test", checkpoint_dir=tmp_path / "kept")
    assert other.checkpoints == tmp_path / "kept" and other.partitions == ["test", "train", "validation"]
    assert not other.chosen_on_these_rows
    with pytest.raises(ConnectomeBenchError, match="auto or never"):
        RunArguments(output_dir=tmp_path, resume="always")
