"""Find and run the models that a visitor can ask about their own place."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS, Task, get_task
from connectomebench.demo.demo_data import named_repositories

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from connectomebench.models.base import Answer, Model
    from connectomebench.models.encoders import Encoder
    from connectomebench.models.model_record import ModelRecord

MODELS_VARIABLE = "CONNECTOMEBENCH_MODELS"
ENDPOINT_VARIABLE = "CONNECTOMEBENCH_ENDPOINT"
ENDPOINT_MODEL_VARIABLE = "CONNECTOMEBENCH_ENDPOINT_MODEL"
# kinds that answer on a CPU within seconds
_KINDS = ("probe", "trivial", "image_classifier", "multitask_vit")
_EXPLAINED = ("probe", "image_classifier")
# scores every node of a sample, and needs nothing more to be explained
_OF_NODES = "node_probe"
# their layers are watched while they run, and would see the pictures of another visitor
_ONE_AT_A_TIME = Lock()
_ENDPOINT_TIMEOUT_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskableModel:
    """A model that answers visitors' questions.

    Attributes
    ----------
    name
        Display name.
    kind
        As in its record; ``endpoint`` for a server.
    source
        Folder or repository of its files, as :func:`connectomebench.load_model` takes it; None for a server.
    trained_on
        Species of its training rows; empty if unknown.
    simulated
        Whether the errors in these rows were simulated.
    """

    name: str
    kind: str
    source: str | None
    trained_on: tuple[str, ...]
    simulated: Literal["no", "some", "all"]


@dataclass(frozen=True)
class ModelOpinion:
    """A model's answer about a place.

    Attributes
    ----------
    model
        Which one.
    answer
        None if the model failed.
    evidence
        Answer -> what the model looked at, shape (pictures, rows, columns); empty where that cannot be drawn.
    """

    model: AskableModel
    answer: Answer | None
    evidence: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def askable_tasks() -> list[Task]:
    """Return the tasks that an upload can pose: yes/no tasks whose views show meshes only."""
    return [
        task
        for task in TASKS.values()
        if task.answer_kind == "yes_no" and not task.has_em and task.correction != "none"
    ]


def find_models(folder: Path) -> dict[str, list[AskableModel]]:
    """Find the models that answer on a CPU, and the server that is configured.

    Parameters
    ----------
    folder
        With trained models below ``models``, each with its ``connectomebench.json``. Those of the Hub are named in
        `MODELS_VARIABLE`, ``ORG/NAME`` with spaces between them. One that cannot be read or fetched is left out, and
        the reason is logged.

    Returns
    -------
    dict
        By task; a task that no model was trained for has none but the server.

    Raises
    ------
    ConnectomeBenchError
        If `MODELS_VARIABLE` holds something that is no name.
    """
    from connectomebench.models.model_record import FILE_NAME

    found: dict[str, list[AskableModel]] = {task.name: [] for task in askable_tasks()}
    local = [str(path.parent) for path in sorted((folder / "models").rglob(FILE_NAME))]
    for source in (*local, *named_repositories(MODELS_VARIABLE)):
        try:
            record = _record(source)
        except ConnectomeBenchError as error:
            _log.warning("a model of the demo is left out: %s", error)
            continue
        # an upload is drawn as pictures alone
        if record is None or record.kind not in _KINDS or record.config.get("geometry"):
            continue
        for own in (record.of_task(task) for task in record.tasks if task in found):
            species = tuple(sorted(set(own.species)))
            found[own.task].append(AskableModel(own.name, own.kind, source, species, _simulated(own)))
    if served := os.environ.get(ENDPOINT_MODEL_VARIABLE, ""):
        for models in found.values():
            models.append(AskableModel(served, "endpoint", None, (), "no"))
    return found


@lru_cache(maxsize=64)
def explainable(folder: Path, task: str) -> tuple[AskableModel, ...]:
    """Find the models below ``folder/models`` of a task whose evidence can be shown; they are not loaded.

    Parameters
    ----------
    folder
        As for :func:`find_models`; looked at once.
    task
        Name of any task, also one with image data.
    """
    from connectomebench.models.model_record import FILE_NAME

    if find_spec("torch") is None:
        return ()
    kinds = (_OF_NODES, *(_EXPLAINED if find_spec("pytorch_grad_cam") is not None else ()))
    found = []
    for path in sorted((folder / "models").rglob(FILE_NAME)):
        try:
            record = _record(str(path.parent))
        except ConnectomeBenchError as error:
            _log.warning("a model of the demo is left out: %s", error)
            continue
        if record is not None and record.kind in kinds and record.task == task:
            species = tuple(sorted(set(record.species)))
            found.append(AskableModel(record.name, record.kind, str(path.parent), species, _simulated(record)))
    return tuple(found)


def _record(source: str) -> ModelRecord | None:
    """Read the record of a model; None if its weights are missing, as with downloaded results."""
    from connectomebench.models.model_files import open_files
    from connectomebench.models.model_record import read_record

    folder = open_files(source, None).folder
    weights = [*folder.glob("*.skops"), *folder.glob("*.safetensors")]
    return read_record(folder) if weights else None


def _simulated(record: ModelRecord) -> Literal["no", "some", "all"]:
    simulated = [bool(data.source.get("simulated_errors")) for data in record.trained_on]
    if not any(simulated):
        return "no"
    return "all" if all(simulated) else "some"


def ask(models: Sequence[AskableModel], task: Task, images: Sequence[Image.Image]) -> list[ModelOpinion]:
    """Ask models about one place; nothing of it is kept.

    Parameters
    ----------
    models
        From :func:`find_models`.
    task
        Task of the question.
    images
        In the order of the task's views.

    Returns
    -------
    list of Opinion
        In the order of the models. A model that fails does not keep the others from answering.
    """
    row = {
        "task": [task.name],
        "question": [task.question],
        "views": [list(task.views)],
        "images": [list(images)],
    }
    return [_opinion(model, row) for model in models]


def ask_nodes(
    models: Sequence[AskableModel], row: Mapping[str, Any], images: Sequence[Image.Image]
) -> list[tuple[AskableModel, str, NDArray[np.float64]]]:
    """Ask models of places about one stored sample.

    Parameters
    ----------
    models
        From :func:`explainable`; those of other kinds are left out.
    row
        Small columns of the sample.
    images
        In the order of its views.

    Returns
    -------
    list of tuple
        Model, its answer, and its score of each node, in the order of the models. One that fails is left out, and the
        reason is logged.
    """
    from connectomebench.models.node_probe import NodeProbe
    from connectomebench.models.place_baselines import best_nodes

    batch = {name: [row[name]] for name in ("task", "question", "views", "extent_nm")} | {"images": [list(images)]}
    found = []
    for model in models:
        try:
            asked = _loaded(model)()
            if isinstance(asked, NodeProbe):
                (scores,) = asked.node_scores(batch)
                found.append((model, best_nodes(scores, get_task(row["task"])), scores))
        except ConnectomeBenchError as error:
            _log.warning("%s cannot be asked: %s", model.name, error)
    return found


def _opinion(model: AskableModel, row: dict[str, Any]) -> ModelOpinion:
    try:
        asked = _loaded(model)()
        if model.kind not in _EXPLAINED:
            (answer,) = asked.predict(row)
            return ModelOpinion(model, answer)
        with _ONE_AT_A_TIME:
            (answer,) = asked.predict(row)
            return ModelOpinion(model, answer, _evidence(asked, {name: values[0] for name, values in row.items()}))
    except ConnectomeBenchError as error:
        # the message may name local folders, so it goes to the log only
        _log.warning("%s cannot be asked: %s", model.name, error)
        return ModelOpinion(model, None)


def _evidence(asked: Model, row: Mapping[str, Any]) -> Mapping[str, NDArray[np.float32]]:
    """Return what a model looked at, where that can be drawn."""
    from connectomebench.demo.evidence import can_explain, evidence

    return evidence(asked, row, row["images"]) if can_explain(asked, row) else {}


@lru_cache(maxsize=64)
def _loaded(model: AskableModel) -> Callable[[], Model]:
    """Load a model once, and return a function that gives it in its freshly loaded state.

    Probes and trivial models keep a vector of every image they see. They are rebuilt around the loaded
    weights for each question, so that no visitor data stay and memory does not fill.
    """
    if model.source is None:
        return _reached(model)
    from connectomebench.models.probe import Probe
    from connectomebench.models.registry import load_model
    from connectomebench.models.trivial_baseline import TrivialModel

    loaded = load_model(model.source)
    if isinstance(loaded, Probe):
        encoder = _encoder(loaded.config.encoder, loaded.config.encoder_revision)
        return partial(Probe, loaded.config, encoder, loaded.head, loaded.views, loaded.trained_on, None)
    if isinstance(loaded, TrivialModel):
        return partial(TrivialModel, loaded.config, loaded.head, loaded.views, loaded.trained_on, None)
    return lambda: loaded


def _reached(model: AskableModel) -> Callable[[], Model]:
    from connectomebench.evaluation.answer_mode import AnswerMode
    from connectomebench.evaluation.chat_adapter import ChatModelAdapter
    from connectomebench.models.endpoint import open_endpoint
    from connectomebench.models.endpoint_settings import EndpointConfig

    url = os.environ.get(ENDPOINT_VARIABLE, "")
    settings = EndpointConfig(url=url, model=model.name, timeout_s=_ENDPOINT_TIMEOUT_S, retries=1)
    talker = ChatModelAdapter(open_endpoint(settings), AnswerMode("generated"))
    return lambda: talker


@lru_cache(maxsize=4)
def _encoder(name: str, revision: str | None) -> Encoder:
    from connectomebench.models.encoders import load_encoder

    return load_encoder(name, revision)
