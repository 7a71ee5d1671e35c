"""Multi-task model settings, and the initial network from timm's weights, a folder of them, or at random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.hub_errors import hub_errors
from connectomebench.models.augmentation import Augment
from connectomebench.models.folder_revision import folder_revision
from connectomebench.models.image_classifier_init import Init
from connectomebench.models.model_files import REPO_ID
from connectomebench.models.multitask_network import ENCODER_OPTIONS, MultitaskViT, check_encoder, make_encoder
from connectomebench.models.run_settings import Precision, check_input_px, check_run, check_shares

Mix = Literal["rows", "equal"]
_CHOICES: Final = {"init": Init, "augment": Augment, "precision": Precision, "mix": Mix}
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_ORGANISATION = "timm"
_MAX_CONFIG_BYTES = 1_000_000
# of timm's configurations; what they say of the training of the weights or of their classifier does not matter here
_IGNORED: Final = ("img_size", "in_chans", "num_classes", "drop_rate", "weight_init", "fix_init")
# the end of a network, which is not wanted
_CLASSIFIER: Final = ("head", "fc_norm", "norm.", "attn_pool", "pre_logits", "mask_token")
_MEAN, _STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class MultitaskConfig:
    """Training settings of a multi-task model.

    Attributes
    ----------
    backbone
        A vision transformer of timm: its name (``vit_base_patch16_224``, with the tag of its weights or without), a
        repository on the Hub, or a folder with its ``config.json`` and ``model.safetensors``.
    backbone_revision
        Branch, tag or commit on the Hub; None takes the newest.
    init
        ``pretrained`` starts from the backbone's weights, ``random`` from its architecture alone.
    geometry
        Show the network the geometry channels of the rows, which all of them need.
    input_px
        Edge of the square pictures, px; None takes the backbone's own.
    mix
        ``rows``: an epoch has as many rows of each task as there are. ``equal``: as many of each task.
    epochs, patience
        Most epochs, and how many may pass without a better one before training stops.
    batch_size
        Rows a step, of each process.
    learning_rate, warmup, weight_decay
        Of AdamW. The rate rises in a straight line over the share ``warmup`` of all steps and falls as a cosine.
    dropout
        Share of the features that is dropped before the heads.
    drop_path
        Highest share of rows for which a block is left out; the share rises from 0 with depth.
    augment
        ``none``, or ``published``: mirrors, turns and changes of light (:mod:`connectomebench.models.augmentation`).
    precision
        ``auto`` is bfloat16 where the machine has matrix units for it (a GPU, or a processor with AMX), and float32
        elsewhere. The model's record names what was used.
    seed
        Of new weights, the order of the rows, dropout and random changes.
    """

    backbone: str = "vit_base_patch16_224"
    backbone_revision: str | None = None
    init: Init = "pretrained"
    geometry: bool = False
    input_px: int | None = None
    mix: Mix = "rows"
    epochs: int = 20
    patience: int = 5
    batch_size: int = 16
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.05
    dropout: float = 0.1
    drop_path: float = 0.0
    augment: Augment = "none"
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_run(self, _CHOICES)
        check_input_px(self.input_px)
        check_shares(dropout=self.dropout, drop_path=self.drop_path)
        if self.geometry and self.augment != "none":
            raise ConnectomeBenchError(
                "random changes are for pictures, not for geometry channels; leave out augment or geometry"
            )


@dataclass(frozen=True)
class _Backbone:
    """What is known of a backbone: its description, and where its weights are."""

    encoder: dict[str, Any]
    px: int | None
    mean: list[float]
    std: list[float]
    weights: Path | None
    base: str
    revision: str | None


def start_multitask(
    config: MultitaskConfig, tasks: dict[str, dict[str, Any]]
) -> tuple[MultitaskViT, str | None, str | None]:
    """Make a network: pretrained or random encoder, new heads. Torch's random state decides the new weights.

    Parameters
    ----------
    config
        Names the backbone. Weights are read from safetensors alone.
    tasks
        As for :class:`.multitask_network.MultitaskViT`.

    Returns
    -------
    network, base, revision
        What the weights come from is the Hub id, or the name of the folder, with its revision; both None where the
        weights are random.

    Raises
    ------
    ConnectomeBenchError
        If there is no such backbone, it is no plain vision transformer, or weights are missing or do not fit.
    """
    name = config.backbone
    pretrained = config.init == "pretrained"
    found = _find(config, pretrained)
    if config.drop_path:
        found.encoder["options"]["drop_path_rate"] = config.drop_path
    try:
        check_encoder(found.encoder)
        px = config.input_px or found.px or int(make_encoder(found.encoder, None).patch_embed.img_size[0])
        network = MultitaskViT(
            found.encoder, tasks, px, found.mean, found.std, geometry=config.geometry, dropout=config.dropout
        )
        if found.weights is not None:
            _load_weights(network, found.weights)
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConnectomeBenchError(f"cannot start from backbone {name!r}: {reason}") from error
    network.start_patch_embeddings()
    return (network, found.base, found.revision) if pretrained else (network, None, None)


def _find(config: MultitaskConfig, pretrained: bool) -> _Backbone:
    """Find a backbone by the name of a folder, an architecture of timm, or a repository."""
    import timm

    name, folder = config.backbone, Path(config.backbone)
    if folder.is_dir():
        weights = folder / _WEIGHTS
        if pretrained and not weights.is_file():
            raise ConnectomeBenchError(f"{folder} has no {_WEIGHTS}; get the backbone again, or take --init random")
        settings = _read(folder / _CONFIG)
        revision = folder_revision(folder)
        return _described(settings, weights if pretrained else None, folder.resolve().name, revision, name)
    if timm.is_model(name.partition(".")[0]):
        known: Any = timm.get_pretrained_cfg(name)
        if not pretrained:
            settings = {"architecture": name.partition(".")[0], "pretrained_cfg": known.to_dict() if known else {}}
            return _described(settings, None, name, None, name)
        tagged = getattr(known, "hf_hub_id", None)
        if not tagged:
            raise ConnectomeBenchError(f"timm publishes no weights for {name!r}; take another, or --init random")
        full = f"{known.architecture}.{known.tag}" if known.tag else known.architecture
        name = f"{_ORGANISATION}/{full}" if tagged.rstrip("/") == _ORGANISATION else tagged
    if not REPO_ID.fullmatch(name):
        raise ConnectomeBenchError(
            f"there is no backbone {name!r}; give a vision transformer of timm, a folder, or ORG/NAME on the Hub"
        )
    from huggingface_hub import hf_hub_download

    with hub_errors(name):
        path = Path(hf_hub_download(name, _CONFIG, revision=config.backbone_revision, library_name="connectomebench"))
        # the client names a snapshot by its commit: weights and configuration are of the same one
        commit = path.parent.name
        weights = Path(hf_hub_download(name, _WEIGHTS, revision=commit)) if pretrained else None
    return _described(_read(path), weights, name, commit, name)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("too large")
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or not isinstance(settings.get("architecture"), str):
            raise ValueError("no architecture")
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not the configuration of a model of timm ({error!s:.100})") from None
    return settings


def _described(
    settings: Mapping[str, Any], weights: Path | None, base: str, revision: str | None, name: str
) -> _Backbone:
    options = settings.get("model_args") or {}
    known = settings.get("pretrained_cfg") or settings
    foreign = (
        sorted(set(options) - set(ENCODER_OPTIONS) - set(_IGNORED)) if isinstance(options, dict) else ["model_args"]
    )
    if foreign:
        raise ConnectomeBenchError(f"backbone {name!r} has the option {foreign[0]!r}, which is not supported")
    kept = {option: value for option, value in options.items() if option not in _IGNORED and value is not None}
    try:
        mean, std = ([float(v) for v in known.get(key) or default] for key, default in (("mean", _MEAN), ("std", _STD)))
        if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
            raise ValueError("three numbers are needed")
    except (TypeError, ValueError, AttributeError) as error:
        raise ConnectomeBenchError(f"backbone {name!r}: mean or std is wrong ({error!s:.80})") from None
    encoder = {"architecture": str(settings["architecture"]).partition(".")[0], "options": kept}
    px = options.get("img_size")
    return _Backbone(encoder, px if isinstance(px, int) else None, mean, std, weights, base, revision)


def _load_weights(network: MultitaskViT, path: Path) -> None:
    """Load the weights of a backbone, its place embeddings resized to the network's pictures."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from timm.models.vision_transformer import checkpoint_filter_fn

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConnectomeBenchError(f"cannot read {path} ({error!s:.80}); get the backbone again") from None
    state: dict[str, torch.Tensor] = checkpoint_filter_fn(stored, network.encoder)
    own = network.encoder.state_dict()
    foreign = sorted(key for key in state if key not in own and not key.startswith(_CLASSIFIER))
    missing = sorted(own.keys() - state.keys())
    if foreign or missing:
        raise ValueError(f"its weights lack {missing[0]}" if missing else f"its weights have {foreign[0]} as well")
    network.encoder.load_state_dict({key: state[key] for key in own})
