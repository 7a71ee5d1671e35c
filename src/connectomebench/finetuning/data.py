"""Rows as prompts and answers to learn: checked, balanced, and decoded only when a batch is made."""

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
    ANSWERS_ALONE,
    StyleSettings,
    TeacherExample,
    taught_partitions,
)
from connectomebench.finetuning.settings import DataSettings
from connectomebench.models.images import decode
from connectomebench.models.prompt import completion, messages

if TYPE_CHECKING:
    from datasets import Dataset

ROW_NUMBER = "row_number"
_REPLY = "learnt_reply"
_ASKED = ("task", "question", "answer", "target_nm", "views")
_COLUMNS = ("sample_id", *_ASKED, "images")


@dataclass(frozen=True)
class TrainingData:
    """What is learnt from, and what is known of it.

    Attributes
    ----------
    train
        Balanced rows of the partition ``train``. Reading one gives ``prompt``, ``completion``, ``images`` (PIL, RGB)
        and ``row_number``, its place in ``sample_ids["train"]``.
    validation
        Rows of the partition ``validation``, in the same form: all that learn something.
    sample_ids
        Ids by partition, in stored order, species after species.
    records
        Of the training rows, one entry a species.
    counts
        Rows by answer: ``train`` as stored, ``balanced``, ``validation``.
    style
        What is learnt of a row.
    taught
        The same row by row, for ``train`` (before balancing) and ``validation``.
    """

    train: Dataset
    validation: Dataset
    sample_ids: dict[str, list[str]]
    records: tuple[DataRecord, ...]
    counts: dict[str, dict[str, int]]
    style: StyleSettings
    taught: dict[str, TeacherExample]


def load_training_data(
    settings: DataSettings, seed: int, cache: Path | None = None, style: StyleSettings = ANSWERS_ALONE
) -> TrainingData:
    """Load, check and balance the rows; images stay on disk.

    Rows that learn nothing (:func:`connectomebench.finetuning.completions.teach`) are left out before balancing.

    Parameters
    ----------
    settings
        Which rows.
    seed
        Of the balancing, and of which rows leave the analysis out.
    cache
        Folder for the cache of `datasets`; its own by default.
    style
        What is learnt of a row.

    Raises
    ------
    ConnectomeBenchError
        If rows are missing, do not fit the task, are in the training rows and in others, or lack a teacher's replies.
    """
    from datasets import concatenate_datasets

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
        rows[partition] = concatenate_datasets([one.dataset.select_columns(columns) for one in loaded])
    sample_ids = {partition: [str(name) for name in own["sample_id"]] for partition, own in rows.items()}
    _check_apart(sample_ids)

    taught = taught_partitions(rows, task, style, seed)
    answers = {partition: [str(answer) for answer in rows[partition]["answer"]] for partition in taught}
    learnt = np.asarray(taught["train"].rows, dtype=np.int64)
    balanced = balanced_rows([answers["train"][number] for number in learnt], settings.balancing(task), seed)
    numbers = {"train": learnt[balanced], "validation": np.asarray(taught["validation"].rows, dtype=np.int64)}
    train, validation = (
        as_prompts(rows[name].select_columns(list(_COLUMNS)), taught[name]).select(numbers[name]) for name in taught
    )
    counts = {
        "train": _count(answers["train"]),
        "balanced": _count([answers["train"][number] for number in numbers["train"]]),
        "validation": _count([answers["validation"][number] for number in numbers["validation"]]),
    }
    return TrainingData(train, validation, sample_ids, tuple(records), counts, style, taught)


def check_rows(rows: Dataset, task: Task, where: str, columns: Sequence[str] = _COLUMNS) -> None:
    """Refuse rows that cannot be asked or learnt; their images are not read.

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
        raise ConnectomeBenchError(f"{where} has no rows; take another species, or build a larger dataset")
    for number, row in enumerate(rows.select_columns(["sample_id", *_ASKED])):
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
    """Choose rows so that every answer is equally common.

    Parameters
    ----------
    answers
        One a row.
    balancing
        ``oversample``: every row is there, and those of rarer answers again, each as often as the next up to one;
        ``undersample``: as many rows of each answer as the rarest has, drawn without repetition; ``none``: all rows.
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


def as_prompts(rows: Dataset, taught: TeacherExample) -> Dataset:
    """Turn rows into what TRL learns from, at the moment they are read.

    Parameters
    ----------
    rows
        Columns as stored; nothing of them is copied.
    taught
        What each of them learns.
    """
    import pyarrow as pa

    numbered: Any = rows.add_column(ROW_NUMBER, np.arange(len(rows), dtype=np.int64))  # pyright: ignore[reportCallIssue]
    return numbered.add_column(_REPLY, pa.array(taught.replies, pa.string())).with_transform(_prompts)


def _prompts(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Write ``prompt`` and ``completion`` of TRL, one turn each, and decode the images.

    A prompt asks for what its completion gives, so that an adapter can be asked in both ways.
    """
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    for row in rows:
        if len(row["images"]) != len(row["views"]):
            counts = f"{len(row['images'])} images and {len(row['views'])} views"
            raise ConnectomeBenchError(f"row {row['sample_id']} has {counts}; build the dataset again")
    return {
        "prompt": [messages(row, style=ANALYSIS if row[_REPLY] else ANSWER) for row in rows],
        "completion": [[{"role": "assistant", "content": row[_REPLY] or completion(row)}] for row in rows],
        "images": [[decode(image) for image in row["images"]] for row in rows],
        ROW_NUMBER: [row[ROW_NUMBER] for row in rows],
    }


def _check_apart(sample_ids: Mapping[str, Sequence[str]]) -> None:
    """Refuse training rows that are also rows to choose or to test by."""
    train = set(sample_ids["train"])
    for partition, ids in sample_ids.items():
        shared = train.intersection(ids) if partition != "train" else ()
        if shared:
            raise ConnectomeBenchError(
                f"{len(shared)} training rows are in {partition} too, for example {min(shared)}; build the data again"
            )


def _count(answers: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, answers)).items()))
