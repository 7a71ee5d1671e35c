r"""Train a small U-Net on masks of a split and score it on the validation rows.

    python training/train_masks.py --dataset connectomebench/split_mask_generation --species mouse --output_dir masks

Without a GPU and on few rows:

    python training/train_masks.py --dataset quickstart-out/split_mask_generation --epochs 30 --output_dir masks

The same command resumes a run that was interrupted.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.evaluation.mask_scores import MASK_METRICS
from connectomebench.finetuning.network_script import DatasetArguments, held_out_scores


@dataclass
class MaskArguments:
    """Training settings; see connectomebench.models.mask_training.MaskTrainingConfig."""

    input_px: int = field(default=128, metadata={"help": "Edge of the pictures that the network sees."})
    width: int = field(default=16, metadata={"help": "Channels of the finest level."})
    depth: int = field(default=4, metadata={"help": "How often pictures are halved."})
    dropout: float = field(default=0.1, metadata={"help": "Share of channels dropped at the coarsest level."})
    epochs: int = field(default=60, metadata={"help": "Most epochs."})
    patience: int = field(default=15, metadata={"help": "Epochs without a better one."})
    batch_size: int = field(default=8, metadata={"help": "Rows a step."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Highest rate."})
    warmup: float = field(default=0.05, metadata={"help": "Share of steps that warm up."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of AdamW."})
    turns: bool = field(default=True, metadata={"help": "Turn and mirror rows at random."})
    seed: int = field(default=0, metadata={"help": "Of weights, order, turns and dropout."})


def main(script: DatasetArguments, arguments: MaskArguments) -> None:
    """Load, train, save, score."""
    from connectomebench.models.checkpoints import remove_checkpoints
    from connectomebench.models.mask_training import MaskTrainingConfig, train_masks

    config = MaskTrainingConfig(**vars(arguments))

    ################
    # Dataset
    ################
    rows = script.load()
    train = rows[script.train_partition]

    ################
    # Training
    ################
    validation = rows[script.validation_partition].dataset
    model = train_masks(
        train.dataset, validation, [train.data], config, script.checkpoints, resume=script.resume == "auto"
    )
    model.save(script.output_dir)
    remove_checkpoints(script.checkpoints)

    ################
    # Evaluation
    ################
    scores = {
        "partition": script.eval_partition,
        "chosen_on_these_rows": script.chosen_on_these_rows,
        "best_epoch": model.record.config["best_epoch"],
        **held_out_scores(model, rows[script.eval_partition], script.eval_partition, MASK_METRICS),
    }
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([DatasetArguments, MaskArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
