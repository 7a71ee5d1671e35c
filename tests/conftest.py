"""Shared by all tests: nothing leaves the machine, and small datasets that are built once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

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
def built(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that build, made without interruption."""
    from connectomebench.build import build
    from connectomebench.config import load_config

    out = tmp_path_factory.mktemp("built") / "out"
    build(load_config(small_config), out, base=small_config.parent)
    return out
