"""The doctor against real local servers; the token goes to those of the species alone, and is never shown."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from species_stand_in import (
    DATASTACK,
    GRAPH,
    IMAGES,
    LABELS,
    TOKEN,
    LocalServer,
    by_name,
    keep,
    local_fly,
    local_server,
    own,
)

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import SPECIES, get_species
from connectomebench.doctor import access as doctor_access
from connectomebench.doctor.access import access, info_url
from connectomebench.doctor.checks import is_ready


def test_all_is_well(server: LocalServer, home: Path) -> None:
    keep(home, own(server))
    findings = access(local_fly(server.url))
    assert [(f.name, f.mark) for f in findings] == [(name, "ok") for name in ("token", "server", "labels", "images")]
    assert is_ready(findings) and TOKEN not in repr(findings)
    bearer = f"Bearer {TOKEN}"
    # the token goes to the CAVE services and to nobody else
    assert sorted(server.asked) == [("GET", DATASTACK, bearer), ("GET", LABELS, bearer), ("HEAD", IMAGES, None)]


def test_another_server_of_the_labels_gets_its_own_token_or_none(server: LocalServer, home: Path) -> None:
    keep(home, own(server))
    with local_server() as other:
        species = replace(local_fly(server.url), segmentation=local_fly(other.url).segmentation)
        access(species)
        assert other.asked == [("GET", LABELS, None)]
        other.asked.clear()
        # the file in which cloud-volume alone would look
        keep(home, own(other), token=TOKEN[::-1])
        assert is_ready(access(species))
        assert other.asked == [("GET", LABELS, f"Bearer {TOKEN[::-1]}")]


@pytest.mark.parametrize("path", [DATASTACK, LABELS])
@pytest.mark.parametrize(
    ("status", "words", "todo"),
    [
        (401, "is refused", "setup_token"),
        (302, "is refused", "setup_token"),
        (403, "no permission", "accept the terms"),
        (404, "there is no", "address"),
        (429, "429", "later"),
        (503, "503", "later"),
    ],
)
def test_answers_of_the_cave_services(
    server: LocalServer, home: Path, path: str, status: int, words: str, todo: str
) -> None:
    keep(home, own(server))
    server.statuses = {path: status, GRAPH: 404}
    found = by_name(access(local_fly(server.url)))
    wrong, right = ("server", "labels") if path == DATASTACK else ("labels", "server")
    assert found[wrong].mark == "missing" and found[right].mark == "ok"
    assert words in found[wrong].found and todo in found[wrong].todo and server.url in found[wrong].found
    assert TOKEN not in repr(found)
    # a page to log in is not followed
    assert not any(asked.startswith("/login") for _, asked, _ in server.asked)


def test_without_a_token_the_network_is_looked_at_all_the_same(server: LocalServer, home: Path) -> None:
    server.statuses = {DATASTACK: 401, LABELS: 403}
    found = by_name(access(local_fly(server.url)))
    assert {name for name, f in found.items() if f.mark == "missing"} == {"token"}
    assert f"setup_token('{server.url}')" in found["token"].todo and "/settings/tokens" in found["token"].todo
    assert "requires the token" in found["server"].found and "requires the token" in found["labels"].found
    assert all(token is None for *_, token in server.asked)


def test_a_token_in_an_address_is_not_shown(server: LocalServer, home: Path) -> None:
    keep(home, own(server))
    server.statuses = {f"/{TOKEN}/em/info": 404}
    found = by_name(access(replace(local_fly(server.url), em=f"precomputed://{server.url}/{TOKEN}/em")))
    assert "/[token]/em/info" in found["images"].found and TOKEN not in repr(found)


@pytest.mark.parametrize(("status", "todo"), [(403, "public"), (404, "address"), (500, "later")])
def test_image_data_that_are_not_there(server: LocalServer, home: Path, status: int, todo: str) -> None:
    keep(home, own(server))
    server.statuses = {IMAGES: status}
    finding = by_name(access(local_fly(server.url)))["images"]
    assert finding.mark == "missing" and str(status) in finding.found and todo in finding.todo


def test_a_graph_without_an_info_service(server: LocalServer, home: Path) -> None:
    keep(home, own(server))
    server.statuses = {DATASTACK: 404}
    finding = by_name(access(local_fly(server.url)))["server"]
    assert finding.mark == "warning" and "source.cave.graph_table" in finding.todo


def test_another_server_is_asked(server: LocalServer, home: Path) -> None:
    species = replace(local_fly(server.url), server="https://not.asked")
    keep(home, own(server))
    found = by_name(access(species, server=f"{server.url}/"))
    assert all(f.mark == "ok" for f in found.values())
    assert ("GET", DATASTACK, f"Bearer {TOKEN}") in server.asked


@pytest.mark.parametrize("address", ["127.0.0.1:80", "ftp://127.0.0.1", f"http://me:{TOKEN}@127.0.0.1", "http://a/b"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConnectomeBenchError, match="HOST:PORT") as raised:
        access(get_species("fly"), server=address)
    assert TOKEN not in str(raised.value)


def test_a_refused_port_and_a_name_that_is_none(home: Path) -> None:
    keep(home)
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        # an interface that does not exist fails in the resolver, without asking a name server
        species = replace(local_fly(url), em="precomputed://http://[::1%25nowhere]:9/em")
        found = by_name(access(species))
    assert found["server"].mark == found["labels"].mark == found["images"].mark == "missing"
    assert "refused" in found["server"].found and "refused" in found["labels"].found
    assert "DNS" in found["images"].found and "network" in found["images"].todo
    assert TOKEN not in repr(found)


def test_a_slow_server_is_not_waited_for(server: LocalServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(home)
    assert doctor_access._TIMEOUT_S == 5
    monkeypatch.setattr(doctor_access, "_TIMEOUT_S", 0.5)
    server.delay_s = 60.0
    start = time.monotonic()
    found = by_name(access(local_fly(server.url)))
    assert time.monotonic() - start < 10
    assert all("no answer within 0.5 s" in found[name].found for name in ("server", "labels", "images"))


def test_offline_asks_nobody(server: LocalServer, home: Path) -> None:
    keep(home, own(server))
    findings = access(local_fly(server.url), offline=True)
    assert server.asked == [] and is_ready(findings)
    assert {f.name for f in findings if f.mark == "warning" and "--offline" in f.found} == {
        "server",
        "labels",
        "images",
    }


def test_a_species_without_cave_needs_no_token(server: LocalServer, home: Path) -> None:
    species = replace(
        get_species("mouse_exm"),
        segmentation=f"precomputed://{server.url}/automatic",
        proofread_segmentation=f"precomputed://{server.url}/proofread",
        em=f"precomputed://{server.url}/em/",
    )
    found = by_name(access(species))
    assert all(f.mark == "ok" for f in found.values()) and "none is needed" in found["token"].found
    assert sorted(path for _, path, _ in server.asked) == ["/automatic/info", "/em/info", "/proofread/info"]
    assert all(token is None for *_, token in server.asked)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (SPECIES["mouse"].segmentation, "https://minnie.microns-daf.com/segmentation/table/minnie65_public/info"),
        (SPECIES["fly"].segmentation, "https://prod.flywire-daf.com/segmentation/table/flywire_public/info"),
        (SPECIES["fly"].em, "https://bossdb-open-data.s3.amazonaws.com/flywire/fafbv14/info"),
        (SPECIES["human"].em, "https://storage.googleapis.com/h01-release/data/20210601/4nm_raw/info"),
    ],
)
def test_addresses_of_info_files(path: str, url: str) -> None:
    assert info_url(path) == url


def test_a_path_that_cannot_be_looked_at(home: Path) -> None:
    species = replace(get_species("mouse_exm"), em="file:///em", segmentation="file:///a", proofread_segmentation=None)
    found = by_name(access(species))
    assert found["images"].mark == found["labels"].mark == "missing" and "web server" in found["images"].found
