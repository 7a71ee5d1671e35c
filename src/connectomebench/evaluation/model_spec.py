"""Specification of the model to evaluate: a local or Hub model, or an endpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    from connectomebench.models.base import Model
    from connectomebench.models.chat import ChatModel
    from connectomebench.models.endpoint_settings import EndpointConfig
    from connectomebench.models.model_record import ModelRecord
    from connectomebench.models.recalibration import Recalibration

Engine = Literal["transformers", "vllm", "vllm-head"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)?")


@dataclass(frozen=True)
class ModelSpec:
    """The model to evaluate.

    Attributes
    ----------
    model, revision, base
        See :func:`connectomebench.models.registry.load_model`. ``model`` is unused with an endpoint.
    endpoint
        Server and the model's name on it.
    engine
        Inference engine of a local language model. ``vllm-head`` gives probabilities of yes and no and no text.
    without_adapter
        Evaluate the base model of an adapter.
    batch_size
        Rows a local language model processes at once; None takes 4.
    name
        Name of the model in result records; None takes ``ORG/NAME`` for a model from the Hub, else the model's own.

    Examples
    --------
    >>> from connectomebench import ModelSpec
    >>> ModelSpec("your-org/probe").engine
    'transformers'
    """

    model: str
    revision: str | None = None
    base: str | None = None
    endpoint: EndpointConfig | None = None
    engine: Engine = "transformers"
    without_adapter: bool = False
    batch_size: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model with its training record.

    Attributes
    ----------
    model
        A classifier, a chat model, or both.
    record
        Training record; None for models not trained by this package.
    name
        Name of the model in result records.
    recalibrations
        Calibrations stored beside the model, of each task and species.
    """

    model: Model | ChatModel
    record: ModelRecord | None
    name: str
    recalibrations: Sequence[Recalibration] = ()


def load_model_spec(model_spec: ModelSpec) -> LoadedModel:
    """Load the model of a specification.

    Raises
    ------
    ConnectomeBenchError
        If the model does not exist, is damaged, or the server cannot be reached; or its name cannot be one.
    """
    if model_spec.name is not None:
        check_model_name(model_spec.name)
    model, record = _load(model_spec)
    name = model_spec.name or _published_name(model_spec) or model.name
    loaded = LoadedModel(model, record, name, _recalibrations(model_spec))
    if model_spec.batch_size is not None:
        from connectomebench.models.vlm import VisionLanguageModel

        if not isinstance(loaded.model, VisionLanguageModel):
            raise ConnectomeBenchError(f"{loaded.model.name} batches by itself; leave out the batch size")
        if model_spec.batch_size < 1:
            raise ConnectomeBenchError(f"the batch size is {model_spec.batch_size}; it must be at least 1")
        loaded.model.batch_size = model_spec.batch_size
    return loaded


def _recalibrations(model_spec: ModelSpec) -> Sequence[Recalibration]:
    """Read the calibrations beside a model; an endpoint has no folder, and those of an adapter are not its base's."""
    if model_spec.endpoint is not None or model_spec.without_adapter:
        return ()
    from connectomebench.models.registry import open_recalibrations

    return open_recalibrations(model_spec.model, model_spec.revision)


def check_model_name(name: str) -> None:
    """Raise unless a name can stand in result records and in the paths of their files.

    Raises
    ------
    ConnectomeBenchError
        For anything but letters, digits, ``._+-`` and one slash inside.
    """
    if len(name) > 200 or not _NAME.fullmatch(name):
        raise ConnectomeBenchError(
            f"{name[:60]!r} cannot be the name of a model in the records; use letters, digits, ._+- and one slash"
        )


def _published_name(model_spec: ModelSpec) -> str | None:
    """Return ``ORG/NAME`` of a model from the Hub: models of two people often have the same short name."""
    elsewhere = model_spec.endpoint is not None or model_spec.without_adapter
    return None if elsewhere or Path(model_spec.model).is_dir() else model_spec.model


def _load(model_spec: ModelSpec) -> tuple[Model | ChatModel, ModelRecord | None]:
    if model_spec.endpoint is not None:
        if model_spec.base or model_spec.revision or model_spec.without_adapter or model_spec.engine != "transformers":
            raise ConnectomeBenchError(
                "an endpoint serves a fixed model; leave out revision, base, engine and base_model"
            )
        from connectomebench.models.endpoint import open_endpoint

        return open_endpoint(model_spec.endpoint), None
    if model_spec.engine == "vllm":
        from connectomebench.models.vllm_engine import open_vllm

        return open_vllm(model_spec.model, model_spec.revision, base=model_spec.base), None
    if model_spec.engine == "vllm-head":
        from connectomebench.models.vllm_engine import open_vllm_head

        return open_vllm_head(model_spec.model, model_spec.revision, base=model_spec.base), None
    if model_spec.without_adapter:
        from connectomebench.models.vlm_loading import load_base

        return load_base(model_spec.model, model_spec.revision, model_spec.base), None
    from connectomebench.models.registry import open_model

    return open_model(model_spec.model, model_spec.revision, base=model_spec.base)
