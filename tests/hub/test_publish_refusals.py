"""What is refused, what the Hub refuses, and connections that are lost: one line, exit status 2, and a way on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hub_client import USER, Done, HubClient
from hub_server import READER, WRITER, Fault, HubServer
from published_rows import TASK, add_rows
from stored_rows import write_dataset

from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.repo_layout import TAG

REPO = "brains/merge_action"
EMPTY = b'{"format_version": "1.0", "task": "merge_action", "species": {}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return add_rows(tmp_path / "out" / TASK, "fly")


def line_of(done: Done) -> str:
    """The one line that a person sees."""
    assert done.status == 2 and "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("connectomebench: ")]
    assert len(lines) == 1 and WRITER not in done.err
    return lines[0]


def ours(hub: HubServer, name: str = REPO, **changes: Any) -> dict[str, Any]:
    """Put a manifest into a new repository: an empty one, with changes."""
    manifest = {"format_version": "1.0", "package_version": "0", "task": TASK, "species": {}} | changes
    put(hub, name, {FILE_NAME: json.dumps(manifest).encode()})
    return manifest


def put(hub: HubServer, name: str, contents: dict[str, bytes]) -> None:
    repo = hub.store.create("dataset", name, False)
    repo.add("main", "by hand", "", {path: hub.store.put_blob(content) for path, content in contents.items()})


# who may


@pytest.mark.parametrize("token", [None, "hf_" + "z" * 30])
def test_without_a_valid_login(hub: HubServer, client: HubClient, folder: Path, token: str | None) -> None:
    assert "hf auth login" in line_of(client.publish(folder, "--repo", REPO, token=token))
    assert not hub.store.repos


def test_a_dry_run_of_a_public_repository_needs_no_login(hub: HubServer, client: HubClient, folder: Path) -> None:
    ours(hub)
    done = client.publish(folder, "--repo", REPO, "--dry-run", token=None)
    assert done.status == 0 and "fly/train-00000-of-00001.parquet" in done.out


@pytest.mark.parametrize("exists", [False, True])
def test_without_write_access(hub: HubServer, client: HubClient, folder: Path, exists: bool) -> None:
    if exists:
        ours(hub)
    line = line_of(client.publish(folder, "--repo", REPO, token=READER))
    assert f"may not write to {REPO}" in line and "write access to brains" in line
    assert hub.count("PUT") == 0


def test_offline(hub: HubServer, client: HubClient, folder: Path) -> None:
    command = [sys.executable, "-m", "connectomebench", "publish", str(folder), "--repo", REPO]
    environment = client.environment | {"HF_HUB_OFFLINE": "1", "HF_TOKEN": WRITER}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "HF_HUB_OFFLINE is set" in line_of(Done(done.returncode, done.stdout, done.stderr))
    assert hub.requests == []


# what is there already


def test_a_repository_with_other_content(hub: HubServer, client: HubClient, folder: Path) -> None:
    put(hub, REPO, {"data.csv": b"1,2"})
    line = line_of(client.publish(folder, "--repo", REPO, "--replace", token=WRITER))
    assert "holds other content (data.csv" in line
    assert set(hub.files(REPO)) == {"data.csv"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "split_action"}, "holds the task 'split_action'"),
        ({"format_version": "3.0"}, "later format"),
        ({"format_version": None}, "damaged"),
        ({"species": []}, "damaged"),
        ({"species": {"mouse": 1}}, "damaged"),
        ({"species": {"mouse": {"config_fingerprint": {}}}}, "damaged"),
        ({"species": {"mouse": {"config_fingerprint": "c"}}}, "card of brains/merge_action cannot be made"),
        ({"species": {"../../.ssh": {"config_fingerprint": "c"}}}, "no name of a species"),
        ({"species": {"/etc": {"config_fingerprint": "c"}}}, "no name of a species"),
        ({"species": {"..": {"config_fingerprint": "c"}}}, "no name of a species"),
        ({"species": {"fly\n": {"config_fingerprint": "c"}}}, "no name of a species"),
    ],
)
def test_a_manifest_that_is_not_to_be_trusted(
    hub: HubServer, client: HubClient, folder: Path, changes: dict[str, Any], words: str
) -> None:
    ours(hub, **changes)
    before = sorted(folder.parent.rglob("*"))
    assert words in line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert set(hub.files(REPO)) == {FILE_NAME}
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b"[" * 100_000, EMPTY + b" " * 16_000_000])
def test_a_manifest_that_is_none(hub: HubServer, client: HubClient, folder: Path, content: bytes) -> None:
    put(hub, REPO, {FILE_NAME: content})
    assert "is damaged or not of this package" in line_of(client.publish(folder, "--repo", REPO, token=WRITER))


def test_another_species_that_cannot_be_read(hub: HubServer, client: HubClient, folder: Path) -> None:
    entry = read_manifest(folder)["species"]["fly"]
    manifest = {"format_version": "1.0", "package_version": "0", "task": TASK, "species": {"mouse": entry}}
    rows = {f"mouse/{p}-00000-of-00001.parquet": b"PAR1" * 99 for p in ("train", "validation", "test")}
    put(hub, REPO, {FILE_NAME: json.dumps(manifest).encode(), **rows})
    line = line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert "the card of brains/merge_action cannot be made" in line and "Parquet" in line


# what is on this machine


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adapter_config.json", "an adapter"),
        ("config.json", "a model"),
        ("head.skops", "a probe"),
        ("app.py", "nothing to publish"),
        ("notes.txt", "nothing to publish"),
    ],
)
def test_what_cannot_be_published(hub: HubServer, client: HubClient, tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_text("{}")
    assert f"holds {kind}" in line_of(client.publish(tmp_path, "--repo", REPO, token=WRITER))
    assert hub.requests == []


def test_wrong_words(hub: HubServer, client: HubClient, folder: Path) -> None:
    def told(*words: str | Path) -> str:
        return line_of(client.publish(*words, token=WRITER))

    assert "no folder" in told(folder / "nothing", "--repo", REPO)
    assert "give --org" in told(folder.parent, "--repo", REPO)
    for name in ("merge_action", "brains/a/b", "brains/..", "-/x"):
        assert "write ORG/NAME" in told(folder, f"--repo={name}")
    for branch in ("refs/pr/1", "a" * 40, "a..b", "a b", "a/"):
        assert "cannot be the name of a branch" in told(folder, "--repo", REPO, "--revision", branch)
    assert client.publish(folder, token=WRITER).status == 2
    assert client.publish(folder, "--repo", REPO, "--org", "brains", token=WRITER).status == 2
    assert hub.requests == []


def test_an_incomplete_species(hub: HubServer, client: HubClient, folder: Path) -> None:
    (folder / "fly" / "test-00000-of-00001.parquet").unlink()
    assert "fly is not complete" in line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert not hub.store.repos


@pytest.mark.parametrize("name", ["manifest.json", "fly-skipped.jsonl"])
@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        ("/home/someone/data.npz", "a home folder"),
        (USER, "a user name of this machine"),
        ("hf_" + "A" * 34, "a Hugging Face token"),
        ("0123456789abcdef" * 2, "looks like a CAVE token"),
    ],
)
def test_nothing_private_is_sent(
    hub: HubServer, client: HubClient, folder: Path, name: str, secret: str, kind: str
) -> None:
    if name == "manifest.json":
        manifest = read_manifest(folder)
        manifest["species"]["fly"]["config"]["source"] = {"path": f"of {secret}"}
        (folder / name).write_text(json.dumps(manifest))
    else:
        (folder / name).write_text(json.dumps({"edit_id": "1", "reason": f"cannot read {secret}"}) + "\n")
    line = line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert f"{name} holds" in line and kind in line and secret not in line
    assert not hub.store.repos


def test_all_are_refused_before_one_is_sent(hub: HubServer, client: HubClient, folder: Path) -> None:
    write_dataset(folder.parent, "split_action")
    put(hub, "brains/split_action", {"data.csv": b"1,2"})
    line_of(client.publish(folder.parent, "--org", "brains", token=WRITER))
    assert ("dataset", REPO) not in hub.store.repos


# what goes wrong on the way


def test_a_rate_limit_is_waited_for(hub: HubServer, client: HubClient, folder: Path) -> None:
    wait = {"Retry-After": "0"}
    hub.faults.append(Fault("POST .*/preupload/", 429, times=1, headers=wait))
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    hub.faults.append(Fault("GET .*/tree/", 429, headers=wait))
    start = hub.count("GET .*/tree/")
    line = line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert "rate limit is reached; wait 0 seconds" in line and "run the same command again" in line
    assert hub.count("GET .*/tree/") == start + 6


@pytest.mark.parametrize(
    ("request_line", "status", "words"),
    [
        ("POST .*/commit/", 503, "the Hub answers 503"),
        ("POST .*/commit/", 412, "changed by someone else meanwhile"),
        ("POST .*/commit/", 409, "changed by someone else meanwhile"),
        ("POST .*/commit/", 401, "does not accept your login"),
        ("PUT /large/", 400, "refuses with status 400"),
        ("POST /api/validate-yaml", 400, "refuses with status 400"),
    ],
)
def test_answers_of_the_hub(
    hub: HubServer, client: HubClient, folder: Path, request_line: str, status: int, words: str
) -> None:
    hub.faults.append(Fault(request_line, status))
    line = line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert words in line and "signature" not in line
    assert hub.repo(REPO).tags == {} and len(hub.repo(REPO).commits) == 1


def test_the_commit_is_bound_to_what_was_compared(hub: HubServer, client: HubClient, folder: Path) -> None:
    ours(hub)
    head = hub.repo(REPO).branches["main"]
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    header = json.loads(hub.received[-1].splitlines()[0])
    assert header["value"]["parentCommit"] == head


def test_a_connection_that_breaks_while_rows_are_sent(hub: HubServer, client: HubClient, folder: Path) -> None:
    hub.faults.append(Fault("PUT /large/", "body", times=2, n_bytes=20_000))
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    assert hub.count("PUT /large/") == 5


@pytest.mark.parametrize("what", ["cut", "lost"])
def test_a_connection_that_breaks_at_the_commit(hub: HubServer, client: HubClient, folder: Path, what: Any) -> None:
    hub.faults.append(Fault("POST .*/commit/", what))
    line = line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert "connection to the Hub was lost (" in line and "; run the same command again: it goes on" in line
    hub.faults.clear()
    done = client.publish(folder, "--repo", REPO, token=WRITER)
    # what was sent is not sent again; a commit whose answer was lost is not made again, and gets its tag
    assert done.status == 0 and hub.count("PUT /large/") == 3
    assert [c.title for c in hub.repo(REPO).history("main")] == [
        f"Add fly (merge_action, format {TAG})",
        "initial commit",
    ]
    assert hub.repo(REPO).tags == {TAG: hub.repo(REPO).branches["main"]}


def test_a_connection_that_breaks_while_the_tag_moves(hub: HubServer, client: HubClient, folder: Path) -> None:
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    hub.faults.append(Fault("POST .*/tag/", "cut"))
    line_of(client.publish(add_rows(folder, "mouse"), "--repo", REPO, token=WRITER))
    assert hub.repo(REPO).tags == {}
    hub.faults.clear()
    assert client.publish(folder, "--repo", REPO, token=WRITER).out == f"{REPO}: tag {TAG}\n"
    assert hub.repo(REPO).tags == {TAG: hub.repo(REPO).branches["main"]}


def test_a_publication_that_is_killed_goes_on(hub: HubServer, client: HubClient, folder: Path) -> None:
    """The first file arrives, the others hang, and the process is killed."""
    hub.faults.append(Fault("PUT /large/", "hang", skip=1))
    command = [sys.executable, "-m", "connectomebench", "publish", str(folder), "--repo", REPO]
    settings: dict[str, Any] = {"env": client.environment | {"HF_TOKEN": WRITER}, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **settings) as process:
        deadline = time.monotonic() + 60
        while hub.count("PUT /large/") < 3 or hub.count("POST .*/objects/verify") < 1:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert set(hub.files(REPO)) == {".gitattributes"}
    hub.faults.clear()
    start = hub.count("PUT /large/")
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    assert hub.count("PUT /large/") - start == 2
    assert "fly/train-00000-of-00001.parquet" in hub.files(REPO)
