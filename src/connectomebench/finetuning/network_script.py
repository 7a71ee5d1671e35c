"""What the training scripts of image networks share: arguments of a run, and scores on the held-out rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    from connectomebench.dataset.rows import Rows
    from connectomebench.models.base import Model


@dataclass(kw_only=True)
class RunArguments:
    """Output folder and partitions of a training, as options of a script.

    Attributes
    ----------
    output_dir
        Folder of the model.
    train_partition, validation_partition, eval_partition
        Partitions to learn from, to choose the epoch and to score.
    checkpoint_dir
        Folder of the state after each epoch.
    resume
        ``auto`` or ``never``.

    Raises
    ------
    ConnectomeBenchError
        If ``resume`` is unknown.
    """

    output_dir: Path = field(metadata={"help": "Folder of the model: config.json, model.safetensors and the record."})
    train_partition: str = field(default="train", metadata={"help": "Partition to train on."})
    validation_partition: str = field(
        default="validation", metadata={"help": "Partition that chooses the epoch, and calibrates probabilities."}
    )
    eval_partition: str = field(default="validation", metadata={"help": "Partition to score."})
    checkpoint_dir: Path | None = field(
        default=None,
        metadata={"help": "State after each epoch, removed at the end; OUTPUT_DIR-checkpoint by default."},
    )
    resume: str = field(
        default="auto",
        metadata={"help": "auto resumes from the newest whole checkpoint; never removes them and starts again."},
    )

    def __post_init__(self) -> None:
        if self.resume not in ("auto", "never"):
            raise ConnectomeBenchError(f"unknown resume {self.resume!r}; choose auto or never")

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.checkpoint_dir or self.output_dir.with_name(f"{self.output_dir.name}-checkpoint")

    @property
    def partitions(self) -> list[str]:
        """Partitions to load, sorted."""
        return sorted({self.train_partition, self.validation_partition, self.eval_partition})

    @property
    def chosen_on_these_rows(self) -> bool:
        """Whether the rows that are scored had a part in the training: their scores flatter."""
        return self.eval_partition in (self.validation_partition, self.train_partition)


@dataclass(kw_only=True)
class DatasetArguments(RunArguments):
    """The same for one dataset, with its name as options of a script.

    Attributes
    ----------
    dataset
        Folder or Hub id of one task.
    species, task, dataset_revision
        See :func:`connectomebench.load_rows`.
    """

    dataset: str = field(metadata={"help": "Dataset folder or Hub id of one task."})
    species: str = field(default="fly", metadata={"help": "Config of the dataset."})
    task: str | None = field(default=None, metadata={"help": "Task to ask of a public dataset that holds several."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})

    def load(self) -> dict[str, Rows]:
        """Load the rows of every partition that is needed."""
        from connectomebench.dataset.loading import load_rows

        return {
            name: load_rows(self.dataset, self.species, name, self.dataset_revision, task=self.task)
            for name in self.partitions
        }


def held_out_scores(
    model: Model, rows: Rows, partition: str, metrics: Sequence[str] | None = None
) -> dict[str, int | dict[str, float | None]]:
    """Score a model on rows: their number, and metrics with 95% intervals over groups.

    Parameters
    ----------
    model
        Answers the rows.
    rows
        From :func:`connectomebench.load_rows`.
    partition
        Their name.
    metrics
        Names; None takes all of the task.

    Returns
    -------
    dict
        ``rows``, ``groups``, and of each metric ``value``, ``lower`` and ``upper``, None where undefined.
    """
    from connectomebench.evaluation.results import read_results, summarise
    from connectomebench.evaluation.runner import evaluate_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        evaluate_model(model, rows.dataset, partition, rows.data.fingerprint, path)
        summary = summarise(read_results(path))[0]
    shown = summary.estimates if metrics is None else {name: summary.estimates[name] for name in metrics}
    return {"rows": summary.n, "groups": summary.n_groups, **{name: _interval(one) for name, one in shown.items()}}


def _interval(estimate: Any) -> dict[str, float | None]:
    values = {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
    return {name: round(value, 4) if isfinite(value) else None for name, value in values.items()}
