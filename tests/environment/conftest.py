"""A small build that one can look around in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connectomebench.build.config import load_config
from connectomebench.build.write_neighbourhoods import NeighbourhoodConfig, write_dataset_neighbourhoods
from connectomebench.environment.samples import Samples, open_samples

EM_TASK = "endpoint_error_identification_with_em"


@pytest.fixture(scope="session")
def surveyed(built_short: Path, short_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short build with neighbourhoods of one task."""
    out = tmp_path_factory.mktemp("surveyed") / "out"
    shutil.copytree(built_short, out)
    rules = NeighbourhoodConfig(pages=3, slice_px=64)
    write_dataset_neighbourhoods(load_config(short_config), out, short_config.parent, [EM_TASK], ["test"], rules)
    return out


@pytest.fixture(scope="session")
def samples(surveyed: Path) -> Samples:
    return open_samples(surveyed / EM_TASK, "fly", "test")
