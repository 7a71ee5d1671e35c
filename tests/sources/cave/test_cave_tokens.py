"""Who gets which token: a server that is not known, or not encrypted, never gets the common one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectomebench.core.species import SPECIES, get_species
from connectomebench.sources.cave.connect import _login
from connectomebench.sources.cave.tokens import is_known, known_servers, read_token, volume_token

COMMON, OWN = "c0" * 16, "0e" * 16


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the common token, in both files that caveclient reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cloudvolume" / "secrets"
    folder.mkdir(parents=True)
    for name in ("cave-secret.json", "chunkedgraph-secret.json"):
        (folder / name).write_text(json.dumps({"token": COMMON}))
    return folder


def test_known_servers_are_those_of_the_species(secrets: Path) -> None:
    servers = [species.server for species in SPECIES.values() if species.server]
    assert servers and all(read_token(server).value == COMMON for server in servers)
    assert len(known_servers()) > len(set(servers))  # and of their graphs


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "https://global.daf-apis.com.evil.example",
        "https://global.daf-apis.com@evil.example",
        "https://global.daf-apis.com:444",
        "http://global.daf-apis.com",
        "http://127.0.0.1:9",
        "graphene://https://evil.example/segmentation/table/x",
        "graphene://middleauth+https://evil.example/segmentation/table/x",
        "graphene://http://minnie.microns-daf.com/segmentation/table/x",
    ],
)
def test_no_other_address_gets_the_common_token(address: str, secrets: Path) -> None:
    assert not is_known(address) and read_token(address).value == ""
    assert read_token(address).problem
    assert COMMON not in repr(_login(address))
    login = get_species("mouse").server
    assert login is not None and volume_token(address, login, COMMON) is None


def test_another_server_gets_its_own(secrets: Path) -> None:
    (secrets / "cave.lab.example-cave-secret.json").write_text(json.dumps({"token": OWN}))
    assert read_token("https://cave.lab.example").value == OWN
    assert volume_token("graphene://https://cave.lab.example/segmentation/table/x", "https://a.example", "x") == OWN
    assert volume_token("graphene://https://a.example/segmentation/table/x", "https://a.example", "x") == "x"
    # and not without encryption, where everyone on the way could read it
    assert read_token("http://cave.lab.example").value == ""


def test_what_is_sent_to_a_server_of_this_machine(secrets: Path) -> None:
    from caveclient.auth import AuthClient

    here = "http://127.0.0.1:9"
    assert AuthClient(server_address=here).token == COMMON  # by itself caveclient would send it
    found = _login(here)
    auth = AuthClient(server_address=here, token=found.get("auth_token"), token_key=found.get("auth_token_key"))
    assert auth.token is None and auth.request_header == {}


def test_known_servers_share_a_token_with_their_graphs(secrets: Path) -> None:
    for species in SPECIES.values():
        if species.server and (species.segmentation or "").startswith("graphene://"):
            assert volume_token(str(species.segmentation), species.server, COMMON) == COMMON
