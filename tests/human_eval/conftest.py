from __future__ import annotations

from pathlib import Path

import pytest
from stored_rows import write_dataset

from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows


@pytest.fixture(scope="session")
def gradio() -> None:
    """What draws the pages."""
    pytest.importorskip("gradio", reason="needs gradio")


@pytest.fixture(scope="session")
def rated_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four test rows, two of each answer."""
    return write_dataset(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="session")
def rows(rated_dataset: Path) -> Rows:
    return load_rows(str(rated_dataset), "fly", "test")
