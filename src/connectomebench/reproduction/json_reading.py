"""Read and validate published JSON files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from connectomebench.core.errors import ConnectomeBenchError

_LARGEST = 512 * 2**20
_MISSING = re.compile(r"\s+")

T = TypeVar("T")
Collection = dict[str, Any] | list[Any]


def read_bytes(path: Path) -> bytes:
    """Read a file of at most 512 MiB.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be read or is larger.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConnectomeBenchError("larger than 512 MiB")
        return path.read_bytes()
    except OSError as error:
        raise ConnectomeBenchError(f"cannot be read ({error.strerror})") from error


def parse_collection(data: bytes) -> Collection:
    """Parse JSON into a mapping or a list; raise as :func:`parse` does."""
    shape: Any = Collection
    return parse(data, shape)


def parse(data: bytes, shape: type[T]) -> T:
    """Parse JSON into a type; reject wrong types and ignore unknown names.

    Raises
    ------
    ConnectomeBenchError
        If it is not JSON or has another shape; the message names the first place that is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(shape).validate_json(data, strict=True)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = _MISSING.sub(" ", first["msg"])[:120]
        raise ConnectomeBenchError(f"damaged or of another shape: {f'{place}: ' if place else ''}{message}") from None
