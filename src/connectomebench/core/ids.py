"""Read ids of segments, supervoxels and skeleton nodes exactly: none may pass through a floating-point number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

LARGEST_ID = 2**64 - 1

_ABSENT = frozenset({"", "na", "nan", "null", "none", "<na>"})
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=e))(e[+-]?[0-9]+)?", re.IGNORECASE)
_GROUPED = re.compile(r"[0-9]{1,3}([,.'’_\s][0-9]{3}){2,}")  # \s holds the narrow and fixed spaces of spreadsheets
_ROUNDED = "went through a floating-point number, which rounds ids above 2^53; write all digits (pandas: dtype UInt64)"


def exact_id(value: object) -> int:
    """Read one id that has to be exact.

    Parameters
    ----------
    value
        A whole number, or its digits.

    Returns
    -------
    int
        From 1 to 2^64 - 1.

    Raises
    ------
    ValueError
        If it is a floating-point number (whole or not), no number, or outside of that range; the message has the value.

    Examples
    --------
    >>> exact_id("720575940628857210")
    720575940628857210
    >>> exact_id(3.6e17)
    Traceback (most recent call last):
    ValueError: 3.6e+17 went through a floating-point number, which rounds ids above 2^53; write all digits (pandas: ...
    """
    if isinstance(value, (float, np.floating)):
        raise ValueError(f"{value} {_ROUNDED}")
    if isinstance(value, str):
        text = value.strip()
        if is_grouped(text):
            raise ValueError(f"{text[:40]!r} has marks between its thousands; write the digits alone")
        if not re.fullmatch(r"[+-]?[0-9]{1,40}", text):
            reason = _ROUNDED if _FLOAT.fullmatch(text) else "is no id; ids are whole numbers"
            raise ValueError(f"{text[:40]!r} {reason}")
        value = int(text)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{str(value)[:40]!r} is no id; ids are whole numbers")
    number = int(value)
    if not 1 <= number <= LARGEST_ID:
        raise ValueError(f"{number} is no id; ids go from 1 to 2^64 - 1")
    return number


ExactId = Annotated[int, BeforeValidator(exact_id)]
"""An id in a configuration; pydantic itself would take a floating-point number for a whole one."""


def is_grouped(text: str) -> bool:
    """Return whether a text is one large number with marks between its thousands, as spreadsheets write it.

    Examples
    --------
    >>> is_grouped("720,575,940,628,857,210"), is_grouped("720, 575"), is_grouped("720575940628857210")
    (True, False, False)
    """
    return _GROUPED.fullmatch(text.strip()) is not None


def is_absent(text: str) -> bool:
    """Return whether a table cell holds no value: empty, or a usual word for it such as ``NaN`` or ``<NA>``."""
    return text.strip().lower() in _ABSENT


def exact_column(values: Iterable[Any]) -> NDArray[np.uint64]:
    """Read a column of a table of ids, leaving out rows without a value and background (0).

    Parameters
    ----------
    values
        Integers of any width, nullable or not; None and missing values are allowed, floating-point numbers are not.

    Returns
    -------
    NDArray[np.uint64]
        Shape (n,), in the order given.

    Raises
    ------
    ValueError
        As for :func:`exact_id`.
    """
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "u":
        column = np.asarray(values).astype(np.uint64)
        return column[column != 0]
    present = (value for value in values if value is not None and not _is_missing(value))
    return np.asarray([exact_id(value) for value in present if not _is_background(value)], np.uint64)


def _is_missing(value: object) -> bool:
    """Recognise pandas' ``NA``, which is not equal to itself and has no truth value; NaN counts as no value too."""
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def _is_background(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) == 0
