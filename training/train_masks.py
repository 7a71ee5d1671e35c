r"""Train a small U-Net on masks of a split and score it on the validation rows.

    python training/train_masks.py --dataset connectomebench/split_mask_generation --species mouse --output_dir masks

Without a GPU and on few rows:

    python training/train_masks.py --dataset quickstart-out/split_mask_generation --epochs 30 --output_dir masks

The same command resumes a run that was interrupted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.evaluation.mask_scores import MASK_METRICS


@dataclass
class ScriptArguments:
    """Training data and output folder."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id of split_mask_generation."})
    output_dir: Path = field(metadata={"help": "Folder of the model: config.json, model.safetensors and the record."})
    species: str = field(default="fly", metadata={"help": "Config of the dataset."})
    task: str | None = field(default=None, metadata={"help": "Task to ask of a public dataset that holds several."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    train_partition: str = field(default="train", metadata={"help": "Partition to train on."})
    validation_partition: str = field(default="validation", metadata={"help": "Partition that chooses the epoch."})
    eval_partition: str = field(default="validation", metadata={"help": "Partition to score."})
    checkpoint_dir: Path | None = field(
        default=None,
        metadata={"help": "State after each epoch, removed at the end; OUTPUT_DIR-checkpoint by default."},
    )
    resume: str = field(
        default="auto",
        metadata={"help": "auto resumes from the newest whole checkpoint; never removes them and starts again."},
    )

    def __post_init__(self) -> None:
        if self.resume not in ("auto", "never"):
            raise ConnectomeBenchError(f"unknown resume {self.resume!r}; choose auto or never")


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


def main(script: ScriptArguments, arguments: MaskArguments) -> None:
    """Load, train, save, score."""
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.results import read_results, summarise
    from connectomebench.evaluation.runner import evaluate_model
    from connectomebench.models.checkpoints import remove_checkpoints
    from connectomebench.models.mask_training import MaskTrainingConfig, train_masks

    config = MaskTrainingConfig(**vars(arguments))
    checkpoints = script.checkpoint_dir or script.output_dir.with_name(f"{script.output_dir.name}-checkpoint")

    ################
    # Dataset
    ################
    names = {script.train_partition, script.validation_partition, script.eval_partition}
    rows_of = partial(load_rows, script.dataset, script.species, revision=script.dataset_revision, task=script.task)
    rows = {name: rows_of(name) for name in sorted(names)}
    train, held_out = rows[script.train_partition], rows[script.eval_partition]

    ################
    # Training
    ################
    validation = rows[script.validation_partition].dataset
    model = train_masks(train.dataset, validation, [train.data], config, checkpoints, resume=script.resume == "auto")
    model.save(script.output_dir)
    remove_checkpoints(checkpoints)

    ################
    # Evaluation
    ################
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        evaluate_model(model, held_out.dataset, script.eval_partition, held_out.data.fingerprint, path)
        summary = summarise(read_results(path))[0]
    scores = {
        "partition": script.eval_partition,
        "chosen_on_these_rows": script.eval_partition in (script.validation_partition, script.train_partition),
        "best_epoch": model.record.config["best_epoch"],
        "rows": summary.n,
        "groups": summary.n_groups,
    }
    for name in MASK_METRICS:
        found = summary.estimates[name]
        values = {"value": found.value, "lower": found.lower, "upper": found.upper}
        scores[name] = {key: round(value, 4) if isfinite(value) else None for key, value in values.items()}
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([ScriptArguments, MaskArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
