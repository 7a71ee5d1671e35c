"""Read text files as people hand them in: byte order marks, Latin-1 comments, any line ends."""

from __future__ import annotations

import codecs
from pathlib import Path

_WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, without line ends.

    Parameters
    ----------
    path
        UTF-8 with or without a byte order mark, or UTF-16 with one. Anything else is taken for Latin-1: numbers are the
        same in it, and comments do not matter.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return decode_text(path.read_bytes()).splitlines()


def decode_text(data: bytes) -> str:
    """Decode text as :func:`read_lines` does.

    Examples
    --------
    >>> decode_text("# Zürich".encode("utf-8-sig")), decode_text("# Zürich".encode("latin-1"))
    ('# Zürich', '# Zürich')
    """
    encoding = _WIDE.get(data[:2], "utf-8-sig")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("latin-1")
