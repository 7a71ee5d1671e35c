"""Read TIFF stacks page by page as an array: one multi-page file, or a folder with one slice per file."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

_PAGE_CACHE_BYTES = 256 << 20


class PageStack:
    """Pages of equal shape as an array with axes page, row, column; recently read pages are cached.

    Parameters
    ----------
    count
        Number of pages.
    page_shape, dtype
        Rows and columns of a page, and its dtype.
    load
        Returns page ``i``.
    """

    def __init__(
        self, count: int, page_shape: tuple[int, int], dtype: np.dtype[Any], load: Callable[[int], NDArray[Any]]
    ) -> None:
        self.shape = (count, *page_shape)
        self.dtype = dtype
        page_bytes = page_shape[0] * page_shape[1] * dtype.itemsize
        self._load = lru_cache(maxsize=max(1, _PAGE_CACHE_BYTES // max(page_bytes, 1)))(load)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read a block; slices along page, row, column."""
        pages, rows, columns = index
        chosen = range(*pages.indices(self.shape[0]))
        height, width = (len(range(*s.indices(n))) for s, n in zip((rows, columns), self.shape[1:], strict=True))
        block = np.empty((len(chosen), height, width), self.dtype)
        for k, page in enumerate(chosen):
            block[k] = self._load(page)[rows, columns]
        return block


def open_tiff(path: Path, name: str) -> Any:
    """Open a TIFF file or a folder of TIFF slices (in natural order of their names).

    Parameters
    ----------
    path
        The file or folder.
    name
        Name of the volume in messages.

    Returns
    -------
    array-like
        With shape, dtype and slicing; axes page, row, column.

    Raises
    ------
    ConnectomeBenchError
        If slices differ in shape or type.
    """
    import tifffile

    if path.is_dir():
        return _open_folder(path, name, tifffile)
    file = tifffile.TiffFile(path)
    series = file.series[0]
    if len(series.pages) == 1:  # a single page holds all data: contiguous (ImageJ, tifffile) or a single slice
        array = series.asarray()
        return array[None] if array.ndim == 2 else array
    if len(series.shape) != 3 or series.shape[0] != len(series.pages):
        return series.asarray()
    file.filehandle.set_lock(True)  # blocks are read from several threads
    pages: Any = series.pages
    return PageStack(len(pages), series.shape[1:], series.dtype, lambda i: pages[i].asarray())


def _open_folder(path: Path, name: str, tifffile: Any) -> PageStack:
    files = sorted((p for p in path.iterdir() if p.suffix.lower() in (".tif", ".tiff")), key=_natural)
    shapes = []
    for file in files:
        with tifffile.TiffFile(file) as opened:
            shapes.append((opened.pages[0].shape, opened.pages[0].dtype, len(opened.pages)))
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0] or shape[2] != 1 or len(shape[0]) != 2:
            raise ConnectomeBenchError(
                f"{name}: {file} is {shape[0]} {shape[1]} with {shape[2]} pages; every slice must be one page of "
                f"grey values like {files[0].name}: {shapes[0][0]} {shapes[0][1]}"
            )
    return PageStack(len(files), shapes[0][0], shapes[0][1], lambda i: tifffile.imread(files[i]))


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
