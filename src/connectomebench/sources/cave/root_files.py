"""Read root ids from a text file or a table, as spreadsheets, pandas and people write them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.ids import exact_id, is_absent, is_grouped
from connectomebench.core.text import read_lines

ROOT_COLUMNS = ("root_id", "pt_root_id", "root", "segment_id", "segid", "id")
"""Names of the column of root ids in a table, lower case, the first one present is taken."""

_Row = tuple[int, list[str]]  # number of the line, cells


def read_root_ids(path: Path) -> list[int]:
    """Read root ids from a file.

    Parameters
    ----------
    path
        One id a line, a single line of ids, or a table (commas, semicolons or tabs) whose header names the column: one
        of ``ROOT_COLUMNS``, or the only column. Quotes, brackets and marks of lists, ``#`` comments, blank lines, cells
        without a value and a byte order mark are allowed.

    Returns
    -------
    list of int
        In the order of the file.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be read, holds no id, a line has more cells than the header, or one holds no id: negative, above
        2^64 - 1, with marks between its thousands, or rounded by a floating-point number.
    """
    try:
        lines = read_lines(path)
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror}") from None
    rows = _rows(lines)
    if not rows:
        raise ConnectomeBenchError(f"{path} holds no root id; write one a line")
    column, width = 0, None
    if _is_header(rows[0][1]):
        column, width = _column(path, rows[0][1]), len(rows[0][1])
        rows = rows[1:]
    elif len(rows) == 1:
        rows = [(rows[0][0], [cell]) for cell in rows[0][1]]
    else:
        wide = next((number for number, cells in rows if len(cells) > 1), None)
        if wide is not None:
            raise ConnectomeBenchError(
                f"{path} line {wide} holds several values; give one root id a line, or a first line that names the "
                f"column {ROOT_COLUMNS[0]}"
            )
    found = []
    for number, cells in rows:
        if width is not None and len(cells) > width:
            raise ConnectomeBenchError(
                f"{path} line {number} holds {len(cells)} values, but the first line names {width}; name every column, "
                "or quote what holds a separator"
            )
        cell = cells[column] if column < len(cells) else ""
        if is_absent(cell):
            continue
        try:
            found.append(exact_id(cell))
        except ValueError as error:
            raise ConnectomeBenchError(f"{path} line {number}: {error}") from None
    if not found:
        raise ConnectomeBenchError(f"{path} holds no root id; write one a line")
    return found


def _rows(lines: Sequence[str]) -> list[_Row]:
    """Return the cells of each line that holds any, without comments and quotes."""
    found = []
    for number, line in enumerate(lines, start=1):
        text = re.sub(r"^- ", "", line.partition("#")[0].strip().rstrip(";,"))  # lists of YAML, JSON and Python
        if not text:
            continue
        separator = next((s for s in "\t;," if s in text), None)
        if is_grouped(text):
            cells = [text]  # one number, which is refused as such
        elif separator is None:
            # a name of a column may hold spaces
            cells = text.split() if re.match(r"[^A-Za-z]*[0-9]", text) else [text]
        else:
            cells = next(csv.reader([text], delimiter=separator, skipinitialspace=True))
        cells = [cell.strip().strip("'\"[]{}()").strip() for cell in cells]
        if any(cells):
            found.append((number, cells))
    return found


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether a first line names columns: all its cells are words."""
    filled = [cell for cell in cells if cell]
    return all(re.match(r"[^\W\d]", cell) and not is_absent(cell) for cell in filled)


def _column(path: Path, names: Sequence[str]) -> int:
    lower = [name.lower() for name in names]
    for name in ROOT_COLUMNS:
        if name in lower:
            return lower.index(name)
    if len(names) == 1:
        return 0
    raise ConnectomeBenchError(
        f"{path} has the columns {', '.join(names)}, none of which is called {', '.join(ROOT_COLUMNS[:-1])} or "
        f"{ROOT_COLUMNS[-1]}; rename the one that holds root ids"
    )
