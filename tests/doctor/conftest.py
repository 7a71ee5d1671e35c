"""A local server, and a home without tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from species_stand_in import SECRETS, LocalServer, local_server


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as local:
        yield local


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "home" / SECRETS).mkdir(parents=True)
    return tmp_path / "home"
