"""One small run, written once for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_run import write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run: two datasets and results of the probe and both baselines."""
    return write_run(tmp_path_factory.mktemp("run"))
