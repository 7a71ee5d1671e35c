"""The whole build on the embedded neurons: content, resuming, refusing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from connectomebench.build.config import FIRST_TASKS, load_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.row_format import FORMAT_VERSION
from connectomebench.dataset.schema import read_small_columns


def entry(out: Path, task: str) -> dict:
    return read_manifest(out / task)["species"]["fly"]


def fingerprints(out: Path) -> dict[str, str]:
    return {path.parent.name: entry(out, path.parent.name)["fingerprint"] for path in out.glob("*/manifest.json")}


@pytest.mark.parametrize("task", FIRST_TASKS)
def test_both_answers_are_in_every_partition_as_often(built: Path, task: str) -> None:
    for partition in PARTITIONS:
        answers = read_small_columns(built / task / "fly", partition, ["answer"])["answer"].to_pylist()
        assert answers.count("yes") == answers.count("no") > 0
        assert entry(built, task)["counts"][partition] == {a: answers.count(a) for a in set(answers)}


@pytest.mark.parametrize("task", FIRST_TASKS)
def test_simulated_samples_say_so_everywhere(built: Path, task: str) -> None:
    for partition in PARTITIONS:
        assert set(read_small_columns(built / task / "fly", partition, ["origin"])["origin"].to_pylist()) == {
            "simulated"
        }
    assert entry(built, task)["source"]["simulated_errors"] is True
    assert "simulated" in (built / task / "README.md").read_text().lower()


def test_the_truth_is_what_the_columns_say(built: Path) -> None:
    """merge_action: yes is one body, no is two; the other tasks: a fused segment has two bodies."""
    for partition in PARTITIONS:
        rows = read_small_columns(built / "merge_action" / "fly", partition).to_pylist()
        assert all((len(set(r["body_ids"])) == 1) == (r["answer"] == "yes") for r in rows)
        assert all((r["edit_id"] is None) == (r["answer"] == "no") for r in rows)
        rows = read_small_columns(built / "split_action" / "fly", partition).to_pylist()
        assert all(len(set(r["body_ids"])) == 2 for r in rows)


def test_the_manifest_tells_what_was_left_out_and_how_good_candidates_are(built: Path) -> None:
    measured = entry(built, "endpoint_error_identification_with_em")["candidates"]
    assert 0.9 < measured["recall"] <= 1 and 0 < measured["precision"] < 1
    assert sum(entry(built, "merge_action")["dropped"]["labels"].values()) > 0
    assert all(n == 0 for name, n in entry(built, "merge_action")["leaks"].items() if isinstance(n, int))


def test_a_second_build_redoes_nothing(built: Path, small_config: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.rglob("*.parquet")}
    build_datasets(load_config(small_config), built, base=small_config.parent)
    assert {p: p.stat().st_mtime_ns for p in built.rglob("*.parquet")} == before
    assert not list((built / ".cache").glob("drawn/**/*.parquet"))


def test_another_configuration_is_refused_and_nothing_changes(built: Path, small_config: Path) -> None:
    before = fingerprints(built)
    other = load_config(small_config, {"controls.seed": 1})
    with pytest.raises(ConnectomeBenchError, match="another configuration"):
        build_datasets(other, built, base=small_config.parent)
    assert fingerprints(built) == before


def test_a_build_killed_in_the_middle_ends_up_the_same(built_short: Path, short_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "connectomebench", "build", "--config", str(short_config), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob(".cache/drawn/**/*.parquet"))) < 5:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    drawn = {p: p.stat().st_mtime_ns for p in out.glob(".cache/drawn/**/[!.]*.parquet")}
    assert not list(out.glob("*/manifest.json"))

    again = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("*/manifest.json")) and again.poll() is None:
        kept = {p: p.stat().st_mtime_ns for p in drawn if p.exists()}
        assert kept == drawn, "a finished chunk was drawn again"
        time.sleep(0.2)
    assert again.wait() == 0, again.stderr.read() if again.stderr else ""
    assert fingerprints(out) == fingerprints(built_short) != {}


def test_a_task_with_a_lost_shard_is_made_again_alone_and_the_same(
    built: Path, small_config: Path, tmp_path: Path
) -> None:
    """The partition is that of all tasks, also where one alone is written."""
    out = tmp_path / "copy"
    shutil.copytree(built, out)
    next((out / "merge_action" / "fly").glob("test-*.parquet")).unlink()
    untouched = {p: p.stat().st_mtime_ns for p in (out / "split_action").rglob("*")}
    folders = build_datasets(load_config(small_config), out, base=small_config.parent, tasks=["merge_action"])
    assert list(folders) == ["merge_action"]
    assert fingerprints(out) == fingerprints(built) != {}
    assert pq.read_metadata(next((out / "merge_action" / "fly").glob("test-*.parquet"))).num_rows > 0
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched


def test_the_manifest_is_plain_json(built: Path) -> None:
    text = (built / "merge_action" / "manifest.json").read_text()
    assert json.loads(text)["format_version"] == FORMAT_VERSION
    assert "/tmp" not in text
