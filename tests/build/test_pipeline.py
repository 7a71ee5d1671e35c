"""The whole build on the embedded neurons: content, resuming, refusing."""

from __future__ import annotations

import json
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from forked import run_forked
from killed_build import build_until_killed

from connectomebench.build import balance, render_worker
from connectomebench.build.config import DEFAULT_TASKS, load_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Site
from connectomebench.dataset.leakage import id_leaks
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.row_format import FORMAT_VERSION
from connectomebench.dataset.schema import read_small_columns
from connectomebench.sites.matched_controls import match_rendered


def entry(out: Path, task: str) -> dict:
    return read_manifest(out / task)["species"]["fly"]


def fingerprints(out: Path) -> dict[str, str]:
    return {path.parent.name: entry(out, path.parent.name)["fingerprint"] for path in out.glob("*/manifest.json")}


@pytest.mark.parametrize("task", DEFAULT_TASKS)
def test_both_answers_are_in_every_partition_as_often(built: Path, task: str) -> None:
    for partition in PARTITIONS:
        answers = read_small_columns(built / task / "fly", partition, ["answer"])["answer"].to_pylist()
        assert answers.count("yes") == answers.count("no") > 0
        assert entry(built, task)["counts"][partition] == {a: answers.count(a) for a in set(answers)}


@pytest.mark.parametrize("task", DEFAULT_TASKS)
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
    written: dict[str, Path] = {}
    folders = build_datasets(load_config(small_config), built, base=small_config.parent, written=written.__setitem__)
    assert written == folders  # what is there already is handed on, too
    assert {p: p.stat().st_mtime_ns for p in built.rglob("*.parquet")} == before
    assert not list((built / ".cache").glob("drawn/**/*.parquet"))


def test_another_configuration_is_refused_and_nothing_changes(built: Path, small_config: Path) -> None:
    before = fingerprints(built)
    other = load_config(small_config, {"controls.seed": 1})
    with pytest.raises(ConnectomeBenchError, match="another configuration"):
        build_datasets(other, built, base=small_config.parent)
    assert fingerprints(built) == before


def test_a_build_killed_in_the_middle_ends_up_the_same(
    built_short: Path, short_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    log = tmp_path / "killed.log"
    ended = run_forked(partial(build_until_killed, short_config, out, "draw"), log)
    assert ended == -signal.SIGKILL, log.read_text()[-2000:]
    kept = sum(pq.read_metadata(p).num_rows for p in out.glob(".cache/drawn/**/[!.]*.parquet"))
    assert kept > 0 and not list(out.glob("*/manifest.json"))

    rendered = count_rendered(monkeypatch)
    build_datasets(load_config(short_config), out, short_config.parent)
    # every site was rendered once, in one of the two processes
    assert len(rendered) + kept == sum(sites_of(entry(out, task)) for task in fingerprints(out))
    assert fingerprints(out) == fingerprints(built_short) != {}


def sites_of(made: dict[str, Any]) -> int:
    """Return how many sites were drawn for a dataset, by its manifest."""
    written = sum(sum(of.values()) for of in made["counts"].values())
    return written + sum(sum(made["dropped"][step].values()) for step in ("drawing and matching", "partition"))


def count_rendered(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    """Note every site that is rendered from now on."""
    rendered: list[Site] = []
    render = render_worker.render_site_or_reason

    def counted(site: Site, *arguments: Any) -> Any:
        rendered.append(site)
        return render(site, *arguments)

    monkeypatch.setattr(render_worker, "render_site_or_reason", counted)
    return rendered


def test_a_task_with_a_lost_shard_is_made_again_alone_and_the_same(
    built_short: Path, short_config: Path, tmp_path: Path
) -> None:
    """The partition is that of all tasks, also where one alone is written."""
    out = tmp_path / "copy"
    shutil.copytree(built_short, out)
    next((out / "merge_action" / "fly").glob("test-*.parquet")).unlink()
    untouched = {p: p.stat().st_mtime_ns for p in (out / "endpoint_error_identification_with_em").rglob("*")}
    whole: list[tuple[str, Path, str]] = []

    def note(task: str, folder: Path) -> None:
        whole.append((task, folder, entry(out, task)["fingerprint"]))

    folders = build_datasets(
        load_config(short_config), out, base=short_config.parent, tasks=["merge_action"], written=note
    )
    assert whole == [("merge_action", out / "merge_action", entry(out, "merge_action")["fingerprint"])]
    assert list(folders) == ["merge_action"]
    assert fingerprints(out) == fingerprints(built_short) != {}
    assert pq.read_metadata(next((out / "merge_action" / "fly").glob("test-*.parquet"))).num_rows > 0
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched


def test_a_task_that_is_added_leaves_the_others_as_they_are(short_config: Path, tmp_path: Path) -> None:
    """It keeps clear of their rows, and ends up the same where its own build has to be repeated."""
    out = tmp_path / "out"
    first, second = "merge_action", "endpoint_error_identification"
    build_datasets(load_config(short_config, {"tasks": [first]}), out, short_config.parent)
    before = {p: p.stat().st_mtime_ns for p in (out / first).rglob("*")}
    alone = load_config(short_config, {"tasks": [second]})  # the rows of the first are there, though it is not named
    assert list(build_datasets(alone, out, short_config.parent)) == [second]
    both = load_config(short_config, {"tasks": [second, first]})
    assert {*build_datasets(both, out, short_config.parent)} == {first, second}
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (entry(out, second)["partition"]["tasks"], entry(out, second)["partition"]["after"]) == (
        [second],
        [first],
    )
    found = id_leaks({task: out / task / "fly" for task in (first, second)}, "segment")
    assert not any(found.values())
    complete = fingerprints(out)
    for task in (second, first):
        next((out / task / "fly").glob("train-*.parquet")).unlink()
        build_datasets(both, out, short_config.parent)
        assert fingerprints(out) == complete


def test_a_corrected_configuration_renders_only_what_changed(
    short_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that leaves one task out and one that is stopped keep what they rendered; other tasks are written."""
    out = tmp_path / "out"
    rendered = count_rendered(monkeypatch)
    match = match_rendered
    monkeypatch.setattr(balance, "match_rendered", lambda *a: ([], 0))
    config = load_config(short_config, {"controls.max_cases": 8})
    with pytest.raises(ConnectomeBenchError, match="no pair of a case and a comparable control"):
        build_datasets(config, out, short_config.parent)
    once = len(rendered)
    with pytest.raises(ConnectomeBenchError, match="no pair of a case"):
        build_datasets(config, out, short_config.parent)
    assert len(rendered) == once > 20, "what is left out is looked for again"

    calls: list[int] = []
    monkeypatch.setattr(
        balance, "match_rendered", lambda *a: calls.append(1) or (([], 0) if len(calls) == 1 else match(*a))
    )
    corrected = load_config(short_config, {"controls.max_cases": 8, "controls.caliper": 5.0, "partition.seed": 1})
    folders = build_datasets(corrected, out, short_config.parent)
    assert list(folders) == ["endpoint_error_identification_with_em"]
    assert len(rendered) == once
    with pytest.raises(ConnectomeBenchError, match="--overwrite"):
        build_datasets(config, out, short_config.parent)
    wider = load_config(short_config, {"controls.max_cases": 8, "controls.caliper": 4.0})
    folders = build_datasets(wider, out, short_config.parent, overwrite=True)
    assert len(folders) == 2 and len(rendered) == once
    assert not list((out / ".cache").glob("drawn/**/*.parquet"))


def test_the_manifest_is_plain_json(built: Path) -> None:
    text = (built / "merge_action" / "manifest.json").read_text()
    assert json.loads(text)["format_version"] == FORMAT_VERSION
    assert "/tmp" not in text
