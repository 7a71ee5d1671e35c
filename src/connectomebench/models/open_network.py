"""Open the network of a trained model for attribution: a probe, an image classifier or a Qwen3-VL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.base import Model
from connectomebench.models.image_classifier import ImageClassifier
from connectomebench.models.pair_features import PAIR
from connectomebench.models.probe import Probe
from connectomebench.models.row_network import RowNetwork, keeping
from connectomebench.models.view_classifier import load_pixels
from connectomebench.models.vlm import VisionLanguageModel
from connectomebench.models.vlm_network import vlm_network

# the norm of a block that stands after its attention
_NORMS = ("layernorm_after", "norm2", "layer_norm2", "post_attention_layernorm", "ln_2")
_TURNING = ("rope_theta", "rope_parameters", "rope_scaling")


def open_network(model: Model, row: Mapping[str, Any]) -> RowNetwork:
    """Return the network with which a trained model answers a row.

    Parameters
    ----------
    model
        A probe (logistic or perceptron, on EfficientNet-Lite0 or a vision model of transformers), an image classifier
        of single views, or a Qwen3-VL.
    row
        A stored row; only a vision-language model reads it (``task``, ``question``, ``views``).

    Raises
    ------
    ConnectomeBenchError
        If it is of another kind, or of an architecture whose layers are not known.
    """
    if isinstance(model, Probe):
        return _of_probe(model)
    if isinstance(model, ImageClassifier):
        return _of_classifier(model)
    if isinstance(model, VisionLanguageModel):
        return vlm_network(model, row)
    raise ConnectomeBenchError(f"{model.name} cannot be explained; choose a probe, an image classifier or a Qwen3-VL")


def _of_probe(probe: Probe) -> RowNetwork:
    encoder: Any = probe.encoder
    head = _head(probe.head.pipeline)
    pooling = probe.config.pooling
    if pooling not in ("mean", "max", "cls"):
        raise ConnectomeBenchError(f"a probe with pooling {pooling!r} cannot be explained; train one with mean or max")
    if probe.config.layout != "views":
        raise ConnectomeBenchError(
            f"a probe with layout {probe.config.layout!r} cannot be explained; train one with views"
        )
    skipped: int | None = getattr(encoder, "skipped_tokens", None)

    def scores(pixels: torch.Tensor, views: int) -> torch.Tensor:
        found = encoder.module(pixels) if skipped is None else encoder.module(pixel_values=pixels).last_hidden_state
        patches = found.flatten(2).transpose(1, 2) if found.ndim == 4 else found[:, skipped:]
        pooled = {"cls": lambda: found[:, 0], "mean": lambda: patches.mean(dim=1), "max": lambda: patches.amax(dim=1)}
        features = pooled[pooling]()
        return head(_joined(features.reshape(len(features) // views, -1), views))

    classes = probe.head.classes
    return _with_layers(RowNetwork(classes, encoder.module, encoder.pixels, scores), skipped, pooling == "cls")


def _of_classifier(model: ImageClassifier) -> RowNetwork:
    network: Any = model.network
    if getattr(network, "layout", "views") != "views":
        raise ConnectomeBenchError(
            "a classifier of one grid of all views cannot be explained; train one of single views"
        )
    device = next(network.parameters()).device
    names = [name.rsplit(".", 1)[-1] for name, _ in network.backbone.named_parameters()]
    registers = int(getattr(network.backbone.config, "num_register_tokens", 0) or 0)
    skipped = int(network.has_cls) + registers if any("position" in n or "pos_embed" in n for n in names) else None

    def pixels(images: Sequence[Image.Image]) -> torch.Tensor:
        return load_pixels(images, network.settings["input_px"]).to(device)

    def scores(images: torch.Tensor, views: int) -> torch.Tensor:
        return network(images.reshape(len(images) // views, views, *images.shape[1:]))

    classes = tuple(network.settings["classes"])
    return _with_layers(RowNetwork(classes, network.backbone, pixels, scores), skipped, bool(network.has_cls))


def _joined(features: torch.Tensor, views: int) -> torch.Tensor:
    """Add the difference of a pair, as :func:`connectomebench.models.pair_features.with_difference` does."""
    if views != PAIR:
        return features
    first, second = features.chunk(PAIR, dim=1)
    return torch.cat([features, (first - second).abs()], dim=1)


def _head(pipeline: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a fitted head as a function of torch: features, shape (rows, dim), to scores, shape (rows, classes)."""
    scaler, head = pipeline.named_steps.get("scale"), pipeline.named_steps["head"]
    if hasattr(head, "coef_"):
        layers = [(head.coef_.T, head.intercept_)]
    elif hasattr(head, "coefs_") and head.activation == "relu":
        layers = list(zip(head.coefs_, head.intercepts_, strict=True))
    else:
        raise ConnectomeBenchError(f"a head of kind {type(head).__name__} cannot be explained; train a logistic one")

    def number(values: NDArray[np.floating], like: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=like.dtype, device=like.device)

    def scores(features: torch.Tensor) -> torch.Tensor:
        x = features
        if scaler is not None:
            x = (x - number(scaler.mean_, x)) / number(scaler.scale_, x)
        for depth, (weight, bias) in enumerate(layers):
            x = (x.relu() if depth else x) @ number(weight, x) + number(bias, x)
        return torch.cat([torch.zeros_like(x), x], dim=1) if x.shape[1] == 1 else x

    return scores


def _with_layers(network: RowNetwork, skipped: int | None, class_token_alone: bool) -> RowNetwork:
    """Find the layers of an encoder, and where its patches can be dropped."""
    module = network.module
    norms = _blocks_with_norm(module)
    if skipped is not None and norms:
        blocks = list(norms)
        # what follows the last attention does not reach a class token from the patches
        shown = blocks[:-1] if class_token_alone and len(blocks) > 1 else blocks
        turning = any(getattr(getattr(module, "config", None), name, None) for name in _TURNING)
        layers = {f"block {number}": norms[block] for number, block in enumerate(blocks, 1) if block in shown}
        return RowNetwork(
            network.classes,
            module,
            network.pixels,
            network.scores,
            layers,
            patches=lambda tokens, _pictures: tokens[:, skipped:],
            keep=None if turning else keeping(blocks[0], skipped),
            entry=blocks[0],
        )
    found = _convolutional_blocks(module)
    if not found:
        raise ConnectomeBenchError(
            f"the layers of {type(module).__name__} are not known: no blocks with a norm after attention, no stages"
        )
    layers = {f"block {number}": block for number, block in enumerate(found, 1)}
    return RowNetwork(network.classes, module, network.pixels, network.scores, layers)


def _blocks_with_norm(module: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return block -> its norm after attention of the longest list of such blocks."""
    best: dict[nn.Module, nn.Module] = {}
    for blocks in module.modules():
        if isinstance(blocks, nn.ModuleList):
            found = {b: getattr(b, n) for b in blocks for n in _NORMS if isinstance(getattr(b, n, None), nn.Module)}
            best = found if len(found) == len(blocks) > len(best) else best
    return best


def _convolutional_blocks(module: nn.Module) -> list[nn.Module]:
    stages: Any = getattr(getattr(module, "encoder", None), "stages", None)
    if stages is not None:
        return [block for stage in stages for block in stage.layers]
    if isinstance(module, nn.Sequential):
        blocks = [child for child in module if any(True for _ in child.children())]
        return [*blocks, module[-1]] if blocks else []
    return []
