from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import torch
from classified_rows import one_thread, write_backbone, write_classified_rows
from forked import run_forked, run_forked_together
from safetensors.torch import load_file

from connectomebench.models.image_classifier_trainer import ViewTrainer
from connectomebench.models.model_record import read_record

SCRIPT = Path(__file__).parents[2] / "training" / "train_image_classifier.py"


OPTIONS = ["--dataset", "merge_action", "--backbone", "tiny-vit", "--init", "random", "--input_px", "32"]
OPTIONS += ["--batch_size", "8", "--epochs", "4", "--learning_rate", "0.003"]
GRID = ["--layout", "grid", "--augment", "published"]


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


def run_until_killed(monkeypatch, *options: str) -> None:
    """Kill this process while it writes the second of four checkpoints.

    Weights and optimizer are there then, random state and progress not.
    """
    import transformers

    whole = transformers.Trainer._save_rng_state

    def save(trainer: transformers.Trainer, folder: str) -> None:
        if folder.endswith("checkpoint-12"):
            os.kill(os.getpid(), signal.SIGKILL)
        whole(trainer, folder)

    monkeypatch.setattr(transformers.Trainer, "_save_rng_state", save)
    run(monkeypatch, *options)


def test_trains_scores_and_saves(home: Path, monkeypatch, capsys) -> None:
    from connectomebench.models.registry import open_model

    options = [*OPTIONS, "--output_dir", "model"]
    run(monkeypatch, *options)
    printed = capsys.readouterr()
    assert "24/24" in printed.err and "balanced_accuracy=1.000" in printed.err
    scores = json.loads(printed.out)
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
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *options, "--resume", "maybe")
    assert caught.value.code == "error: unknown resume 'maybe'; choose auto or never"


def test_resumes_after_kill_9_to_the_same_weights(home: Path, monkeypatch) -> None:
    options, checkpoints = [*OPTIONS, *GRID, "--output_dir", "killed"], home / "killed-checkpoint"
    log = home / "killed.log"
    assert run_forked(lambda: run_until_killed(monkeypatch, *options), log) == -signal.SIGKILL, log.read_text()[-2000:]
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-6", "checkpoint-12", "training_config.yaml"}
    assert (checkpoints / "checkpoint-12" / "optimizer.pt").exists()
    assert not (checkpoints / "checkpoint-12" / "trainer_state.json").exists()
    assert str(home) not in (checkpoints / "training_config.yaml").read_text()
    assert not (home / "killed").exists()

    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *options, "--dropout", "0.5")
    assert "classifier.dropout was 0.0, is 0.5" in str(caught.value.code)
    (checkpoints / "notes.txt").write_text("of the user")
    steps: list[int] = []
    step = ViewTrainer.training_step
    monkeypatch.setattr(ViewTrainer, "training_step", lambda *inputs: steps.append(1) or step(*inputs))
    run(monkeypatch, *options)
    # six of the 24 steps were not made again
    assert len(steps) == 18
    assert [path.name for path in checkpoints.iterdir()] == ["notes.txt"]
    run(monkeypatch, *OPTIONS, *GRID, "--output_dir", "unbroken")
    files = [(home / name / "model.safetensors").read_bytes() for name in ("killed", "unbroken")]
    assert files[0] == files[1]
    assert read_record(home / "killed") == read_record(home / "unbroken")


def run_as_one_of_two(monkeypatch, rank: int, port: int, *options: str) -> None:
    """Run the script as `accelerate launch` does: what it tells its processes is in the environment."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    told = {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    # the launcher holds the store in which they find each other
    told |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    for name, value in {**numbers, **told}.items():
        monkeypatch.setenv(name, str(value))
    with open(f"printed-{rank}", "w") as printed, redirect_stdout(printed):
        run(monkeypatch, *options)


def test_two_processes_learn_what_one_learns(home: Path, monkeypatch) -> None:
    from torch.distributed import TCPStore

    # in bfloat16, which a processor with AMX takes, sums of other batches round differently
    options = [*OPTIONS, *GRID, "--epochs", "1", "--precision", "float32"]
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = [*options, "--output_dir", "two", "--batch_size", "4"]
    works = [partial(run_as_one_of_two, monkeypatch, rank, store.port, *shared) for rank in range(2)]
    logs = [home / f"{rank}.log" for rank in range(2)]
    assert run_forked_together(works, logs) == [0, 0], [log.read_text()[-2000:] for log in logs]
    # the first process alone prints
    assert json.loads((home / "printed-0").read_text())["rows"] == 32
    assert (home / "printed-1").read_text() == ""
    run(monkeypatch, *options, "--output_dir", "one")
    assert [read_record(home / name).config["processes"] for name in ("two", "one")] == [2, 1]
    one = load_file(home / "one" / "model.safetensors")
    for name, value in load_file(home / "two" / "model.safetensors").items():
        torch.testing.assert_close(value, one[name], rtol=1e-4, atol=1e-5)
