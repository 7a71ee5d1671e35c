"""Check that a TIFF file is whole: tifffile takes the pages before the place where one was cut for all of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError


@contextmanager
def quiet() -> Iterator[None]:
    """Silence tifffile's log: what it says of damaged files is said here in one line."""
    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def check_whole(file: Any, name: str, path: Path) -> None:
    """Check that the list of pages and the pixels of each end inside the file.

    Raises
    ------
    ConnectomeBenchError
        If the file was cut, or parts of a page were never written.
    """
    size = os.fstat(file.filehandle.fileno()).st_size
    with quiet():
        pages = list(file.pages)
    if not pages:
        raise ConnectomeBenchError(f"{name}: {path} is damaged: it holds no page; copy it again")
    last = pages[-1]
    following = last.offset if hasattr(last, "offset") else 0
    if not 0 < following < size or _next_page(file, following) >= size:
        raise ConnectomeBenchError(f"{name}: {path} is damaged: it ends after {len(pages)} pages; copy it again")
    for i, page in enumerate(pages):
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if not ends or max(ends) > size:
            raise ConnectomeBenchError(f"{name}: {path} is damaged: page {i} is not whole; copy it again")
        if 0 in page.databytecounts:
            raise ConnectomeBenchError(
                f"{name}: {path} is damaged: parts of page {i} were never written; write it again"
            )
    images = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    if isinstance(images, int) and len(pages) == 1 and images > 1:
        end = pages[0].dataoffsets[0] + images * pages[0].nbytes
        if end > size:
            raise ConnectomeBenchError(f"{name}: {path} is damaged: it ends before image {images}; copy it again")


def _next_page(file: Any, offset: int) -> int:
    """Return where the page after the one described at ``offset`` is described; 0 where there is none."""
    handle, tiff = file.filehandle, file.tiff
    handle.seek(offset)
    count = int.from_bytes(handle.read(tiff.tagnosize), _order(tiff))
    handle.seek(offset + tiff.tagnosize + count * tiff.tagsize)
    stored = handle.read(tiff.offsetsize)
    return int.from_bytes(stored, _order(tiff)) if len(stored) == tiff.offsetsize else 1 << 62


def _order(tiff: Any) -> Any:
    return "little" if tiff.byteorder == "<" else "big"
