"""Metrics and Spaces go to a Hub that speaks the real protocol; metrics come back through stock `evaluate`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_client import Done, HubClient
from hub_server import WRITER, HubServer

METRICS = Path(__file__).parents[2] / "eval"
README = "---\ntitle: Demo\nsdk: gradio\napp_file: app.py\n---\n\n# Demo\n"


@pytest.fixture
def space(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    (folder / "pictures").mkdir(parents=True)
    (folder / "README.md").write_text(README)
    (folder / "app.py").write_text("print(1)\n")
    (folder / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n")
    return folder


def published(client: HubClient, *words: str | Path) -> str:
    done = client.publish(*words, token=WRITER)
    assert done.status == 0, done.err
    return done.out


def line_of(done: Done) -> str:
    assert done.status == 2 and "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("connectomebench: ")]
    return line


def test_every_metric_comes_back_through_evaluate(hub: HubServer, client: HubClient) -> None:
    lines = published(client, METRICS, "--org", "brains").splitlines()
    assert len(lines) == 5 and all("4 added, commit " in line for line in lines)
    name = "brains/balanced_accuracy"
    assert hub.repo(name, "space").sdk == "gradio"
    assert client.metric(name, predictions=[1, 0], references=[1, 1]) == {"balanced_accuracy": 0.5}
    assert client.metric("brains/calibration_error", predictions=[0.75], references=[1]) == {"ece": 0.25, "mce": 0.25}
    assert published(client, METRICS / "balanced_accuracy", "--repo", name) == f"{name}: nothing to change\n"


def test_a_metric_under_another_name_would_not_be_found(hub: HubServer, client: HubClient) -> None:
    done = client.publish(METRICS / "balanced_accuracy", "--repo", "brains/accuracy", token=WRITER)
    assert "looks for accuracy.py" in line_of(done) and not hub.store.repos


def test_a_space_is_brought_up_to_date(hub: HubServer, client: HubClient, space: Path) -> None:
    (space / "__pycache__").mkdir()
    (space / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"0")
    (space / ".env").write_text("secret")
    published(client, space, "--repo", "brains/demo")
    assert set(hub.files("brains/demo", kind="space")) == {".gitattributes", "README.md", "app.py", "pictures/a.png"}
    (space / "app.py").write_text("print(2)\n")
    assert "1 changed" in published(client, space, "--repo", "brains/demo")
    assert hub.content("brains/demo", "app.py", kind="space") == b"print(2)\n"
    (space / "pictures" / "a.png").unlink()
    assert "holds other content (pictures/a.png)" in line_of(
        client.publish(space, "--repo", "brains/demo", token=WRITER)
    )
    assert "1 deleted" in published(client, space, "--repo", "brains/demo", "--replace")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("app.py", "open('/home/anna/x')", "app.py holds a home folder"),
        ("README.md", README.replace("app.py", "main.py"), "lacks main.py"),
        ("README.md", README.replace("gradio", "streamlit9"), "names the sdk"),
        ("README.md", "# Demo\n", "nothing to publish"),
    ],
)
def test_what_is_not_published(
    hub: HubServer, client: HubClient, space: Path, name: str, text: str, words: str
) -> None:
    (space / name).write_text(text)
    assert words in line_of(client.publish(space, "--repo", "brains/demo", token=WRITER))
    assert not hub.store.repos


def test_a_link_leads_nowhere(hub: HubServer, client: HubClient, space: Path) -> None:
    (space / "data").symlink_to("/etc")
    assert "is a link" in line_of(client.publish(space, "--repo", "brains/demo", token=WRITER))
