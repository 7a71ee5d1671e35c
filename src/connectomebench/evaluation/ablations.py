"""Ablations: remove or change part of the input to see what a model's answers depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.geometry_channels import (
    CHANNEL_NAMES,
    GEOMETRY_CHANNELS,
    GEOMETRY_PX,
    pack_channels,
    read_geometry,
)
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS, Task, get_task
from connectomebench.models.base import Batch, column
from connectomebench.models.images import decode
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE, ROLE_COLOURS
from connectomebench.rendering.em_slices import swap_tints

if TYPE_CHECKING:
    from datasets import Dataset

ABLATIONS: dict[str, str] = {
    "blank_images": "replace every image by uniform grey, 1024 x 1024 px: the score from the text alone",
    "one_view": "show only the first view of the meshes",
    "no_em": "leave out the EM slices",
    "swapped_colours": "swap blue and orange in the mesh views; the question stays the same",
    "shuffled_labels": "permute the true answers among the rows: does the harness leak them?",
    "base_model": "evaluate the base model, without its adapter",
}
"""Name -> one-line description."""

BLANK_PX = 1024
_GREY = (128, 128, 128)
_TRUTH = ("answer", "label", "target_nm", "target_images")

# A pixel is foreign if a colour's share is below the first bound; a picture if more of its pixels are than the second.
_FOREIGN_SHARE = -0.15
_FOREIGN_PIXELS = 0.02


def ablate(batch: Batch, name: str) -> Batch:
    """Apply an ablation to a batch of rows.

    Parameters
    ----------
    batch
        Columns of stored rows; ``task``, ``views`` and ``images`` are read. Not modified.
    name
        A key of ``ABLATIONS``, except ``shuffled_labels`` (:func:`shuffle_labels`) and ``base_model``, which change no
        image.

    Returns
    -------
    Batch
        The same columns with new ``views`` and ``images``, still aligned, and ``geometry`` changed alike where it is
        there.

    Raises
    ------
    ConnectomeBenchError
        If the ablation is unknown or cannot be applied to a row.
    """
    if name not in ABLATIONS:
        raise unknown_name("ablation", name, ABLATIONS)
    if name not in _ON_ROWS:
        raise ConnectomeBenchError(f"the ablation {name} changes no image, so it cannot be applied to rows")
    change = _ON_ROWS[name]
    rows = zip(column(batch, "task"), column(batch, "views"), column(batch, "images"), strict=True)
    changed = [change(get_task(task), views, images) for task, views, images in rows]
    shown = {"views": [list(views) for views, _ in changed], "images": [list(images) for _, images in changed]}
    if "geometry" in batch:
        shown["geometry"] = [_ON_CHANNELS[name](channels) for channels in batch["geometry"]]
    return {**batch, **shown}


def shuffle_labels(dataset: Dataset, seed: int) -> Dataset:
    """Permute the true answers among the rows; answer counts stay the same.

    A model that cannot see the truth then scores at chance. If it does not, the harness leaks the truth.

    Parameters
    ----------
    dataset
        All rows of a partition, as stored. Images are not decoded.
    seed
        Seed of the permutation.

    Returns
    -------
    datasets.Dataset
        The same rows and columns, with ``answer``, ``label``, ``target_nm`` and ``target_images`` taken from another
        row.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than two rows.
    """
    if len(dataset) < 2:
        raise ConnectomeBenchError("a single row has no answer to exchange; take a partition with more rows")
    from datasets import concatenate_datasets

    order = np.random.default_rng(seed).permutation(len(dataset))
    names = [name for name in _TRUTH if name in dataset.column_names]
    dealt = dataset.select_columns(names).select(order.tolist())
    return concatenate_datasets([dataset.remove_columns(names), dealt], axis=1).select_columns(dataset.column_names)


def swap_colours(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Swap blue and orange in a mesh view.

    Each pixel is treated as a mixture of the two colours of :mod:`connectomebench.rendering.colours` and white; shades
    and edges are (nearly) linear in sRGB. The shares of the two colours are swapped; greys stay. The function is its
    own inverse up to 3 of 255 levels, and differs from rendering in swapped colours by up to 5 of 255 levels.

    Parameters
    ----------
    picture
        uint8, shape (rows, columns, 3), sRGB.

    Returns
    -------
    uint8, shape (rows, columns, 3)

    Raises
    ------
    ConnectomeBenchError
        If the image has other colours.
    """
    # an image has few colours, so compute each once
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    codes, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1) / 255
    mixture = np.array([BLUE, ORANGE, BACKGROUND], dtype=np.float64) / 255
    shares = colours @ np.linalg.inv(mixture)
    if counts[shares[:, :2].min(-1) < _FOREIGN_SHARE].sum() > _FOREIGN_PIXELS * packed.size:
        raise ConnectomeBenchError(
            "swapped_colours needs pictures in the blue and orange of this package, and these have other colours"
        )
    swapped = np.round(np.clip(shares[:, [1, 0, 2]] @ mixture, 0, 1) * 255).astype(np.uint8)
    return swapped[places.reshape(packed.shape)]


_Shown = tuple[Sequence[str], Sequence[Any]]


def _blank(task: Task, views: Sequence[str], images: Sequence[Any]) -> _Shown:
    return views, [_grey()] * len(images)


def _one_view(task: Task, views: Sequence[str], images: Sequence[Any]) -> _Shown:
    meshes = [number for number, view in enumerate(views) if view in MESH_VIEWS]
    if len(meshes) < 2 or len({*views}) < len(views):
        raise ConnectomeBenchError(f"one_view needs several views of the same meshes; {task.name} shows none")
    return [views[meshes[0]]], [images[meshes[0]]]


def _no_em(task: Task, views: Sequence[str], images: Sequence[Any]) -> _Shown:
    kept = [number for number, view in enumerate(views) if view not in EM_VIEWS]
    if not 0 < len(kept) < len(views):
        raise ConnectomeBenchError(f"no_em needs slices of the image data beside meshes; {task.name} shows none")
    return [views[number] for number in kept], [images[number] for number in kept]


def _swapped_colours(task: Task, views: Sequence[str], images: Sequence[Any]) -> _Shown:
    if len({ROLE_COLOURS[role] for role in ROLE_COLOURS if role in task.roles}) < 2:
        raise ConnectomeBenchError(f"swapped_colours needs two colours, and {task.name} shows one segment")
    return views, [_swapped(view, image) for view, image in zip(views, images, strict=True)]


def _swapped(view: str, image: Any) -> Any:
    picture = np.asarray(decode(image))
    if view not in EM_VIEWS:
        return Image.fromarray(swap_colours(picture))
    swapped = swap_tints(picture)
    # a slice without tints is stored as it was
    return image if (swapped == picture).all() else Image.fromarray(swapped)


@cache
def _grey() -> Image.Image:
    return Image.new("RGB", (BLANK_PX, BLANK_PX), _GREY)


@cache
def _no_channels() -> dict[str, Any]:
    empty = np.zeros((GEOMETRY_CHANNELS, GEOMETRY_PX, GEOMETRY_PX), np.float32)
    return {"bytes": pack_channels(empty), "path": None}


def _swapped_masks(channels: Sequence[Any]) -> list[Any]:
    first, second = CHANNEL_NAMES.index("mask_first"), CHANNEL_NAMES.index("mask_second")
    order = list(range(GEOMETRY_CHANNELS))
    order[first], order[second] = second, first
    return [{"bytes": pack_channels(view[order]), "path": None} for view in read_geometry(channels)]


# the first view of meshes is the first of those that have channels
_ON_CHANNELS: dict[str, Callable[[Sequence[Any]], list[Any]]] = {
    "blank_images": lambda channels: [_no_channels()] * len(channels),
    "one_view": lambda channels: list(channels[:1]),
    "no_em": list,
    "swapped_colours": _swapped_masks,
}
_ON_ROWS: dict[str, Callable[[Task, Sequence[str], Sequence[Any]], _Shown]] = {
    "blank_images": _blank,
    "one_view": _one_view,
    "no_em": _no_em,
    "swapped_colours": _swapped_colours,
}
