"""Rows of several tasks and species to train a multi-task model on, drawn in one order and loaded in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.rows import Rows
from connectomebench.dataset.schema import GEOMETRY, GEOMETRY_CHANNELS
from connectomebench.models.augmentation import change_views, draw_change
from connectomebench.models.image_classifier_trainer import BalancedSampler, ImageRows, balanced_order
from connectomebench.models.image_classifier_training import COLUMNS, image_rows, shared_views
from connectomebench.models.multitask_network import load_channels, shape_views
from connectomebench.models.pixel_cache import keep_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from connectomebench.models.multitask_init import Mix


@dataclass(frozen=True)
class TaskRows:
    """Rows of one task, of any species.

    Attributes
    ----------
    task
        Which one.
    rows
        Pictures, class codes and ids.
    channels
        A dataset in Arrow format with the column ``geometry``; None where the network takes none.
    kept
        All channels, decoded and resized as for the network; None decodes them when they are needed.
    """

    task: str
    rows: ImageRows
    channels: Any | None = None
    kept: torch.Tensor | None = None

    def decoded(self, px: int, folder: Path, progress: str | None) -> TaskRows:
        """Return the same rows, decoded where the disk of ``folder`` has room for them."""
        rows = self.rows.decoded(px, "views", folder, progress)
        if self.channels is None:
            return replace(self, rows=rows)
        shape = (len(rows), len(shape_views(rows.views)), GEOMETRY_CHANNELS, px, px)
        kept = keep_rows(partial(self._load, px), shape, np.dtype(np.float16), folder, progress)
        return replace(self, rows=rows, kept=kept)

    def _load(self, px: int, rows: Sequence[int] | NDArray[np.intp]) -> torch.Tensor:
        assert self.channels is not None
        return load_channels(self.channels[list(rows)][GEOMETRY].to_pylist(), self.rows.views, px)

    def row_channels(self, rows: Sequence[int] | NDArray[np.intp], px: int) -> torch.Tensor | None:
        """Decode the geometry channels of some rows, see :func:`.multitask_network.load_channels`."""
        if self.kept is not None:
            return self.kept[list(rows)]
        return None if self.channels is None else self._load(px, rows)


@dataclass(frozen=True)
class BlendedRows:
    """Rows of several tasks, numbered one task after the other; a PyTorch dataset of row numbers.

    Attributes
    ----------
    parts
        Rows of each task.
    change_seed
        Changes every row at random each time it is drawn (:mod:`.augmentation`); None leaves it.
    """

    parts: tuple[TaskRows, ...]
    change_seed: int | None = None

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def __getitem__(self, number: int) -> int:
        return number

    @property
    def ids(self) -> list[str]:
        """Sample ids of all rows."""
        return [name for part in self.parts for name in part.rows.ids]

    @property
    def labels(self) -> NDArray[np.intp]:
        """Class codes of all rows, each of its own task."""
        return np.concatenate([part.rows.labels for part in self.parts])

    @property
    def starts(self) -> NDArray[np.intp]:
        """Number of the first row of each part."""
        return np.cumsum([0, *(len(part.rows) for part in self.parts[:-1])])

    def decoded(self, px: int, folder: Path, progress: str | None) -> BlendedRows:
        """Return the same rows with pictures and channels decoded; see :meth:`TaskRows.decoded`."""
        return replace(self, parts=tuple(part.decoded(px, folder, progress) for part in self.parts))


def blend_rows(loaded: Sequence[Rows], what: str, *, geometry: bool) -> BlendedRows:
    """Put rows of several datasets together, by task.

    Parameters
    ----------
    loaded
        Rows of any tasks that are answered with one of a set, and of any species.
    what
        Name of the partition, for messages.
    geometry
        Whether the network takes geometry channels.

    Raises
    ------
    ConnectomeBenchError
        If a task is of another kind, its rows have different views or no geometry channels, or they have one answer.
    """
    by_task: dict[str, list[Rows]] = {}
    for rows in loaded:
        by_task.setdefault(rows.data.task, []).append(rows)
    return BlendedRows(tuple(_task_rows(task, own, what, geometry) for task, own in by_task.items()))


def _task_rows(name: str, loaded: Sequence[Rows], what: str, geometry: bool) -> TaskRows:
    from datasets import concatenate_datasets

    task = get_task(name)
    if not task.labels:
        raise ConnectomeBenchError(f"task {name} asks for a place and not for one of several answers; leave it out")
    if task.has_candidates:
        raise ConnectomeBenchError(
            f"task {name} is a choice among candidates; train on merge_action, whose head chooses among them as well"
        )
    named = f"{what} rows of {name}"
    views = shared_views(loaded[0].dataset, named)
    joined = concatenate_datasets([_stored(one, named, views, geometry) for one in loaded])
    channels = joined.select_columns([GEOMETRY]).with_format("arrow") if geometry else None
    return TaskRows(name, image_rows(joined, views, task.labels, named), channels)


def _stored(rows: Rows, named: str, views: Sequence[str], geometry: bool) -> Dataset:
    """Return the columns to read, pictures as they are stored."""
    from datasets import Features, Image, List

    dataset = rows.dataset
    if shared_views(dataset, named) != list(views):
        raise ConnectomeBenchError(f"the {named} have different views; take all datasets of a task from the same views")
    columns = [*COLUMNS, *([GEOMETRY] if geometry else [])]
    if geometry and (GEOMETRY not in dataset.column_names or not shape_views(views)):
        raise ConnectomeBenchError(
            f"the {named} ({rows.data.species}) have no geometry channels; build with `views: {{geometry: true}}`, or "
            "leave geometry out"
        )
    kept = dataset.select_columns(columns)
    pictures = dict.fromkeys(("images", GEOMETRY), List(Image(decode=False)))
    # what is stored stays as it is (a cast would write all of it again); rows of ours and of others are of one type
    kept.info.features = Features({name: pictures.get(name, kind) for name, kind in kept.features.items()})
    return kept


def load_blend(blend: BlendedRows, px: int, numbers: Sequence[int]) -> dict[str, Any]:
    """Read rows by number, those with the same views together.

    Parameters
    ----------
    blend
        The rows.
    px
        Edge of the network's pictures.
    numbers
        Which rows. Where rows are changed: turn times number of rows plus row, see
        :class:`.image_classifier_trainer.BalancedSampler`.

    Returns
    -------
    dict
        ``groups``, see :meth:`.multitask_network.MultitaskViT.forward`; and in the order of their rows: ``labels``,
        ``rows``, the numbers of the rows, and ``parts``, which task each is of, shape (rows,).
    """
    turns, own = np.divmod(np.asarray(numbers), len(blend))
    starts = blend.starts
    part_of = np.searchsorted(starts, own, side="right") - 1
    by_views: dict[tuple[str, ...], list[int]] = {}
    for number in np.unique(part_of):
        by_views.setdefault(blend.parts[number].rows.views, []).append(int(number))
    groups, order = [], []
    for views, members in by_views.items():
        cells, channels = [], []
        for number in members:
            places = np.flatnonzero(part_of == number)
            part, rows = blend.parts[number], own[places] - starts[number]
            found = part.rows.row_cells(rows, px, "views")
            if blend.change_seed is not None:
                changes = [draw_change(blend.change_seed, turns[place], own[place]) for place in places]
                found = torch.stack([change_views(c, views, change) for c, change in zip(found, changes, strict=True)])
            cells.append(found)
            extra = part.row_channels(rows, px)
            if extra is not None:
                channels.append(extra)
            order += places.tolist()
        groups.append(
            {"pictures": torch.cat(cells), "views": views, "channels": torch.cat(channels) if channels else None}
        )
    return {
        "groups": groups,
        "labels": torch.from_numpy(blend.labels[own[order]]),
        "rows": torch.from_numpy(own[order]),
        "parts": torch.from_numpy(part_of[order]),
    }


class BlendedSampler(BalancedSampler):
    """Sample row numbers of several tasks: the answers to a task equally often, tasks as ``mix`` says.

    Parameters
    ----------
    blend
        The rows.
    seed
        Of the order.
    mix
        See :class:`.multitask_init.MultitaskConfig`.
    """

    def __init__(self, blend: BlendedRows, seed: int, mix: Mix) -> None:
        super().__init__(blend.labels, seed, blend.change_seed is not None)
        self.parts = [part.rows.labels for part in blend.parts]
        self.mix = mix

    def order(self, random: np.random.Generator) -> NDArray[np.intp]:
        """Draw the rows of one epoch."""
        n = len(self.parts)
        start, drawn = 0, []
        for place, labels in enumerate(self.parts):
            size = len(labels) if self.mix == "rows" else (len(self) + n - 1 - place) // n
            drawn.append(start + balanced_order(labels, random, size))
            start += len(labels)
        return random.permutation(np.concatenate(drawn))
