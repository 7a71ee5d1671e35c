"""Read published accuracies of single network checkpoints, and what the name of a checkpoint says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction.aggregates import Cell
from connectomebench.reproduction.json_reading import parse, parse_collection
from connectomebench.reproduction.published_names import plain_name, species_name, task_in

_STAMP = re.compile(r"\d{8}_\d{6}$")
_ARCHITECTURE = re.compile(
    r"(resnet\d+|wide_resnet\d+(?:_\d+)?|resnext\d+\w*?|convnext_[a-z]+|vit_[a-z]+_\d+|efficientnet_\w+?)(?=_|$)"
)
_TRAININGS = ("frozen", "small")
_ROUNDING = 5e-5
"""Half of the last digit of totals that were typed with four decimals."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes
    ----------
    name
        As in the files, without a folder.
    architecture
        Of the network, ``resnet50`` where the name says no other.
    training
        ``frozen`` (only the last layer is trained), ``small`` (on 512 samples), ``finetuned``, or empty where the
        name holds only the time of the training.
    """

    name: str
    architecture: str
    training: str

    @property
    def method(self) -> str:
        """Name of the method: ``resnet_frozen`` and the like, as in the totals; else architecture and training."""
        if not self.training:
            return f"{self.architecture}_run_{found[0] if (found := _STAMP.search(self.name)) else self.name}"
        return f"{'resnet' if self.architecture == 'resnet50' else self.architecture}_{self.training}"


def parse_checkpoint(text: str, architecture: str = "") -> Checkpoint:
    """Read the name of a checkpoint.

    Parameters
    ----------
    text
        Name or path in a file.
    architecture
        As stated beside it; empty takes the first that the name holds.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be used as a name.
    """
    name = PurePosixPath(text.strip("/")).name.removesuffix(".pt").removesuffix(".pth")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}", name):
        raise ConnectomeBenchError(f"the checkpoint's name {text[:60]!r} cannot be used")
    found = _ARCHITECTURE.match(name)
    training = next((t for t in _TRAININGS if f"_{t}" in name), "" if _STAMP.search(name) else "finetuned")
    return Checkpoint(name, plain_name(architecture or (found[1] if found else "resnet50"), "the network"), training)


@dataclass(frozen=True)
class CheckpointScore:
    """The accuracy of one checkpoint on one dataset.

    Attributes
    ----------
    file
        Path inside the folder.
    checkpoint
        The network.
    task, species
        Our names.
    dataset
        Name of the dataset in the file; empty where it is the one that was trained on.
    test_rows
        Whether only the test rows of the dataset were used.
    accuracy, balanced_accuracy
        Shares.
    correct, total
        Numbers of rows.
    """

    file: str
    checkpoint: Checkpoint
    task: str
    species: str
    dataset: str
    test_rows: bool
    accuracy: float
    balanced_accuracy: float
    correct: int
    total: int

    def gives(self, cell: Cell) -> bool:
        """Return whether a total has this checkpoint's balanced accuracy and number of rows."""
        stated, n = cell.values.get("balanced_accuracy"), cell.n
        close = stated is not None and abs(stated - self.balanced_accuracy) <= _ROUNDING
        return close and (cell.task, cell.species) == (self.task, self.species) and n in (None, self.total)


@dataclass(frozen=True)
class _Score:
    checkpoint: str
    accuracy: float
    balanced_accuracy: float
    correct: int
    total: int
    task: str | None = None
    dataset_path: str | None = None
    use_test_set: bool = False


def read_checkpoint_score(data: bytes, file: str) -> list[CheckpointScore]:
    """Read one file of ``resnet_evaluations``: a checkpoint, its accuracies and rows; or a list or mapping of such.

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged, names no task, or its numbers do not go together.
    """
    content = parse_collection(data)
    if isinstance(content, dict) and "checkpoint" in content:
        return [_score(content, file)]
    return [_score(entry, file) for entry in (content if isinstance(content, list) else content.values())]


def _score(entry: Any, file: str) -> CheckpointScore:
    stored = parse(json.dumps(entry).encode(), _Score)
    shares = (stored.accuracy, stored.balanced_accuracy)
    if not all(math.isfinite(s) and 0 <= s <= 1 for s in shares) or not 0 <= stored.correct <= stored.total:
        raise ConnectomeBenchError("an accuracy lies outside [0, 1], or more rows are correct than there are")
    if stored.total < 1 or abs(stored.correct / stored.total - stored.accuracy) > _ROUNDING:
        raise ConnectomeBenchError(
            f"states an accuracy of {stored.accuracy:g}, but {stored.correct} of {stored.total} rows correct"
        )
    return CheckpointScore(
        file=file,
        checkpoint=parse_checkpoint(stored.checkpoint),
        task=task_in(stored.task, stored.checkpoint),
        species=species_name(stored.dataset_path or ""),
        dataset=PurePosixPath(stored.dataset_path or "").name,
        test_rows=stored.use_test_set,
        accuracy=stored.accuracy,
        balanced_accuracy=stored.balanced_accuracy,
        correct=stored.correct,
        total=stored.total,
    )


def name_trainings(
    checkpoint: Checkpoint, task: str, values: Sequence[Cell], scores: Sequence[CheckpointScore]
) -> Checkpoint:
    """Find how a checkpoint was trained where its name does not say it.

    Its scores are looked up among the totals of ResNets: if those of one method alone hold one of them, to the last
    digit and on as many rows, it is that method.
    """
    if checkpoint.training:
        return checkpoint
    own = [s for s in scores if s.checkpoint.name == checkpoint.name and s.task == task]
    methods = {c.method for c in values if c.method.startswith("resnet_") and c.n and any(s.gives(c) for s in own)}
    if len(methods) != 1:
        return checkpoint
    return replace(checkpoint, training=methods.pop().removeprefix("resnet_"))
