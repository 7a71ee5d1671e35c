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
    return keep_rows(lambda own: load_cells(read(own), px, layout), shape, np.dtype(np.uint8), folder, progress)


def keep_rows(
    load: Callable[[Sequence[int]], torch.Tensor],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    folder: Path,
    progress: str | None,
) -> torch.Tensor | None:
    """Load every row into a file without a name, see :func:`decode_rows`.

    Parameters
    ----------
    load
        Returns rows by their numbers.
    shape
        Of all rows together, which are its first axis.
    dtype
        Of their values.
    folder, progress
        As for :func:`decode_rows`.

    Returns
    -------
    Tensor or None
        Of that shape and type, mapped from the file; None where the disk has less than twice the room for it.
    """
    rows, size = shape[0], int(np.prod(shape)) * dtype.itemsize
    if 2 * size > shutil.disk_usage(folder).free:
        return None
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        kept = torch.from_numpy(np.memmap(file, dtype, "r+", shape=tuple(shape)))
    with tqdm(total=rows, desc=progress, unit="row", disable=progress is None, delay=1) as bar:
        for start in range(0, rows, _ROWS):
            own = range(start, min(start + _ROWS, rows))
            kept[start : start + _ROWS] = load(own)
            bar.update(len(own))
    return kept
