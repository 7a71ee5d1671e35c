"""Text files of other programs: marks, encodings, line ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectomebench.core.text import read_lines

LINES = ["# Zürich", "1 2", "3"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_the_same(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(end.join(LINES).encode(encoding))
    assert read_lines(path) == LINES
