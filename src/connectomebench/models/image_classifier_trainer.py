"""Train image classifiers with transformers' Trainer: balanced epochs, best epoch by validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, Trainer

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.augmentation import change_views, draw_change
from connectomebench.models.image_classifier_init import ChooseBy, ImageClassifierConfig
from connectomebench.models.pixel_cache import decode_rows
from connectomebench.models.training_run import ProgressBar, best_epoch, epoch_history, measure, open_run
from connectomebench.models.view_classifier import ViewClassifier, cell_scores, load_cells
from connectomebench.models.view_grid import Layout, arrange

_EVALUATION_ROWS = 64


@dataclass(frozen=True)
class ImageRows:
    """Rows to train or validate on; a PyTorch dataset of row numbers, decoded by :func:`load_batch`.

    Attributes
    ----------
    images
        A dataset in Arrow format with the column ``images``: it returns stored bytes of the requested rows only.
    labels
        Class codes, shape (rows,).
    ids
        Sample ids.
    views
        Names of the images of every row.
    cells
        All images, decoded and resized as for the network, see :func:`.pixel_cache.decode_rows`; None decodes them when
        they are needed.
    change_seed
        Changes every row at random each time it is drawn (:mod:`.augmentation`); None leaves it.
    """

    images: Any
    labels: NDArray[np.intp]
    ids: list[str]
    views: tuple[str, ...] = ()
    cells: torch.Tensor | None = None
    change_seed: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> int:
        return number

    def row_images(self, rows: Sequence[int] | NDArray[np.intp]) -> list[list[Any]]:
        """Read the encoded images of some rows."""
        return self.images[list(rows)]["images"].to_pylist()

    def row_cells(self, rows: Sequence[int] | NDArray[np.intp], px: int, layout: Layout) -> torch.Tensor:
        """Return the cells of some rows, decoded where they are not yet; see :func:`.view_classifier.load_cells`."""
        if self.cells is not None:
            return self.cells[list(rows)]
        return load_cells(self.row_images(rows), px, layout)

    def select(self, rows: NDArray[np.intp]) -> ImageRows:
        """Return some of the rows; ``cells`` are not taken along."""
        images = self.images.select(rows.tolist())
        return replace(self, images=images, labels=self.labels[rows], ids=[self.ids[row] for row in rows], cells=None)

    def decoded(self, px: int, layout: Layout, folder: Path, progress: str | None) -> ImageRows:
        """Return the same rows with ``cells``, where the disk of ``folder`` has room for them."""
        cells = decode_rows(self.row_images, len(self), len(self.views), px, layout, folder, progress)
        return replace(self, cells=cells)


def fit_network(
    network: ViewClassifier,
    train: ImageRows,
    validation: ImageRows,
    config: ImageClassifierConfig,
    configuration: Mapping[str, Any],
    checkpoints: Path | None,
    resume: bool,
    progress: bool,
) -> tuple[list[dict[str, float]], ImageRows]:
    """Train a network in place and restore the weights of the best epoch.

    Parameters
    ----------
    network
        Moved to the device that it is trained on; in bfloat16 where that is a GPU.
    train, validation
        Training and validation rows.
    config
        How to train.
    configuration
        All that decides the weights, JSON-ready: a checkpoint of another one is refused.
    checkpoints, resume
        As for :func:`.checkpoints.prepare_output`; None keeps no checkpoint after training.
    progress
        Show a progress bar.

    Returns
    -------
    history
        By epoch: mean loss, last learning rate, and balanced accuracy, accuracy and log loss (classes equally weighted)
        on the validation rows.
    validation
        The validation rows, decoded where there is room for it.

    Raises
    ------
    ConnectomeBenchError
        If the loss is not finite, a checkpoint is of another training, or the processes cannot train it together.
    """
    best = partial(best_epoch, choose_by=config.choose_by)
    with open_run(config, len(train), configuration, checkpoints, resume, history=epoch_history, best=best) as run:
        px, layout = network.settings["input_px"], network.layout
        # a resumed run that has nothing left to train decodes for the last scores alone
        if not run.finished:
            train = train.decoded(px, layout, run.folder, "decode training images" if progress else None)
        validation = validation.decoded(px, layout, run.folder, "decode validation images" if progress else None)
        if config.augment == "published":
            train = replace(train, change_seed=config.seed)
        load: Any = partial(load_batch, train, px, layout=layout)
        stop: Any = EarlyStoppingCallback(config.patience)
        # row numbers stand for rows: a Dataset in all but name
        rows: Any = (train, validation)
        trainer = ViewTrainer(network, run.args, load, *rows, callbacks=[stop, ProgressBar()][: 1 + progress])
        trainer.choose_by = config.choose_by
        run.train(trainer)
    return epoch_history(trainer.state.log_history), validation


class ViewTrainer(Trainer):
    """Trainer of a :class:`.view_classifier.ViewClassifier` on :class:`ImageRows`.

    Validation scores the rows as the finished model does, on the first process alone, whose weights are saved.
    """

    train_dataset: ImageRows
    eval_dataset: ImageRows
    choose_by: ChooseBy = "balanced_accuracy"

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        turns = getattr(self.train_dataset, "change_seed", None) is not None
        return BalancedSampler(self.train_dataset.labels, self.args.seed, turns)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Exclude biases and norms from weight decay."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the mean cross entropy of a batch."""
        scores = model(inputs["pixels"]).float()
        loss = nn.functional.cross_entropy(scores, inputs["labels"])
        return (loss, scores) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Compute the gradients of a step; raise if they are not finite.

        Raises
        ------
        ConnectomeBenchError
            Names the samples.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if not torch.isfinite(loss + nn.utils.get_total_norm(gradients)):
            ids = ", ".join(self.train_dataset.ids[row] for row in inputs["rows"].tolist())
            epoch = int(self.state.epoch or 0) + 1
            raise ConnectomeBenchError(
                f"the loss is not finite in epoch {epoch}; lower learning_rate, or look at the samples {ids}"
            )
        return loss

    def measured(self) -> dict[str, float]:
        """Measure on the validation rows: balanced accuracy, accuracy and log loss."""
        rows = self.eval_dataset
        return measure(score_rows(cast("ViewClassifier", self.model), rows), rows.labels)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate on the validation rows.

        Returns
        -------
        dict
            What :meth:`measured` returns after ``eval_``, and ``eval_rank``: the number of the epoch where it is the
            best so far, else 0. Trainer chooses by one number, and of two equally accurate epochs the
            one with the lower log loss is better.
        """
        shared: list[Any] = [None]
        if self.is_world_process_zero():
            measured = self.measured()
            history = [*epoch_history(self.state.log_history), measured]
            rank = len(history) if best_epoch(history, self.choose_by) == len(history) - 1 else 0
            shared = [{f"eval_{name}": float(value) for name, value in {**measured, "rank": rank}.items()}]
        metrics: dict[str, float] = broadcast_object_list(shared)[0]
        # Trainer adds the epoch to what it logs
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def load_batch(rows: ImageRows, px: int, numbers: Sequence[int], layout: Layout = "views") -> dict[str, torch.Tensor]:
    """Read rows by number, and change them at random where they ask for it.

    Parameters
    ----------
    rows
        The rows.
    px, layout
        Of the network.
    numbers
        Which rows. Where rows are changed: turn times number of rows plus row, see :class:`BalancedSampler`, so that a
        row's change follows from seed, turn and row alone, whatever process loads it in whatever batch.

    Returns
    -------
    dict
        ``pixels`` (rows, pictures, px, px, 3), uint8, see :func:`.view_grid.arrange`; ``labels`` and ``rows``, the
        class codes and the numbers of the rows, (rows,).
    """
    turns, own = np.divmod(np.asarray(numbers), len(rows.labels))
    cells = rows.row_cells(own, px, layout)
    if rows.change_seed is not None:
        changes = [draw_change(rows.change_seed, turn, row) for turn, row in zip(turns, own, strict=True)]
        cells = torch.stack([change_views(row, rows.views, change) for row, change in zip(cells, changes, strict=True)])
    return {
        "pixels": arrange(cells, px, layout),
        "labels": torch.from_numpy(rows.labels[own]),
        "rows": torch.from_numpy(own),
    }


class BalancedSampler(Sampler[int]):
    """Sample row numbers in the order of :func:`balanced_order`.

    It follows from seed and epoch alone, so that a resumed run and all processes see the same one.

    Parameters
    ----------
    labels
        Class codes, shape (rows,).
    seed
        Of the order.
    with_turns
        Yield turn times number of rows plus row instead of the row alone: the turn counts how often the row was drawn,
        from epoch times the most that any row can be drawn in one.
    """

    def __init__(self, labels: NDArray[np.intp], seed: int, with_turns: bool = False) -> None:
        self.labels, self.seed, self.with_turns, self.epoch = labels, seed, with_turns, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0."""
        self.epoch = epoch

    def order(self, random: np.random.Generator) -> NDArray[np.intp]:
        """Draw the rows of one epoch."""
        return balanced_order(self.labels, random)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[int]:
        order = self.order(np.random.default_rng([self.seed, self.epoch])).tolist()
        if not self.with_turns:
            yield from order
            return
        rows = len(self.labels)
        drawn: Counter[int] = Counter()
        for row in order:
            yield (self.epoch * rows + drawn[row]) * rows + row
            drawn[row] += 1


def balanced_order(labels: NDArray[np.intp], random: np.random.Generator, size: int | None = None) -> NDArray[np.intp]:
    """Draw the rows of one epoch, classes balanced, in random order.

    Within a class no row is drawn twice before all were drawn once.

    Parameters
    ----------
    labels
        Class codes, shape (rows,).
    random
        Decides which and in which order.
    size
        How many to draw; as many as there are by default.

    Returns
    -------
    NDArray
        Row numbers, shape (size,); a class may have one more than another.
    """
    size = len(labels) if size is None else size
    classes = random.permutation(np.unique(labels))
    drawn = []
    for place, code in enumerate(classes):
        members = np.flatnonzero(labels == code)
        wanted = (size + len(classes) - 1 - place) // len(classes)
        rounds = [random.permutation(members) for _ in range(ceil(wanted / len(members)))]
        drawn.append(np.concatenate(rounds)[:wanted])
    return random.permutation(np.concatenate(drawn))


def score_rows(network: ViewClassifier, rows: ImageRows) -> NDArray[np.float64]:
    """Compute scores in evaluation mode, in small batches; returns shape (rows, classes)."""
    network.eval()
    px, layout = network.settings["input_px"], network.layout
    starts = range(0, len(rows), _EVALUATION_ROWS)
    numbers = (range(start, min(start + _EVALUATION_ROWS, len(rows))) for start in starts)
    return np.concatenate([cell_scores(network, rows.row_cells(own, px, layout)) for own in numbers])
