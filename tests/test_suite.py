"""The suite itself."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

# one to four seconds each, of every process, though one alone runs the tests that need them
NEEDED_BY_FEW = {"gradio", "trl"}


def test_no_folder_of_tests_is_left_out(pytestconfig: pytest.Config) -> None:
    # pytest's own list holds "build", so that tests/build was not collected for a while
    left_out = pytestconfig.getini("norecursedirs")
    here = Path(__file__).parent
    folders = {part for path in here.rglob("test_*.py") for part in path.relative_to(here).parts[:-1]}
    assert {"build", "sources"} <= folders
    assert not [name for name in folders if any(fnmatch(name, pattern) for pattern in left_out)]


def test_what_few_tests_need_is_imported_by_them(collected_modules: frozenset[str]) -> None:
    assert "pytest" in collected_modules
    assert not NEEDED_BY_FEW & collected_modules
