"""Neighbourhoods made of boxes, beside the small rows of :mod:`stored_rows`: looking around without a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from stored_rows import write_dataset

from connectomebench.core.geometry import Mesh
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.neighbourhoods import (
    NEIGHBOUR,
    NO_DATA,
    Neighbourhood,
    neighbourhoods_path,
    write_neighbourhoods,
)

TASK = "endpoint_error_identification_with_em"

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
# counter-clockwise seen from outside
_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]], np.int32
)  # fmt: skip


def box(lower: tuple[float, float, float], upper: tuple[float, float, float]) -> Mesh:
    """A closed box, nm."""
    return Mesh((_CORNERS * np.subtract(upper, lower) + lower).astype(np.float32), _FACES)


def place(center_nm: tuple[float, float, float], extent_nm: float, seed: int = 0, yes: bool = False) -> Neighbourhood:
    """A neighbourhood of two boxes; the neighbour lies nearer where the answer is yes."""
    half, rng = extent_nm / 2, np.random.default_rng(seed)
    high = half / (3 + seed)  # each looks different from the front
    base = box((-half, -high, -half / 4), (half / 8, high, half / 4))
    near = half / 6 if yes else half / 2
    beside = box((near, -half / 4, -half / 4), (1.5 * half, half / 4, half / 2))
    labels = np.zeros((3, 3, 32, 32), np.uint8)
    labels[..., :17], labels[..., 20:] = 1, 2
    labels[:, 2, :4] = NO_DATA
    slices = rng.integers(60, 200, labels.shape).astype(np.uint8)
    return Neighbourhood(
        center_nm, extent_nm, 2 * extent_nm, ("base", NEIGHBOUR), (base, beside), slices, labels, extent_nm / 16
    )


def write_places(out: Path, task: str = TASK, partition: str = "test") -> Path:
    """Write a dataset folder with neighbourhoods of the rows of one partition; returns OUT/TASK."""
    folder = write_dataset(out, task)
    rows = load_rows(str(folder), "fly", partition).dataset
    made = (
        (row["sample_id"], place(tuple(row["location_nm"]), row["extent_nm"], number, row["answer"] == "yes"))
        for number, row in enumerate(rows)
    )
    write_neighbourhoods(neighbourhoods_path(folder, "fly", partition), made)
    return folder
