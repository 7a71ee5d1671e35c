"""Read and check a teacher's replies from its result records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.ablations import ABLATIONS
from connectomebench.evaluation.results import read_results

if TYPE_CHECKING:
    import pandas as pd

REPLY_PARTITIONS = ("train", "validation")
"""Partitions whose replies are used; replies to test rows are never kept."""


# an ablation that changes the model, not its input
_SAME_ROWS = {"base_model"}


@dataclass(frozen=True)
class TeacherReplies:
    """Replies of a teacher to one row.

    Attributes
    ----------
    answer
        The truth, as the record has it.
    votes
        One entry a vote, as stored: ``model``, ``reply`` and ``answer``.
    """

    answer: str
    votes: list[dict[str, Any]]


Replies = Mapping[str, TeacherReplies]
"""By ``sample_id``."""


@dataclass(frozen=True)
class Teacher:
    """A model with its replies to training and validation rows.

    Attributes
    ----------
    model, revision, condition
        As in its records.
    replies
        By species and partition.
    fingerprints
        Fingerprint of the dataset evaluated, by species.
    """

    model: str
    revision: str
    condition: str
    replies: dict[str, dict[str, Replies]]
    fingerprints: dict[str, str]


def read_teacher(results: Path, model: str, task: str, condition: str | None = None) -> Teacher:
    """Read a model's replies to the training and validation rows of a task.

    Parameters
    ----------
    results
        A file of result records, or a folder of them.
    model
        As records name it.
    task
        Of the dataset.
    condition
        Which records; may be None where there is one condition alone.

    Raises
    ------
    ConnectomeBenchError
        If there are no such records, several conditions or revisions, or no stored replies.
    """
    frame = read_results(results)
    known = sorted(set(frame["model"]))
    frame = frame[(frame["model"] == model) & (frame["task"] == task) & frame["partition"].isin(REPLY_PARTITIONS)]
    if frame.empty:
        raise ConnectomeBenchError(
            f"{results} holds no records of {model} on training or validation rows of {task} (models there: "
            f"{', '.join(known)}); run `connectomebench evaluate --partition train` first"
        )
    conditions = sorted(set(frame["condition"]))
    if condition is None and len(conditions) > 1:
        raise ConnectomeBenchError(f"{model} was evaluated in several conditions; name one: {', '.join(conditions)}")
    chosen = conditions[0] if condition is None else condition
    taken_away = sorted(set(chosen.split("+")) & (ABLATIONS.keys() - _SAME_ROWS))
    if taken_away:
        raise ConnectomeBenchError(
            f"{model} was evaluated with an ablation ({', '.join(taken_away)}); evaluate it without"
        )
    frame = frame[frame["condition"] == chosen]
    if frame.empty:
        raise ConnectomeBenchError(f"{model} has no records in the condition {chosen}; it has {', '.join(conditions)}")
    replies: dict[str, dict[str, Replies]] = {}
    for (species, partition), rows in frame.groupby(["species", "partition"], sort=True):
        replies.setdefault(str(species), {})[str(partition)] = _replies(rows, model)
    return Teacher(
        model,
        _only(frame, "model_revision", model),
        chosen,
        replies,
        {
            str(species): _only(rows, "dataset_fingerprint", f"{model} on {species}")
            for species, rows in frame.groupby("species")
        },
    )


def _only(frame: pd.DataFrame, column: str, whose: str) -> str:
    values = sorted(set(frame[column]))
    if len(values) > 1:
        raise ConnectomeBenchError(
            f"the records of {whose} have several values of {column} ({', '.join(map(str, values))}); evaluate again"
        )
    return str(values[0])


def _replies(rows: pd.DataFrame, model: str) -> dict[str, TeacherReplies]:
    found: dict[str, TeacherReplies] = {}
    for record in rows.to_dict("records"):
        sample = str(record["sample_id"])
        answers, replies = _listed(record["votes"]), _listed(record["replies"])
        if not replies and isinstance(record["reply"], str):
            answers, replies = [record["prediction"]], [record["reply"]]
        if not replies or len(replies) != len(answers):
            raise ConnectomeBenchError(
                f"the record of {model} on {sample} holds no written replies; evaluate with generated replies"
            )
        votes = [
            {"model": model, "reply": str(reply), "answer": answer if isinstance(answer, str) else None}
            for answer, reply in zip(answers, replies, strict=True)
        ]
        found[sample] = TeacherReplies(str(record["answer"]), votes)
    return found


def _listed(value: Any) -> list[Any]:
    """Return a pandas list value as a list, empty if missing."""
    return list(value) if hasattr(value, "__len__") else []
