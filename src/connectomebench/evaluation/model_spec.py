"""Who is asked: a model of any kind by its name, an endpoint, or two models one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    from connectomebench.models.base import Model
    from connectomebench.models.chat import ChatModel
    from connectomebench.models.endpoint_settings import EndpointSettings
    from connectomebench.models.model_record import ModelRecord

Engine = Literal["transformers", "vllm"]


@dataclass(frozen=True)
class ModelSpec:
    """Who is asked.

    Attributes
    ----------
    model, revision, base
        See :func:`connectomebench.models.registry.load_model`. Where there is an endpoint, ``model`` is not used.
    endpoint
        Server that answers, with the name of the model there.
    engine
        What computes a language model of this machine.
    without_adapter
        Ask the model that an adapter was trained on.
    batch_size
        Rows that a language model of this machine computes together; None takes 4.
    """

    model: str
    revision: str | None = None
    base: str | None = None
    endpoint: EndpointSettings | None = None
    engine: Engine = "transformers"
    without_adapter: bool = False
    batch_size: int | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer.

    Attributes
    ----------
    model
        With probabilities, in words, or both.
    record
        Of our own models: what they were trained on, and how.
    """

    model: Model | ChatModel
    record: ModelRecord | None


def load_model_spec(asked: ModelSpec) -> LoadedModel:
    """Open who is asked.

    Raises
    ------
    ConnectomeBenchError
        If there is no such model, it is damaged, or the server cannot be reached.
    """
    opened = _open(asked)
    if asked.batch_size is not None:
        from connectomebench.models.vlm import VisionLanguageModel

        if not isinstance(opened.model, VisionLanguageModel):
            raise ConnectomeBenchError(f"{opened.model.name} forms its batches by itself; leave the batch size out")
        if asked.batch_size < 1:
            raise ConnectomeBenchError(f"the batch size is {asked.batch_size}; it must be at least 1")
        opened.model.batch_size = asked.batch_size
    return opened


def _open(asked: ModelSpec) -> LoadedModel:
    if asked.endpoint is not None:
        if asked.base or asked.revision or asked.without_adapter or asked.engine != "transformers":
            raise ConnectomeBenchError("a server has its model ready; leave revision, base, engine and base_model out")
        from connectomebench.models.endpoint import open_endpoint

        return LoadedModel(open_endpoint(asked.endpoint), None)
    if asked.engine == "vllm":
        from connectomebench.models.vllm_engine import open_vllm

        return LoadedModel(open_vllm(asked.model, asked.revision, base=asked.base), None)
    if asked.without_adapter:
        from connectomebench.models.vlm_loading import load_base

        return LoadedModel(load_base(asked.model, asked.revision, asked.base), None)
    from connectomebench.models.registry import open_model

    return LoadedModel(*open_model(asked.model, asked.revision, base=asked.base))
