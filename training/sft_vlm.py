# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "connectomebench[train]",
#     "bitsandbytes>=0.48",
# ]
# ///
r"""Fine-tune Qwen3-VL on one task with LoRA.

    accelerate launch --config_file accelerate_configs/fsdp2_2gpu.yaml training/sft_vlm.py \
        --task merge_action --species mouse --model Qwen/Qwen3-VL-32B-Instruct

All defaults are those of the published adapters. --dry_run true describes a run without training, --config FILE.yaml
reads options from a file, and the same command resumes an interrupted run:

    python training/sft_vlm.py --task merge_action --species fly --dataset out/merge_action \
        --model Qwen/Qwen3-VL-2B-Instruct --dry_run true

--answer_style analysis trains on a teacher's analysis before the answer, from a dataset to which `connectomebench
teacher` has added replies.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.finetuning.adapter import open_base
from connectomebench.finetuning.completions import StyleConfig
from connectomebench.finetuning.data import load_training_data
from connectomebench.finetuning.dry_run import dry_run
from connectomebench.finetuning.run_fingerprint import full_configuration
from connectomebench.finetuning.saving import save_adapter
from connectomebench.finetuning.settings import (
    AdapterConfig,
    DataConfig,
    checked_arguments,
    recipe,
)
from connectomebench.finetuning.trainer import explain_errors, make_trainer
from connectomebench.models.checkpoints import prepare_output, resume_training

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig


@dataclass
class ScriptArguments:
    """Dry run and resuming."""

    dry_run: bool = field(default=False, metadata={"help": "Describe the run without training."})
    resume: str = field(
        default="auto",
        metadata={
            "help": "auto: resume from the newest complete checkpoint in output_dir; never: delete them and restart."
        },
    )

    def __post_init__(self) -> None:
        if self.resume not in ("auto", "never"):
            raise ConnectomeBenchError(f"unknown resume {self.resume!r}; choose auto or never")


def main(
    script: ScriptArguments, rows: DataConfig, style: StyleConfig, adapter: AdapterConfig, args: SFTConfig
) -> None:
    """Load, train, save."""
    checked_arguments(args, rows, adapter)

    ################
    # Dataset
    ################
    # one process fills the cache, the others read it
    with args.main_process_first():
        data = load_training_data(rows, args.seed, style=style)

    ################
    # Model
    ################
    with args.main_process_first():
        base = open_base(adapter)
    if script.dry_run:
        if args.process_index == 0:
            print(dry_run(base, data, adapter, args))
        return

    ################
    # Training
    ################
    configuration = full_configuration(rows, adapter, args, data, base)
    with args.main_process_first(local=False):
        checkpoint = prepare_output(Path(str(args.output_dir)), configuration, script.resume == "auto")
    trainer = make_trainer(base, data, adapter, args)
    with explain_errors(args):
        resume_training(trainer, checkpoint)

    ################
    # Saving
    ################
    save_adapter(trainer, base, data, configuration)


if __name__ == "__main__":
    from yaml import YAMLError

    try:
        with extras_named():
            from trl import SFTConfig, TrlParser  # pyright: ignore[reportPrivateImportUsage]
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
    parser = TrlParser([ScriptArguments, DataConfig, StyleConfig, AdapterConfig, SFTConfig])  # type: ignore[arg-type]
    parser.set_defaults_with_config(**recipe())
    try:
        options = parser.parse_args_and_config()
    except (ConnectomeBenchError, OSError, TypeError, ValueError, YAMLError) as error:
        sys.exit(f"error: {error}")
    try:
        main(*options)
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
