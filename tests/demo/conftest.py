"""One demo for all its tests: a small folder, served at a free port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_demo import free_port, make_demo_folder
from stored_rows import write_dataset

from connectomebench.demo.server import Demo


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_folder(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Iterator[Demo]:
    from connectomebench.demo.server import serve

    running = serve(demo_folder, "127.0.0.1", free_port(), wait=False)
    yield running
    running.close()


@pytest.fixture(scope="session")
def asked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a model that was trained on it."""
    from published_models import train_model

    out = tmp_path_factory.mktemp("asked_folder")
    train_model(write_dataset(out, "merge_action"), out / "models" / "trivial")
    return out
