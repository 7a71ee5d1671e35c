"""A finished build is not taken for one of other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectomebench.build.changed_data import check_same_data, volumes_version
from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.manifest import add_species
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import SourceConfig, open_source
from connectomebench.sources.volumes.arrays import VolumeSpec
from connectomebench.sources.volumes.volume_source import VolumesConfig


def test_rewritten_volumes_are_noticed(tmp_path: Path) -> None:
    labels = np.ones((8, 8, 8), np.uint32)
    np.save(tmp_path / "a.npy", labels)
    spec = VolumeSpec("a.npy", None, "xyz", (10.0, 10.0, 10.0), (0, 0, 0))
    config = BuildConfig("fly", SourceConfig(volumes=VolumesConfig("v", "1", spec, spec)))
    cache, folder = tmp_path / "cache", tmp_path / "out/merge_action"
    version = open_source(config.source, "fly", cache, tmp_path, SerialRunner()).info.version
    add_species(folder, "merge_action", "fly", {"source": {"version": version}})
    built = {"merge_action": folder}
    check_same_data(config, built, volumes_version(config, cache, tmp_path))
    np.save(tmp_path / "a.npy", labels * 2)
    with pytest.raises(ConnectomeBenchError, match=r"merge_action/fly was built from other data"):
        check_same_data(config, built, volumes_version(config, cache, tmp_path))
    (tmp_path / "a.npy").unlink()
    check_same_data(config, built, volumes_version(config, cache, tmp_path))
