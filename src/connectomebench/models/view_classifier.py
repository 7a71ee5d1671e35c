"""Network of the image classifier: a shared vision backbone per view, and a linear layer on all views.

The backbone is rebuilt from its configuration, without network access and only from transformers classes.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.data import get_worker_info

from connectomebench.models.images import StoredImage, decode
from connectomebench.models.pair_features import PAIR, blocks_of, with_difference
from connectomebench.models.view_grid import Layout, arrange, cell_px

T = TypeVar("T")
Result = TypeVar("Result")

# keys irrelevant to the network's shape, or that name external code, kernels or weights
LEFT_OUT = frozenset(
    {"id2label", "label2id", "problem_type", "architectures", "dtype", "torch_dtype", "transformers_version"}
    | {"auto_map", "attn_implementation", "experts_implementation", "quantization_config"}
    | {"backbone", "use_pretrained_backbone", "return_dict", "output_attentions", "output_hidden_states"}
)


def backbone_settings(config: Any) -> dict[str, Any]:
    """Return the keys of a transformers configuration that define the network, JSON-serialisable."""
    settings = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in settings.items() if key not in LEFT_OUT and not key.startswith("_")}


def pooling_option(config: Any) -> dict[str, bool]:
    """Return the option that disables the unused pooling layer, which most checkpoints lack."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    parameters = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


class ViewClassifier(nn.Module, PyTorchModelHubMixin, library_name="connectomebench", tags=["connectomebench"]):
    """Backbone, concatenated features of all views (and their difference for a pair), dropout, and one linear layer.

    A view's features are the spatial mean of a convolutional network, the class token of a transformer, or the
    mean over its tokens if it has none.

    Parameters
    ----------
    backbone
        Configuration of a vision model of transformers, with ``model_type``.
    classes, views
        Answers in the order of the outputs, and views in the order of the input.
    input_px
        Edge of the square images, px.
    mean, std
        Normalisation of red, green and blue on the scale 0 to 1.
    prior
        Share of each class in the training rows.
    dropout
        Dropout rate on the concatenated features.
    temperature
        Divides the logits before the softmax.
    layout
        ``views``: every view is a picture of its own. ``grid``: all views of a row are one picture
        (:mod:`connectomebench.models.view_grid`), whose features alone reach the linear layer.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        classes: list[str],
        views: list[str],
        input_px: int,
        mean: list[float],
        std: list[float],
        prior: list[float],
        dropout: float = 0.0,
        temperature: float = 1.0,
        layout: Layout = "views",
    ) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        self.settings: dict[str, Any] = {
            "backbone": backbone,
            "classes": classes,
            "views": views,
            "input_px": input_px,
            "mean": mean,
            "std": std,
            "prior": prior,
            "dropout": dropout,
            "temperature": temperature,
            # left out where it is the older of the two, so that the revisions of older models stand
            **({} if layout == "views" else {"layout": layout}),
        }
        self.layout: Layout = layout
        self.frozen = False
        config = AutoConfig.for_model(**backbone)
        self.backbone = AutoModel.from_config(config, trust_remote_code=False, **pooling_option(config))
        if self.backbone.main_input_name != "pixel_values":
            raise ValueError(f"{backbone['model_type']} does not take images")
        names = [key.rsplit(".", 1)[-1] for key, _ in self.backbone.named_parameters()]
        self.has_cls = "cls_token" in names or "class_embedding" in names
        hidden = getattr(config, "hidden_sizes", None)
        self.dim = int(hidden[-1] if hidden else config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        blocks = 1 if layout == "grid" else blocks_of(len(views))
        self.classifier = nn.Linear(self.dim * blocks, len(classes))
        # convolutions are faster in the order in which pixels are stored; a transformer has one alone
        self._channels_last = sum(isinstance(module, nn.Conv2d) for module in self.backbone.modules()) > 1

    def freeze(self) -> None:
        """Train the linear layer alone: the backbone keeps its weights and its means of batches."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def train(self, mode: bool = True) -> ViewClassifier:
        """Set training mode, which a frozen backbone never enters."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of single images.

        Parameters
        ----------
        pixels
            RGB, uint8, shape (images, ``input_px``, ``input_px``, 3).

        Returns
        -------
        Tensor
            Shape (images, ``dim``).
        """
        mean = torch.tensor(self.settings["mean"], device=pixels.device)
        std = torch.tensor(self.settings["std"], device=pixels.device)
        scaled = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
        if not self._channels_last:
            scaled = scaled.contiguous()
        with torch.no_grad() if self.frozen else nullcontext():
            hidden = self.backbone(pixel_values=scaled).last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self.has_cls else hidden.mean(dim=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Score rows.

        Parameters
        ----------
        pixels
            RGB, uint8, shape (rows, pictures, ``input_px``, ``input_px``, 3): one picture a view, or one grid.

        Returns
        -------
        Tensor
            Logits, shape (rows, classes), for equally frequent answers and not calibrated.
        """
        features = self.features(pixels.flatten(0, 1)).reshape(len(pixels), -1)
        if pixels.shape[1] == PAIR and self.layout == "views":
            first, second = features.chunk(PAIR, dim=1)
            features = torch.cat([features, (first - second).abs()], dim=1)
        return self.classifier(self.dropout(features))


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix=f"decode-{process}")


def decoding_map(decode: Callable[[T], Result], stored: Iterable[T]) -> Iterator[Result]:
    """Decode on all cores, in order; on one core in a worker of a DataLoader, in which threads do not survive."""
    # threads do not survive a fork: a forked process gets its own
    return map(decode, stored) if get_worker_info() else _threads(os.getpid()).map(decode, stored)


def load_pixels(images: Sequence[StoredImage], px: int | tuple[int, int]) -> torch.Tensor:
    """Decode and resize images, see :func:`decoding_map`.

    Parameters
    ----------
    images
        Stored or decoded.
    px
        Edge, or height and width.

    Returns
    -------
    Tensor
        RGB, uint8, shape (images, height, width, 3).
    """
    height, width = (px, px) if isinstance(px, int) else px

    def scaled(image: StoredImage) -> NDArray[np.uint8]:
        return np.asarray(decode(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))

    return torch.from_numpy(np.stack(list(decoding_map(scaled, images))))


def load_cells(images: Sequence[Sequence[StoredImage]], px: int, layout: Layout) -> torch.Tensor:
    """Decode rows of images, each of the size :func:`.view_grid.cell_px`.

    Returns
    -------
    Tensor
        RGB, uint8, shape (rows, views, height, width, 3).
    """
    size = cell_px(len(images[0]), px, layout)
    cells = load_pixels([image for row in images for image in row], size)
    return cells.reshape(len(images), -1, *size, 3)


def network_scores(network: ViewClassifier, images: Sequence[Sequence[StoredImage]]) -> NDArray[np.float64]:
    """Score rows by their images with a network in evaluation mode; returns shape (rows, classes)."""
    px = network.settings["input_px"]
    step = _batch(network)
    parts = (load_cells(images[start : start + step], px, network.layout) for start in range(0, len(images), step))
    return np.concatenate([cell_scores(network, part) for part in parts])


def _batch(network: ViewClassifier) -> int:
    """Return the number of pictures that a network is always sent.

    Kernels are picked by batch size, and they differ in the last bits: with one size, a row's scores do not depend on
    other rows.
    """
    return 16 if next(network.parameters()).device.type == "cpu" else 128


def cell_scores(network: ViewClassifier, cells: torch.Tensor) -> NDArray[np.float64]:
    """Score rows by the cells of their views, see :func:`load_cells`; returns shape (rows, classes)."""
    pictures = arrange(cells, network.settings["input_px"], network.layout)
    flat = pictures.flatten(0, 1)
    device = next(network.parameters()).device
    size = _batch(network)
    parts = []
    for start in range(0, len(flat), size):
        own = flat[start : start + size]
        padded = torch.cat([own, own[-1:].expand(size - len(own), -1, -1, -1)])
        with torch.inference_mode():
            parts.append(network.features(padded.to(device))[: len(own)].float().cpu().numpy())
    features = np.concatenate(parts).astype(np.float64).reshape(len(pictures), -1)
    if network.layout == "views":
        features = with_difference(features, pictures.shape[1])
    # in double precision, so that a row's scores do not depend on other rows
    weight, bias = (p.detach().cpu().numpy().astype(np.float64) for p in network.classifier.parameters())
    return features @ weight.T + bias


def calibrated(scores: NDArray[np.float64], temperature: float, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert scores to probabilities, both of shape (rows, classes), for answer frequencies ``prior``.

    The network is trained on balanced classes, so its scores lack the prior; it is added here. The
    temperature follows Guo et al. 2017.
    """
    from scipy.special import softmax

    return np.maximum(softmax(scores / temperature + np.log(prior), axis=1), np.finfo(float).tiny)
