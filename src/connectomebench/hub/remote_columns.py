"""Parquet files on the Hub without their pictures: a local copy with holes, enough to read the small columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_TAIL_BYTES = 1 << 16
# two ranges closer than this are fetched as one
_GAP_BYTES = 1 << 20


def copy_outline(source: BinaryIO, size: int, columns: Sequence[str], path: Path) -> None:
    """Copy the footer of a Parquet file and the values of some columns, at their places; the rest is a hole.

    The copy has the size of the whole, takes little space on disk, and answers all questions about those columns.
    One range is read for each row group, since small columns lie side by side.

    Parameters
    ----------
    source
        The file; read by ranges.
    size
        Its size, bytes.
    columns
        Top-level columns without lists.
    path
        The copy, written anew.

    Raises
    ------
    ValueError
        If it is no Parquet file (also as ``pyarrow.ArrowInvalid``).
    """
    import pyarrow.parquet as pq

    start = max(0, size - _TAIL_BYTES)
    tail = _read(source, start, size)
    footer = size - 8 - int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != b"PAR1" or footer < 0:
        raise ValueError("not a Parquet file")
    if footer < start:
        tail = _read(source, footer, start) + tail
    with open(path, "wb") as copy:
        copy.truncate(size)
        copy.seek(-len(tail), os.SEEK_END)
        copy.write(tail)
        copy.flush()
        try:
            ranges = _ranges(pq.read_metadata(path), columns)
        except OSError as error:  # what pyarrow raises for a footer that it cannot decode
            raise ValueError("not a Parquet file") from error
        for first, last in ranges:
            if not 0 <= first <= last <= size:
                raise ValueError("a column lies outside of the file")
            copy.seek(first)
            copy.write(_read(source, first, last))


def _read(source: BinaryIO, first: int, last: int) -> bytes:
    source.seek(first)
    return source.read(last - first)


def _ranges(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[tuple[int, int]]:
    """Say where the chunks of columns lie, as (first byte, one behind the last), merged where they are close."""
    found: list[tuple[int, int]] = []
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
        for chunk in (c for c in chunks if c.path_in_schema in columns):
            first = min(o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o is not None)
            found.append((first, first + chunk.total_compressed_size))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if merged and first - merged[-1][1] <= _GAP_BYTES:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
