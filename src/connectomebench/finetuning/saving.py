"""Save the results of fine-tuning: adapter, record, sample ids, settings and loss curve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, write_json
from connectomebench.dataset.manifest import library_versions
from connectomebench.finetuning.adapter import Base
from connectomebench.finetuning.data import TrainingData
from connectomebench.models.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_revision
from connectomebench.models.model_record import FILE_NAME, ModelRecord, write_record

if TYPE_CHECKING:
    from trl.trainer.sft_trainer import SFTTrainer

INDICES = "test_indices.json"
LOG = "training_log.json"
CURVE = "training_curve.png"
_LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "connectomebench",
    "datasets",
    "deepspeed",
    "numpy",
    "peft",
    "pillow",
    "safetensors",
    "torch",
    "torchvision",
    "transformers",
    "trl",
)


def save_adapter(trainer: SFTTrainer, base: Base, data: TrainingData, configuration: Mapping[str, Any]) -> None:
    """Save the adapter, its record and its training log to the output folder.

    All processes must call it, since they may hold the weights in parts. The record is written last.

    Parameters
    ----------
    trainer
        After training, with the best checkpoint loaded.
    base, data
        Base model and training data of the adapter.
    configuration
        Of the run (:func:`connectomebench.finetuning.run_fingerprint.full_configuration`).
    """
    args = trainer.args
    assert args.output_dir is not None
    folder = Path(args.output_dir)
    # Trainer and PEFT leave pickled settings, a card and the processor beside the weights
    beside = folder / ".whole"
    trainer.save_model(str(beside))
    if not trainer.is_world_process_zero():
        return
    (folder / FILE_NAME).unlink(missing_ok=True)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (beside / name).exists():
            raise ConnectomeBenchError(f"no {name} was written; the last checkpoint in {folder} holds the weights")
        (beside / name).replace(folder / name)
        (folder / name).chmod(0o644)
    shutil.rmtree(beside)

    history = trainer.state.log_history
    write_json(folder / INDICES, data.sample_ids)
    write_json(folder / LOG, history)
    draw_curve(history, folder / CURVE)
    record = ModelRecord(
        kind="adapter",
        name=folder.resolve().name,
        revision=adapter_revision(folder, base.files.identity),
        task=data.records[0].task,
        base_model=base.name,
        base_revision=base.files.commit,
        config={
            **configuration,
            "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step,
            "best_eval_loss": trainer.state.best_metric,
            "rows": data.counts,
        },
        trained_on=data.records,
        versions=library_versions(_LIBRARIES),
    )
    write_record(folder, record)


def draw_curve(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot loss and learning rate over steps.

    Parameters
    ----------
    history
        ``log_history`` of transformers' Trainer: entries with ``step``, and ``loss``, ``eval_loss`` or
        ``learning_rate``.
    path
        PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for key, name, style in (("loss", "training", "-"), ("eval_loss", "validation", "o-")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        losses.plot(*zip(*points, strict=True) if points else ([], []), style, label=name, markersize=4)
    points = [(entry["step"], entry["learning_rate"]) for entry in history if "learning_rate" in entry]
    rates.step(*zip(*points, strict=True) if points else ([], []), where="post", color="0.3")
    losses.set_ylabel("loss on the answer")
    losses.legend(frameon=False)
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
