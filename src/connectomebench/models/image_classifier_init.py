"""Image classifier settings and the initial network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.augmentation import Augment
from connectomebench.models.folder_revision import folder_revision
from connectomebench.models.run_settings import Precision, check_input_px, check_run, check_shares
from connectomebench.models.view_classifier import ViewClassifier, backbone_settings, pooling_option
from connectomebench.models.view_grid import Layout

Init = Literal["pretrained", "random"]
Train = Literal["full", "frozen", "small"]
ChooseBy = Literal["balanced_accuracy", "accuracy"]
SMALL_ROWS: Final = 512
"""Training rows of ``small``, as published."""
_DEFAULT_PX = 224
# of ImageNet, on the scale 0 to 1: for weights that nobody has trained
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

_CHOICES: Final = {
    "init": Init,
    "layout": Layout,
    "train": Train,
    "augment": Augment,
    "choose_by": ChooseBy,
    "precision": Precision,
}


@dataclass(frozen=True)
class ImageClassifierConfig:
    """Training settings of an image classifier.

    Attributes
    ----------
    backbone
        A vision model of transformers (Hub id or folder), for example ``google/vit-base-patch16-224``.
    backbone_revision
        Branch, tag or commit of the Hub id; None takes the newest.
    init
        ``pretrained`` starts from the backbone's weights, ``random`` from its architecture alone.
    input_px
        Edge of the square images, px; None takes the backbone's own, or 224 where it has none.
    epochs, patience
        Most epochs, and how many may pass without a better one before training stops.
    batch_size
        Rows a step, of each process.
    learning_rate, warmup, weight_decay
        Of AdamW. The rate rises in a straight line over the share ``warmup`` of all steps and falls as a cosine.
    dropout
        Share of the joined features that is dropped.
    seed
        Of the new weights, the order of the rows, dropout and random changes.
    layout
        ``views``: every view is a picture, and their features are joined. ``grid``: all views of a row are one picture.
    train
        ``full`` trains all weights, ``frozen`` the linear layer alone, and ``small`` all weights on no more than
        :data:`SMALL_ROWS` rows, drawn evenly from the answers.
    augment
        ``none``, or ``published``: mirrors, turns and changes of light (:mod:`connectomebench.models.augmentation`).
    choose_by
        What the best epoch is best at, on the validation rows; of equals the one with the lower log loss is taken.
    precision
        ``auto`` is bfloat16 where the machine has matrix units for it (a GPU, or a processor with AMX), and float32
        elsewhere. The model's record names what was used.
    """

    backbone: str = "microsoft/resnet-50"
    backbone_revision: str | None = None
    init: Init = "pretrained"
    input_px: int | None = None
    epochs: int = 20
    patience: int = 5
    batch_size: int = 16
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    seed: int = 0
    layout: Layout = "views"
    train: Train = "full"
    augment: Augment = "none"
    choose_by: ChooseBy = "balanced_accuracy"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        check_run(self, _CHOICES, least_batch=2)
        check_input_px(self.input_px)
        check_shares(dropout=self.dropout)


PUBLISHED: Final[dict[str, Any]] = {
    "epochs": 10,
    "patience": 5,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "warmup": 0.0,
    "weight_decay": 1e-4,
    "dropout": 0.0,
    "input_px": _DEFAULT_PX,
    "choose_by": "accuracy",
}
"""Settings with which the ResNets of ConnectomeBench2 were trained on a grid of views."""


def classifier_config(**given: Any) -> ImageClassifierConfig:
    """Fill in settings that are not given.

    Parameters
    ----------
    **given
        Of :class:`ImageClassifierConfig`; None is not given.

    Returns
    -------
    ImageClassifierConfig
        The rest is :data:`PUBLISHED` for the layout ``grid``, and the class's own defaults for ``views``.

    Examples
    --------
    >>> classifier_config(layout="grid", epochs=None).epochs, classifier_config(epochs=None).epochs
    (10, 20)
    """
    known = {name: value for name, value in given.items() if value is not None}
    return ImageClassifierConfig(**{**(PUBLISHED if known.get("layout") == "grid" else {}), **known})


def start_network(
    config: ImageClassifierConfig, classes: Sequence[str], views: Sequence[str], prior: Sequence[float]
) -> tuple[ViewClassifier, str | None, str | None]:
    """Build the initial network; new weights use torch's random state.

    Parameters
    ----------
    config
        Names the backbone. No code from a repository is ever run, and weights are read from safetensors alone.
    classes, views, prior
        As for :class:`.view_classifier.ViewClassifier`.

    Returns
    -------
    network, base, revision
        What the weights come from is the Hub id, or the name of the folder, with its revision; both None where the
        weights are random.

    Raises
    ------
    ConnectomeBenchError
        If the backbone cannot be loaded, is no vision model or lacks weights.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel
    from transformers.utils import logging

    name = config.backbone
    source: dict[str, Any] = {"revision": config.backbone_revision, "trust_remote_code": False}
    # The report of the checkpoint's unused classifier would only alarm.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        whole = AutoConfig.from_pretrained(name, **source)
        vision = getattr(whole, "vision_config", whole)
        if config.input_px and hasattr(vision, "image_size"):
            vision.image_size = config.input_px
        own_px = getattr(vision, "image_size", None)
        mean, std, weights, missing = _MEAN, _STD, None, []
        if config.init == "pretrained":
            processor = AutoImageProcessor.from_pretrained(name, **source)
            mean, std = ([float(v) for v in values] for values in (processor.image_mean, processor.image_std))
            weights, loading = AutoModel.from_pretrained(
                name,
                config=vision,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **source,
                **pooling_option(vision),
            )
            missing = sorted(loading["missing_keys"])
        network = ViewClassifier(
            backbone=backbone_settings(vision),
            classes=list(classes),
            views=list(views),
            input_px=config.input_px or (own_px if isinstance(own_px, int) else _DEFAULT_PX),
            mean=mean,
            std=std,
            prior=list(prior),
            dropout=config.dropout,
            layout=config.layout,
        )
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConnectomeBenchError(f"cannot load backbone {name!r} as a vision model: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
    if config.train == "frozen":
        network.freeze()
    if weights is None:
        return network, None, None
    if missing:
        raise ConnectomeBenchError(f"backbone {name!r} lacks weights (for example {missing[0]}); choose another model")
    network.backbone.load_state_dict(weights.state_dict())
    folder = Path(name)
    if folder.is_dir():
        return network, folder.resolve().name, folder_revision(folder)
    return network, name, getattr(whole, "_commit_hash", None)
