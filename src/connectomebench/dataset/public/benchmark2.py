"""Convert rows of `jeffbbrown2/ConnectomeBench2`, both releases.

Read from the code that writes and trains on it (github.com/timfarkas/ConnectomeBench2: ``build_parquet_dataset.py``,
``postprocess_giga_parquet.py``, ``neurips_training/data.py``) and from its card.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.part_masks import MASK
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.dataset.public.archives import read_channels
from connectomebench.dataset.public.convert_rows import stored_row
from connectomebench.dataset.public.dataset_names import our_partition
from connectomebench.dataset.public.metadata import read_metadata
from connectomebench.dataset.public.part_pictures import masks_of_channels, masks_of_pictures
from connectomebench.dataset.public.pictures import draw_pair, draw_single, shows_pair
from connectomebench.dataset.public.pngs import stored_png
from connectomebench.dataset.public.public_channels import packed_channels
from connectomebench.dataset.public.unmapped import Unmapped
from connectomebench.dataset.schema import GEOMETRY

MASK_TASK = "split_mask_generation"
_PAIR, _SINGLE = "geometry", "geometry_single"
EM_VIEWS = ("em_xy", "em_xz", "em_yz")
# task -> the name of its routing, the column of its label, the kinds of samples that it is made of
_ROUTES = {
    "merge_action": (
        "false_split_correction",
        "false_split_correction_label",
        ("merge_edit", "adjacent_control", "synapse_control"),
    ),
    "merge_error_identification": (
        "false_merge_identification",
        "false_merge_identification_label",
        ("split_edit", "junction_control"),
    ),
    MASK_TASK: (MASK_TASK, "false_merge_identification_label", ("split_edit",)),
}
TASKS = tuple(_ROUTES)
_DRAWN_WHOLE = ("merge_error_identification", MASK_TASK)
_MASKS = tuple(f"split_mask_{view}" for view in MESH_VIEWS)


def needed_columns(task: str, present: Collection[str], *, em: bool = False) -> list[str]:
    """List the columns to read for a task.

    Without ``em`` no slice of image data is among them. ``em_best`` and all that was drawn after an edit are never
    read: they show the answer; nor are masks of the true split, where they are not the answer.

    Parameters
    ----------
    task
        One of ``TASKS``.
    present
        Columns of the files. The first release has ``geometry_single`` besides ``geometry``.
    em
        Whether to read the slices of image data as well.

    Raises
    ------
    Unmapped
        If the files have no slices and they are wanted.
    """
    small = ["combined_sample_hash", "sample_type", "same_neuron", "task_routing", "split", "species", "metadata"]
    drawn = [_SINGLE if task in _DRAWN_WHOLE and _SINGLE in present else _PAIR]
    if task == MASK_TASK:  # of the first release the pair of parts, of the second pictures of the masks
        drawn += [_PAIR] if _SINGLE in present else [*_MASKS]
    return [*small, _ROUTES[task][1], *drawn, *(_em_columns(present) if em else [])]


def is_first_release(columns: Collection[str]) -> bool:
    """Return whether columns are those of the first release (tag ``v1-may06``)."""
    return _SINGLE in columns


def _em_columns(present: Collection[str]) -> list[str]:
    """Return the columns of the three slices: of the second release those from before the edit."""
    for end in ("_before", ""):
        names = [f"{view}{end}" for view in EM_VIEWS]
        if all(name in present for name in names):
            return names
    raise Unmapped("it has no slices of image data")


def map_row(
    raw: Mapping[str, Any],
    task: str,
    species: str,
    partition: str,
    source: tuple[str, str],
    *,
    first: bool,
    em: bool = False,
    geometry: bool = False,
) -> dict[str, Any]:
    """Convert one row.

    Parameters
    ----------
    raw
        The columns of :func:`needed_columns`.
    task
        One of ``TASKS``.
    species, partition
        Ours; the caller has seen to it that the row is of this species.
    source
        Repository and version.
    first
        Whether the row is of the first release, whose ``view_extent_nm`` is the middle of a range and not what was
        drawn: the extent is unknown there.
    em
        Add the slices of image data, as the views ``em_xy``, ``em_xz`` and ``em_yz``.
    geometry
        Add the column ``geometry`` with the channels that the pictures were drawn of
        (:func:`connectomebench.dataset.public.public_channels.packed_channels`).

    Raises
    ------
    Unmapped
        If the row is of another task, says two things at once, or its geometry or metadata cannot be used.
    """
    answer = _answer(raw, task)
    if our_partition(str(raw["split"])) != partition:
        raise Unmapped("its column split names another partition than its file")
    sample_id = raw["combined_sample_hash"]
    if not (isinstance(sample_id, str) and 0 < len(sample_id) <= 64 and sample_id.isalnum() and sample_id.isascii()):
        raise Unmapped("its sample hash is no hash")
    known = read_metadata(raw["metadata"])
    is_edit = raw["sample_type"].endswith("_edit")
    slices = [stored_png(raw[name]) for name in _em_columns(raw)] if em else []
    channels = _channels(raw, task)
    row = stored_row(
        task,
        species,
        sample_id,
        draw_pair(channels) if task == "merge_action" else draw_single(channels),
        answer,
        f"neuron-{known.neuron}" if known.neuron is not None else f"sample-{sample_id}",
        "edit" if is_edit else "control",
        source,
        location_nm=known.center_nm,
        extent_nm=None if first or known.half_extent_nm is None else 2 * known.half_extent_nm,
        segment_ids=known.pair if task == "merge_action" else known.single,
        body_ids=known.pieces if raw["sample_type"] == "split_edit" else known.newest,
        edit_id=known.operation if is_edit else None,
        edit_time=known.time if is_edit else None,
    )
    if task == MASK_TASK:
        row["target_images"] = [{"bytes": content, "path": None} for content in _masks(raw)]
    row["images"] += [{"bytes": content, "path": None} for content in slices]
    row["views"] += EM_VIEWS if em else ()
    if geometry:
        packed = packed_channels(channels, pair=task == "merge_action")
        row[GEOMETRY] = [{"bytes": content, "path": None} for content in packed]
    return row


def _answer(raw: Mapping[str, Any], task: str) -> str:
    route, label_column, kinds = _ROUTES[task]
    if route not in (raw["task_routing"] or []):
        raise Unmapped("it is of another task")
    if raw["sample_type"] not in kinds:
        raise Unmapped("its kind of sample does not fit its task")
    label = raw[label_column]
    if label is None or label not in (0, 1):
        raise Unmapped("it has no label")
    means_same = bool(label) if task == "merge_action" else not label
    if raw["same_neuron"] is not None and bool(raw["same_neuron"]) != means_same:
        raise Unmapped("its label and same_neuron do not agree")
    if task == MASK_TASK:
        if not label:
            raise Unmapped("its split is of no merge error")
        return MASK
    return "yes" if label else "no"


def _masks(raw: Mapping[str, Any]) -> list[bytes]:
    """Return the masks of the two parts of the true split, in the order of the views."""
    if _SINGLE in raw:
        if raw[_PAIR] is None:
            raise Unmapped(f"it has no {_PAIR}")
        return masks_of_channels(read_channels(bytes(raw[_PAIR])))
    return masks_of_pictures([stored_png(raw[name]) for name in _MASKS], read_channels(bytes(raw[_PAIR])))


def _channels(raw: Mapping[str, Any], task: str) -> NDArray[np.float32]:
    """Return the channels that show what is asked about, and nothing from after the edit."""
    drawn = _SINGLE if _SINGLE in raw else _PAIR
    data = raw[drawn]
    if data is None:
        raise Unmapped(f"it has no {drawn}")
    channels = read_channels(bytes(data))
    # The second release has one geometry a row. One that marks two parts was drawn after the true split.
    if task != "merge_action" and drawn == _PAIR and shows_pair(channels):
        raise Unmapped("its geometry shows the two parts of the true split")
    return channels
