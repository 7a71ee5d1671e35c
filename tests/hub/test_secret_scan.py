from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_rows import write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.hub.dataset_folder import read_dataset
from connectomebench.hub.secret_scan import check_private, check_rows_private

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
OWN = "c" * 32
OURS = {OWN, "f" * 32}


@pytest.mark.parametrize(
    "text",
    [
        'path: "/home/anna/x.npz"',
        "read /Users/anna/x",
        "file:///home/anna",
        '"C:\\\\Users\\\\anna"',
        "/root/data",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "https://anna:secret@example.org/x",
        "-----BEGIN RSA PRIVATE KEY-----",
        "sk-proj-abc123DEF456ghi789_JKL-012",
        "sk-ant-api03-0123456789abcdefghij",
        '"OPENAI_API_KEY": "sk-1234567890abcdef1234567890abcdef"',
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "github_pat_11ABCDEFG0123456789_abcdef",
        "AIzaSyA-0123456789abcdefghijklmnopqrstu",
        "_hf_abcdefghijklmnopqrstuvwxyz",
        "token=0123456789abcdef0123456789ABCDEF",
    ],
)
def test_private_things_are_found_and_never_told(text: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=r"README\.md holds") as caught:
        check_private({"README.md": f"some {text} words"}, OURS)
    assert text not in str(caught.value) and "anna" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/page",
        "the root of a segment at segmentation/api/root/7",
        "a home",
        f"fingerprint `{OWN}`",
        "sha256 " + "ab" * 32,
        "a ratio of 3:4@5",
        "hf_hub_download",
        "a task-0123456789-of-many-in-a-row",
        "sk-learn-compatible-estimators",
        "AKIAs are birds",
    ],
)
def test_what_is_public_passes(text: str) -> None:
    check_private({"README.md": text}, OURS)


@given(HEX, st.sampled_from(["", " ", '"', "=", "-", "_", "/"]), st.sampled_from(["", " ", '"', "\n", ",", "_"]))
def test_every_token_of_cave_is_found(token: str, before: str, after: str) -> None:
    with pytest.raises(ConnectomeBenchError, match="CAVE token") as caught:
        check_private({"manifest.json": f"{before}{token}{after}"}, [])
    assert token not in str(caught.value)


@given(HEX, HEX.filter(lambda name: name != OWN))
def test_sample_ids_pass_where_they_belong(name: str, other: str) -> None:
    line = json.dumps({"sample_id": name, "reason": "no mesh"})
    check_private({"fly-skipped.jsonl": line}, OURS)
    if name not in (OWN, "f" * 32):
        with pytest.raises(ConnectomeBenchError):
            check_private({"manifest.json": line}, OURS)
    if other not in (name, "f" * 32):
        with pytest.raises(ConnectomeBenchError):
            check_private({"fly-skipped.jsonl": json.dumps({"sample_id": name, "reason": other})}, OURS)


def test_user_names_are_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "mouser")
    monkeypatch.setenv("HOME", "/srv/people/annabel")
    for name in ("mouser", "annabel"):
        with pytest.raises(ConnectomeBenchError, match="user name"):
            check_private({"README.md": f"made by {name}."}, OURS)
    check_private({"README.md": "mousers and annabella, mouser_2"}, OURS)
    monkeypatch.setenv("LOGNAME", "root")
    check_private({"README.md": "the root of a segment"}, OURS)


def test_the_token_in_use_is_found_whatever_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "sesame-open")
    with pytest.raises(ConnectomeBenchError, match="your Hugging Face token"):
        check_private({"README.md": "xsesame-openx"}, OURS)


SECRET = "correct-horse-battery"


@pytest.mark.parametrize("name", ["MY_API_KEY", "cave_token", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY"])
def test_values_of_secret_variables_are_found_and_never_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("SSH_KEY_PATH", "/etc/ssl/certs")
    monkeypatch.setenv("A_KEY", "short")
    check_private({"README.md": "see /etc/ssl/certs in short"}, OURS)
    with pytest.raises(ConnectomeBenchError, match=f"the environment variable {name}") as caught:
        check_private({"README.md": f"asked with {SECRET}."}, OURS)
    assert SECRET not in str(caught.value)
    monkeypatch.delenv(name)
    monkeypatch.setenv("CITY", SECRET)
    check_private({"README.md": f"asked with {SECRET}."}, OURS)


def test_keys_in_rows_are_found_and_ids_pass(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    shard = next((folder / "fly").glob("train-*"))
    files = {"fly/train.parquet": shard, "fly-samples.png": folder / "none.png"}
    check_rows_private(files)
    table = pq.read_table(shard)
    replies = [[{"model": "m", "reply": "my key is AKIAIOSFODNN7EXAMPLE", "answer": "yes"}]] * len(table)
    pq.write_table(table.append_column("teacher_replies", pa.array(replies)), shard)
    with pytest.raises(ConnectomeBenchError, match=r"fly/train\.parquet holds a key of Amazon") as caught:
        check_rows_private(files)
    assert "AKIA" not in str(caught.value)
    at = table.schema.get_field_index("question")
    questions = pa.array(["ghp_0123456789abcdefghijABCDEFGHIJ012345"] * len(table))
    pq.write_table(table.set_column(at, table.schema.field(at), questions), shard)
    with pytest.raises(ConnectomeBenchError, match="a GitHub token"):
        check_rows_private(files)


@pytest.mark.parametrize("what", ["shard", "folder", "picture"])
def test_links_of_a_dataset_are_refused(what: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    read_dataset(folder)
    if what == "picture":
        (tmp_path / "private.png").write_bytes(b"private")
        (folder / "fly-samples.png").symlink_to(tmp_path / "private.png")
    else:
        path = folder / "fly" if what == "folder" else next((folder / "fly").glob("test-*"))
        elsewhere = path.rename(tmp_path / path.name)
        path.symlink_to(elsewhere)
    with pytest.raises(ConnectomeBenchError, match="is a link"):
        read_dataset(folder)
