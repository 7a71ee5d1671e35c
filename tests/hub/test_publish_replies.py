"""A dataset with a teacher's replies is published, and comes back, as any other."""

from __future__ import annotations

import json
from pathlib import Path

from hub_client import HubClient
from hub_server import WRITER, HubServer
from published_rows import add_rows
from small_replies import write_replies
from stored_rows import write_dataset

from connectomebench.finetuning.teacher import add_teacher

REPO = "brains/merge_action"


def test_replies_are_published_and_other_species_can_do_without(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    base = write_dataset(tmp_path / "base")
    taught = tmp_path / "taught" / "merge_action"
    # a revision of 32 hex digits looks like a token
    add_teacher(base, write_replies(base, tmp_path / "results", {"train": [5] * 8}), "teacher", taught)
    done = client.publish(taught, "--repo", REPO, token=WRITER)
    assert done.status == 0, done.err
    assert "teacher_replies" in client.load(REPO, "fly")["train"]["columns"]

    done = client.publish(add_rows(tmp_path / "mice" / "merge_action", "mouse"), "--repo", REPO, token=WRITER)
    assert done.status == 0, done.err
    flies, mice = client.load(REPO, "fly"), client.load(REPO, "mouse")
    assert set(flies["train"]["columns"]) - set(mice["train"]["columns"]) == {"teacher_replies"}
    entries = json.loads(hub.content(REPO, "manifest.json"))["species"]
    assert entries["fly"]["teacher_replies"]["teachers"][0]["model"] == "teacher"
    assert "teacher_replies" not in entries["mouse"]
