"""Folders with the files of the public datasets, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
from public_files import write_first, write_second


@pytest.fixture(scope="session")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # brackets are no pattern in the name of a folder
    return write_second(tmp_path_factory.mktemp("public") / "bench [2]", 1)


@pytest.fixture(scope="session")
def second_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_second(tmp_path_factory.mktemp("public") / "v2", 2)


@pytest.fixture(scope="session")
def first_benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_first(tmp_path_factory.mktemp("public") / "bench1")
