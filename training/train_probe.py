r"""Train a probe (frozen encoder, logistic regression) on one task and species and score it on the validation rows.

    python training/train_probe.py --dataset out/merge_action --encoder efficientnet_lite0 --output_dir probe

That encoder needs no download; the default one, of the published probes, comes from the Hub:

    python training/train_probe.py --dataset connectomebench/merge_action --species mouse --output_dir probe-mouse
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.core.tasks import get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.models.choices import ChoiceModel, train_any
from connectomebench.models.probe import Probe, ProbeConfig, train_probe
from connectomebench.models.registry import save_head_model

if TYPE_CHECKING:
    from datasets import Dataset

    from connectomebench.dataset.rows import Rows


@dataclass
class ScriptArguments:
    """Training data and output folder."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id of one task."})
    output_dir: Path = field(
        metadata={"help": "Folder of the trained probe: config.json, head.skops, connectomebench.json."}
    )
    task: str | None = field(default=None, metadata={"help": "Task to ask of a public dataset that holds several."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    species: str = field(default="fly", metadata={"help": "Config of the dataset."})
    train_partition: str = field(default="train", metadata={"help": "Partition to learn from."})
    eval_partition: str = field(default="validation", metadata={"help": "Partition to score."})
    cache_dir: Path = field(
        default=Path("features"), metadata={"help": "Vectors of the encoder are kept here, by content of the image."}
    )


@dataclass
class ProbeArguments:
    """Probe settings; see connectomebench.models.probe.ProbeConfig."""

    encoder: str = field(
        default=ProbeConfig.encoder,
        metadata={"help": "Hub id or folder (of a VLM with :tower or :merger), or efficientnet_lite0."},
    )
    encoder_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    pooling: str = field(
        default=ProbeConfig.pooling,
        metadata={"help": "mean, max, cls, or parts: a mean for each part shown and what lies between."},
    )
    head: str = field(default=ProbeConfig.head, metadata={"help": "logistic or mlp."})
    folds: int = field(default=ProbeConfig.folds, metadata={"help": "Folds of the grouped cross-validation."})
    c_grid: list[float] = field(
        default_factory=lambda: list(ProbeConfig.c_grid), metadata={"help": "Inverse penalties to choose from."}
    )
    layout: str = field(
        default=ProbeConfig.layout,
        metadata={"help": "views: vectors of the views joined; averaged: over directions; grid: one of all in a grid."},
    )
    scale_floor: float = field(
        default=ProbeConfig.scale_floor,
        metadata={"help": "Share of the median deviation below which features are not stretched to 1; 0: never."},
    )
    seed: int = field(default=ProbeConfig.seed, metadata={"help": "Of folds and perceptron."})


def main(script: ScriptArguments, arguments: ProbeArguments) -> None:
    """Load, train, score, save."""
    from sklearn.metrics import balanced_accuracy_score

    ################
    # Dataset
    ################
    rows_of = partial(load_rows, script.dataset, script.species, revision=script.dataset_revision, task=script.task)
    train, held_out = rows_of(script.train_partition), rows_of(script.eval_partition).dataset
    if get_task(train.data.task).scoring == "places":
        train_on_places(script, arguments, train, held_out)
        return

    ################
    # Training
    ################
    learn = partial(train_probe, config=ProbeConfig(**vars(arguments)), cache=script.cache_dir)
    probe = train_any(train.dataset, held_out, learn)

    ################
    # Evaluation
    ################
    answers = [
        answer for start in range(0, len(held_out), 64) for answer in probe.predict(held_out[start : start + 64])
    ]
    truth = list(held_out["answer"])
    accuracy = balanced_accuracy_score(truth, [answer.prediction for answer in answers])
    brier = sum(
        sum((p - (name == true)) ** 2 for name, p in answer.probabilities.items())
        for answer, true in zip(answers, truth, strict=True)
    ) / len(truth)

    ################
    # Saving
    ################
    save_head_model(probe, script.output_dir, train.data)
    judge = cast("Probe", probe.inner if isinstance(probe, ChoiceModel) else probe)
    scores = {
        "rows": len(truth),
        "balanced_accuracy": round(accuracy, 4),
        "brier_score": round(brier, 4),
        "cross_validated_balanced_accuracy": round(judge.head.cross_validation["balanced_accuracy"], 4),
        "chosen": judge.head.cross_validation["chosen"],
    }
    print(json.dumps(scores, indent=2))


def train_on_places(script: ScriptArguments, arguments: ProbeArguments, train: Rows, held_out: Dataset) -> None:
    """Train a probe that scores the numbered nodes of a view, where answers are places."""
    from connectomebench.evaluation.place_cues import score_place_cues
    from connectomebench.models.node_probe import NodeProbeConfig, mean_score, train_node_probe

    config = NodeProbeConfig(
        arguments.encoder,
        arguments.encoder_revision,
        arguments.folds,
        tuple(arguments.c_grid),
        arguments.seed,
        arguments.scale_floor,
    )
    probe = train_node_probe(train.dataset, config)
    save_head_model(probe, script.output_dir, train.data)
    found = score_place_cues(held_out)
    scores = {
        "rows": len(held_out),
        "place_score": round(mean_score(probe, held_out), 4),
        "random_node": round(found.chance, 4),
        "best_node": round(found.best, 4),
        "chosen": probe.head.cross_validation["chosen"],
    }
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([ScriptArguments, ProbeArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
