"""One analysis of simulated samples, made once."""

from __future__ import annotations

import pytest
from simulated_edits import simulate

from connectomebench.economics.analysis import Analysis, analyse
from connectomebench.economics.assumptions import defaults


@pytest.fixture(scope="session")
def analysis() -> Analysis:
    """Two simulated populations, one with two samples, and the published totals."""
    tables = {
        "mouse": [(simulate("mouse", n), 2314) for n in (100, 40)],
        "fly": [(simulate("fly", 120), 139_255)],
    }
    return analyse(tables, defaults(), published=True, resamples=50)
