"""Read a folder of slices, one picture a slice: TIFF, PNG, or JPEG for image data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.read_errors import reading
from connectomebench.sources.volumes.tiff_checks import check_whole

TIFF = (".tif", ".tiff")
PNG = (".png",)
JPEG = (".jpg", ".jpeg")
KINDS = (TIFF, PNG, JPEG)

_PAGE_CACHE_BYTES = 256 << 20
_NAMED = 6  # missing numbers that a message lists


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
            loaded = self._load(page)
            if loaded.shape != self.shape[1:] or loaded.dtype != self.dtype:
                raise ValueError(f"page {page} is {loaded.shape} {loaded.dtype}, not {self.shape[1:]} {self.dtype}")
            block[k] = loaded[rows, columns]
        return block


def slice_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder, without hidden files such as those that macOS leaves, in no order."""
    known = {suffix for kind in KINDS for suffix in kind}
    return [p for p in folder.iterdir() if p.suffix.lower() in known and not p.name.startswith(".") and p.is_file()]


def open_slices(path: Path, name: str, fill_missing: bool) -> PageStack:
    """Open one PNG or JPEG file, or a folder of slices in the order of the numbers in their names.

    Parameters
    ----------
    path
        The file or folder.
    name
        Name of the volume in messages.
    fill_missing
        Read slices whose numbers are missing as background instead of raising an error.

    Returns
    -------
    PageStack
        Axes slice, row, column.

    Raises
    ------
    ConnectomeBenchError
        If numbers are missing or double, slices differ in shape or type, have several channels or pages, or one is
        damaged.
    """
    found = slice_files(path) if path.is_dir() else [path]
    suffixes = {kind for p in found for kind in KINDS if p.suffix.lower() in kind}
    if len(suffixes) > 1:
        counts = Counter(p.suffix.lower() for p in found)
        shown = ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items()))
        raise ConnectomeBenchError(f"{name}: {path} holds slices of several kinds ({shown}); keep one kind in it")
    files = _in_order(sorted(found, key=_natural), path, name, fill_missing)
    describe = _describe_tiff if suffixes == {TIFF} else _describe_picture
    described: list[tuple[Path, tuple[tuple[int, ...], np.dtype[Any]]]] = []
    for file in files:
        if file is not None:
            with reading(name, file):
                described.append((file, describe(file, name)))
    first_file, first = described[0]
    for file, (shape, dtype) in described:
        if (shape, dtype) != first:
            raise ConnectomeBenchError(
                f"{name}: {file} is {shape} {dtype}, but {first_file.name} is {first[0]} {first[1]}; all slices must "
                "be alike"
            )
    load = _load_tiff if suffixes == {TIFF} else _load_picture

    def load_page(i: int) -> NDArray[Any]:
        file = files[i]
        if file is None:
            return np.zeros(first[0], first[1])
        with reading(name, file):
            return load(file)

    rows, columns = first[0]
    return PageStack(len(files), (rows, columns), first[1], load_page)


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _in_order(files: Sequence[Path], folder: Path, name: str, fill_missing: bool) -> list[Path | None]:
    """Put None where the number of a slice is missing; refuse that, unless it is to be filled, and double numbers."""
    numbers = _numbers(files)
    if numbers is None:
        return list(files)
    double = [n for n, count in Counter(numbers).items() if count > 1]
    if double:
        same = [file.name for file, n in zip(files, numbers, strict=True) if n == double[0]]
        raise ConnectomeBenchError(
            f"{name}: {folder} holds {' and '.join(same)}, both with number {double[0]}; keep one"
        )
    step = min((b - a for a, b in pairwise(numbers)), default=1)  # every tenth number is fine
    by_number = dict(zip(numbers, files, strict=True))
    if any((n - numbers[0]) % step for n in numbers):
        step = 1
    wanted = range(numbers[0], numbers[-1] + 1, step)
    missing = [n for n in wanted if n not in by_number]
    if missing and not fill_missing:
        raise ConnectomeBenchError(
            f"{name}: {folder} lacks slices {_ranges(missing, step)} of {numbers[0]} to {numbers[-1]}: later ones "
            "would move up; add them, or set `fill_missing: true` to read them as background"
        )
    return [by_number.get(n) for n in wanted] if missing else list(files)


def _numbers(files: Sequence[Path]) -> list[int] | None:
    """Return the number of each slice, ascending; None where names differ in more than one number, or in none."""
    parts = [re.split(r"(\d+)", file.stem) for file in files]
    if len({len(p) for p in parts}) != 1 or any(p[::2] != parts[0][::2] for p in parts):
        return None
    columns = list(zip(*(tuple(int(n) for n in p[1::2]) for p in parts), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) != 1:
        # equal numbers written in two ways (s1.tif, s01.tif) vary in none
        return list(columns[-1]) if columns and not varying and len(files) > 1 else None
    return list(varying[0])


def _ranges(numbers: Sequence[int], step: int) -> str:
    """Write numbers as ranges, for example ``15-18, 22``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + step:
            runs[-1].append(n)
        else:
            runs.append([n])
    shown = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(shown[:_NAMED]) + (f" and {len(shown) - _NAMED} more gaps" if len(shown) > _NAMED else "")


def _describe_tiff(file: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of a slice without reading its pixels."""
    import tifffile

    with tifffile.TiffFile(file) as opened:
        check_whole(opened, name, file)
        pages = len(opened.pages)
        page: Any = opened.pages[0]
        if pages != 1:
            raise ConnectomeBenchError(
                f"{name}: {file} holds {pages} pages; in a folder every slice must be one page: give a file of all "
                "pages as `path` itself"
            )
        shape = tuple(int(n) for n in page.shape)
        if len(shape) != 2:
            raise ConnectomeBenchError(
                f"{name}: {file} has {int(np.prod(shape[2:]))} channels; one is needed: save slices of grey values"
            )
        return shape, np.dtype(page.dtype)


def _load_tiff(file: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(file) as opened:
        return np.asarray(opened.pages[0].asarray())


def _open_picture(file: Path) -> Any:
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    # not Image.open: its limit of pixels is for pictures from the web, and slices of a whole brain are larger
    return (PngImageFile if file.suffix.lower() in PNG else JpegImageFile)(file)


def _describe_picture(file: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of a slice without reading its pixels."""
    with _open_picture(file) as picture:
        mode, (columns, rows) = picture.mode, picture.size
        if mode == "P" and not _is_grey(picture):
            raise ConnectomeBenchError(
                f"{name}: {file} has a palette of colours; save slices of grey values, whose numbers are the labels"
            )
        channels = len(picture.getbands())
    if channels != 1:
        raise ConnectomeBenchError(f"{name}: {file} has {channels} channels; one is needed: save slices of grey values")
    kinds = {"1": "uint8", "L": "uint8", "P": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32"}
    if mode not in kinds:
        raise ConnectomeBenchError(f"{name}: {file} holds pixels of the kind {mode!r}; save slices of grey values")
    return (rows, columns), np.dtype(kinds[mode])


def _is_grey(picture: Any) -> bool:
    """Check that the palette gives every number its own grey value, so that numbers and values are the same."""
    palette = np.asarray(picture.getpalette() or [], np.int64).reshape(-1, 3)
    return bool((palette == np.arange(len(palette))[:, None]).all())


def _load_picture(file: Path) -> NDArray[Any]:
    with _open_picture(file) as picture:
        shape, dtype = (picture.size[1], picture.size[0]), picture.mode
        values = np.asarray(picture)
    if values.shape != shape:
        raise ValueError(f"has shape {values.shape}, not {shape}")
    return values.astype(np.uint8) if dtype == "1" else values.astype(values.dtype.newbyteorder("="))
