"""Fine-tuned image classifiers (ResNet, ViT, ...): predict, save and load.

The folder holds ``config.json`` (every argument of :class:`.view_classifier.ViewClassifier`), ``model.safetensors`` and
``connectomebench.json``; ``ViewClassifier.from_pretrained`` of huggingface_hub reads it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import YES_NO, get_task
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.choices import WEIGHT, ChoiceModel
from connectomebench.models.heads import decide
from connectomebench.models.images import StoredImage
from connectomebench.models.model_record import ModelRecord, write_record
from connectomebench.models.network_folder import (
    are_names,
    are_numbers,
    check_own,
    is_number,
    load_network,
    need,
    network_revision,
    save_network,
)
from connectomebench.models.view_classifier import (
    LEFT_OUT,
    ViewClassifier,
    calibrated,
    network_scores,
)

KIND: Final = "image_classifier"


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
    network, record = load_network(folder, KIND, "an image classifier", ViewClassifier, _check_settings, {"layout"})
    if WEIGHT in record.config:
        # the revision of the record is that of the whole, which whoever adds the weight of none checks
        return ImageClassifier(network, replace(record, revision=network_revision(network)))
    check_own(folder, network_revision(network) == record.revision)
    return ImageClassifier(network, record)


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


def _check_settings(raw: dict[str, Any], record: ModelRecord) -> None:
    need(raw.get("layout", "grid") == "grid", "layout is not grid")
    check_answers(raw, YES_NO if WEIGHT in record.config else get_task(record.task).labels)
    check_pixels(raw)
    need(isinstance(raw["backbone"], dict), "backbone is no object")
    foreign = sorted(key for key in raw["backbone"] if key in LEFT_OUT or key.startswith("_"))
    need(not foreign, f"the backbone has keys that are not allowed: {', '.join(foreign)}")
