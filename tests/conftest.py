"""Shared by all tests: nothing leaves the machine, and small datasets that are built once."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with few tests first: the slow ones are among them, and no process waits long for the last file."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (tests[item.path], item.path))


SMALL_CONFIG = """\
species: fly
source:
  morphology:
    rules: {cut_spacing_nm: 6000, fused_fraction: 0.25}
tasks: [merge_action, endpoint_error_identification_with_em, merge_error_identification, split_action]
sites: {extent_nm: [2200, 3000], min_segment_voxels: 20000}
candidates: {radius_nm: 400, merge_radius_nm: 800}
proposals: {reach_nm: 8000, wrong_kept: 2}
controls: {pool_per_case: 2, max_cases: 26}
partition: {cube_nm: 20000, test_fraction: 0.3}
views: {image_px: 64, em_px: 64}
"""


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of all four tasks from the embedded neurons, small enough for a test."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(SMALL_CONFIG)
    return path


@pytest.fixture(scope="session")
def short_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without its slow half, fused neurons and proposed cuts: for builds that are broken off."""
    path = tmp_path_factory.mktemp("config") / "short.yaml"
    tasks = "tasks: [merge_action, endpoint_error_identification_with_em]"
    path.write_text(re.sub("^tasks: .*$", tasks, SMALL_CONFIG, flags=re.MULTILINE))
    return path


@pytest.fixture(scope="session")
def built(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small build, made without interruption."""
    return _build(small_config, tmp_path_factory, "built")


@pytest.fixture(scope="session")
def built_short(short_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the short build, made without interruption."""
    return _build(short_config, tmp_path_factory, "built_short")


def _build(config: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """Build once for all processes that test; those that come later wait for the first and find all done."""
    from connectomebench.build.config import load_config
    from connectomebench.build.pipeline import build_datasets

    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        build_datasets(load_config(config), folder / "out", base=config.parent)
    return folder / "out"


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Qwen3-VL, tiny and untrained."""
    from tiny_qwen3_vl import make_tiny_qwen3_vl

    return make_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny-vlm") / "tiny-vl")
