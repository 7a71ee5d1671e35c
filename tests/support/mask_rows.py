"""Rows of `split_mask_generation` that a small network can learn: a thick bar that stays, a thin one taken away."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from connectomebench.core.part_masks import MASK, NOTHING, STAYS, TAKEN, mask_png
from connectomebench.core.tasks import MESH_VIEWS, get_task

TASK = "split_mask_generation"


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def bars(rng: np.random.Generator, px: int) -> np.ndarray:
    """A mask of one view."""
    mask = np.full((px, px), NOTHING, np.uint8)
    thin, thick = px // 16, px // 4
    row, column = (int(rng.integers(px // 5, px - px // 5 - thick)) for _ in range(2))
    mask[row + px // 12 : row + px // 12 + thin, :] = TAKEN
    mask[:, column : column + thick] = STAYS
    return mask


def row(number: int, px: int = 64) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    masks = [bars(rng, px) for _ in MESH_VIEWS]
    pictures = []
    for mask in masks:
        picture = np.full((px, px, 3), 255, np.uint8)
        picture[mask != NOTHING] = (0, 114, 178)
        pictures.append(picture)
    return {
        "sample_id": f"{number:016x}",
        "task": TASK,
        "species": "fly",
        "images": [{"bytes": png(picture), "path": None} for picture in pictures],
        "views": list(MESH_VIEWS),
        "question": get_task(TASK).question,
        "answer": MASK,
        "label": None,
        "target_nm": [],
        "choices": [],
        "target_images": [{"bytes": mask_png(mask), "path": None} for mask in masks],
        "location_nm": [0.0, 0.0, 0.0],
        "extent_nm": 1000.0,
        "second_place": [],
        "segment_ids": [number],
        "body_ids": [2 * number, 2 * number + 1],
        "group": f"neuron-{number // 2}",
        "origin": "edit",
        "edit_id": f"edit-{number}",
        "edit_time": None,
        "source": "bars",
        "source_version": "1",
    }
