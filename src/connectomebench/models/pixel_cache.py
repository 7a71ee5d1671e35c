"""Pixels of all rows, decoded and resized once, for a training that shows each of them many times."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from connectomebench.models.view_classifier import load_cells
from connectomebench.models.view_grid import Layout, cell_px

_ROWS = 32


def decode_rows(
    read: Callable[[Sequence[int]], Sequence[Sequence[Any]]],
    rows: int,
    views: int,
    px: int,
    layout: Layout,
    folder: Path,
    progress: str | None,
) -> torch.Tensor | None:
    """Decode every row into a file without a name, which is gone when nothing uses it any longer.

    Parameters
    ----------
    read
        Returns the encoded images of rows by their numbers.
    rows, views
        Number of rows, and of images a row.
    px, layout
        See :func:`connectomebench.models.view_grid.cell_px`.
    folder
        Where the file is.
    progress
        Label of the progress bar, shown after a second; None for no bar.

    Returns
    -------
    Tensor or None
        RGB, uint8, shape (rows, views, height, width, 3), mapped from the file; None where the disk has less than twice
        the room for it, so that images have to be decoded each time.
    """
    shape = (rows, views, *cell_px(views, px, layout), 3)
    size = int(np.prod(shape))
    if 2 * size > shutil.disk_usage(folder).free:
        return None
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        pixels = torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape))
    with tqdm(total=rows, desc=progress, unit="row", disable=progress is None, delay=1) as bar:
        for start in range(0, rows, _ROWS):
            own = range(start, min(start + _ROWS, rows))
            pixels[start : start + _ROWS] = load_cells(read(own), px, layout)
            bar.update(len(own))
    return pixels
