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
from dataclasses import dataclass, field

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.finetuning.network_script import RunArguments, held_out_scores
from connectomebench.models.multitask_init import MultitaskConfig


@dataclass(kw_only=True)
class ScriptArguments(RunArguments):
    """Training data and output folder."""

    data: list[str] = field(
        metadata={
            "help": "Datasets, each as SPECIES:DATASET with a folder or a Hub id of one task; after it @REVISION of "
            "the Hub, and :TASK for a public dataset that holds several."
        }
    )


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
        metadata={"help": "none, or published: mirrors, 10 degrees, 20%% brightness and contrast."},
    )
    precision: str = field(
        default=MultitaskConfig.precision,
        metadata={"help": "auto (bfloat16 on a GPU or a processor with AMX), float32 or bfloat16."},
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

    ################
    # Dataset
    ################
    specs = [parse_data_spec(text) for text in script.data]
    # one process fills the cache, the others read it
    with processes.main_process_first():
        rows = {name: [spec.load(name, geometry=config.geometry) for spec in specs] for name in script.partitions}

    ################
    # Training
    ################
    train, validation = rows[script.train_partition], rows[script.validation_partition]
    model = train_multitask(train, validation, config, script.checkpoints, resume=script.resume == "auto")
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
        "temperatures": {name: round(value, 4) for name, value in model.record.config["temperatures"].items()},
        "scores": [
            {"task": one.data.task, "species": one.data.species, **held_out_scores(model, one, script.eval_partition)}
            for one in rows[script.eval_partition]
        ],
    }
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([ScriptArguments, MultitaskArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
