"""Open the model of each task, and refuse one that learnt from the place it would proofread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.geometry import Box
from connectomebench.evaluation.chat_adapter import ChatModelAdapter
from connectomebench.evaluation.evaluator import model_defaults
from connectomebench.evaluation.model_spec import Engine, ModelSpec, load_model_spec
from connectomebench.models.base import Model
from connectomebench.models.endpoint_settings import EndpointConfig
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record
from connectomebench.proofreading.person import Person

END_TASKS = ("endpoint_error_identification_with_em", "endpoint_error_identification")
MERGE_TASKS = ("merge_action_with_em", "merge_action")
"""Of the models of these the first that there is judges merges."""
SPOT_TASKS = ("merge_error_identification_with_em", "merge_error_identification")
"""Of the models of these the first that there is judges places of merge errors."""
CHOICE_TASK = "merge_action_multiple_choice"
SPLIT_TASKS = ("split_action_with_em", "split_action")
"""Of the models of these the first that there is judges cuts."""
CORRECTION_TASKS: dict[str, tuple[str, ...]] = {
    "merge": (*MERGE_TASKS[::-1], CHOICE_TASK),
    "split": SPLIT_TASKS[::-1],
}
"""Kind of correction -> tasks whose models judge it."""
PROOFREADING_TASKS = (*END_TASKS, *MERGE_TASKS, CHOICE_TASK, *SPOT_TASKS, *SPLIT_TASKS)
SPEC_FILE = "models.yaml"
_BASELINES = ("trivial", "grey")


@dataclass(frozen=True)
class ModelEntry:
    """One entry of ``models.yaml``: the model of a task.

    Attributes
    ----------
    model
        Folder (also relative to the file), ``ORG/NAME`` on the Hub, or the name on the endpoint's server.
    revision, base, engine
        See :class:`connectomebench.evaluation.model_spec.ModelSpec`.
    endpoint
        Settings of an OpenAI-compatible server, without ``model``.
    fallback
        Second model of a cascade, or ``person``, for questions on which the first is less confident than
        ``min_confidence``.
    min_confidence
        Of the cascade.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str
    revision: str | None = None
    base: str | None = None
    engine: Engine = "transformers"
    endpoint: dict[str, Any] | None = None
    fallback: ModelEntry | Literal["person"] | None = None
    min_confidence: float = 0.9


@dataclass(frozen=True)
class TaskModel:
    """A model of a task.

    Attributes
    ----------
    task
        Name of the task.
    model
        Answers rows of it; a :class:`connectomebench.proofreading.person.Person` leaves them open.
    records
        Training records of the model, or of both models of a cascade; empty for models of others.

    Raises
    ------
    ConnectomeBenchError
        If a person answers a task that is not asked of people.
    """

    task: str
    model: Model
    records: tuple[ModelRecord, ...]

    def __post_init__(self) -> None:
        if isinstance(self.model, Person):
            check_person(self.task, alone=self.model.alone)


def open_task_models(path: Path) -> dict[str, TaskModel]:
    """Open the models of all tasks of proofreading.

    Parameters
    ----------
    path
        A YAML file of task -> :class:`ModelEntry` or ``person``, a folder that holds it as ``models.yaml``, or a folder
        of model folders (with ``connectomebench.json``, at any depth), of which each names its task. Baselines
        (trivial, grey) count only where a task has no other model.

    Returns
    -------
    dict
        Task -> model.

    Raises
    ------
    ConnectomeBenchError
        If there is no model of any task of proofreading, several of one, or one cannot be opened.
    """
    file = path / SPEC_FILE if path.is_dir() else path
    if file.is_file():
        entries = _read_entries(file)
    elif path.is_dir():
        entries = _find_folders(path)
    else:
        raise ConnectomeBenchError(f"there is no {path}; give a folder of models, or a YAML file that names them")
    if not entries:
        raise ConnectomeBenchError(
            f"{path} holds no model of {', '.join(PROOFREADING_TASKS)}; train one (training/train_probe.py)"
        )
    return {task: _open(task, entry, file.parent) for task, entry in entries.items()}


def _read_entries(file: Path) -> dict[str, ModelEntry | Literal["person"]]:
    import yaml
    from pydantic import TypeAdapter, ValidationError

    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        entries = TypeAdapter(dict[str, ModelEntry | Literal["person"]]).validate_python(raw)
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise ConnectomeBenchError(f"cannot read {file}: {' '.join(str(error).split())[:200]}") from None
    except ValidationError as error:
        first = error.errors()[0]
        # the names of the alternatives are no part of the file
        where = ".".join(str(one) for one in first["loc"] if one != ModelEntry.__name__) or "top level"
        raise ConnectomeBenchError(f"{file}: {where}: {first['msg'].lower()}") from None
    for task in entries:
        if task not in PROOFREADING_TASKS:
            raise unknown_name("task of proofreading", task, PROOFREADING_TASKS)
    return entries


def _find_folders(path: Path) -> dict[str, ModelEntry | Literal["person"]]:
    found: dict[str, list[tuple[bool, Path]]] = {}
    for file in sorted(path.rglob(FILE_NAME)):
        record = read_record(file.parent)
        for task in record.tasks:
            if task in PROOFREADING_TASKS:
                found.setdefault(task, []).append((record.kind in _BASELINES, file.parent))
    entries: dict[str, ModelEntry | Literal["person"]] = {}
    for task, folders in found.items():
        learnt = [folder for baseline, folder in folders if not baseline] or [folder for _, folder in folders]
        if len(learnt) > 1:
            names = ", ".join(str(folder.relative_to(path)) for folder in learnt)
            raise ConnectomeBenchError(f"{path} holds several models of {task} ({names}); name one in {SPEC_FILE}")
        entries[task] = ModelEntry(str(learnt[0].resolve()))
    return entries


def _open(task: str, entry: ModelEntry | Literal["person"], base: Path) -> TaskModel:
    if not isinstance(entry, ModelEntry):
        return TaskModel(task, Person(), ())
    second, local = entry.fallback, entry.endpoint is None
    if isinstance(second, str):
        check_person(task, alone=False)  # before the model is loaded
    elif second is not None and second.fallback is not None:
        raise ConnectomeBenchError(f"{task}: a fallback has no fallback of its own; name two models, or one and person")
    model, records = _load(task, entry, base)
    if isinstance(second, ModelEntry):
        from connectomebench.models.cascade import Cascade

        other, more = _load(task, second, base)
        model = Cascade(model, other, entry.min_confidence, local_first=local)
        records += more
    elif second is not None:
        model = Person(model, entry.min_confidence, free=local)
    return TaskModel(task, model, records)


def check_person(task: str, *, alone: bool) -> None:
    """Raise :class:`ConnectomeBenchError` where a person cannot answer: they decide corrections, one by one."""
    if not any(task in tasks for tasks in CORRECTION_TASKS.values()):
        raise ConnectomeBenchError(
            f"{task}: a person decides corrections alone; leave the task out, and every such place goes to correction"
        )
    if alone and task == CHOICE_TASK:
        raise ConnectomeBenchError(f"{task}: a person is asked about one partner at a time; write merge_action: person")


def _load(task: str, entry: ModelEntry, base: Path) -> tuple[Model, tuple[ModelRecord, ...]]:
    name = str((base / entry.model).resolve()) if (base / entry.model).is_dir() else entry.model
    spec = ModelSpec(name, entry.revision, entry.base, engine=entry.engine)
    if entry.endpoint is not None:
        try:
            spec = replace(spec, endpoint=EndpointConfig(model=entry.model, **entry.endpoint))
        except TypeError as error:
            raise ConnectomeBenchError(f"{task}: endpoint: {error}") from None
    loaded = load_model_spec(spec)
    record = loaded.record
    if record is not None and task not in record.tasks:
        trained = ", ".join(record.tasks)
        raise ConnectomeBenchError(f"{entry.model} was trained for {trained}, not for {task}; name another model")
    model: Any = loaded.model
    if hasattr(model, "reply"):
        model = ChatModelAdapter(model, *model_defaults(loaded))
    return model, () if record is None else (record.of_task(task),)


def missing_steps(models: Mapping[str, TaskModel]) -> list[str]:
    """Say which steps are left out because no model does them; one line each."""
    lines = []
    for operation, judging, first, missing in (
        ("merge", END_TASKS, END_TASKS[0], "every end of an object goes to correction"),
        ("split", SPOT_TASKS, SPOT_TASKS[1], "every place of a possible merge error goes to correction"),
    ):
        tasks = CORRECTION_TASKS[operation]
        if not any(task in models for task in tasks):
            lines.append(f"no model of {' or '.join(tasks)}: no {operation}s are proposed")
        elif not any(task in models for task in judging):
            lines.append(f"no model of {first}: {missing}")
    merging = "chooses among partners" if CHOICE_TASK in models else "judges merges"
    for tasks, does in (
        (SPOT_TASKS, "judges places of merge errors"),
        ((CHOICE_TASK, *MERGE_TASKS), merging),
        (SPLIT_TASKS, "judges cuts"),
    ):
        judges = [task for task in tasks if task in models]
        lines += [f"the model of {judges[0]} {does}: that of {task} is not asked" for task in judges[1:]]
    return lines


def trained_here(
    models: Mapping[str, TaskModel],
    name: str,
    version: str,
    bounds: Box,
    box: Box,
    words: str = "the place to proofread",
) -> list[str]:
    """Find models that learnt from the place.

    Parameters
    ----------
    models
        Task -> model.
    name, version
        Of the source that is proofread.
    bounds, box
        Its whole extent, and the part that is proofread, nm.
    words
        What that part is called in messages.

    Returns
    -------
    list of str
        One line for each model that was trained on rows of this source (by its name or version), or of one with exactly
        these bounds, that show a place of the box. Where a record does not say which places its rows show, the bounds
        of its source count.
    """
    lines = []
    for task, model in models.items():
        for data in (data for record in model.records for data in record.trained_on):
            source = data.source
            theirs = source.get("bounds_nm")
            same = (
                source.get("name") == name
                or source.get("version") == version
                or (theirs is not None and _box(theirs) == bounds)
            )
            places = source.get("places_nm") or theirs
            if same and (places is None or _overlap(_box(places), box)):
                shown = "places unknown" if places is None else f"places {_text(_box(places))} nm"
                lines.append(
                    f"{task}: {model.model.name} was trained on {data.partition} rows of {source.get('name')} "
                    f"(dataset {data.fingerprint[:12]}, {shown}), which overlap {words}"
                )
    return lines


def _box(corners: Any) -> Box:
    lower, upper = ([float(c) for c in corner] for corner in corners)
    return Box((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))


def _overlap(a: Box, b: Box) -> bool:
    low = zip(a.lower_nm, b.upper_nm, strict=True)
    high = zip(a.upper_nm, b.lower_nm, strict=True)
    return all(x < y for x, y in low) and all(x > y for x, y in high)


def _text(box: Box) -> str:
    return " to ".join(", ".join(f"{c:g}" for c in corner) for corner in (box.lower_nm, box.upper_nm))
