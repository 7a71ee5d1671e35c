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
from dataclasses import dataclass, field
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.finetuning.network_script import DatasetArguments, held_out_scores
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
        metadata={"help": "none, or published: mirrors, 10 degrees, 20%% brightness and contrast."},
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
        default=ImageClassifierConfig.precision,
        metadata={"help": "auto (bfloat16 on a GPU or a processor with AMX), float32 or bfloat16."},
    )
    seed: int = field(
        default=ImageClassifierConfig.seed, metadata={"help": "Of weights, order, dropout and random changes."}
    )


def main(script: DatasetArguments, arguments: ImageClassifierArguments) -> None:
    """Load, train, save, score."""
    from accelerate import PartialState
    from torch.cuda import is_available

    from connectomebench.models.checkpoints import remove_checkpoints
    from connectomebench.models.image_classifier_training import train_image_classifier

    processes = PartialState(cpu=not is_available())
    config = classifier_config(**vars(arguments))

    ################
    # Dataset
    ################
    # one process fills the cache, the others read it
    with processes.main_process_first():
        rows = script.load()
    train = rows[script.train_partition]

    ################
    # Training
    ################
    validation = rows[script.validation_partition].dataset
    model = train_image_classifier(
        train.dataset, validation, [train.data], config, script.checkpoints, resume=script.resume == "auto"
    )
    # all have read the best weights before they are removed
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return
    model.save(script.output_dir)
    remove_checkpoints(script.checkpoints)

    ################
    # Evaluation
    ################
    scores = {
        "partition": script.eval_partition,
        "chosen_on_these_rows": script.chosen_on_these_rows,
        "best_epoch": model.record.config["best_epoch"],
        "temperature": round(model.record.config["temperature"], 4),
        **held_out_scores(model, rows[script.eval_partition], script.eval_partition),
    }
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([DatasetArguments, ImageClassifierArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
