"""Network of the multi-task model: one vision transformer over the tokens of all views of a row, and a head a task.

Every view is cut into patches. Rendered views, slices of image data and geometry channels have a patch embedding each;
the tokens of all views of a row, each with the embeddings of its place, its view and its kind, go through the
transformer together, so that views can be compared patch by patch. The encoder is one of timm, rebuilt from its name
and a few numbers: no code and no weights are fetched for that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from torch import nn

from connectomebench.core.geometry_channels import GEOMETRY_CHANNELS, read_geometry
from connectomebench.core.tasks import EM_VIEWS, SHAPE_VIEWS
from connectomebench.models.view_classifier import decoding_map

PICTURE, SLICE, GEOMETRY = range(3)
"""Kinds of tokens: of a rendered view, a slice of image data, and the geometry channels of a rendered view."""

ENCODER_OPTIONS: Final = {
    **dict.fromkeys(("patch_size", "embed_dim", "depth", "num_heads", "reg_tokens"), int),
    **dict.fromkeys(("mlp_ratio", "init_values", "drop_path_rate"), float),
    **dict.fromkeys(("qkv_bias", "qk_norm", "scale_attn_norm", "scale_mlp_norm", "proj_bias", "class_token"), bool),
    **dict.fromkeys(("no_embed_class", "pre_norm", "final_norm", "fc_norm", "pool_include_prefix"), bool),
    **dict.fromkeys(("global_pool", "pos_embed"), str),
}
"""Options of timm's VisionTransformer that an encoder may have, and their types."""
_LARGEST: Final = {"patch_size": 64, "embed_dim": 8192, "depth": 128, "num_heads": 128, "reg_tokens": 64}
_TEXTS: Final = {"global_pool": ("token", "avg", "avgmax", "max", "map"), "pos_embed": ("learn", "none")}
_ARCHITECTURE: Final = re.compile(r"[a-z][a-z0-9_]{1,80}", re.ASCII)


def check_encoder(encoder: Any) -> None:
    """Check the description of an encoder, which may come from outside.

    Parameters
    ----------
    encoder
        ``architecture``, the name of a vision transformer of timm without the tag of its weights, and ``options``, some
        of :data:`ENCODER_OPTIONS`.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    from timm import is_model

    if not isinstance(encoder, dict) or set(encoder) != {"architecture", "options"}:
        raise ValueError("the encoder needs architecture and options")
    name, options = encoder["architecture"], encoder["options"]
    # a name with a prefix would be looked up elsewhere
    if not isinstance(name, str) or not _ARCHITECTURE.fullmatch(name) or not is_model(name):
        raise ValueError(f"timm has no architecture {str(name)[:60]!r}")
    if not isinstance(options, dict):
        raise ValueError("the options of the encoder are no object")
    for option, value in options.items():
        if not _is_sound(option, value):
            raise ValueError(f"the encoder cannot have {str(option)[:40]} = {value!r:.40}")


def _is_sound(option: Any, value: Any) -> bool:
    kind = ENCODER_OPTIONS.get(option)
    if kind is int:
        return type(value) is int and 0 <= value <= _LARGEST[option]
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 16
    return kind is not None and type(value) is kind and (kind is bool or value in _TEXTS[option])


def make_encoder(encoder: Mapping[str, Any], input_px: int | None) -> Any:
    """Make an encoder with random weights.

    Parameters
    ----------
    encoder
        See :func:`check_encoder`.
    input_px
        Edge of its pictures; None takes its own.

    Raises
    ------
    ValueError
        If it is no vision transformer of patches, or its patches do not fill the pictures.
    """
    from timm import create_model
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    name = encoder["architecture"]
    options: dict[str, Any] = {"num_classes": 0, **encoder["options"]}
    if input_px is not None:
        options["img_size"] = input_px
    made: Any
    try:
        made = create_model(name, pretrained=False, **options)
    except TypeError:  # it does not know an option
        made = None
    plain = type(made) is VisionTransformer and type(made.patch_embed) is PatchEmbed and not made.dynamic_img_size
    if not plain:
        raise ValueError(f"{name} is not a plain vision transformer; take one, such as vit_base_patch16_224")
    patches: Any = made.patch_embed
    (height, width), patch = patches.img_size, patches.patch_size[0]
    if height != width or height % patch:
        raise ValueError(f"patches of {patch} px do not fill pictures of {height} x {width} px")
    return made


class MultitaskViT(nn.Module, PyTorchModelHubMixin, library_name="connectomebench", tags=["connectomebench"]):
    """A vision transformer over the tokens of all views of a row, dropout, and one linear layer a task.

    Parameters
    ----------
    encoder
        See :func:`check_encoder`.
    tasks
        By task: ``classes``, its answers in the order of the outputs; ``views``, the names of its pictures in order;
        ``prior``, the share of each class in the training rows; ``temperature``, which divides its scores.
    input_px
        Edge of the square pictures, px.
    mean, std
        Normalisation of red, green and blue on the scale 0 to 1.
    geometry
        The rows have geometry channels of their views of meshes
        (:mod:`connectomebench.core.geometry_channels`), which the network sees as well.
    dropout
        Share of the features that is dropped before the heads.
    """

    def __init__(
        self,
        encoder: dict[str, Any],
        tasks: dict[str, dict[str, Any]],
        input_px: int,
        mean: list[float],
        std: list[float],
        geometry: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "encoder": encoder,
            "tasks": tasks,
            "input_px": input_px,
            "mean": mean,
            "std": std,
            "geometry": geometry,
            "dropout": dropout,
        }
        self.encoder = make_encoder(encoder, input_px)
        self.views = sorted({view for task in tasks.values() for view in task["views"]})
        width = self.encoder.embed_dim
        self.view_embedding = nn.Parameter(torch.empty(len(self.views), width).normal_(std=0.02))
        self.kind_embedding = nn.Parameter(torch.empty(3, width).normal_(std=0.02))
        colours = self.encoder.patch_embed.proj
        has_slices = any(view in EM_VIEWS for view in self.views)
        self.slice_patches = _projection(colours, 3) if has_slices else None
        self.geometry_patches = _projection(colours, GEOMETRY_CHANNELS) if geometry else None
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.encoder.num_features, len(task["classes"])) for name, task in tasks.items()}
        )

    def start_patch_embeddings(self) -> None:
        """Start the other patch embeddings from that of the pictures: slices the same, channels as its mean colour."""
        colours = self.encoder.patch_embed.proj
        with torch.no_grad():
            for project in (self.slice_patches, self.geometry_patches):
                if project is None:
                    continue
                n = project.in_channels
                mean = colours.weight.mean(dim=1, keepdim=True).expand(-1, n, -1, -1) * (3 / n)
                project.weight.copy_(colours.weight if n == 3 else mean)
                if project.bias is not None:
                    project.bias.copy_(colours.bias)

    def features(
        self, pictures: torch.Tensor, views: Sequence[str], channels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the features of rows that have the same views.

        Parameters
        ----------
        pictures
            RGB, uint8, shape (rows, views, ``input_px``, ``input_px``, 3).
        views
            Names of the pictures.
        channels
            Geometry channels of the views of meshes among them, shape (rows, views of meshes, 7, ``input_px``,
            ``input_px``); None where the network takes none.

        Returns
        -------
        Tensor
            Shape (rows, features of the encoder).
        """
        mean = torch.tensor(self.settings["mean"], device=pictures.device)
        std = torch.tensor(self.settings["std"], device=pictures.device)
        scaled = ((pictures.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)
        tokens = [self._prefix(len(pictures))]
        for kind, project in ((PICTURE, self.encoder.patch_embed.proj), (SLICE, self.slice_patches)):
            own = [i for i, view in enumerate(views) if (view in EM_VIEWS) == (kind == SLICE)]
            if own:
                tokens.append(self._tokens(project, scaled[:, own], [views[i] for i in own], kind))
        if channels is not None and self.geometry_patches is not None:
            tokens.append(self._tokens(self.geometry_patches, channels.float(), shape_views(views), GEOMETRY))
        encoder = self.encoder
        joined = encoder.norm_pre(encoder.pos_drop(torch.cat(tokens, dim=1)))
        return encoder.forward_head(encoder.norm(encoder.blocks(joined)), pre_logits=True)

    def _tokens(self, project: Any, pictures: torch.Tensor, views: Sequence[str], kind: int) -> torch.Tensor:
        """Cut pictures (rows, views, channels, px, px) into tokens (rows, views x patches, width)."""
        rows, count = pictures.shape[:2]
        patches = project(pictures.flatten(0, 1).contiguous()).flatten(2).transpose(1, 2)
        patches = self.encoder.patch_embed.norm(patches)
        if self.encoder.pos_embed is not None:
            patches = patches + self.encoder.pos_embed[:, 0 if self.encoder.no_embed_class else self._skipped :]
        named = self.view_embedding[[self.views.index(view) for view in views]] + self.kind_embedding[kind]
        placed = patches.reshape(rows, count, *patches.shape[1:]) + named[None, :, None]
        return placed.flatten(1, 2)

    @property
    def _skipped(self) -> int:
        return self.encoder.num_prefix_tokens

    def _prefix(self, rows: int) -> torch.Tensor:
        """Return the class token and the registers, shape (rows, tokens, width), perhaps without tokens."""
        encoder = self.encoder
        own = [token for token in (encoder.cls_token, encoder.reg_token) if token is not None]
        empty = self.view_embedding.new_zeros(1, 0, self.view_embedding.shape[1])
        found = torch.cat([empty, *own], dim=1)
        if encoder.pos_embed is not None and not encoder.no_embed_class:
            found = found + encoder.pos_embed[:, : self._skipped]
        return found.expand(rows, -1, -1)

    def forward(self, groups: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Score rows for every task, whichever each is of.

        Parameters
        ----------
        groups
            Rows that have the same views: ``pictures``, ``views`` and ``channels`` as for :meth:`features`.

        Returns
        -------
        Tensor
            Scores, shape (rows of all groups, classes of all tasks), see :meth:`columns`: for equally frequent answers
            and not calibrated.
        """
        features = torch.cat([self.features(g["pictures"], g["views"], g["channels"]) for g in groups])
        dropped = self.dropout(features)
        return torch.cat([head(dropped) for head in self.heads.values()], dim=1)

    def columns(self) -> dict[str, slice]:
        """Return where the classes of each task are among the scores."""
        found, start = {}, 0
        for name, task in self.settings["tasks"].items():
            found[name] = slice(start, start + len(task["classes"]))
            start += len(task["classes"])
        return found


def _projection(like: Any, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, like.out_channels, kernel_size=like.kernel_size, stride=like.stride, bias=like.bias is not None
    )


def shape_views(views: Sequence[str]) -> list[str]:
    """Return the views that have geometry channels, in order."""
    return [view for view in views if view in SHAPE_VIEWS]


def load_channels(stored: Sequence[Sequence[Any]], views: Sequence[str], px: int) -> torch.Tensor:
    """Decode the geometry channels of rows on all cores.

    Parameters
    ----------
    stored
        Values of the column ``geometry``.
    views
        Of every row.
    px
        Edge to resize to.

    Returns
    -------
    Tensor
        float16, shape (rows, views of meshes, 7, px, px).

    Raises
    ------
    ConnectomeBenchError
        If a row has none, they are damaged, or a view of meshes has none.
    """
    from connectomebench.core.errors import ConnectomeBenchError

    wanted = len(shape_views(views))

    def decoded(row: Sequence[Any]) -> torch.Tensor:
        channels = torch.from_numpy(read_geometry(row))
        if len(channels) != wanted:
            raise ConnectomeBenchError(
                f"a row has geometry channels of {len(channels)} views and shows {wanted} of meshes; build it again"
            )
        if channels.shape[-1] == px:
            return channels.half()
        size = (px, px)
        small = nn.functional.interpolate(channels, size=size, mode="bilinear", antialias=True, align_corners=False)
        return small.half()

    return torch.stack(list(decoding_map(decoded, stored)))


def task_scores(
    network: MultitaskViT, task: str, pictures: torch.Tensor, channels: torch.Tensor | None
) -> NDArray[np.float64]:
    """Score rows of one task with a network in evaluation mode.

    Parameters
    ----------
    network
        The network.
    task
        One of its tasks.
    pictures, channels
        As for :meth:`MultitaskViT.features`; ``channels`` are ignored by a network without.

    Returns
    -------
    NDArray
        Shape (rows, classes).
    """
    views = network.settings["tasks"][task]["views"]
    device = next(network.parameters()).device
    # kernels are picked by batch size: with one size, a row's scores do not depend on other rows
    size = 4 if device.type == "cpu" else 32
    parts = []
    for start in range(0, len(pictures), size):
        own = _padded(pictures[start : start + size], size).to(device)
        extra = None
        if network.settings["geometry"] and channels is not None:
            extra = _padded(channels[start : start + size], size).to(device)
        rows = min(size, len(pictures) - start)
        with torch.inference_mode():
            parts.append(network.features(own, views, extra)[:rows].float().cpu().numpy())
    head = network.heads[task]
    # in double precision, so that a row's scores do not depend on other rows
    weight, bias = (p.detach().cpu().numpy().astype(np.float64) for p in head.parameters())
    return np.concatenate(parts).astype(np.float64) @ weight.T + bias


def _padded(values: torch.Tensor, size: int) -> torch.Tensor:
    return torch.cat([values, values[-1:].expand(size - len(values), *values.shape[1:])])
