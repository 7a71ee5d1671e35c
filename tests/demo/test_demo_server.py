"""What strangers may try at the demo's server: read its files, fill its disk, call what is not theirs."""

from __future__ import annotations

import uuid
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

import connectomebench
from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.demo_data import DATASETS_VARIABLE, space_folder
from connectomebench.demo.server import Demo


@pytest.fixture
def client(demo: Demo):
    with httpx.Client(base_url=demo.url, timeout=20) as opened:
        # as a browser: the secret of the address becomes a cookie
        assert opened.get(demo.address, follow_redirects=True).status_code == 200
        yield opened


def test_no_file_of_the_server_can_be_read(client: httpx.Client, demo_folder: Path) -> None:
    parquet = next((demo_folder / "merge_action" / "fly").glob("test-*"))
    wanted = [
        "/etc/passwd",
        "/proc/self/environ",
        str(parquet),
        str(demo_folder / "merge_action" / "manifest.json"),
        str(Path(connectomebench.__file__)),
        str(Path.cwd() / "pyproject.toml"),
        "pyproject.toml",
        "../../../../etc/passwd",
    ]
    for path in wanted:
        for written in (path, quote(path, safe=""), path.replace("/", "//"), f"/tmp/gradio/..{path}"):
            for route in ("gradio_api/file=", "file=", "gradio_api/file/", "static/", "assets/", "theme.css/../"):
                answer = client.get(f"{route}{written}")
                assert answer.status_code >= 400 or "text/html" in answer.headers["content-type"], (route, written)
                assert b"root:" not in answer.content and b"[project]" not in answer.content
                assert b"PAR1" not in answer.content and b"config_fingerprint" not in answer.content


def test_it_fetches_nothing_for_others(client: httpx.Client) -> None:
    for url in ("http://127.0.0.1:1/x", "https://example.org/x"):
        assert client.get(f"gradio_api/proxy={url}").status_code >= 400
        assert client.get(f"gradio_api/file={url}", follow_redirects=False).status_code >= 300


def test_large_uploads_are_refused(client: httpx.Client) -> None:
    answer = client.post("gradio_api/upload", files={"files": ("a.bin", b"0" * 21_000_000)})
    assert answer.status_code == 413


def test_pages_may_load_from_this_server_alone(client: httpx.Client) -> None:
    headers = client.get("").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_there_is_no_api_and_nothing_to_answer_before_a_sample_is_shown(client: httpx.Client) -> None:
    api = client.get("gradio_api/info").json()
    assert api["named_endpoints"] == {} and api["unnamed_endpoints"] == {}
    config = client.get("config").json()
    buttons = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "cb-answer-0"]
    number = next(d["id"] for d in config["dependencies"] if [buttons[0], "click"] in [list(t) for t in d["targets"]])
    session = uuid.uuid4().hex
    call = {"data": [None], "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": buttons[0]}
    assert client.post("gradio_api/queue/join", json=call).status_code == 200
    with client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        told = next(line for line in stream.iter_lines() if "process_completed" in line)
    assert '"success":false' in told.replace(" ", "") and "reload it" in told and "The answer is" not in told
    assert client.get("monitoring").status_code >= 400


def test_a_folder_without_datasets_is_told_in_one_line(tmp_path: Path, capsys) -> None:
    assert main(["demo", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"connectomebench: no dataset in {tmp_path}; run")


def test_a_port_that_is_taken_is_told_in_one_line(demo: Demo, demo_folder: Path, capsys) -> None:
    port = demo.url.rstrip("/").rpartition(":")[2]
    assert main(["demo", str(demo_folder), "--port", port]) == 2
    assert f"connectomebench: port {port} is taken" in capsys.readouterr().err


def test_a_space_takes_names_of_repositories_alone(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DATASETS_VARIABLE, "org/data ../../etc")
    with pytest.raises(ConnectomeBenchError, match="no ORG/NAME of a repository"):
        space_folder(tmp_path)
    assert not list(tmp_path.iterdir())
