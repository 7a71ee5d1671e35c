r"""Train one vision transformer on several tasks and species, and score it on the validation rows of each.

    python training/train_multitask.py --data fly:out/merge_action fly:out/split_action mouse:out/merge_action \
        --output_dir multitask

The default backbone, ViT-B/16 of timm, comes from the Hub. Without a network take an architecture alone, or a folder
with a model of timm:

    python training/train_multitask.py --data fly:out/merge_action fly:out/merge_error_identification \
        --backbone vit_tiny_patch16_224 --init random --output_dir multitask

On the rows of ConnectomeBench2, and with the geometry channels of rows that were built with them:

    python training/train_multitask.py --data mouse:jeffbbrown2/ConnectomeBench2:merge_action \
        mouse:jeffbbrown2/ConnectomeBench2:merge_error_identification --output_dir multitask
    python training/train_multitask.py --data fly:out/merge_action fly:out/split_action --geometry true \
        --output_dir multitask-geometry

Several GPUs: accelerate launch --multi_gpu --num_processes 4 training/train_multitask.py ...
The same command resumes a run that was interrupted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.models.multitask_init import MultitaskConfig

if TYPE_CHECKING:
    from connectomebench.dataset.rows import Rows
    from connectomebench.evaluation.statistics import Estimate
    from connectomebench.models.multitask import MultitaskModel


@dataclass
class ScriptArguments:
    """Training data and output folder."""

    data: list[str] = field(
        metadata={
            "help": "Datasets, each as SPECIES:DATASET with a folder or a Hub id of one task; after it @REVISION of "
            "the Hub, and :TASK for a public dataset that holds several."
        }
    )
    output_dir: Path = field(metadata={"help": "Folder of the model: config.json, model.safetensors and the record."})
    train_partition: str = field(default="train", metadata={"help": "Partition to train on."})
    validation_partition: str = field(
        default="validation", metadata={"help": "Partition that chooses the epoch and the temperatures."}
    )
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
class MultitaskArguments:
    """Training settings; see connectomebench.models.multitask_init.MultitaskConfig."""

    backbone: str = field(
        default=MultitaskConfig.backbone,
        metadata={"help": "Vision transformer of timm: its name, a Hub id, or a folder."},
    )
    backbone_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    init: str = field(default=MultitaskConfig.init, metadata={"help": "pretrained, or random: the architecture alone."})
    geometry: bool = field(
        default=MultitaskConfig.geometry, metadata={"help": "Show the geometry channels, which all rows then need."}
    )
    input_px: int | None = field(default=None, metadata={"help": "Edge of the pictures; the backbone's by default."})
    mix: str = field(
        default=MultitaskConfig.mix,
        metadata={"help": "rows: an epoch has as many rows of a task as there are; equal: as many of each task."},
    )
    epochs: int = field(default=MultitaskConfig.epochs, metadata={"help": "Most epochs."})
    patience: int = field(default=MultitaskConfig.patience, metadata={"help": "Epochs without a better one."})
    batch_size: int = field(default=MultitaskConfig.batch_size, metadata={"help": "Rows a step and process."})
    learning_rate: float = field(default=MultitaskConfig.learning_rate, metadata={"help": "Highest rate."})
    warmup: float = field(default=MultitaskConfig.warmup, metadata={"help": "Share of steps that warm up."})
    weight_decay: float = field(default=MultitaskConfig.weight_decay, metadata={"help": "Of AdamW."})
    dropout: float = field(default=MultitaskConfig.dropout, metadata={"help": "Share of dropped features."})
    drop_path: float = field(default=MultitaskConfig.drop_path, metadata={"help": "Highest share of skipped blocks."})
    augment: str = field(
        default=MultitaskConfig.augment,
        metadata={"help": "none, or published: mirrors, 10 degrees, 20% brightness and contrast."},
    )
    precision: str = field(
        default=MultitaskConfig.precision, metadata={"help": "auto (bfloat16 on a GPU), float32 or bfloat16."}
    )
    seed: int = field(default=MultitaskConfig.seed, metadata={"help": "Of weights, order, dropout and random changes."})


def main(script: ScriptArguments, arguments: MultitaskArguments) -> None:
    """Load, train, save, score."""
    from accelerate import PartialState
    from torch.cuda import is_available

    from connectomebench.dataset.data_spec import parse_data_spec
    from connectomebench.models.checkpoints import remove_checkpoints
    from connectomebench.models.multitask_training import train_multitask

    processes = PartialState(cpu=not is_available())
    config = MultitaskConfig(**vars(arguments))
    checkpoints = script.checkpoint_dir or script.output_dir.with_name(f"{script.output_dir.name}-checkpoint")

    ################
    # Dataset
    ################
    names = {script.train_partition, script.validation_partition, script.eval_partition}
    specs = [parse_data_spec(text) for text in script.data]
    # one process fills the cache, the others read it
    with processes.main_process_first():
        rows = {name: [spec.load(name, geometry=config.geometry) for spec in specs] for name in sorted(names)}

    ################
    # Training
    ################
    train, validation = rows[script.train_partition], rows[script.validation_partition]
    model = train_multitask(train, validation, config, checkpoints, resume=script.resume == "auto")
    # all have read the best weights before they are removed
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return
    model.save(script.output_dir)
    remove_checkpoints(checkpoints)

    ################
    # Evaluation
    ################
    scores = {
        "partition": script.eval_partition,
        "chosen_on_these_rows": script.eval_partition in (script.validation_partition, script.train_partition),
        "best_epoch": model.record.config["best_epoch"],
        "temperatures": {name: round(value, 4) for name, value in model.record.config["temperatures"].items()},
        "scores": [score(model, held_out, script.eval_partition) for held_out in rows[script.eval_partition]],
    }
    print(json.dumps(scores, indent=2))


def score(model: MultitaskModel, rows: Rows, partition: str) -> dict[str, Any]:
    """Score the model on one dataset: every metric with its 95% interval over groups."""
    from connectomebench.evaluation.results import read_results, summarise
    from connectomebench.evaluation.runner import evaluate_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        evaluate_model(model, rows.dataset, partition, rows.data.fingerprint, path)
        summary = summarise(read_results(path))[0]
    return {
        "task": rows.data.task,
        "species": rows.data.species,
        "rows": summary.n,
        "groups": summary.n_groups,
        **{name: _interval(estimate) for name, estimate in summary.estimates.items()},
    }


def _interval(estimate: Estimate) -> dict[str, float | None]:
    """Return value and 95% interval; null if undefined."""
    values = {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
    return {name: round(value, 4) if isfinite(value) else None for name, value in values.items()}


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([ScriptArguments, MultitaskArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
