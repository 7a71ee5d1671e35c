"""A local server, and a home without tokens."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
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


@pytest.fixture
def checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import and draw in this process, which has imported already; a test that goes without does it in another."""
    for name in ("machine", "packages"):
        module = import_module(f"connectomebench.doctor.{name}")
        monkeypatch.setattr(module, "apart", lambda function, *words, **env: function(*words))
