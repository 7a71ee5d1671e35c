"""A small dataset that one can look around in."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_places import write_places

from connectomebench.environment.samples import Samples, open_samples


@pytest.fixture(scope="session")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a task with neighbourhoods of its test rows."""
    return write_places(tmp_path_factory.mktemp("surveyed"))


@pytest.fixture(scope="session")
def samples(surveyed: Path) -> Samples:
    return open_samples(surveyed, "fly", "test")
