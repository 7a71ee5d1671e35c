"""The metric folders, loaded as a user loads them, and their apps."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hub_client import import_evaluate

METRICS_FOLDER = Path(__file__).parents[2] / "eval"


@pytest.fixture(scope="session")
def metric() -> Callable[[str], Any]:
    """Load a metric by the name of its folder, a fresh one each time."""
    import_evaluate()
    import evaluate

    return lambda name: evaluate.load(str(METRICS_FOLDER / name), keep_in_memory=True)


@pytest.fixture(scope="session")
def app() -> Callable[[str], ModuleType]:
    """Import the app of a metric without launching it."""

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # else it looks things up outside

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{name}_app", METRICS_FOLDER / name / "app.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
