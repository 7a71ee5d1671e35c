"""Mask models: a small U-Net that divides the segment of every view in two; predict, save and load.

The views of a row go through one network; what each has seen at its coarsest is shared with the others, so that all
three divide the segment in the same way. The folder holds ``config.json``, ``model.safetensors`` and
``connectomebench.json``; ``MaskUNet.from_pretrained`` of huggingface_hub reads it too.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, content_key, write_json
from connectomebench.core.part_masks import encode_masks
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.images import StoredImage, decode
from connectomebench.models.mask_baselines import mask_of, silhouette
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record, write_record

KIND: Final = "mask_unet"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INPUTS = 6  # red, green, blue, silhouette, row and column
_MAX_CONFIG_BYTES = 100_000
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
        from safetensors.torch import save_model

        (folder / FILE_NAME).unlink(missing_ok=True)
        with atomic_path(folder / WEIGHTS) as temporary:
            save_model(self.network, str(temporary))
        write_json(folder / CONFIG, self.network.settings)
        write_record(folder, self.record)


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


def network_revision(network: MaskUNet) -> str:
    """Hash a network's settings and weights: 16 hex digits of SHA-256."""
    state = network.state_dict()
    parts = [part for name in sorted(state) for part in (name, state[name].detach().cpu().numpy())]
    return content_key(network.settings, *parts)[:16]


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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = read_record(folder)
    if record.kind != KIND:
        raise ConnectomeBenchError(f"{folder} holds a model of kind {record.kind}, not one of masks; load it as one")
    settings = _read_settings(folder / CONFIG)
    network = MaskUNet(**settings)
    try:
        state = load_file(folder / WEIGHTS)
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConnectomeBenchError(
            f"{folder / WEIGHTS} does not fit {CONFIG} ({reason}); get the model again"
        ) from None
    if network_revision(network) != record.revision:
        raise ConnectomeBenchError(f"{folder}: weights and {CONFIG} are not those of its record; get the model again")
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


def _read_settings(path: Path) -> dict[str, Any]:
    """Read and check untrusted settings."""
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("too large")
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = set(inspect.signature(MaskUNet).parameters)
        if not isinstance(raw, dict) or set(raw) != known:
            raise ValueError("keys are missing or foreign")
        views = raw["views"]
        if not (isinstance(views, list) and 0 < len(views) <= 16 and all(isinstance(v, str) for v in views)):
            raise ValueError("views are no names")
        if any(type(raw[name]) is not int for name in ("input_px", "width", "depth")):
            raise ValueError("a size is no whole number")
        if type(raw["dropout"]) not in (int, float):
            raise ValueError("dropout is no number")
        check_network(raw["input_px"], raw["width"], raw["depth"], raw["dropout"])
    except FileNotFoundError:
        raise ConnectomeBenchError(f"{path} is missing; get the model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not the configuration of a mask model ({error!s:.160})") from None
    return raw
