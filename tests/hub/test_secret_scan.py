from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.hub.secret_scan import check_private

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
