"""The doctor asks what a configuration names: its server, its graph, its volumes and files, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from species_stand_in import TOKEN, LocalServer, by_name, keep

from connectomebench.build.config import load_config
from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.doctor.access import access_of
from connectomebench.doctor.checks import is_ready
from connectomebench.doctor.targets import config_target

OWN_GRAPH = """\
species: fly
source:
  cave:
    server: SERVER
    graph_table: my_graph
    image: precomputed://SERVER/em
    roots: {file: roots.csv}
    cache_gb: 3
"""
OWN_DATASTACK = """\
species: mouse
source: {cave: {server: SERVER, datastack: my_stack, image: none}}
"""
VOLUMES = """\
species: fly
source:
  volumes:
    name: mine
    version: "1"
    automatic: {path: labels.npz, axes: xyz, voxel_size_nm: [8, 8, 8], offset_vx: [0, 0, 0]}
    proofread: {path: "precomputed://SERVER/proofread"}
    image: {path: "s3://somewhere/em"}
"""
GRAPH_INFO = "/segmentation/table/my_graph/info"
STACK = "/info/api/v2/datastack/full/my_stack"


def keep_own(home: Path, server: LocalServer) -> None:
    """Store a token in the file of a server of one's own; the common one is for known servers."""
    keep(home, f"{server.url.removeprefix('http://')}-cave-secret.json")


def written(folder: Path, text: str, server: LocalServer) -> Path:
    path = folder / "build.yaml"
    path.write_text(text.replace("SERVER", server.url))
    return path


def test_a_graph_of_ones_own(server: LocalServer, home: Path, tmp_path: Path) -> None:
    keep_own(home, server)
    path = written(tmp_path, OWN_GRAPH, server)
    target = config_target(load_config(path), tmp_path)
    assert (target.login, target.graph_table, target.datastack, target.cache_gb) == (server.url, "my_graph", None, 3)
    found = by_name(access_of(target))
    assert found["roots"].mark == "missing" and str(tmp_path / "roots.csv") in found["roots"].found
    (tmp_path / "roots.csv").write_text("1\n")
    assert is_ready(access_of(target))
    bearer = f"Bearer {TOKEN}"
    assert set(server.asked) == {("GET", GRAPH_INFO, bearer), ("HEAD", "/em/info", None)}


def test_a_datastack_of_ones_own_is_not_looked_for_at_the_species_paths(
    server: LocalServer, home: Path, tmp_path: Path
) -> None:
    keep_own(home, server)
    target = config_target(load_config(written(tmp_path, OWN_DATASTACK, server)), tmp_path)
    assert is_ready(access_of(target))
    assert server.asked == [("GET", STACK, f"Bearer {TOKEN}")]


def test_volumes_are_looked_for_where_they_lie(server: LocalServer, home: Path, tmp_path: Path) -> None:
    target = config_target(load_config(written(tmp_path, VOLUMES, server)), tmp_path)
    found = by_name(access_of(target))
    assert found["labels"].mark == "missing" and "labels.npz" in found["labels"].found
    assert found["proofread labels"].mark == "ok" and found["images"].mark == "warning"
    assert server.asked == [("HEAD", "/proofread/info", None)]
    (tmp_path / "labels.npz").write_bytes(b"")
    assert is_ready(access_of(target))


@pytest.mark.parametrize("status", [401, 403, 302])
def test_a_refused_token_is_told_though_the_info_service_answers_404(
    server: LocalServer, home: Path, tmp_path: Path, status: int
) -> None:
    keep_own(home, server)
    server.statuses = {STACK: 404, "/segmentation/api/version": status}
    target = config_target(load_config(written(tmp_path, OWN_DATASTACK, server)), tmp_path)
    finding = by_name(access_of(target))["server"]
    assert finding.mark == "missing" and "token" in finding.found and "address" not in finding.todo


def test_a_token_that_nobody_wants_is_not_missing(server: LocalServer, home: Path, tmp_path: Path) -> None:
    (tmp_path / "roots.csv").write_text("1\n")
    target = config_target(load_config(written(tmp_path, OWN_GRAPH, server)), tmp_path)
    found = by_name(access_of(target))
    assert found["token"].mark == "ok" and "answers without one" in found["token"].found
    # as soon as one of the servers wants it, it is
    server.statuses = {GRAPH_INFO: 401}
    assert by_name(access_of(target))["token"].mark == "missing"
    server.statuses = {}
    assert by_name(access_of(target, offline=True))["token"].mark == "missing"


def test_an_address_that_is_none_is_told_before_anything_is_asked(server: LocalServer, tmp_path: Path) -> None:
    path = written(tmp_path, OWN_GRAPH.replace("SERVER\n", "example\n", 1), server)
    with pytest.raises(ConnectomeBenchError, match="HOST:PORT"):
        config_target(load_config(path), tmp_path)


@pytest.mark.usefixtures("checked_here")
def test_command_with_a_configuration(
    server: LocalServer, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_own(home, server)
    path = written(tmp_path, OWN_GRAPH, server)
    words = ["doctor", "--out", str(home), "--config", str(path)]
    status = main(words)
    out, err = capsys.readouterr()
    assert status == 1 and "Traceback" not in err, out + err
    lines = {line[9:].split("  ")[0]: line for line in out.splitlines()}
    assert lines["roots"].startswith("missing") and "3 GB" in lines["cache"]
    assert {asked for _, asked, _ in server.asked} == {GRAPH_INFO, "/em/info"}
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--species", "fly"])
    assert "not allowed with argument" in capsys.readouterr().err
