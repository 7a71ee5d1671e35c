"""The suite itself."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest


def test_no_folder_of_tests_is_left_out(pytestconfig: pytest.Config) -> None:
    # pytest's own list holds "build", so that tests/build was not collected for a while
    left_out = pytestconfig.getini("norecursedirs")
    here = Path(__file__).parent
    folders = {part for path in here.rglob("test_*.py") for part in path.relative_to(here).parts[:-1]}
    assert {"build", "sources"} <= folders
    assert not [name for name in folders if any(fnmatch(name, pattern) for pattern in left_out)]
