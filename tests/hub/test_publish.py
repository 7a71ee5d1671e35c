"""Publishing to a Hub that speaks the real protocol, with the real clients, and loading back with stock `datasets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_client import HubClient
from hub_server import WRITER, HubServer
from published_rows import TASK, TWO_SHARDS, add_rows, copy_species

from connectomebench.dataset.repo_layout import TAG

REPO = "brains/merge_action"
MADE = {"README.md", "manifest.json", "croissant.json", "eval.yaml"}


def train(species: str, number: int = 0, of: int = 1) -> str:
    return f"{species}/train-{number:05d}-of-{of:05d}.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return add_rows(tmp_path / "out" / TASK, "fly")


def published(client: HubClient, *words: str | Path) -> str:
    done = client.publish(*words, token=WRITER)
    assert done.status == 0, done.err
    return done.out


def test_two_species_come_back_through_load_dataset(
    hub: HubServer, client: HubClient, tmp_path: Path, built: Path
) -> None:
    """All four tasks of a build, each to its repository; then a second species to one of them, from another folder."""
    out = published(client, built, "--org", "brains", "--private", "--dry-run")
    assert out.count("a new private dataset") == 4 and not hub.store.repos
    lines = published(client, built, "--org", "brains").splitlines()
    assert len(lines) == 4 and all("8 added, commit " in line and line.endswith(f"tag {TAG}") for line in lines)
    published(client, copy_species(built / TASK, tmp_path / "other" / TASK, "fly", "mouse"), "--repo", REPO)

    flies = client.load(REPO, "fly")
    mice = client.load(REPO, "mouse", streaming=True)
    assert flies["train"]["species"] == ["fly"] and mice["train"]["species"] == ["mouse"]
    for part in ("train", "validation", "test"):
        assert flies[part]["ids"] == mice[part]["ids"] != []
        assert flies[part]["sizes"] == mice[part]["sizes"] == [[64, 64]] * 3


def test_small_columns_alone_at_the_tag(hub: HubServer, client: HubClient, folder: Path) -> None:
    published(client, folder, "--repo", REPO)
    small = client.load(REPO, "fly", columns=["sample_id", "answer"], revision=TAG)
    assert small["train"]["columns"] == ["sample_id", "answer"] and len(small["train"]["ids"]) == 8
    assert hub.repo(REPO).tags == {TAG: hub.repo(REPO).branches["main"]}
    filtered = {"filters": [["answer", "==", "yes"]], "verification_mode": "no_checks"}
    assert len(client.load(REPO, "fly", **filtered)["train"]["ids"]) == 4
    with pytest.raises(AssertionError, match="NonMatchingSplitsSizesError"):
        client.load(REPO, "fly", filters=[["answer", "==", "no"]])


def test_a_species_is_added_and_replaced_without_touching_the_other(
    hub: HubServer, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    published(client, add_rows(folder, "fly", n_bytes=TWO_SHARDS), "--repo", REPO)
    first = hub.files(REPO)
    assert {train("fly", 0, 2), train("fly", 1, 2), "README.md", "manifest.json"} < set(first)
    lonely = tmp_path / "mice" / TASK
    published(client, add_rows(lonely, "mouse"), "--repo", REPO)
    both = hub.files(REPO)
    assert {path: both[path] for path in first if path.startswith("fly/")}.items() <= first.items()
    manifest = json.loads(hub.content(REPO, "manifest.json"))
    assert manifest["species"].keys() == {"fly", "mouse"}
    card = hub.content(REPO, "README.md").decode()
    # as if both species had been built in one folder
    add_rows(folder, "mouse")
    ours = (folder / "README.md").read_text().replace("connectomebench/merge_action", REPO)
    assert card == ours

    done = client.publish(add_rows(lonely, "fly", config="b", n_rows=6), "--repo", REPO, token=WRITER)
    assert done.status == 2 and "holds fly built from another configuration; add --replace" in done.err
    assert hub.files(REPO) == both
    out = published(client, lonely, "--repo", REPO, "--replace")
    # of train: two shards go, one comes; validation and test had the same rows in two shards, too
    assert "3 added, 3 changed, 6 deleted" in out
    after = hub.files(REPO)
    assert sorted(path for path in after if path.startswith("fly/train")) == [train("fly")]
    assert {p: f for p, f in after.items() if p.startswith("mouse")} == {
        p: f for p, f in both.items() if p.startswith("mouse")
    }
    history = hub.repo(REPO).history("main")
    assert [c.title for c in history] == [
        f"Replace fly (merge_action, format {TAG})",
        f"Add mouse (merge_action, format {TAG})",
        f"Add fly (merge_action, format {TAG})",
        "initial commit",
    ]
    assert hub.repo(REPO).tags[TAG] == history[0].oid
    assert len(client.load(REPO, "fly", streaming=True)["train"]["ids"]) == 6


def test_the_same_again_makes_no_commit(hub: HubServer, client: HubClient, folder: Path) -> None:
    published(client, folder, "--repo", REPO)
    before = list(hub.repo(REPO).commits)
    start = len(hub.requests)
    assert published(client, folder, "--repo", REPO) == f"{REPO}: nothing to change\n"
    assert list(hub.repo(REPO).commits) == before
    # paths-info is a question that is put with POST
    asked = [line for line in hub.requests[start:] if "/paths-info/" not in line]
    assert all(line.startswith(("GET", "HEAD")) for line in asked)
    assert "nothing to change" in published(client, folder, "--repo", REPO, "--dry-run")


def test_a_dry_run_lists_all_and_changes_nothing(hub: HubServer, client: HubClient, folder: Path) -> None:
    published(client, folder, "--repo", REPO)
    before = (hub.files(REPO), dict(hub.repo(REPO).tags), hub.repo(REPO).branches["main"])
    add_rows(folder, "fly", config="b", n_rows=4)
    start = len(hub.requests)
    out = published(client, folder, "--repo", REPO, "--replace", "--dry-run")
    lines = [line.split() for line in out.splitlines()]
    size = (folder / train("fly")).stat().st_size
    assert ["change", train("fly"), f"{size / 1000:.1f}", "kB"] in lines
    assert {line[1] for line in lines if line[0] == "change"} == {
        "README.md",
        "croissant.json",
        "manifest.json",
        train("fly"),
    }
    assert "3 files stay as they are" in out and f"tag {TAG} moves" in out and "dry run: nothing was changed" in out
    assert (hub.files(REPO), dict(hub.repo(REPO).tags), hub.repo(REPO).branches["main"]) == before
    assert all(line.startswith(("GET", "HEAD")) for line in hub.requests[start:])


def test_only_known_files_go_up(hub: HubServer, client: HubClient, folder: Path) -> None:
    for name in (".cache/source/secret.txt", "notes.txt", "fly/notes.txt", "fly/train-1.parquet.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("hf_" + "x" * 30)
    skipped = json.dumps({"sample_id": "0" * 32, "location_nm": [1.0, 2.0, 3.0], "reason": "no mesh"}) + "\n"
    (folder / "fly-skipped.jsonl").write_text(skipped)
    published(client, folder, "--repo", REPO)
    rows = {f"fly/{p}-00000-of-00001.parquet" for p in ("train", "validation", "test")}
    assert set(hub.files(REPO)) == rows | MADE | {".gitattributes", "fly-skipped.jsonl"}
    assert hub.content(REPO, "fly-skipped.jsonl").decode() == skipped
    (folder / "fly-skipped.jsonl").unlink()
    assert "1 deleted" in published(client, folder, "--repo", REPO)


def test_what_people_added_stays(hub: HubServer, client: HubClient, folder: Path) -> None:
    published(client, folder, "--repo", REPO)
    repo = hub.repo(REPO)
    theirs = {"pictures/grid.png": hub.store.put_blob(b"picture"), "fly/notes.md": hub.store.put_blob(b"notes")}
    repo.add("main", "by hand", "", {**hub.files(REPO), **theirs})
    published(client, add_rows(folder, "fly", config="b"), "--repo", REPO, "--replace")
    assert theirs.items() <= hub.files(REPO).items()


def test_a_branch_leaves_main_and_the_tag_alone(hub: HubServer, client: HubClient, folder: Path) -> None:
    published(client, folder, "--repo", REPO)
    repo = hub.repo(REPO)
    main = repo.branches["main"]
    out = published(client, add_rows(folder, "mouse"), "--repo", REPO, "--revision", "next")
    assert "branch next" in out and "tag" not in out
    assert repo.branches["main"] == repo.tags[TAG] == main
    assert set(hub.files(REPO, "next")) - set(hub.files(REPO)) == {
        f"mouse/{p}-00000-of-00001.parquet" for p in ("train", "validation", "test")
    }
    assert client.load(REPO, "mouse", revision="next", streaming=True)["test"]["species"] == ["mouse"]
    assert "nothing to change" in published(client, folder, "--repo", REPO, "--revision", "next")
    done = client.publish(folder, "--repo", REPO, "--revision", TAG, token=WRITER)
    assert done.status == 2 and f"{TAG} is a tag" in done.err


def test_private_repositories(hub: HubServer, client: HubClient, folder: Path) -> None:
    published(client, folder, "--repo", "brains/hidden", "--private")
    assert hub.repo("brains/hidden").private
    published(client, folder, "--repo", "brains/shown")
    assert not hub.repo("brains/shown").private
    done = client.publish(folder, "--repo", "brains/shown", "--private", token=WRITER)
    assert done.status == 2 and "brains/shown is public" in done.err


def test_the_token_goes_nowhere_but_to_the_hub(hub: HubServer, client: HubClient, folder: Path) -> None:
    out = published(client, folder, "--repo", REPO)
    assert WRITER not in out
    sent = b"".join(hub.received) + b"".join(hub.store.content(f) for f in hub.files(REPO).values())
    assert WRITER.encode() not in sent
    # the server refuses a request to its storage that carries a token; see hub_server.put_large
    assert hub.count("PUT /large/") == 3


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_the_server_speaks_of_all_kinds(hub: HubServer, client: HubClient, kind: str) -> None:
    found = client.whole_way(kind, "brains/thing", WRITER)
    assert found["tagged"] == found["first"]
    assert found["fetched"] == {"a/b.txt": b"text".hex(), "c.bin": bytes(99).hex()}
    assert found["main"] == [".gitattributes", "c.bin", "d.txt"]
    assert found["side"] == [".gitattributes", "a", "a/b.txt", "c.bin"]
    assert found["infos"] == [["c.bin", 99]]
    assert found["titles"] == ["second", "first", "initial commit"]
    assert found["refs"] == [["main"], []]
