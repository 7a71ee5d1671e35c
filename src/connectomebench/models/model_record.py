"""`connectomebench.json`, the record of a model folder on disk and on the Hub; the source of model cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.dataset.rows import DataRecord

FILE_NAME = "connectomebench.json"
FORMAT = 1
_MAX_BYTES = 16_000_000

ModelKind = Literal[
    "probe", "trivial", "grey", "image_classifier", "multitask_vit", "node_probe", "mask_unet", "adapter", "vlm"
]
TASKS = "tasks"
"""Key of the settings of a model of several tasks: their names."""


@dataclass(frozen=True)
class ModelRecord:
    """Record of a model folder.

    Attributes
    ----------
    kind
        Selects the loader of the folder.
    name, revision
        As in result records (:class:`connectomebench.models.base.Model`).
    task
        The task it was trained for; of several the first.
    base_model, base_revision
        Encoder, backbone or vision-language model it is based on; None if there is none.
    config
        All training settings, JSON-serialisable.
    trained_on
        The training rows, one entry per species.
    versions
        Versions of the libraries used for training.
    code_version
        Version of this package.
    """

    kind: ModelKind
    name: str
    revision: str
    task: str
    base_model: str | None
    base_revision: str | None
    config: dict[str, Any]
    trained_on: tuple[DataRecord, ...]
    versions: dict[str, str]
    code_version: str = __version__

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task it was trained for."""
        return tuple(self.config.get(TASKS, (self.task,))) if self.kind == "multitask_vit" else (self.task,)

    def of_task(self, task: str) -> ModelRecord:
        """Return the record as that of one of its tasks alone, with the training rows of it."""
        if self.tasks == (task,):
            return self
        trained_on = tuple(data for data in self.trained_on if data.task == task)
        return replace(self, task=task, config=self.config | {TASKS: [task]}, trained_on=trained_on)

    @property
    def species(self) -> tuple[str, ...]:
        """Training species, in order."""
        return tuple(dict.fromkeys(data.species for data in self.trained_on))


def write_record(folder: Path, record: ModelRecord) -> None:
    """Write the record of a model; write it last, since it marks the folder as complete.

    Parameters
    ----------
    folder
        Of the model.
    record
        The record.
    """
    write_text(folder / FILE_NAME, record_text(record))


def record_text(record: ModelRecord) -> str:
    """Return the content of `FILE_NAME` for a record."""
    return json.dumps({"format": FORMAT, **asdict(record)}, indent=2, ensure_ascii=False) + "\n"


def read_record(folder: Path) -> ModelRecord:
    """Read the record of a model.

    Parameters
    ----------
    folder
        Model folder; may be untrusted, so every value is checked.

    Raises
    ------
    ConnectomeBenchError
        If it is missing, damaged or of a later format.
    """
    path = folder / FILE_NAME
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        raw = json.loads(path.read_text(encoding="utf-8"))
        form = raw.pop("format")
        if not isinstance(form, int) or form > FORMAT:
            raise ConnectomeBenchError(f"{path} has format {str(form)[:20]}, this version reads {FORMAT}; upgrade")
        record = _record(raw)
    except FileNotFoundError:
        raise ConnectomeBenchError(f"{folder} holds no model: {FILE_NAME} is missing; train one first") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not the record of a model ({error!r:.120}); train it again") from None
    get_task(record.task)
    return record


def _record(raw: Mapping[str, Any]) -> ModelRecord:
    values = dict(raw)
    values["trained_on"] = tuple(DataRecord(**_checked(DataRecord, entry)) for entry in values["trained_on"])
    record = ModelRecord(**_checked(ModelRecord, values))
    if record.kind not in get_args(ModelKind):
        raise ValueError(f"unknown kind {record.kind!r:.40}")
    if record.kind == "multitask_vit":
        _check_tasks(record)
    return record


def _check_tasks(record: ModelRecord) -> None:
    """Check the tasks of a record from outside: known, different, and with training rows each."""
    named = record.config[TASKS]
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise TypeError("tasks are no names")
    if len(set(named)) < len(named) or named[0] != record.task or set(named) != {d.task for d in record.trained_on}:
        raise ValueError("tasks are not those of its training rows")
    for name in named:
        get_task(name)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "str | None": (str, type(None)),
    "ModelKind": str,
    "dict[str, Any]": dict,
    "dict[str, int]": dict,
    "dict[str, str]": dict,
    "tuple[DataRecord, ...]": tuple,
}


def _checked(kind: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check that every field has a value of its type."""
    for field in fields(kind):
        if field.name not in values or not isinstance(values[field.name], _KINDS[str(field.type)]):
            raise TypeError(f"{field.name} is missing or of the wrong type")
    return values
