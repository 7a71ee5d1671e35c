"""Reinforcement in the environment: a tiny model looks around with tools, and what it earns is what is right."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from small_places import TASK, write_places

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.environment.samples import open_samples
from connectomebench.environment.training import check_tools, open_training_samples
from connectomebench.models.model_record import read_record

SCRIPT = Path(__file__).parents[2] / "training" / "grpo_vlm.py"
CALL = '<tool_call>\n{"name": "%s", "arguments": {"%s": "%s"}}\n</tool_call><|im_end|>'
# a look from the side, the slice xy, then always yes
TURNS = (
    CALL % ("look", "view", "side"),
    CALL % ("slices", "plane", "xy"),
    CALL % ("answer", "label", "yes"),
    "Done.<|im_end|>",
)
PRICES = 0.01 + 0.02


def reinforce(*options: str) -> None:
    before = sys.argv
    sys.argv = [str(SCRIPT), *options]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def base(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with the chat template of Qwen3-VL, which has calls of tools."""
    import trl

    folder = Path(shutil.copytree(tiny_vlm, tmp_path_factory.mktemp("tools") / "tiny-vl"))
    template = (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="module")
def options(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    dataset = write_places(tmp_path_factory.mktemp("places"), partition="train")
    given = {
        "max_steps": 2,
        "save_steps": 1,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 512,
        "learning_rate": 0.01,
        "lora_r": 2,
        "gradient_checkpointing": False,
        "environment": True,
        "view_pixels": 32,
    }
    named = ("--task", TASK, "--species", "fly", "--dataset", str(dataset), "--model", str(base))
    return (*named, *(text for name, value in given.items() for text in (f"--{name}", str(value))))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Let the model say :data:`TURNS`; everything else, tools, pictures and the step itself, is TRL's.

    A random model calls no tool. Returns the numbers of pictures that each turn had been shown.
    """
    from trl.trainer.grpo_trainer import GRPOTrainer

    shown: list[list[int]] = []

    def turn(self: Any, prompt_ids: Any, images: Any, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        text = TURNS[len(shown) % len(TURNS)]
        shown.append([len(one) for one in images])
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [list(ids) for _ in prompt_ids], None

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", turn)
    return shown


def test_an_episode_pays_for_its_answer_less_its_views(
    options: tuple[str, ...], scripted: list[list[int]], tmp_path: Path
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reinforce(*options, "--output_dir", str(whole))
    # two steps of four turns, with the pictures of all views so far
    assert [set(one) for one in scripted] == [{1}, {2}, {3}, {3}] * 2
    log = [entry for entry in json.loads((whole / "training_log.json").read_text()) if "reward" in entry]
    rows = load_rows(options[5], "fly", "train").dataset
    for entry in log:
        right = entry["reward"] + PRICES  # of two episodes of one row, which say the same
        assert entry["tools/call_frequency"] == 3 and entry["tools/failure_frequency"] == 0
        assert right == pytest.approx(round(right), abs=1e-3) and round(right) in (0, 1)
        assert entry["rewards/LookAroundTools/mean"] == pytest.approx(entry["reward"])
    assert len(log) == 2 and {row["answer"] for row in rows} == {"no", "yes"}
    record = read_record(whole)
    assert record.config["rewards"] == {"environment": 1.0} and record.config["environment"]["pixels"] == 32

    broken.mkdir()
    shutil.copytree(whole / "checkpoint-1", broken / "checkpoint-1")
    shutil.copy(whole / "training_config.yaml", broken)
    reinforce(*options, "--output_dir", str(broken))
    assert len(scripted) == 12  # the first step was not made again
    for name in ("adapter_model.safetensors", "training_config.yaml"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    with pytest.raises(SystemExit, match=r"another configuration.*environment"):
        reinforce(*options, "--view_price", "0.5", "--output_dir", str(broken))


def test_a_random_model_makes_a_step(options: tuple[str, ...], tmp_path: Path):
    short = ("--max_steps", "1", "--max_completion_length", "256")
    reinforce(*options, *short, "--temperature", "5", "--output_dir", str(tmp_path / "adapter"))
    log = json.loads((tmp_path / "adapter" / "training_log.json").read_text())
    assert log[0]["tools/call_frequency"] == 0 and log[0]["reward"] == 0  # it never answers, which counts as wrong


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rewards", "exact"), "leave out --rewards"),
        (("--reward_weights", "1"), "leave out --reward_weights"),
        (("--max_completion_length", "64"), "too short for an episode"),
        (("--view_price", "-1"), "prices must not be negative"),
        (("--environment", "false"), "--view_pixels needs --environment true"),
    ],
)
def test_what_cannot_work_is_refused(options: tuple[str, ...], more: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(SystemExit, match=message):
        reinforce(*options, *more, "--output_dir", str(tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()


def test_rows_and_base_must_allow_it(options: tuple[str, ...], tiny_vlm: Path, base: Path, tmp_path: Path):
    from transformers import AutoProcessor

    rows = open_samples(Path(options[5]), "fly", "train")
    ids = [row.sample_id for row in rows.rows]
    assert len(open_training_samples(options[5], ["fly"], ids)) == len(ids)
    for dataset, species, wanted, message in (
        ("org/name", ["fly"], ids, "is no folder"),
        (options[5], ["fly", "mouse"], ids, "holds one species"),
        (options[5], ["fly"], [*ids, "another"], "1 of .* training rows"),
    ):
        with pytest.raises(ConnectomeBenchError, match=message):
            open_training_samples(dataset, species, wanted)
    check_tools(AutoProcessor.from_pretrained(base), "tiny")
    with pytest.raises(ConnectomeBenchError, match="the chat template of tiny has no calls of tools"):
        check_tools(AutoProcessor.from_pretrained(tiny_vlm), "tiny")
