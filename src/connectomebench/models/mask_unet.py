"""Mask models: a small U-Net that divides the segment of every view in two; predict, save and load.

The views of a row go through one network; what each has seen at its coarsest is shared with the others, so that all
three divide the segment in the same way. The folder holds ``config.json``, ``model.safetensors`` and
``connectomebench.json``; ``MaskUNet.from_pretrained`` of huggingface_hub reads it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from connectomebench.core.part_masks import encode_masks
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.images import StoredImage, decode
from connectomebench.models.mask_baselines import mask_of, silhouette
from connectomebench.models.model_record import ModelRecord
from connectomebench.models.network_folder import (
    are_names,
    check_own,
    is_number,
    load_network,
    need,
    network_revision,
    save_network,
)

KIND: Final = "mask_unet"
INPUTS = 6  # red, green, blue, silhouette, row and column
_GROUPS = 8


class MaskUNet(nn.Module, PyTorchModelHubMixin, library_name="connectomebench", tags=["connectomebench"]):
    """U-Net over the views of a row.

    Parameters
    ----------
    views
        Names of the views, in the order of the input.
    input_px
        Edge of the pictures it looks at; a multiple of ``2 ** depth``.
    width
        Channels of the finest level, a multiple of 8; they double with each level.
    depth
        Number of times that the picture is halved.
    dropout
        Share of channels dropped at the coarsest level.
    """

    def __init__(self, views: list[str], input_px: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "views": list(views),
            "input_px": input_px,
            "width": width,
            "depth": depth,
            "dropout": dropout,
        }
        sizes = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList([_block(before, size) for before, size in zip([INPUTS, *sizes], sizes, strict=False)])
        self.context = nn.Linear(sizes[-1] * 2, sizes[-1])
        self.drop = nn.Dropout2d(dropout)
        self.widen = nn.ModuleList([nn.ConvTranspose2d(size * 2, size, 2, stride=2) for size in sizes[-2::-1]])
        self.up = nn.ModuleList([_block(size * 2, size) for size in sizes[-2::-1]])
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Score every pixel.

        Parameters
        ----------
        pixels
            From :func:`network_input`: float, shape (rows, views, 6, px, px).

        Returns
        -------
        torch.Tensor
            Shape (rows, views, px, px); above 0: taken away.
        """
        rows, views = pixels.shape[:2]
        x = pixels.flatten(0, 1)
        passed = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            passed.append(x)
        seen = x.unflatten(0, (rows, views))
        mean, most = seen.mean(dim=(1, 3, 4)), seen.amax(dim=(1, 3, 4))
        shared = nn.functional.silu(self.context(torch.cat([mean, most], dim=1)))
        x = self.drop(x + shared.repeat_interleave(views, dim=0)[:, :, None, None])
        for widen, block, fine in zip(self.widen, self.up, passed[-2::-1], strict=True):
            x = block(torch.cat([widen(x), fine], dim=1))
        return self.out(x).squeeze(1).unflatten(0, (rows, views))


def _block(before: int, after: int) -> nn.Sequential:
    """Two convolutions, each with a norm over groups of channels (a batch has few rows)."""
    layers: list[nn.Module] = []
    for inputs in (before, after):
        layers += [nn.Conv2d(inputs, after, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, after), nn.SiLU()]
    return nn.Sequential(*layers)


def shrink(image: StoredImage, px: int) -> NDArray[np.uint8]:
    """Resize a view for the network; uint8, shape (px, px, 3)."""
    return np.asarray(decode(image).resize((px, px), Image.Resampling.BOX if px < _edge(image) else _SMOOTH))


_SMOOTH = Image.Resampling.BILINEAR


def _edge(image: StoredImage) -> int:
    return min(image.size) if isinstance(image, Image.Image) else min(decode(image).size)


def network_input(pictures: torch.Tensor) -> torch.Tensor:
    """Turn resized views into the input of :class:`MaskUNet`.

    Parameters
    ----------
    pictures
        uint8, shape (rows, views, px, px, 3).

    Returns
    -------
    torch.Tensor
        float32, shape (rows, views, 6, px, px): colours from 0 (background) to 1 (black), silhouette, row and column
        from -1 to 1.
    """
    px = pictures.shape[2]
    dark = 1 - pictures.permute(0, 1, 4, 2, 3).float() / 255
    inside = (dark.amax(dim=2, keepdim=True) > 0).float()
    place = torch.linspace(-1, 1, px, device=pictures.device)
    rows = place[:, None].expand_as(inside)
    return torch.cat([dark, inside, rows, place.expand_as(inside)], dim=2)


class MaskModel:
    """A trained mask model; see :func:`.mask_training.train_masks`.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.
    network, record
        The network, in evaluation mode, and its provenance.
    """

    batch_size = 16

    def __init__(self, network: MaskUNet, record: ModelRecord) -> None:
        self.name = record.name
        self.network = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.record = record
        self.revision = record.revision

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row with masks as text, of the size of its pictures.

        Of the two parts that the network finds, the one that covers fewer pixels of all views is taken away.

        Raises
        ------
        ConnectomeBenchError
            If the rows have other views than those it was trained on.
        """
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        views: list[str] = self.network.settings["views"]
        check_views(images, len(views))
        answers = []
        for start in range(0, len(images), self.batch_size):
            own = images[start : start + self.batch_size]
            for row, scores in zip(own, network_scores(self.network, own), strict=True):
                answers.append(Answer(encode_masks(dict(zip(views, _row_masks(row, scores), strict=True))), {}))
        return answers

    def save(self, folder: Path) -> None:
        """Save the model to a folder for :func:`load_mask_model`; the record is written last."""
        save_network(folder, self.network, self.record)


def network_scores(network: MaskUNet, images: Sequence[Sequence[StoredImage]]) -> NDArray[np.float32]:
    """Score the pixels of some rows; float32, shape (rows, views, px, px)."""
    px: int = network.settings["input_px"]
    device = next(network.parameters()).device
    pictures = torch.from_numpy(np.stack([[shrink(image, px) for image in row] for row in images]))
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        scores = network(network_input(pictures.to(device)))
    network.train(was_training)
    return scores.float().cpu().numpy()


def _row_masks(row: Sequence[StoredImage], scores: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    segments = [silhouette(image) for image in row]
    taken = []
    for segment, own in zip(segments, scores, strict=True):
        full = Image.fromarray(own).resize(segment.shape[::-1], _SMOOTH)
        taken.append(segment & (np.asarray(full) > 0))
    total, segment_total = (sum(int(m.sum()) for m in masks) for masks in (taken, segments))
    if 2 * total > segment_total:
        taken = [segment & ~own for segment, own in zip(segments, taken, strict=True)]
    return [mask_of(segment, own) for segment, own in zip(segments, taken, strict=True)]


def load_mask_model(folder: Path) -> MaskModel:
    """Load a saved mask model, onto the GPU if available.

    Parameters
    ----------
    folder
        Written by :meth:`MaskModel.save`; may come from outside, so every value is checked.

    Raises
    ------
    ConnectomeBenchError
        If the folder holds another kind of model, a file is missing or damaged, or they do not belong together.
    """
    network, record = load_network(folder, KIND, "a mask model", MaskUNet, _check_settings)
    check_own(folder, network_revision(network) == record.revision)
    return MaskModel(network, record)


def check_network(input_px: int, width: int, depth: int, dropout: float) -> None:
    """Check the settings of a network.

    Raises
    ------
    ValueError
        If they are out of range or do not fit each other.
    """
    if not 1 <= depth <= 6:
        raise ValueError("depth must be 1 to 6")
    if not (_GROUPS <= width <= 128 and width % _GROUPS == 0):
        raise ValueError(f"width must be a multiple of {_GROUPS} from {_GROUPS} to 128")
    if not (16 <= input_px <= 1024 and input_px % 2**depth == 0):
        raise ValueError(f"input_px must be 16 to 1024 and a multiple of {2**depth}, since depth is {depth}")
    if not 0 <= dropout < 1:
        raise ValueError("dropout must be at least 0 and below 1")


def _check_settings(raw: dict[str, Any], _record: ModelRecord) -> None:
    need(are_names(raw["views"]) and len(raw["views"]) <= 16, "views are no names")
    need(all(type(raw[name]) is int for name in ("input_px", "width", "depth")), "a size is no whole number")
    need(is_number(raw["dropout"]), "dropout is no number")
    check_network(raw["input_px"], raw["width"], raw["depth"], raw["dropout"])
