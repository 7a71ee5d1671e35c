"""Train a multi-task model: one encoder, a head a task, any blend of tasks and species."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import EarlyStoppingCallback

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.tasks import get_task
from connectomebench.dataset.manifest import library_versions
from connectomebench.dataset.rows import Rows
from connectomebench.models.image_classifier_trainer import ViewTrainer
from connectomebench.models.image_classifier_training import LIBRARIES, answer_shares, fit_temperature
from connectomebench.models.model_record import TASKS, ModelRecord
from connectomebench.models.multitask import KIND, MultitaskModel
from connectomebench.models.multitask_init import Mix, MultitaskConfig, start_multitask
from connectomebench.models.multitask_network import MultitaskViT, task_scores
from connectomebench.models.multitask_rows import BlendedRows, BlendedSampler, TaskRows, blend_rows, load_blend
from connectomebench.models.network_folder import network_revision
from connectomebench.models.training_run import (
    ProgressBar,
    best_epoch,
    epoch_history,
    measure,
    memory_hint,
    open_run,
    used_precision,
)

if TYPE_CHECKING:
    from torch.utils.data import Sampler

_EVALUATION_ROWS = 32


class BlendTrainer(ViewTrainer):
    """Trainer of a :class:`.multitask_network.MultitaskViT` on :class:`.multitask_rows.BlendedRows`."""

    train_dataset: Any
    eval_dataset: Any
    mix: Mix = "rows"

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return BlendedSampler(self.train_dataset, self.args.seed, self.mix)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Exclude biases, norms, and embeddings of places, views and kinds from weight decay."""
        network = cast("MultitaskViT", model)
        kept = {f"encoder.{name}" for name in network.encoder.no_weight_decay()}
        kept |= {"view_embedding", "kind_embedding"}
        return [name for name in super().get_decay_parameter_names(model) if name not in kept]

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the mean cross entropy of a batch, each row by the head of its task."""
        scores = model(inputs["groups"]).float()
        columns = cast("MultitaskViT", self.accelerator.unwrap_model(model)).columns()
        loss = scores.new_zeros(())
        for number, part in enumerate(self.train_dataset.parts):
            own = inputs["parts"] == number
            if own.any():
                loss = loss + nn.functional.cross_entropy(
                    scores[own, columns[part.task]], inputs["labels"][own], reduction="sum"
                )
        loss = loss / len(scores)
        return (loss, scores) if return_outputs else loss

    def measured(self) -> dict[str, float]:
        """Measure each task on its validation rows, and the means over tasks."""
        found = {}
        for part in self.eval_dataset.parts:
            scores = part_scores(cast("MultitaskViT", self.model), part)
            found[part.task] = measure(scores, part.rows.labels)
        means = {
            name: float(np.mean([own[name] for own in found.values()]))
            for name in ("balanced_accuracy", "accuracy", "log_loss")
        }
        return means | {
            f"{task}_{name}": own[name] for task, own in found.items() for name in ("balanced_accuracy", "log_loss")
        }


def part_scores(network: MultitaskViT, part: TaskRows) -> NDArray[np.float64]:
    """Compute scores of the rows of a task in evaluation mode, in small batches; returns shape (rows, classes)."""
    network.eval()
    px = network.settings["input_px"]
    found = []
    for start in range(0, len(part.rows), _EVALUATION_ROWS):
        own = range(start, min(start + _EVALUATION_ROWS, len(part.rows)))
        cells, channels = part.rows.row_cells(own, px, "views"), part.row_channels(own, px)
        found.append(task_scores(network, part.task, cells, channels))
    return np.concatenate(found)


def fit_multitask(
    network: MultitaskViT,
    train: BlendedRows,
    validation: BlendedRows,
    config: MultitaskConfig,
    configuration: Mapping[str, Any],
    checkpoints: Path | None,
    resume: bool,
    progress: bool,
) -> tuple[list[dict[str, float]], BlendedRows]:
    """Train a network in place and restore the weights of the best epoch.

    Parameters
    ----------
    network
        Moved to the device that it is trained on.
    train, validation
        Training and validation rows.
    config, configuration, checkpoints, resume, progress
        As for :func:`.image_classifier_trainer.fit_network`.

    Returns
    -------
    history
        By epoch: mean loss, last learning rate, balanced accuracy, accuracy and log loss on the validation rows as
        means over tasks, and ``TASK_balanced_accuracy`` and ``TASK_log_loss`` of each.
    validation
        The validation rows, decoded where there is room for it.
    """
    with open_run(
        config, len(train), configuration, checkpoints, resume, history=epoch_history, best=best_epoch
    ) as run:
        px = network.settings["input_px"]
        # not every batch has slices of image data, so not every process uses their patch embedding in a step
        run.args.ddp_find_unused_parameters = run.args.world_size > 1
        if not run.finished:
            train = train.decoded(px, run.folder, "decode training images" if progress else None)
        validation = validation.decoded(px, run.folder, "decode validation images" if progress else None)
        if config.augment == "published":
            train = replace(train, change_seed=config.seed)
        load: Any = partial(load_blend, train, px)
        stop: Any = EarlyStoppingCallback(config.patience)
        # row numbers stand for rows: a Dataset in all but name
        rows: Any = (train, validation)
        trainer = BlendTrainer(network, run.args, load, *rows, callbacks=[stop, ProgressBar()][: 1 + progress])
        trainer.mix = config.mix
        run.train(trainer)
    return epoch_history(trainer.state.log_history), validation


def train_multitask(
    train: Sequence[Rows],
    validation: Sequence[Rows],
    config: MultitaskConfig | None = None,
    checkpoints: Path | None = None,
    *,
    resume: bool = True,
    progress: bool = True,
) -> MultitaskModel:
    """Train a multi-task model.

    The answers to a task are shown equally often. The epoch with the highest balanced accuracy on the validation rows,
    averaged over tasks, is kept (of equals the one with the lower log loss), and the temperature of each task is fitted
    on its own validation rows. The same seed, rows, precision and versions give the same model on a CPU, interrupted or
    not. Started by ``accelerate launch``, all processes must call it, and all return the model.

    Parameters
    ----------
    train, validation
        Rows of every task and species, in the same order; ``images``, ``views``, ``answer`` and ``sample_id`` are
        read, and ``geometry`` if ``config`` says so.
    config
        How to train; the defaults where None.
    checkpoints
        Folder for the state after each epoch, of which the last and the best are kept. None keeps none.
    resume
        Resume a run that was killed from the last epoch in ``checkpoints``; otherwise what is there is removed.
    progress
        Show a progress bar.

    Raises
    ------
    ConnectomeBenchError
        If rows or settings do not fit, the backbone cannot be loaded, checkpoints are of another training, memory runs
        out or the loss is not finite.
    """
    config = config or MultitaskConfig()
    # what the machine chooses is a setting as any other: it is recorded, and a run is not resumed with another
    config = replace(config, precision=used_precision(config.precision))
    if not train:
        raise ConnectomeBenchError("there are no rows to train on; name at least one dataset")
    train_rows = blend_rows(train, "training", geometry=config.geometry)
    validation_rows = blend_rows(validation, "validation", geometry=config.geometry)
    _check_apart(train_rows, validation_rows)
    tasks = {part.task: _task_settings(part) for part in train_rows.parts}
    backbone = Path(config.backbone).name if Path(config.backbone).is_dir() else config.backbone
    versions = library_versions((*LIBRARIES, "timm"))
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), memory_hint(config):
        torch.manual_seed(config.seed)
        network, base, base_revision = start_multitask(config, tasks)
        rows = [(part.task, part.rows.ids, part.rows.labels.tolist()) for part in train_rows.parts]
        rows += [(part.task, part.rows.ids, part.rows.labels.tolist()) for part in validation_rows.parts]
        configuration = {
            "multitask": {**asdict(config), "backbone": backbone},
            "start": network_revision(network),
            "data": [asdict(one.data) for one in train],
            "rows": content_key(*rows),
            "versions": versions,
        }
        history, validation_rows = fit_multitask(
            network, train_rows, validation_rows, config, configuration, checkpoints, resume, progress
        )
        for part in validation_rows.parts:
            prior = np.array(tasks[part.task]["prior"])
            temperature = fit_temperature(part_scores(network, part), part.rows.labels, prior)
            tasks[part.task] = {**tasks[part.task], "temperature": temperature}
        final = MultitaskViT(**{**network.settings, "tasks": tasks})
    final.load_state_dict(network.state_dict())
    record = ModelRecord(
        kind=KIND,
        name=KIND,
        revision=network_revision(final),
        task=train_rows.parts[0].task,
        base_model=base,
        base_revision=base_revision,
        config={
            **asdict(config),
            TASKS: list(tasks),
            "backbone": backbone,
            "input_px": network.settings["input_px"],
            "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
            "temperatures": {name: task["temperature"] for name, task in tasks.items()},
            "train_rows": {part.task: len(part.rows) for part in train_rows.parts},
            "validation_rows": {part.task: len(part.rows) for part in validation_rows.parts},
            "best_epoch": best_epoch(history) + 1,
            "history": history,
        },
        trained_on=tuple(one.data for one in train),
        versions=versions,
    )
    return MultitaskModel(final, record)


def _task_settings(part: TaskRows) -> dict[str, Any]:
    labels = get_task(part.task).labels
    prior = answer_shares(part.rows.labels, len(labels)).tolist()
    return {"classes": list(labels), "views": list(part.rows.views), "prior": prior, "temperature": 1.0}


def _check_apart(train: BlendedRows, validation: BlendedRows) -> None:
    """Raise unless training and validation rows are different rows of the same tasks, with the same views."""
    one, other = ({part.task: part.rows for part in blend.parts} for blend in (train, validation))
    if one.keys() != other.keys():
        alone = sorted(one.keys() ^ other.keys())[0]
        raise ConnectomeBenchError(f"{alone} has no rows in one of training and validation; take both of each task")
    for task, rows in one.items():
        if other[task].views != rows.views:
            raise ConnectomeBenchError(
                f"training and validation rows of {task} have different views; take both from one dataset"
            )
        if shared := set(rows.ids) & set(other[task].ids):
            raise ConnectomeBenchError(
                f"{len(shared)} rows of {task} are in training and validation ({sorted(shared)[0]}); take other ones"
            )
