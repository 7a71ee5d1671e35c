"""The public datasets from a Hub: a local server that speaks its protocol, and the real clients in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

from hub_server import hub_server
from public_files import REPO

CODE = """
import json, sys
from itertools import islice
from pathlib import Path
from connectomebench.dataset.public import load_public, stream_public
name, other, cache = sys.argv[1:]
first = list(islice(stream_public(name, "merge_action", "mouse", "train", "old"), 2))
loaded = load_public(name, "merge_error_identification", "mouse", "val", "old", cache=Path(cache))
classes = list(stream_public(other, "segment_classification", "MICrONS", "test"))
try:
    told = next(stream_public(name, "merge_action", "mouse", "train", "nowhere"))
except Exception as error:
    told = [type(error).__name__, str(error)]
data = loaded.data
rows = sorted([r["sample_id"], r["source"], r["source_version"]] for r in loaded.dataset)
print(json.dumps({"first": [r["sample_id"] for r in first], "rows": rows, "repo": data.repo, "revision": data.revision,
    "source": data.source, "classes": [r["answer"] for r in classes], "told": told}))
"""


def test_both_datasets_come_from_the_hub_at_a_pinned_commit(
    first_release: Path, first_benchmark: Path, tmp_path: Path
) -> None:
    from connectomebench.dataset.public import stream_public

    other, old = "jeffbbrown2/ConnectomeBench", ""
    with hub_server(tmp_path / "hub") as hub:
        for name, folder in ((REPO, first_release), (other, first_benchmark)):
            repo = hub.store.create("dataset", name, private=False)
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}
            kept = {path: hub.store.put_blob(content) for path, content in files.items()}
            commit = repo.add("main", "files", "", kept)
            if name == REPO:
                old = repo.tags["old"] = commit.oid
                repo.add("main", "all gone", "", {})
        left_out = ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE")
        environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "USE_TORCH": "0",  # datasets imports it where it is there
        }
        words = [sys.executable, "-c", CODE, REPO.lower(), other, str(tmp_path / "cache")]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert hub.unknown == []
        fetched = {
            line.split("/resolve/")[1].split("/", 1)[1].split("?")[0] for line in hub.requests if "/resolve/" in line
        }
    found = json.loads(done.stdout.splitlines()[-1])
    local = stream_public(str(first_release), "merge_action", "mouse", "train")
    assert found["first"] == [r["sample_id"] for r in islice(local, 2)]
    assert (
        found["repo"] == REPO
        and found["source"]["version"] == old
        and found["revision"] == old
        and found["source"]["name"] == REPO
    )
    assert [row[1:] for row in found["rows"]] == [[REPO, old]] * 4
    assert found["classes"] == ["a", "g", "f"]
    assert found["told"][0] == "ConnectomeBenchError" and REPO in found["told"][1]
    # neither the second shard nor the files beside the shards were touched
    assert not [path for path in fetched if "00001" in path or path.startswith(("metadata", "demo", "test/"))]
