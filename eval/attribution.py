r"""Show what a model looks at, and measure whether the maps are to be believed.

    python eval/attribution.py --model quickstart-out/models/probe/merge_action/fly \
        --dataset quickstart-out/merge_action --output_dir quickstart-out/attribution/merge_action/fly/probe

Writes attribution.json, sweep.png (every method over every layer) and a picture for each of the first rows; the report
page shows what is in OUT/attribution. Needs pip install 'connectomebench[attribution]'.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named, require_modules
from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.attribution_files import write_attribution
from connectomebench.evaluation.attribution_run import AttributionConfig, explain_rows
from connectomebench.models.registry import load_model


@dataclass
class ScriptArguments:
    """What is explained, on which rows, and where it goes."""

    model: str = field(metadata={"help": "Folder or Hub id of the model."})
    dataset: str = field(metadata={"help": "Dataset folder or Hub id of one task."})
    output_dir: Path = field(metadata={"help": "Folder of attribution.json, sweep.png and row-NN.png."})
    base: str | None = field(default=None, metadata={"help": "Base of an adapter; the one it names by default."})
    species: str = field(default="fly", metadata={"help": "Config of the dataset."})
    partition: str = field(default="test", metadata={"help": "Partition whose rows are explained."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    task: str | None = field(default=None, metadata={"help": "Task to ask of a public dataset that holds several."})
    methods: list[str] = field(
        default_factory=list,
        metadata={"help": "layercam, gradcam, eigencam, eigengradcam, attnlrp; all that fit by default."},
    )
    swept: list[str] = field(
        default_factory=lambda: list(AttributionConfig.swept),
        metadata={"help": "Methods whose faithfulness is measured at every layer, not at the last alone."},
    )
    rows: int = field(default=AttributionConfig.rows, metadata={"help": "Rows that are explained."})
    random_orders: int = field(default=AttributionConfig.random_orders, metadata={"help": "Random orders a row."})
    pictures: int = field(default=6, metadata={"help": "Rows that are drawn."})
    seed: int = field(default=0, metadata={"help": "Of rows, random orders and shuffled weights."})


def main(arguments: ScriptArguments) -> None:
    """Load, explain, write."""
    require_modules("torch", "pytorch_grad_cam")
    rows = load_rows(
        arguments.dataset,
        arguments.species,
        arguments.partition,
        arguments.dataset_revision,
        task=arguments.task,
    )
    config = AttributionConfig(
        cast(Any, tuple(arguments.methods)),
        cast(Any, tuple(arguments.swept)),
        arguments.rows,
        arguments.random_orders,
        arguments.seed,
    )
    found = explain_rows(load_model(arguments.model, base=arguments.base), rows, config)
    for path in write_attribution(found, arguments.output_dir, arguments.pictures):
        print(path)


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            main(*HfArgumentParser([ScriptArguments]).parse_args_into_dataclasses())  # type: ignore[arg-type]
    except ConnectomeBenchError as error:
        sys.exit(f"attribution.py: {error}")
