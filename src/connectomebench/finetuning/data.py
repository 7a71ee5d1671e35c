"""Training rows as prompts and completions: checked, balanced, and decoded when a batch is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import DataRecord
from connectomebench.dataset.schema import TEACHER_REPLIES
from connectomebench.finetuning.completions import (
    ANALYSIS,
    ANSWER,
    ANSWER_ONLY,
    CompletionTargets,
    StyleConfig,
    partition_targets,
)
from connectomebench.finetuning.settings import DataConfig
from connectomebench.models.images import decode
from connectomebench.models.prompt import completion, messages

if TYPE_CHECKING:
    from datasets import Dataset

ROW_NUMBER = "row_number"
_REPLY = "learnt_reply"
_PROMPT_COLUMNS = ("task", "question", "answer", "target_nm", "location_nm", "extent_nm", "views")
_COLUMNS = ("sample_id", *_PROMPT_COLUMNS, "images")


@dataclass(frozen=True)
class TrainingData:
    """Rows to train on and their provenance.

    Attributes
    ----------
    train
        Balanced rows of the partition ``train``. Reading one gives ``prompt``, ``completion``, ``images`` (PIL, RGB)
        and ``row_number``, its place in ``sample_ids["train"]``.
    validation
        Rows of the partition ``validation`` that have a target, in the same form.
    sample_ids
        Ids by partition, in stored order, species after species.
    records
        Provenance of the training rows, one entry per species.
    counts
        Rows by answer: ``train`` as stored, ``balanced``, ``validation``.
    style
        Settings of the completions.
    targets
        Targets of ``train`` (before balancing) and ``validation``.
    """

    train: Dataset
    validation: Dataset
    sample_ids: dict[str, list[str]]
    records: tuple[DataRecord, ...]
    counts: dict[str, dict[str, int]]
    style: StyleConfig
    targets: dict[str, CompletionTargets]


def load_training_data(
    settings: DataConfig, seed: int, cache: Path | None = None, style: StyleConfig = ANSWER_ONLY
) -> TrainingData:
    """Load, check and balance the rows; images stay on disk.

    Rows without a target (:func:`.completions.choose_targets`) are left out before balancing.

    Parameters
    ----------
    settings
        Which rows.
    seed
        Of the balancing, and of which rows leave the analysis out.
    cache
        Folder for the cache of `datasets`; its own by default.
    style
        Settings of the completions.

    Raises
    ------
    ConnectomeBenchError
        If rows are missing, do not fit the task, are in the training rows and in others, or lack a teacher's replies.
    """
    from datasets import Image, List, concatenate_datasets

    task = get_task(settings.task)
    columns = [*_COLUMNS, *([TEACHER_REPLIES] if style.answer_style == ANALYSIS else [])]
    rows: dict[str, Dataset] = {}
    records: list[DataRecord] = []
    for partition in PARTITIONS:
        loaded = [
            load_rows(settings.name, species, partition, settings.dataset_revision, cache, task=task.name)
            for species in settings.species
        ]
        if partition == "train":
            records = [one.data for one in loaded]
        for one, species in zip(loaded, settings.species, strict=True):
            check_rows(one.dataset, task, f"{species}/{partition}", columns)
        joined = concatenate_datasets([one.dataset.select_columns(columns) for one in loaded])
        # `datasets` would decode the first picture of every row twice, and could not name the row of a damaged one
        rows[partition] = joined.cast_column("images", List(Image(decode=False)))
    sample_ids = {partition: [str(name) for name in own["sample_id"]] for partition, own in rows.items()}
    _check_apart(sample_ids)

    targets = partition_targets(rows, task, style, seed)
    answers = {partition: [str(answer) for answer in rows[partition]["answer"]] for partition in targets}
    chosen = np.asarray(targets["train"].rows, dtype=np.int64)
    balanced = balanced_rows([answers["train"][number] for number in chosen], settings.balancing(task), seed)
    numbers = {"train": chosen[balanced], "validation": np.asarray(targets["validation"].rows, dtype=np.int64)}
    train, validation = (
        as_prompts(rows[name].select_columns(list(_COLUMNS)), targets[name]).select(numbers[name]) for name in targets
    )
    counts = {
        "train": _count(answers["train"]),
        "balanced": _count([answers["train"][number] for number in numbers["train"]]),
        "validation": _count([answers["validation"][number] for number in numbers["validation"]]),
    }
    return TrainingData(train, validation, sample_ids, tuple(records), counts, style, targets)


def check_rows(rows: Dataset, task: Task, where: str, columns: Sequence[str] = _COLUMNS) -> None:
    """Raise if rows lack a valid prompt or answer; images are not read.

    Parameters
    ----------
    rows
        Stored rows of one species and partition.
    task
        What they should be about.
    where
        Named in the error.
    columns
        That are needed.

    Raises
    ------
    ConnectomeBenchError
        If there are none, columns are missing, or a row has another task, no views, a question that is no plain text
        or no answer.
    """
    missing = [name for name in columns if name not in rows.column_names]
    if missing == [TEACHER_REPLIES]:
        raise ConnectomeBenchError(
            f"{where} has no teacher's replies (column {TEACHER_REPLIES}); add them with `connectomebench teacher`, or "
            "use --answer_style answer"
        )
    if missing:
        raise ConnectomeBenchError(f"{where} has no column {', '.join(missing)}; it is no dataset of {task.name}")
    if not len(rows):
        raise ConnectomeBenchError(f"{where} has no rows; choose another species, or build a larger dataset")
    for number, row in enumerate(rows.select_columns(["sample_id", *_PROMPT_COLUMNS])):
        assert isinstance(row, Mapping)
        try:
            if row["task"] != task.name:
                raise ConnectomeBenchError(f"its task is {row['task']}, not {task.name}")
            if not row["views"]:
                raise ConnectomeBenchError("it has no views")
            messages(row)
            completion(row)
        except ConnectomeBenchError as error:
            raise ConnectomeBenchError(f"row {number} of {where} ({row['sample_id']}): {error}") from None


def balanced_rows(answers: Sequence[str], balancing: str, seed: int) -> NDArray[np.int64]:
    """Select rows so that every answer is equally frequent.

    Parameters
    ----------
    answers
        One a row.
    balancing
        ``oversample``: keep every row and repeat those of rarer answers, as evenly as possible; ``undersample``: draw
        as many rows of each answer as the rarest has, without replacement; ``none``: keep all rows.
    seed
        Of the draw. The same seed and answers give the same rows.

    Returns
    -------
    ndarray
        Row numbers, int64, ascending; a repeated row follows itself.

    Raises
    ------
    ConnectomeBenchError
        If all rows have one answer.
    """
    if balancing == "none":
        return np.arange(len(answers), dtype=np.int64)
    column = np.asarray(answers)
    names, counts = np.unique(column, return_counts=True)
    if len(names) < 2:
        raise ConnectomeBenchError(f"all training rows have the answer {str(names[0])!r}, so there is nothing to learn")
    rng = np.random.default_rng(seed)
    wanted = int(counts.max() if balancing == "oversample" else counts.min())
    chosen = []
    for name, count in zip(names, counts, strict=True):
        own = np.flatnonzero(column == name)
        whole, rest = divmod(wanted, int(count))
        chosen += [np.tile(own, whole), rng.choice(own, rest, replace=False)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def as_prompts(rows: Dataset, targets: CompletionTargets) -> Dataset:
    """Turn rows into TRL's prompts and completions as they are read.

    Parameters
    ----------
    rows
        Columns as stored; nothing of them is copied.
    targets
        Targets of the rows.
    """
    import pyarrow as pa

    numbered: Any = rows.add_column(ROW_NUMBER, np.arange(len(rows), dtype=np.int64))  # pyright: ignore[reportCallIssue]
    return numbered.add_column(_REPLY, pa.array(targets.replies, pa.string())).with_transform(_prompts)


def _prompts(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Build ``prompt`` and ``completion`` for TRL, one turn each, and decode the images.

    A prompt asks for what its completion gives, so the adapter supports both answer styles.
    """
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    for row in rows:
        if len(row["images"]) != len(row["views"]):
            counts = f"{len(row['images'])} images and {len(row['views'])} views"
            raise ConnectomeBenchError(f"row {row['sample_id']} has {counts}; build the dataset again")
    return {
        "prompt": [messages(row, style=ANALYSIS if row[_REPLY] else ANSWER) for row in rows],
        "completion": [[{"role": "assistant", "content": row[_REPLY] or completion(row)}] for row in rows],
        "images": [_pictures(row) for row in rows],
        ROW_NUMBER: [row[ROW_NUMBER] for row in rows],
    }


def _pictures(row: Mapping[str, Any]) -> list[Any]:
    """Decode the images of a row; raise naming the row."""
    pictures = []
    for view, image in zip(row["views"], row["images"], strict=True):
        try:
            pictures.append(decode(image))
        except ConnectomeBenchError as error:
            raise ConnectomeBenchError(f"row {row['sample_id']}, {view}: {error}") from None
    return pictures


def _check_apart(sample_ids: Mapping[str, Sequence[str]]) -> None:
    """Raise if training rows are also in another partition."""
    train = set(sample_ids["train"])
    for partition, ids in sample_ids.items():
        shared = train.intersection(ids) if partition != "train" else ()
        if shared:
            raise ConnectomeBenchError(
                f"{len(shared)} training rows are in {partition} too, for example {min(shared)}; build the data again"
            )


def _count(answers: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, answers)).items()))
