r"""Fine-tune an image classifier (ResNet-50, ViT, ...) on one task and species and score it on the validation rows.

    python training/train_image_classifier.py --dataset connectomebench/merge_action --species mouse --output_dir resnet

The backbone comes from the Hub. Without a network give a folder that holds one; its architecture alone, without its
weights, is enough for ``--init random``:

    python training/train_image_classifier.py --dataset out/merge_action --backbone backbones/resnet-18 --init random \
        --output_dir resnet

As the ResNets of ConnectomeBench2 were trained, on all views in one picture (others of them ``frozen`` or ``small``):

    python training/train_image_classifier.py --dataset connectomebench/merge_action --species mouse \
        --layout grid --train full --augment published --output_dir resnet-grid

Several GPUs: accelerate launch --multi_gpu --num_processes 4 training/train_image_classifier.py ...
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
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.evaluation.statistics import Estimate
from connectomebench.models.image_classifier_init import (
    PUBLISHED,
    SMALL_ROWS,
    ImageClassifierConfig,
    classifier_config,
)


def _setting(name: str, meaning: str) -> Any:
    """Return an option whose default depends on the layout."""
    defaults = f"{getattr(ImageClassifierConfig, name)}; {PUBLISHED[name]} with --layout grid"
    return field(default=None, metadata={"help": f"{meaning} ({defaults})."})


@dataclass
class ScriptArguments:
    """Training data and output folder."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id of one task."})
    output_dir: Path = field(metadata={"help": "Folder of the model: config.json, model.safetensors and the record."})
    species: str = field(default="fly", metadata={"help": "Config of the dataset."})
    task: str | None = field(default=None, metadata={"help": "Task to ask of a public dataset that holds several."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    train_partition: str = field(default="train", metadata={"help": "Partition to train on."})
    validation_partition: str = field(
        default="validation", metadata={"help": "Partition that chooses the epoch and the temperature."}
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
class ImageClassifierArguments:
    """Training settings; see connectomebench.models.image_classifier_init.ImageClassifierConfig."""

    backbone: str = field(default=ImageClassifierConfig.backbone, metadata={"help": "Hub id or folder."})
    backbone_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    init: str = field(
        default=ImageClassifierConfig.init, metadata={"help": "pretrained, or random: the architecture alone."}
    )
    layout: str = field(
        default=ImageClassifierConfig.layout,
        metadata={"help": "views: each view through the backbone; grid: all views in one picture, as published."},
    )
    train: str = field(
        default=ImageClassifierConfig.train,
        metadata={"help": f"full, frozen (the linear layer alone), or small (on {SMALL_ROWS} rows)."},
    )
    augment: str = field(
        default=ImageClassifierConfig.augment,
        metadata={"help": "none, or published: mirrors, 10 degrees, 20% brightness and contrast."},
    )
    input_px: int | None = field(
        default=None, metadata={"help": "Edge of the network's pictures; the backbone's by default, 224 for a grid."}
    )
    epochs: int | None = _setting("epochs", "Most epochs")
    patience: int | None = _setting("patience", "Epochs without a better one")
    batch_size: int | None = _setting("batch_size", "Rows a step and process")
    learning_rate: float | None = _setting("learning_rate", "Highest rate")
    warmup: float | None = _setting("warmup", "Share of steps that warm up")
    weight_decay: float | None = _setting("weight_decay", "Of AdamW")
    dropout: float | None = _setting("dropout", "Share of dropped features")
    choose_by: str | None = _setting("choose_by", "What chooses the epoch: accuracy or balanced_accuracy")
    precision: str = field(
        default=ImageClassifierConfig.precision, metadata={"help": "auto (bfloat16 on a GPU), float32 or bfloat16."}
    )
    seed: int = field(
        default=ImageClassifierConfig.seed, metadata={"help": "Of weights, order, dropout and random changes."}
    )


def main(script: ScriptArguments, arguments: ImageClassifierArguments) -> None:
    """Load, train, save, score."""
    from accelerate import PartialState
    from torch.cuda import is_available

    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.results import read_results, summarise
    from connectomebench.evaluation.runner import evaluate_model
    from connectomebench.models.checkpoints import remove_checkpoints
    from connectomebench.models.image_classifier_training import train_image_classifier

    processes = PartialState(cpu=not is_available())
    config = classifier_config(**vars(arguments))
    checkpoints = script.checkpoint_dir or script.output_dir.with_name(f"{script.output_dir.name}-checkpoint")

    ################
    # Dataset
    ################
    names = {script.train_partition, script.validation_partition, script.eval_partition}
    rows_of = partial(load_rows, script.dataset, script.species, revision=script.dataset_revision, task=script.task)
    # one process fills the cache, the others read it
    with processes.main_process_first():
        rows = {name: rows_of(name) for name in sorted(names)}
    train, held_out = rows[script.train_partition], rows[script.eval_partition]

    ################
    # Training
    ################
    validation = rows[script.validation_partition].dataset
    model = train_image_classifier(
        train.dataset, validation, [train.data], config, checkpoints, resume=script.resume == "auto"
    )
    # all have read the best weights before they are removed
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return
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
        "temperature": round(model.record.config["temperature"], 4),
        "rows": summary.n,
        "groups": summary.n_groups,
        **{name: _interval(estimate) for name, estimate in summary.estimates.items()},
    }
    print(json.dumps(scores, indent=2))


def _interval(estimate: Estimate) -> dict[str, float | None]:
    """Return value and 95% interval; null if undefined."""
    values = {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
    return {name: round(value, 4) if isfinite(value) else None for name, value in values.items()}


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([ScriptArguments, ImageClassifierArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
