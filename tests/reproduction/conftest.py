"""A small published folder and its report, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_files import write_published

from connectomebench.reproduction.reproduce import report_published
from connectomebench.reproduction.results_folder import Published, read_published


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented files in the published layout."""
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def published(published_folder: Path) -> Published:
    """What is read of them."""
    return read_published(published_folder)


@pytest.fixture(scope="session")
def published_report(published_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the report on them."""
    out = tmp_path_factory.mktemp("report-of-published")
    report_published(published_folder, out, resamples=200)
    return out
