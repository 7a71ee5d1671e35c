"""Train a mask model with transformers' Trainer: the loss knows no first part where the two are nearly equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from transformers import EarlyStoppingCallback

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.part_masks import AMBIGUOUS_SHARE, NOTHING, TAKEN, stored_masks
from connectomebench.core.tasks import get_task
from connectomebench.dataset.manifest import library_versions
from connectomebench.dataset.rows import DataRecord
from connectomebench.models.image_classifier_trainer import ViewTrainer
from connectomebench.models.mask_unet import (
    KIND,
    MaskModel,
    MaskUNet,
    check_network,
    network_input,
    shrink,
)
from connectomebench.models.model_record import ModelRecord
from connectomebench.models.network_folder import network_revision
from connectomebench.models.run_settings import check_run
from connectomebench.models.training_run import memory_hint, open_run

if TYPE_CHECKING:
    from datasets import Dataset


_COLUMNS = ("images", "views", "target_images", "sample_id")
_LIBRARIES = ("accelerate", "connectomebench", "huggingface_hub", "numpy", "pillow", "safetensors", "torch")
_EVALUATION_ROWS = 32
_KEPT_BYTES = 1 << 30
_Decoded = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class MaskTrainingConfig:
    """Training settings of a mask model.

    Attributes
    ----------
    input_px, width, depth, dropout
        Of the network; see :class:`.mask_unet.MaskUNet`.
    epochs, patience
        Most epochs, and how many may pass without a better one before training stops.
    batch_size
        Rows a step, of each process.
    learning_rate, warmup, weight_decay
        Of AdamW: the highest rate, the share of steps in which it rises to it, and the weight decay.
    turns
        Whether to turn and mirror all views of a row at random while training.
    seed
        Of weights, order, turns and dropout.
    """

    input_px: int = 128
    width: int = 16
    depth: int = 4
    dropout: float = 0.1
    epochs: int = 60
    patience: int = 15
    batch_size: int = 8
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    turns: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_network(self.input_px, self.width, self.depth, self.dropout)
        except ValueError as error:
            raise ConnectomeBenchError(str(error)) from None
        check_run(self)


@dataclass(frozen=True)
class MaskRows:
    """Rows to train or validate on; a PyTorch dataset of row numbers, decoded by :func:`load_mask_batch`.

    ``stored`` is a dataset in Arrow format, which returns encoded pictures; ``labels`` are all 0, for the sampler.
    ``kept`` holds what was decoded, up to ``_KEPT_BYTES``, so that a row is decoded once a training.
    """

    stored: Any
    ids: list[str]
    labels: NDArray[np.intp]
    kept: dict[tuple[int, int], _Decoded] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> int:
        return number


def mask_loss(scores: torch.Tensor, taken: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Compute the loss of each row: cross entropy and Dice loss of both parts, over the pixels of the segment.

    Rows whose smaller part covers at least :data:`~connectomebench.core.part_masks.AMBIGUOUS_SHARE` of the segment
    take the better naming of the parts.

    Parameters
    ----------
    scores
        Shape (rows, views, px, px).
    taken
        Share of each pixel's segment that is taken away, 0 to 1; the same shape.
    weight
        Share of each pixel that is segment, 0 to 1; the same shape.

    Returns
    -------
    torch.Tensor
        Shape (rows,).
    """
    scores, taken, weight = (values.flatten(1) for values in (scores.float(), taken, weight))
    total = weight.sum(dim=1).clamp_min(1e-6)

    def one(truth: torch.Tensor) -> torch.Tensor:
        entropy = nn.functional.binary_cross_entropy_with_logits(scores, truth, weight, reduction="none").sum(dim=1)
        likely = torch.sigmoid(scores)
        dice = [
            (2 * (weight * p * t).sum(dim=1) + 1) / ((weight * (p + t)).sum(dim=1) + 1)
            for p, t in ((likely, truth), (1 - likely, 1 - truth))
        ]
        return entropy / total + 1 - (dice[0] + dice[1]) / 2

    named, swapped = one(taken), one(1 - taken)
    share = (weight * taken).sum(dim=1) / total
    either = torch.minimum(share, 1 - share) >= AMBIGUOUS_SHARE
    return torch.where(either, torch.minimum(named, swapped), named)


def load_mask_batch(
    rows: MaskRows, px: int, turns: np.random.Generator | None, numbers: Sequence[int]
) -> dict[str, Any]:
    """Read and decode rows by number.

    Parameters
    ----------
    rows
        The rows.
    px
        Edge of the network's pictures.
    turns
        Turns and mirrors each row at random; None leaves it.
    numbers
        Which rows.

    Returns
    -------
    dict
        ``pictures`` (rows, views, px, px, 3), uint8; ``taken`` and ``weight`` as for :func:`mask_loss`; ``rows``.
    """
    pictures, taken, weight = [], [], []
    for own in _decoded(rows, px, numbers):
        if turns is not None:
            quarter, mirrored = int(turns.integers(4)), int(turns.integers(2))
            own = tuple(np.rot90(np.flip(a, axis=2) if mirrored else a, quarter, axes=(1, 2)) for a in own)
        for into, values in zip((pictures, taken, weight), own, strict=True):
            into.append(torch.from_numpy(values.copy()))
    return {
        "pictures": torch.stack(pictures),
        "taken": torch.stack(taken),
        "weight": torch.stack(weight),
        "rows": torch.tensor(list(numbers)),
    }


def _decoded(rows: MaskRows, px: int, numbers: Sequence[int]) -> list[_Decoded]:
    """Return pictures, ``taken`` and ``weight`` of some rows, as for :func:`load_mask_batch`, a row each."""
    new = [number for number in dict.fromkeys(numbers) if (number, px) not in rows.kept]
    decoded: dict[int, _Decoded] = {}
    found = rows.stored[new] if new else None
    columns = ([] if found is None else found[name].to_pylist() for name in _COLUMNS[:3])
    for number, images, views, targets in zip(new, *columns, strict=True):
        masks = list(stored_masks(views, targets).values())
        segment = np.stack([_box(mask != NOTHING, px) for mask in masks])
        away = np.stack([_box(mask == TAKEN, px) for mask in masks])
        decoded[number] = (
            np.stack([shrink(image, px) for image in images]),
            np.divide(away, segment, out=np.zeros_like(away), where=segment > 0),
            segment,
        )
        if (len(rows.kept) + 1) * sum(values.nbytes for values in decoded[number]) <= _KEPT_BYTES:
            rows.kept[number, px] = decoded[number]
    return [decoded[number] if number in decoded else rows.kept[number, px] for number in numbers]


def _box(mask: NDArray[np.bool_], px: int) -> NDArray[np.float32]:
    """Average a mask down to ``px`` pixels an edge; float32, 0 to 1."""
    small = Image.fromarray(mask.astype(np.float32)).resize((px, px), Image.Resampling.BOX)
    return np.clip(np.asarray(small, np.float32), 0, 1)


class MaskTrainer(ViewTrainer):
    """Trainer of a :class:`.mask_unet.MaskUNet` on :class:`MaskRows`."""

    train_dataset: Any
    eval_dataset: Any

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the mean loss of a batch."""
        scores = model(network_input(inputs["pictures"]))
        loss = mask_loss(scores, inputs["taken"], inputs["weight"]).mean()
        return (loss, scores) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate on the validation rows: ``eval_loss``, and ``eval_rank`` as for the image classifier."""
        loss = validation_loss(cast("MaskUNet", self.model), self.eval_dataset)
        history = [*mask_history(self.state.log_history), {"loss": loss}]
        rank = len(history) if lowest(history) == len(history) - 1 else 0
        metrics = {"eval_loss": loss, "eval_rank": float(rank)}
        # Trainer adds the epoch to what it logs
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def mask_history(log: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Group Trainer's log by epoch: ``loss`` on the validation rows, and ``train_loss``."""
    by_step: dict[int, dict[str, Any]] = {}
    for entry in log:
        by_step.setdefault(entry["step"], {}).update(entry)
    return [
        {"loss": float(entry["eval_loss"]), "train_loss": float(entry.get("loss", "nan"))}
        for entry in by_step.values()
        if "eval_rank" in entry
    ]


def lowest(history: Sequence[Mapping[str, float]]) -> int:
    """Return the index of the epoch with the lowest validation loss, of equals the earlier."""
    return min(range(len(history)), key=lambda i: history[i]["loss"])


def validation_loss(network: MaskUNet, rows: MaskRows) -> float:
    """Compute the mean loss over rows, in evaluation mode."""
    px: int = network.settings["input_px"]
    device = next(network.parameters()).device
    losses = []
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), _EVALUATION_ROWS):
            batch = load_mask_batch(rows, px, None, range(start, min(start + _EVALUATION_ROWS, len(rows))))
            scores = network(network_input(batch["pictures"].to(device)))
            losses.append(mask_loss(scores, batch["taken"].to(device), batch["weight"].to(device)).cpu())
    return float(torch.cat(losses).mean())


def train_masks(
    train: Dataset,
    validation: Dataset,
    data: Sequence[DataRecord],
    config: MaskTrainingConfig | None = None,
    checkpoints: Path | None = None,
    *,
    resume: bool = True,
) -> MaskModel:
    """Train a mask model.

    The epoch with the lowest loss on the validation rows is kept. The same seed, rows and versions give the same model
    on a CPU, as long as the run is not interrupted (turns are then drawn from the start).

    Parameters
    ----------
    train, validation
        Stored rows of one task with masks; ``images``, ``views``, ``target_images`` and ``sample_id`` are read.
    data
        What the training rows are, one entry a species.
    config
        How to train; the defaults where None.
    checkpoints
        Folder for the state after each epoch, of which the last and the best are kept. None keeps none.
    resume
        Resume a run that was killed from the last epoch in ``checkpoints``; otherwise what is there is removed.

    Raises
    ------
    ConnectomeBenchError
        If rows or settings do not fit, checkpoints are of another training, memory runs out or the loss is not finite.
    """
    config = config or MaskTrainingConfig()
    tasks = {entry.task for entry in data}
    if len(tasks) != 1:
        raise ConnectomeBenchError(f"train on one task, not on {', '.join(sorted(tasks)) or 'none'}")
    task = get_task(tasks.pop())
    if task.answer_kind != "mask":
        raise ConnectomeBenchError(f"task {task.name} has no masks to learn; take split_mask_generation")
    views = _views(train, "training")
    if _views(validation, "validation") != views:
        raise ConnectomeBenchError("training and validation rows have different views; take both from one dataset")
    train_rows, validation_rows = _mask_rows(train), _mask_rows(validation)
    versions = library_versions(_LIBRARIES)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), memory_hint(config):
        torch.manual_seed(config.seed)
        network = MaskUNet(views, config.input_px, config.width, config.depth, config.dropout)
        configuration = {
            "masks": asdict(config),
            "start": network_revision(network),
            "data": [asdict(entry) for entry in data],
            "rows": content_key(train_rows.ids, validation_rows.ids),
            "versions": versions,
        }
        history = _fit(network, train_rows, validation_rows, config, configuration, checkpoints, resume)
    record = ModelRecord(
        kind=KIND,
        name="mask_unet",
        revision=network_revision(network),
        task=task.name,
        base_model=None,
        base_revision=None,
        config={
            **asdict(config),
            "validation_rows": len(validation_rows),
            "best_epoch": lowest(history) + 1,
            "history": history,
        },
        trained_on=tuple(data),
        versions=versions,
    )
    return MaskModel(network, record)


def _fit(
    network: MaskUNet,
    train: MaskRows,
    validation: MaskRows,
    config: MaskTrainingConfig,
    configuration: Mapping[str, Any],
    checkpoints: Path | None,
    resume: bool,
) -> list[dict[str, float]]:
    """Train in place, restore the weights of the best epoch, and return the history of all."""
    with open_run(config, len(train), configuration, checkpoints, resume, history=mask_history, best=lowest) as run:
        # one process decodes, in the order of the sampler, so that turns are the same in every run
        run.args.dataloader_num_workers = 0
        turns = np.random.default_rng(config.seed) if config.turns else None
        load: Any = partial(load_mask_batch, train, config.input_px, turns)
        rows: Any = (train, validation)
        stop: Any = EarlyStoppingCallback(config.patience)
        trainer = MaskTrainer(network, run.args, load, *rows, callbacks=[stop])
        run.train(trainer)
    return mask_history(trainer.state.log_history)


def _views(dataset: Dataset, what: str) -> list[str]:
    missing = set(_COLUMNS) - set(dataset.column_names)
    if missing:
        raise ConnectomeBenchError(f"the {what} rows lack the columns {', '.join(sorted(missing))}; build them again")
    found = {tuple(views) for views in dataset["views"]}
    if len(found) != 1:
        raise ConnectomeBenchError(f"the {what} rows have {len(found)} different sets of views; all need the same one")
    return list(found.pop())


def _mask_rows(dataset: Dataset) -> MaskRows:
    stored = dataset.select_columns(list(_COLUMNS)).with_format("arrow")
    return MaskRows(stored, list(dataset["sample_id"]), np.zeros(len(dataset), np.intp))
