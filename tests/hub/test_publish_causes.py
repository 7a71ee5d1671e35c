"""The cause is named: storage that is not there, refused commits, no network; and two people who publish at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import Done, HubClient
from hub_server import WRITER, Fault, HubServer
from published_models import train_model
from published_rows import TASK, add_rows

REPO = "brains/merge_action"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return add_rows(tmp_path / "out" / TASK, "fly")


@pytest.fixture(scope="module")
def with_xet(client: HubClient) -> Iterator[HubClient]:
    """A client that has not been asked to do without Xet, as anyone's."""
    started = HubClient({k: v for k, v in client.environment.items() if k != "HF_HUB_DISABLE_XET"})
    yield started
    started.close()


def line_of(done: Done) -> str:
    assert done.status == 2 and "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("connectomebench: ")]
    assert WRITER not in line and "signature" not in line
    return line


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "HF_HUB_DISABLE_XET=1"),
        (501, "HF_HUB_DISABLE_XET=1"),
        (403, "may not write to"),
        (401, "may not write to"),
    ],
)
def test_a_server_without_xet(hub: HubServer, with_xet: HubClient, folder: Path, status: int, words: str) -> None:
    hub.faults.append(Fault("GET /api/.*/xet-write-token/", status))
    line = line_of(with_xet.publish(folder, "--repo", REPO, token=WRITER))
    assert words in line and "no network" not in line
    assert len(hub.repo(REPO).commits) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "refuses with status 400: on purpose"), (403, "may not write"), (413, "413"), (422, "422"), (507, "507")],
)
def test_a_refused_commit(hub: HubServer, client: HubClient, folder: Path, status: int, words: str) -> None:
    hub.faults.append(Fault("POST /api/.*/commit/", status))
    line = line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert words in line and "no network" not in line


def test_a_dry_run_without_a_network(client: HubClient, folder: Path, tmp_path: Path) -> None:
    model = train_model(folder, tmp_path / "model", tmp_path / "results")
    jobs = {
        "fly/train-00000-of-00001.parquet": [folder, "--repo", REPO],
        "head.skops": [model, "--repo", "brains/t", "--results", tmp_path / "results", "--dataset", REPO],
    }
    cases = [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
    for (name, words), more in zip(jobs.items(), cases, strict=True):
        apart = HubClient(client.environment | more)
        done = apart.publish(*words, "--dry-run", token=None)
        assert done.status == 0, done.err
        assert "the plan for an empty repository" in done.out and f"add     {name}" in done.out
        assert "not known" in done.out and "dry run: nothing was changed" in done.out
        line_of(apart.publish(*words, token=WRITER))
        apart.close()


@pytest.mark.parametrize("damage", ["pointer", "cut"])
def test_a_damaged_file_on_the_hub(
    hub: HubServer, client: HubClient, folder: Path, tmp_path: Path, damage: str
) -> None:
    model = train_model(folder, tmp_path / "model")
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    files, name = hub.files(REPO), "fly/test-00000-of-00001.parquet"
    whole = hub.content(REPO, name)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
    files[name] = hub.store.put_blob(pointer if damage == "pointer" else whole[: len(whole) // 2])
    hub.repo(REPO).add("main", "by hand", "", files)
    words = ["--model", model, "--dataset", REPO, "--species", "fly", "--out", tmp_path / "pulled"]
    line = line_of(client.evaluate(*words))
    assert "no network" not in line and "run the same command again" not in line
    assert "merge_action" in line and not (tmp_path / "pulled").exists()


def test_two_people_publish_a_new_repository_at_once(
    hub: HubServer, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    """What the other one put there between plan and creation stays, with its part of manifest and card."""
    other = add_rows(tmp_path / "other" / TASK, "mouse")
    assert client.publish(other, "--repo", REPO, token=WRITER).status == 0
    theirs = hub.store.repos.pop(("dataset", REPO))

    def meanwhile(line: str) -> None:
        if line == "POST /api/repos/create":
            hub.store.repos["dataset", REPO] = theirs

    hub.before = meanwhile
    done = client.publish(folder, "--repo", REPO, token=WRITER)
    assert done.status == 0, done.err
    assert json.loads(hub.content(REPO, "manifest.json"))["species"].keys() == {"fly", "mouse"}
    files = hub.files(REPO)
    assert {name.split("/")[0] for name in files if name.endswith(".parquet")} == {"fly", "mouse"}
    card = hub.content(REPO, "README.md").decode()
    assert "config_name: fly" in card and "config_name: mouse" in card


def test_rows_do_not_go_where_someone_made_a_public_repository_meanwhile(
    hub: HubServer, client: HubClient, folder: Path
) -> None:
    def meanwhile(line: str) -> None:
        if line == "POST /api/repos/create":
            hub.store.create("dataset", REPO, False)

    hub.before = meanwhile
    assert f"{REPO} is public" in line_of(client.publish(folder, "--repo", REPO, "--private", token=WRITER))
    assert hub.count("PUT /large/") == 0 and len(hub.repo(REPO).commits) == 1


def test_the_other_ones_commit_after_the_creation_is_not_overwritten(
    hub: HubServer, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    other = add_rows(tmp_path / "other" / TASK, "mouse")
    assert client.publish(other, "--repo", REPO, token=WRITER).status == 0
    theirs = hub.store.repos.pop(("dataset", REPO))

    def meanwhile(line: str) -> None:
        if line.startswith("POST /api/datasets/brains/merge_action/commit/"):
            hub.before = lambda line: None
            new, commit = hub.repo(REPO), theirs.find("main")
            assert commit is not None
            new.add("main", commit.title, "", commit.files)

    hub.before = meanwhile
    assert "changed by someone else meanwhile" in line_of(client.publish(folder, "--repo", REPO, token=WRITER))
    assert json.loads(hub.content(REPO, "manifest.json"))["species"].keys() == {"mouse"}
    assert client.publish(folder, "--repo", REPO, token=WRITER).status == 0
    assert json.loads(hub.content(REPO, "manifest.json"))["species"].keys() == {"fly", "mouse"}
