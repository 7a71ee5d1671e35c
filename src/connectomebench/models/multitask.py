"""Multi-task vision transformers: predict, save and load.

The folder holds ``config.json`` (every argument of :class:`.multitask_network.MultitaskViT`), ``model.safetensors`` and
``connectomebench.json``; ``MultitaskViT.from_pretrained`` of huggingface_hub reads it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import SHAPE_VIEWS, TASKS, get_task
from connectomebench.models.base import Answer, Batch, column
from connectomebench.models.image_classifier import check_answers, check_pixels, check_shown, stated_answers
from connectomebench.models.images import StoredImage
from connectomebench.models.model_record import ModelRecord
from connectomebench.models.multitask_network import MultitaskViT, check_encoder, load_channels, task_scores
from connectomebench.models.network_folder import check_own, load_network, need, network_revision, save_network
from connectomebench.models.view_classifier import load_cells

KIND: Final = "multitask_vit"
_BATCH = 32


class MultitaskModel:
    """A trained multi-task model; see :func:`.multitask_training.train_multitask`.

    A row is answered by the head of its task, which the batch names in ``task``. Probabilities are calibrated for each
    task: temperature scaling fitted on its validation rows. The prediction is the answer most above its share in the
    training rows of the task, as in :mod:`connectomebench.models.heads`.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.
    tasks
        What it answers, in the order of its training.
    network, record
        The network, in evaluation mode, and its provenance.
    """

    def __init__(self, network: MultitaskViT, record: ModelRecord) -> None:
        self.name = record.name
        self.network = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.record = record
        self.revision = record.revision
        self.tasks: tuple[str, ...] = tuple(network.settings["tasks"])

    def predict(self, batch: Batch) -> list[Answer]:
        """Predict every row of a batch from its ``images``; see :class:`connectomebench.models.base.Model`.

        Parameters
        ----------
        batch
            Columns of stored rows: ``images``; ``task``, which may be missing where the model has one; and ``geometry``
            where it was trained on geometry channels.

        Raises
        ------
        ConnectomeBenchError
            If a row is of a task that the model was not trained for, has other views than its rows, or lacks geometry
            channels.
        """
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        first, *others = self.tasks
        asked = list(column(batch, "task")) if others or "task" in batch else [first] * len(images)
        stored = batch.get("geometry") if self.network.settings["geometry"] else None
        if self.network.settings["geometry"] and stored is None:
            raise ConnectomeBenchError(
                f"{self.name} was trained on geometry channels, and the rows have none; build with "
                "`views: {geometry: true}`"
            )
        shown = batch.get("views", ())
        answers: dict[int, Answer] = {}
        for task in dict.fromkeys(asked):
            settings = self.settings_of(task)
            own = [i for i, name in enumerate(asked) if name == task]
            check_shown([images[i] for i in own], [shown[i] for i in own] if len(shown) else (), settings["views"])
            for start in range(0, len(own), _BATCH):
                part = own[start : start + _BATCH]
                scores = self._scores(
                    task, [images[i] for i in part], None if stored is None else [stored[i] for i in part]
                )
                answers |= dict(zip(part, stated_answers(scores, settings), strict=True))
        return [answers[i] for i in range(len(images))]

    def settings_of(self, task: str) -> dict[str, Any]:
        """Return classes, views, prior and temperature of a task.

        Raises
        ------
        ConnectomeBenchError
            If the model was not trained for it.
        """
        try:
            return self.network.settings["tasks"][task]
        except KeyError:
            raise ConnectomeBenchError(
                f"{self.name} was trained for {', '.join(self.tasks)}, but the rows are of {task}"
            ) from None

    def _scores(self, task: str, images: Sequence[Any], stored: Sequence[Any] | None) -> Any:
        px = self.network.settings["input_px"]
        views = self.network.settings["tasks"][task]["views"]
        channels = None if stored is None else load_channels(stored, views, px)
        return task_scores(self.network, task, load_cells(images, px, "views"), channels)

    def save(self, folder: Path) -> None:
        """Save the model to a folder for :func:`load_multitask`; the record is written last."""
        save_network(folder, self.network, self.record)


def load_multitask(folder: Path) -> MultitaskModel:
    """Load a saved multi-task model, onto the GPU if available.

    Parameters
    ----------
    folder
        Written by :meth:`MultitaskModel.save`; may come from outside, so every value is checked.

    Raises
    ------
    ConnectomeBenchError
        If the folder holds another kind of model, a file is missing or damaged, or they do not belong together.
    """
    network, record = load_network(folder, KIND, "a multi-task model", MultitaskViT, _check_settings)
    tasks = tuple(network.settings["tasks"])
    check_own(folder, network_revision(network) == record.revision and record.tasks == tasks)
    return MultitaskModel(network, record)


def _check_settings(raw: dict[str, Any], _record: ModelRecord) -> None:
    check_pixels(raw)
    need(type(raw["geometry"]) is bool, "geometry is not true or false")
    need(isinstance(raw["tasks"], dict) and bool(raw["tasks"]), "there are no tasks")
    for name, task in raw["tasks"].items():
        need(name in TASKS and bool(get_task(name).labels), f"there is no task {name[:60]!r} with a set of answers")
        known = {"classes", "views", "prior", "temperature"}
        need(isinstance(task, dict) and set(task) == known, f"{name} needs {', '.join(sorted(known))}")
        check_answers(task, get_task(name).labels)
        distinct = len(set(task["views"])) == len(task["views"])
        need(distinct, f"{name} shows a view twice")
        has_shapes = any(view in SHAPE_VIEWS for view in task["views"])
        need(has_shapes or not raw["geometry"], f"{name} has no view with geometry channels")
    check_encoder(raw["encoder"])
