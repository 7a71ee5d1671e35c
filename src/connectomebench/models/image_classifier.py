"""Fine-tuned image classifiers (ResNet, ViT, ...): predict, save and load.

The folder holds ``config.json`` (every argument of :class:`.view_classifier.ViewClassifier`), ``model.safetensors`` and
``connectomebench.json``; ``ViewClassifier.from_pretrained`` of huggingface_hub reads it too.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, write_json
from connectomebench.core.tasks import YES_NO, get_task
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.choices import WEIGHT, ChoiceModel
from connectomebench.models.heads import decide
from connectomebench.models.images import StoredImage
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record, write_record
from connectomebench.models.view_classifier import (
    LEFT_OUT,
    ViewClassifier,
    calibrated,
    network_revision,
    network_scores,
)

KIND: Final = "image_classifier"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_MAX_CONFIG_BYTES = 1_000_000

Filled = TypeVar("Filled", bound=nn.Module)


class ImageClassifier:
    """A trained image classifier; see :func:`.image_classifier_training.train_image_classifier`.

    Its probabilities are calibrated: temperature scaling fitted on the validation rows. Its prediction is the answer
    most above its share in the training rows, as in :mod:`connectomebench.models.heads`.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`; the name is the kind of the backbone (``resnet``, ``vit``).
    network, record
        The network, in evaluation mode, and its provenance.
    """

    def __init__(self, network: ViewClassifier, record: ModelRecord) -> None:
        self.name = record.name
        self.network = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.record = record
        self.revision = record.revision

    def predict(self, batch: Batch) -> list[Answer]:
        """Predict every row of a batch from its ``images``; see :class:`connectomebench.models.base.Model`.

        Raises
        ------
        ConnectomeBenchError
            If the rows have other views than those it was trained on, where the batch names them in ``views``, or
            another number of images.
        """
        settings = self.network.settings
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        check_shown(images, batch.get("views", ()), settings["views"])
        if not len(images):
            return []
        return stated_answers(network_scores(self.network, images), settings)

    def save(self, folder: Path) -> None:
        """Save the model to a folder for :func:`load_image_classifier`; the record is written last."""
        save_network(folder, self.network, self.record)


def check_shown(images: Sequence[Sequence[Any]], shown: Sequence[Sequence[str]], views: Sequence[str]) -> None:
    """Raise ConnectomeBenchError unless all rows have the views that a model was trained on.

    Parameters
    ----------
    images
        Of every row.
    shown
        Names of the views of every row; empty where the batch does not say.
    views
        Names that the model knows.
    """
    check_views(images, len(views))
    for named in shown:
        if list(named) != list(views):
            raise ConnectomeBenchError(
                f"this model was trained on the views {', '.join(views)} and got {', '.join(named)}; "
                "use it on the task it was trained for"
            )


def stated_answers(scores: NDArray[np.float64], settings: Mapping[str, Any]) -> list[Answer]:
    """Turn scores into answers with calibrated probabilities.

    Parameters
    ----------
    scores
        Shape (rows, classes).
    settings
        ``classes``, ``prior`` and ``temperature`` of a network, or of one task of it.
    """
    classes, prior = settings["classes"], np.array(settings["prior"])
    probabilities = calibrated(scores, settings["temperature"], prior)
    return [
        Answer(classes[c], {name: float(p) for name, p in zip(classes, row, strict=True)})
        for c, row in zip(decide(probabilities, prior), probabilities, strict=True)
    ]


def save_network(folder: Path, network: Any, record: ModelRecord) -> None:
    """Write weights, settings and, last, the record of a network."""
    from safetensors.torch import save_model

    (folder / FILE_NAME).unlink(missing_ok=True)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_model(network, str(temporary))
    write_json(folder / CONFIG, network.settings)
    write_record(folder, record)


class ChoosingClassifier(ChoiceModel):
    """An image classifier that judges single candidates, as a model that chooses among them.

    Parameters
    ----------
    inner
        Judges one candidate.
    none_weight
        See :class:`connectomebench.models.choices.ChoiceModel`.
    """

    inner: ImageClassifier

    def __init__(self, inner: ImageClassifier, none_weight: float) -> None:
        super().__init__(inner, none_weight)
        config = inner.record.config | {WEIGHT: none_weight}
        self.record = replace(inner.record, config=config, revision=self.revision)

    def save(self, folder: Path) -> None:
        """Save the model to a folder; :func:`connectomebench.models.registry.load_model` loads it."""
        self.inner.save(folder)
        write_record(folder, self.record)


def load_image_classifier(folder: Path) -> ImageClassifier:
    """Load a saved image classifier, onto the GPU if available.

    Parameters
    ----------
    folder
        Written by :meth:`ImageClassifier.save`; may come from outside, so every value is checked. Of a model that
        chooses among candidates, what judges one of them is loaded.

    Raises
    ------
    ConnectomeBenchError
        If the folder holds another kind of model, a file is missing or damaged, or they do not belong together.
    """
    record = read_record(folder)
    if record.kind != KIND:
        raise ConnectomeBenchError(
            f"{folder} holds a model of kind {record.kind}, not an image classifier; load it as one"
        )
    judges = WEIGHT in record.config
    settings = _read_settings(folder / CONFIG, YES_NO if judges else get_task(record.task).labels)
    network = fill_network(partial(ViewClassifier, **settings), folder, "a transformers backbone")
    if judges:  # the revision of the record is that of the whole, which whoever adds the weight of none checks
        return ImageClassifier(network, replace(record, revision=network_revision(network)))
    if network_revision(network) != record.revision:
        raise ConnectomeBenchError(f"{folder}: weights and {CONFIG} are not those of its record; get the model again")
    return ImageClassifier(network, record)


def fill_network(make: Callable[[], Filled], folder: Path, what: str) -> Filled:
    """Make a network and load its weights from a folder.

    Parameters
    ----------
    make
        Makes the network from settings that were read from the folder.
    folder
        With ``model.safetensors``; may come from outside.
    what
        What the settings describe, for the message.

    Raises
    ------
    ConnectomeBenchError
        If the network cannot be made, or the weights are missing, damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with torch.device("meta"):
            wanted = {name: value.shape for name, value in make().state_dict().items()}
    except Exception as error:  # from outside: a configuration can be wrong in any way
        reason = " ".join(str(error).split())[:120]
        raise ConnectomeBenchError(f"{folder / CONFIG} is not the configuration of {what} ({reason})") from None
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConnectomeBenchError(f"cannot read {folder / WEIGHTS} ({error!s:.80}); get the model again") from None
    found = {name: value.shape for name, value in state.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        example = f"{wrong[0]} has shape {_shape(found, wrong[0])}, not {_shape(wanted, wrong[0])}"
        raise ConnectomeBenchError(f"{folder / WEIGHTS} does not fit {CONFIG}: {example}; get the model again")
    network = make()
    network.load_state_dict(state)
    return network


def _shape(shapes: Mapping[str, torch.Size], name: str) -> str:
    return str(tuple(shapes[name])) if name in shapes else "none"


def need(condition: bool, what: str) -> None:
    """Raise ValueError unless a value from outside is sound."""
    if not condition:
        raise ValueError(what)


def is_number(value: Any) -> bool:
    """Tell whether a value from outside is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def are_numbers(values: Any, count: int) -> bool:
    """Tell whether a value from outside is a list of so many finite numbers."""
    return isinstance(values, list) and len(values) == count and all(map(is_number, values))


def are_names(values: Any) -> bool:
    """Tell whether a value from outside is a list of some texts."""
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def read_settings(path: Path, check: Callable[[dict[str, Any]], None], what: str) -> dict[str, Any]:
    """Read untrusted network settings.

    Parameters
    ----------
    path
        JSON file.
    check
        Raises ValueError if something is wrong with them.
    what
        What they should be the configuration of, for the message.

    Raises
    ------
    ConnectomeBenchError
        If the file is missing, or its content is wrong.
    """
    try:
        need(path.stat().st_size <= _MAX_CONFIG_BYTES, "too large")
        raw = json.loads(path.read_text(encoding="utf-8"))
        need(isinstance(raw, dict), "no object")
        check(raw)
    except FileNotFoundError:
        raise ConnectomeBenchError(f"{path} is missing; get the model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not the configuration of {what} ({error!s:.160})") from None
    return raw


def check_pixels(raw: Mapping[str, Any]) -> None:
    """Check what settings from outside say of pictures; raise ValueError."""
    need(type(raw["input_px"]) is int and 8 <= raw["input_px"] <= 4096, "input_px is not in 8 to 4096")
    need(are_numbers(raw["mean"], 3) and are_numbers(raw["std"], 3) and min(raw["std"]) > 0, "mean or std is wrong")
    need(is_number(raw["dropout"]) and 0 <= raw["dropout"] < 1, "dropout is out of range")


def check_answers(raw: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Check what settings from outside say of the answers to a task; raise ValueError."""
    need(raw["classes"] == list(labels), f"classes are not {', '.join(labels)}")
    need(are_names(raw["views"]), "views are no names")
    need(are_numbers(raw["prior"], len(labels)) and min(raw["prior"]) > 0, "prior is wrong")
    need(is_number(raw["temperature"]) and raw["temperature"] > 0, "temperature is out of range")


def _read_settings(path: Path, labels: Sequence[str]) -> dict[str, Any]:
    """Read and check untrusted network settings."""

    def check(raw: dict[str, Any]) -> None:
        known = set(inspect.signature(ViewClassifier).parameters)
        # only models of the newer layout name it
        wrong = sorted((set(raw) | {"layout"}) ^ known)
        need(not wrong, f"keys missing or foreign: {', '.join(wrong)}")
        need(raw.get("layout", "grid") == "grid", "layout is not grid")
        check_answers(raw, labels)
        check_pixels(raw)
        need(isinstance(raw["backbone"], dict), "backbone is no object")
        foreign = sorted(key for key in raw["backbone"] if key in LEFT_OUT or key.startswith("_"))
        need(not foreign, f"the backbone has keys that are not allowed: {', '.join(foreign)}")

    return read_settings(path, check, "an image classifier")
