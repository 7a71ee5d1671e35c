"""Reinforcement runs as a whole on a tiny model, and what it is paid for becomes more common."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from statistics import mean

import pytest
import yaml
from small_training import options_for, run_script
from stored_rows import write_dataset

from connectomebench.models.model_record import read_record

SCRIPT = Path(__file__).parents[2] / "training" / "grpo_vlm.py"
STEPS = 10


def reinforce(*options: str) -> None:
    """Run the script as from the command line, in this process."""
    before = sys.argv
    sys.argv = [str(SCRIPT), *options]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def options(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options of a run that starts from a base which answers in the form asked for about every second time."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    home = tmp_path_factory.mktemp("grpo")
    dataset = write_dataset(home / "data")
    numbers = {"max_steps": 18, "save_steps": 18, "eval_steps": 18, "per_device_train_batch_size": 4, "lora_r": 16}
    taught = options_for(dataset, tiny_vlm, **numbers, learning_rate=0.03, lora_dropout=0.0)
    run_script(*taught, "--output_dir", str(home / "taught"))
    model = AutoModelForImageTextToText.from_pretrained(tiny_vlm, use_safetensors=True)
    base = Path(shutil.copytree(tiny_vlm, home / "base"))
    PeftModel.from_pretrained(model, home / "taught").merge_and_unload().save_pretrained(base)

    named = ("--task", "merge_action", "--species", "fly", "--dataset", str(dataset), "--model", str(base))
    given = {
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "num_generations": 8,
        "per_device_train_batch_size": 32,
        "max_completion_length": 12,
        "learning_rate": 0.01,
        "lora_r": 8,
        "gradient_checkpointing": False,
    }
    return (*named, *(text for name, value in given.items() for text in (f"--{name}", str(value))))


@pytest.fixture(scope="module")
def reinforced(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reinforced") / "adapter"
    reinforce(*options, "--rewards", "format", "exact", "--reward_weights", "1", "0.1", "--output_dir", str(folder))
    return folder


def test_what_is_paid_for_becomes_more_common(reinforced: Path):
    log = [entry for entry in json.loads((reinforced / "training_log.json").read_text()) if "reward" in entry]
    assert len(log) == STEPS
    paid = [entry["rewards/format_reward/mean"] for entry in log]
    assert mean(paid[-4:]) > mean(paid[:4]) + 0.1
    for entry in log:
        parts = [entry[f"rewards/{name}_reward/mean"] for name in ("format", "exact")]
        assert all(0 <= part <= 1 for part in parts) and parts[1] <= parts[0]
        assert entry["reward"] == pytest.approx(parts[0] + 0.1 * parts[1], abs=1e-3)


def test_the_adapter_is_recorded(reinforced: Path, options: tuple[str, ...]):
    from safetensors.numpy import load_file

    record = read_record(reinforced)
    assert (record.kind, record.task) == ("adapter", "merge_action")
    assert record.config["rewards"] == {"format": 1.0, "exact": 0.1}
    assert (record.config["answer_style"], record.config["asks_confidence"]) == ("answer", False)
    assert record.config["steps"] == STEPS and record.config["training"]["num_generations"] == 8
    assert [(one.partition, one.rows) for one in record.trained_on] == [("train", {"no": 4, "yes": 4})]
    written = (reinforced / "training_config.yaml").read_text()
    assert "vllm" not in written and "0.0.0.0" not in written and str(reinforced.parent) not in written
    assert yaml.safe_load(written)["rewards"] == record.config["rewards"]
    weights = load_file(reinforced / "adapter_model.safetensors")
    assert {name.split(".")[2] for name in weights} == {"model"} and not any(
        "visual.blocks" in name for name in weights
    )
    # an adapter starts with these at zero
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)
    named = {path.name for path in reinforced.iterdir() if not path.name.startswith("checkpoint-")}
    assert named == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "connectomebench.json",
        "test_indices.json",
        "training_config.yaml",
        "training_curve.png",
        "training_log.json",
    }
    assert json.loads((reinforced / "adapter_config.json").read_text())["base_model_name_or_path"] == options[7]


def test_a_run_that_was_broken_off_ends_as_if_it_had_not_been(options: tuple[str, ...], tmp_path: Path):
    # a prompt a step, half a pass over the eight rows
    short = (*options, "--max_steps", "4", "--save_steps", "2", "--per_device_train_batch_size", "8")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reinforce(*short, "--output_dir", str(whole))
    broken.mkdir()
    shutil.copytree(whole / "checkpoint-2", broken / "checkpoint-2")
    shutil.copy(whole / "training_config.yaml", broken)
    state = broken / "checkpoint-2" / "trainer_state.json"
    written = state.stat().st_mtime_ns
    reinforce(*short, "--output_dir", str(broken))
    # not made again
    assert state.stat().st_mtime_ns == written
    for name in ("adapter_model.safetensors", "training_config.yaml"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert read_record(broken).revision == read_record(whole).revision
    with pytest.raises(SystemExit, match=r"another configuration.*rewards"):
        reinforce(*short, "--rewards", "format", "--output_dir", str(broken))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rewards", "distance"), "leave out the distance"),
        (("--rewards", "calibration"), "calibration needs exact"),
        (("--rewards", "exact", "--reward_weights", "1", "2"), "weight"),
        (("--eval_strategy", "steps", "--eval_steps", "1"), "eval_strategy"),
        (("--resume", "perhaps"), "auto or never"),
        (("--answer_style", "essay"), "unknown answer_style 'essay'"),
        (("--answer_style", "analysis"), "max_completion_length is 64, too short for an analysis"),
        (("--report_to", "nowhere"), "nowhere is not supported"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_read(more: tuple[str, ...], message: str, tmp_path: Path):
    missing = ("--task", "merge_action", "--species", "fly", "--dataset", str(tmp_path / "none"), "--model", "none")
    with pytest.raises(SystemExit, match=message):
        reinforce(*missing, *more, "--output_dir", str(tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()
