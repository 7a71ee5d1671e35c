"""The script as the tests run it, and a small training."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "training" / "sft_vlm.py"


@dataclass(frozen=True)
class Training:
    """Options of a training, and the folder that it wrote."""

    options: tuple[str, ...]
    folder: Path
    dataset: Path
    base: Path


def options_for(dataset: Path, base: Path, **numbers: float) -> tuple[str, ...]:
    """Options of a few steps, on answers to the small rows."""
    numbers = {
        "max_steps": 6,
        "save_steps": 2,
        "eval_steps": 2,
        "logging_steps": 1,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 2,
        "lora_r": 4,
        "lora_dropout": 0.1,
    } | numbers
    named = ("--task", "merge_action", "--species", "fly", "--dataset", str(dataset), "--model", str(base))
    return (*named, *(text for name, value in numbers.items() for text in (f"--{name}", str(value))))


def run_script(*options: str) -> None:
    """Run the script as from the command line, in this process."""
    before = sys.argv
    sys.argv = [str(SCRIPT), *options]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = before


def parsed(*options: str):
    """Parse options as the script does: script, rows, adapter, training."""
    from trl import SFTConfig, TrlParser

    from connectomebench.finetuning.settings import AdapterConfig, DataConfig, recipe

    parser = TrlParser([DataConfig, AdapterConfig, SFTConfig])
    parser.set_defaults_with_config(**recipe())
    return parser.parse_args_and_config(list(options))
