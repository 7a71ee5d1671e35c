"""The engine that needs a graphics driver, where there is one."""

from __future__ import annotations

import pytest

from connectomebench.rendering.adapters import octarine_problem
from connectomebench.rendering.engines import Engine, choose_engine


@pytest.fixture(scope="session")
def octarine_engine() -> Engine:
    """Octarine, on a graphics card or in a software driver; a test without either is skipped with the reason."""
    problem = octarine_problem()
    if problem is not None:
        pytest.skip(problem)
    return choose_engine("octarine")
