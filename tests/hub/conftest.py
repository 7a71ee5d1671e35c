"""A Hub and its clients, shared by the tests; each test has an empty Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import USER, HubClient
from hub_server import READER, WRITER, HubServer, hub_server
from hub_store import Store


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with hub_server(tmp_path_factory.mktemp("hub") / "first") as hub:
        yield hub


@pytest.fixture
def hub(serving: HubServer, tmp_path: Path) -> Iterator[HubServer]:
    serving.store = Store(tmp_path / "hub")
    serving.faults.clear()
    serving.before = lambda line: None
    serving.requests.clear()
    serving.received.clear()
    yield serving
    assert serving.unknown == []
    _find_nothing_private(serving.store, tmp_path)


def _find_nothing_private(store: Store, tmp_path: Path) -> None:
    """Search every file that was sent, whole or in part, for who sent it, from where, and with which token."""
    private = [word.encode() for word in (WRITER, READER, USER, str(tmp_path.parent))]
    for path in store.folder.glob("*/*"):
        content = path.read_bytes()
        assert not [word for word in private if word in content], f"{path.name}: {content[:200]!r}"


@pytest.fixture(scope="session")
def client(serving: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    home = tmp_path_factory.mktemp("clients") / USER
    home.mkdir()
    left_out = ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
        "HF_ENDPOINT": serving.url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "NO_PROXY": "127.0.0.1,localhost",
        "HOME": str(home),
        "LOGNAME": USER,
    }
    started = HubClient(environment)
    yield started
    started.close()
