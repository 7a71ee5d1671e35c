"""Token files, as caveclient reads them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from species_stand_in import SECRETS, TOKEN, LocalServer, by_name, local_fly, own

from connectomebench.core.species import get_species
from connectomebench.doctor.access import access
from connectomebench.sources.cave.tokens import read_token


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"token": ""}', "empty"),
        (b"{}", "holds no token"),
        (b'{"token": null}', "holds no token"),
        (TOKEN.encode(), "not JSON"),
        (f'["{TOKEN}"]'.encode(), "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (json.dumps({"token": f"{TOKEN}\n"}).encode(), "neither hexadecimal nor base64"),
        (json.dumps({"token": f"Bearer {TOKEN}"}).encode(), "neither hexadecimal nor base64"),
        (json.dumps({"token": [TOKEN]}).encode(), "neither hexadecimal nor base64"),
    ],
)
def test_token_files_of_no_use(server: LocalServer, home: Path, content: bytes, words: str) -> None:
    path = home / SECRETS / own(server)
    path.write_bytes(content)
    found = by_name(access(local_fly(server.url)))
    assert found["token"].mark == "missing" and words in found["token"].found and str(path) in found["token"].found
    assert "setup_token" in found["token"].todo
    assert TOKEN not in repr(found)
    # nothing of it is sent
    assert all(token is None for *_, token in server.asked)


def test_a_token_file_that_cannot_be_read(server: LocalServer, home: Path) -> None:
    (home / SECRETS / "cave-secret.json").mkdir()
    finding = by_name(access(get_species("fly"), offline=True))["token"]
    assert finding.mark == "missing" and "cannot be read" in finding.found


def test_the_token_is_the_one_that_caveclient_takes(home: Path) -> None:
    """All combinations of the three files, each absent, without a token, or with its own."""
    from caveclient.auth import AuthClient

    url = get_species("fly").server
    assert url is not None and url.startswith("https://")
    names = (f"{url.removeprefix('https://')}-cave-secret.json", "cave-secret.json", "chunkedgraph-secret.json")
    taken = set()
    kinds = ("absent", "none", "null", "own")
    for contents in itertools.product((*kinds, "folder"), kinds, kinds):
        for i, (name, content) in enumerate(zip(names, contents, strict=True)):
            path = home / SECRETS / name
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            if content == "folder":
                path.mkdir()
            elif content != "absent":
                token = {"none": {}, "null": {"token": None}, "own": {"token": f"{i}{TOKEN}"}}[content]
                path.write_text(json.dumps(token))
        expected = AuthClient(server_address=url).token
        token = read_token(url)
        assert (token.value or None) == expected, contents
        assert token.value == "" or token.value in token.path.read_text()
        assert bool(token.problem) == (expected is None)
        taken.add(expected)
    assert len(taken) == 4
