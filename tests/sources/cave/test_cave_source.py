"""Whole builds from the recorded server: right labels, the same data under faults, after a stop and after a kill."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cave_ground import CHUNK, OFFSET, VOXEL_NM, Ground
from forked import run_forked
from killed_build import build_until_killed
from replay_server import Faults, ReplayServer

from connectomebench.build.config import load_config, parse_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Part, Site
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.schema import read_small_columns
from connectomebench.sites.candidates import CandidateConfig, find_candidates, nearest_correction
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cave_source import CaveSource

TASK = "merge_action"


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for p in PARTITIONS for row in read_small_columns(out / TASK / "fly", p).to_pylist()]


def entry(out: Path) -> dict[str, Any]:
    return read_manifest(out / TASK)["species"]["fly"]


def skipped(out: Path) -> list[dict[str, Any]]:
    path = out / TASK / "fly-skipped.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def failing(server: ReplayServer, faults: Faults) -> Iterator[None]:
    """Let the server fail as told; at its own address, since that is part of what a build is."""
    before, server.faults = server.faults, faults
    try:
        yield
    finally:
        server.faults = before


@contextmanager
def without_waits() -> Iterator[None]:
    """cloud-files tries again without the waits of half a minute in all."""
    from cloudfiles.interfaces import HttpInterface
    from tenacity import wait_none

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpInterface.get_file.retry, "wait", wait_none())  # pyright: ignore
        yield


@pytest.fixture(scope="module")
def lives(ground: Ground) -> dict[int, np.ndarray]:
    """Root that ever was -> rows of its supervoxels in the tables; a root never changes."""
    times = ground.truth.table["operation_times"]
    found: dict[int, np.ndarray] = {}
    for when in (float(times[0]) - 1, *times.tolist()):
        roots = ground.truth.roots_at(when + 5e-4)
        for root in np.setdiff1d(roots, np.asarray(list(found), np.uint64)).tolist():
            found[root] = np.flatnonzero(roots == np.uint64(root))
    return found


@pytest.fixture(scope="module")
def unreadable(archive: Archive, cave_built: Path) -> tuple[str, set[int]]:
    """A chunk of the labels that two or three of the edits need, and these edits."""
    complete = set(entry(cave_built)["config"]["source"]["cave"]["roots"]["ids"])
    half = archive.spec.config.survey.cutout_nm / 2
    needing: dict[tuple[int, int, int], set[int]] = {}
    for judged in archive.history.judged:
        if judged.operation.operation_id not in history_of(archive, complete):
            continue
        place = np.asarray(judged.operation.place_nm)
        low, high = (np.asarray([place - half, place + half]) / VOXEL_NM - OFFSET).clip(0, 249) // CHUNK
        spans = [range(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
        for chunk in ((x, y, z) for x in spans[0] for y in spans[1] for z in spans[2]):
            needing.setdefault(chunk, set()).add(judged.operation.operation_id)
    chunk, edits = min(needing.items(), key=lambda item: (abs(len(item[1]) - 3), item[0]))
    name = "_".join(f"{o + c * CHUNK}-{min(o + (c + 1) * CHUNK, o + 250)}" for o, c in zip(OFFSET, chunk, strict=True))
    return f"/data/ws/10_10_10/{name}", edits


def history_of(archive: Archive, roots: set[int]) -> set[int]:
    """Operations in the logs of some roots, as the server tells them."""
    logs, _ = archive.spec.open().connection.graph.change_logs(roots)
    return {operation for log in logs.values() for operation in log["operation_id"]}


def test_every_label_is_right_by_the_tables(
    cave_built: Path, ground: Ground, lives: dict[int, np.ndarray], archive: Archive
) -> None:
    """Yes where both segments, as they were before the edit, are of one body around the place in the end."""
    edits = {j.operation.edit_id: j.operation for j in archive.history.judged}
    rows = rows_of(cave_built)
    assert len(rows) >= 20
    for row in rows:
        here = ground.rows[ground.crop(row["location_nm"], row["extent_nm"])]
        bodies = []
        for segment, body in zip(row["segment_ids"], row["body_ids"], strict=True):
            inside = here[np.isin(here, lives[segment])]
            ids, voxels = np.unique(ground.final[inside], return_counts=True)
            assert int(ids[np.argmax(voxels)]) == body and voxels.max() > 0.8 * voxels.sum()
            bodies.append(body)
        assert row["answer"] == ("yes" if len(set(bodies)) == 1 else "no")
        assert row["origin"] == ("edit" if row["answer"] == "yes" else "control")
        if row["edit_id"] is None:
            assert row["answer"] == "no" and row["edit_time"] is None
            continue
        edit = edits[row["edit_id"]]
        assert row["answer"] == "yes" and set(row["segment_ids"]) == set(edit.roots_before) and edit.kind == "merge"
        assert np.linalg.norm(np.subtract(row["location_nm"], edit.place_nm)) <= 400
        assert row["edit_time"] == edit.time.replace(tzinfo=None)


def test_answers_are_balanced_and_samples_are_unique(cave_built: Path) -> None:
    rows = rows_of(cave_built)
    assert len({row["sample_id"] for row in rows}) == len(rows)
    for partition in PARTITIONS:
        answers = read_small_columns(cave_built / TASK / "fly", partition, ["answer"])["answer"].to_pylist()
        assert answers.count("yes") == answers.count("no") > 0
    assert not skipped(cave_built)


def test_the_pair_of_an_undone_merge_is_never_a_yes(cave_built: Path, archive: Archive) -> None:
    undone = next(j for j in archive.history.judged if j.operation.operation_id == 11)
    assert undone.outcome == "inverted"
    assert entry(cave_built)["corrections"]["merge operations, taken back"] == 1
    rows = rows_of(cave_built)
    assert "operation-11" not in {row["edit_id"] for row in rows}
    pair = set(undone.operation.roots_before)
    assert all(row["answer"] == "no" for row in rows if set(row["segment_ids"]) == pair)


def test_an_undone_merge_is_the_first_control(cave_built: Path, archive: Archive) -> None:
    undone = next(j for j in archive.history.judged if j.operation.operation_id == 11)
    told = entry(cave_built)
    assert told["hard_negatives"] == {"labelled": 1, "written": 1}
    rows = [row for row in rows_of(cave_built) if set(row["segment_ids"]) == set(undone.operation.roots_before)]
    assert len(rows) == 1 and rows[0]["answer"] == "no" and rows[0]["edit_id"] is None
    assert np.linalg.norm(np.subtract(rows[0]["location_nm"], undone.operation.place_nm)) <= 400


def test_manifest_and_card_tell_source_version_counts_and_licence(cave_built: Path) -> None:
    told = entry(cave_built)
    rows = rows_of(cave_built)
    source = told["source"]
    assert source["name"] == "fib_medulla_ts2" and source["version"].startswith("2026-11-23T02:10:28+00:00+")
    assert {(row["source"], row["source_version"]) for row in rows} == {(source["name"], source["version"])}
    assert source["license"] == "cc-by-4.0" and "FIB-25" in source["citation"]
    assert source["simulated_errors"] is False and source["simulated_em"] is False
    assert source["bounds_nm"] == [[10240, 20480, 26000], [12740, 22980, 28500]]
    counts = told["corrections"]
    assert counts["proofread roots"] == 12 and counts["merges"] > 10
    assert counts["operations"] == sum(n for name, n in counts.items() if " operations, " in name)
    assert "places that cannot be read" not in counts
    assert sum(n for p in told["counts"].values() for n in p.values()) == len(rows)
    card = (cave_built / TASK / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "cc-by-4.0"
    assert "FIB-25" in card and "simulated" not in header["tags"] and "are simulated" not in card
    text = (cave_built / TASK / "manifest.json").read_text()
    assert str(cave_built) not in text + card


@pytest.fixture(scope="module")
def stopped(
    cave_config: Path,
    site_server: ReplayServer,
    unreadable: tuple[str, set[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """Folder of a build that too many places stopped, and what it said."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    config = load_config(cave_config, {"source.cave.max_failed_share": 0.01, "source.cave.requests.attempts": 2})
    with (
        without_waits(),
        failing(site_server, Faults(force={unreadable[0]: 500})),
        pytest.raises(ConnectomeBenchError) as error,
    ):
        build_datasets(config, out, base=cave_config.parent)
    return out, str(error.value)


def test_too_many_places_stop_the_build(stopped: tuple[Path, str], unreadable: tuple[str, set[int]]) -> None:
    out, told = stopped
    assert told.startswith(f"{len(unreadable[1])} of ") and "the server answered 500" in told and "\n" not in told
    assert "max_failed_share" in told and "run again" in told
    assert not (out / TASK / "manifest.json").exists()


def surveys_of(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob(".cache/source/surveys/[!.]*.npz")}


def test_the_next_run_ends_a_stopped_build(
    cave_built: Path, cave_config: Path, stopped: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped[0], out)
    kept = surveys_of(out)
    assert kept
    # how many may fail, and how patiently they are read, makes no other configuration
    build_datasets(load_config(cave_config, {"source.cave.max_failed_share": 0.5}), out, base=cave_config.parent)
    assert entry(out)["fingerprint"] == entry(cave_built)["fingerprint"]
    # groups without a failure were not surveyed again
    assert kept.items() < surveys_of(out).items()
    assert not skipped(out)


def test_places_that_cannot_be_read_are_listed_and_the_rest_is_built(
    cave_built: Path,
    cave_config: Path,
    site_server: ReplayServer,
    unreadable: tuple[str, set[int]],
    stopped: tuple[Path, str],
    tmp_path: Path,
) -> None:
    """Where so many may fail, the build that was stopped goes on without them."""
    (path, edits), out = unreadable, tmp_path / "out"
    shutil.copytree(stopped[0], out)
    config = load_config(cave_config, {"source.cave.max_failed_share": 0.5, "source.cave.requests.attempts": 2})
    with without_waits(), failing(site_server, Faults(force={path: 500})):
        build_datasets(config, out, base=cave_config.parent)
    listed = [line for line in skipped(out) if "edit_id" in line]
    assert {line["edit_id"] for line in listed} == {f"operation-{number}" for number in edits}
    assert all("the server answered 500" in line["reason"] for line in listed)
    assert entry(out)["corrections"]["places that cannot be read"] == len(edits)
    rows = rows_of(out)
    assert rows and not {row["edit_id"] for row in rows} & {line["edit_id"] for line in listed}
    whole = {row["sample_id"]: row["answer"] for row in rows_of(cave_built)}
    common = [row for row in rows if row["sample_id"] in whole]
    assert len(common) > len(rows) / 2 and all(row["answer"] == whole[row["sample_id"]] for row in common)


def test_a_refused_token_stops_the_build_at_once_and_is_not_told(
    cave_config: Path, site_server: ReplayServer, tmp_path: Path
) -> None:
    asked = site_server.requests
    faults = Faults(force={"tabular_change_log_many": 401})
    with (
        failing(site_server, faults),
        pytest.raises(ConnectomeBenchError, match=r"answered 401.*setup_token") as stopped,
    ):
        build_datasets(load_config(cave_config), tmp_path, base=cave_config.parent)
    assert "\n" not in str(stopped.value)
    assert site_server.requests - asked < 20


def test_a_build_killed_twice_on_a_server_with_faults_ends_up_the_same(
    cave_built: Path, cave_config: Path, site_server: ReplayServer, tmp_path: Path
) -> None:
    """Killed while places are surveyed and while pictures are drawn; one answer of ten is a fault."""
    out = tmp_path / "out"
    before = site_server.faulted.total()
    with without_waits(), failing(site_server, Faults(rate=0.1, seed=3)):
        for step, pattern in (
            ("surveys", ".cache/source/surveys/[!.]*.npz"),
            ("draw", ".cache/drawn/**/[!.]*.parquet"),
        ):
            log = tmp_path / f"{step}.log"
            # nothing here has opened this folder, so the forked process has connections of its own
            ended = run_forked(partial(build_until_killed, cave_config, out, step), log)
            assert ended == -signal.SIGKILL, log.read_text()[-2000:]
            assert list(out.glob(pattern)) and not list(out.glob("*/manifest.json"))
        done = surveys_of(out)
        build_datasets(load_config(cave_config), out, base=cave_config.parent)
    assert site_server.faulted.total() - before >= 5
    assert entry(out)["fingerprint"] == entry(cave_built)["fingerprint"]
    assert surveys_of(out) == done
    assert not skipped(out)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param("source.morphology", {}, "exactly one of `cave`, `volumes` and `morphology`", id="two sources"),
        pytest.param("source.cave.roots.table", "proofread", "roots has table and ids; give one", id="ids and table"),
        pytest.param("source.cave.survey.cutout_nm", 899, "at least twice the largest view", id="cutout and views"),
        pytest.param("proposals.reach_nm", 901, "at least proposals.reach_nm", id="cutout and cuts"),
        pytest.param("source.cave.meshes", "level3", "meshes must be level2 or voxels, not 'level3'", id="meshes"),
        pytest.param("source.cave.max_failed_share", 1.5, "must be between 0 and 1", id="share"),
        pytest.param("source.cave.requests.attempts", 0, "attempts must be at least 1, not 0", id="attempts"),
        pytest.param("source.cave.survey.neighbours", 0, "neighbours must be above 0, not 0", id="neighbours"),
        pytest.param("source.cave.cache_gb", 0, "cache_gb must be above 0", id="cache"),
        pytest.param("source.cave.rooots", {}, "rooots", id="an unknown key"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_asked(
    path: str, value: object, message: str, cave_config: Path, site_server: ReplayServer
) -> None:
    asked = site_server.requests
    with pytest.raises(ConnectomeBenchError, match=message) as refused:
        load_config(cave_config, {path: value})
    assert "\n" not in str(refused.value) and site_server.requests == asked
    parse_config(yaml.safe_load(cave_config.read_text()))  # as it is, it is accepted


def test_places_at_a_border_are_those_far_out_in_their_own_cube_or_where_the_data_end(cave_source: CaveSource) -> None:
    index, rules, bounds = cave_source.archive.survey_index, cave_source.config.survey, cave_source.info.bounds_nm
    rng = np.random.default_rng(1)
    known = np.unique(np.concatenate([s.segments for s in index.light()]))
    segments = np.append(rng.choice(known, 500), np.uint64(123))
    points = rng.uniform((10200, 20440, 25960), (12780, 23020, 28540), (501, 3))
    found = cave_source.at_border(segments, points)
    own = [index.of_segment(int(s)) for s in segments]
    centers = np.array([np.full(3, np.inf) if s is None else s.center_nm for s in own])
    far_out = np.abs(points - centers).max(axis=1) > rules.inner_nm / 2
    shrunk = [np.asarray(bounds.lower_nm) + rules.border_nm, np.asarray(bounds.upper_nm) - rules.border_nm]
    at_end = ~((points > shrunk[0]) & (points < shrunk[1])).all(axis=1)
    np.testing.assert_array_equal(found, far_out | at_end)
    assert 0 < found.sum() < len(found) and found[-1]
    assert cave_source.at_border(np.zeros(0, np.uint64), np.zeros((0, 3))).shape == (0,)


def test_ends_at_their_own_edit_are_kept_however_near_other_edits_are(cave_source: CaveSource) -> None:
    """All cubes of this graph overlap, as those of a whole brain do: an end is judged by its own cube alone."""
    corrections, index = cave_source.corrections(), cave_source.archive.survey_index
    segments = sorted({s for m in corrections.merges for s in m.segments})
    rules = CandidateConfig(radius_nm=200.0)
    ends = find_candidates(cave_source.skeletons(segments), rules).of_kind("end")
    _, which = nearest_correction(ends, corrections, "end")
    # interfaces of this graph reach beyond the inner half of its small cubes: those at the place of the edit count
    places = np.array([corrections.merges[i].location_nm for i in which])
    true = ends.take(np.linalg.norm(ends.points_nm - places, axis=1) <= 200.0)
    bounds, border = cave_source.info.bounds_nm, cave_source.config.survey.border_nm
    to_end = np.minimum(true.points_nm - bounds.lower_nm, np.asarray(bounds.upper_nm) - true.points_nm).min(axis=1)
    inside = true.take(to_end > border)
    # faces of other cubes pass near most of them
    apart = np.abs(inside.points_nm[:, None] - index.centers_nm[None]).max(axis=2)
    half = cave_source.config.survey.cutout_nm / 2
    assert (np.abs(apart - half) <= border).any(axis=1).mean() > 0.5
    assert len(inside.segments) > 20
    assert cave_source.at_border(inside.segments, inside.points_nm).mean() <= 0.1


def test_surroundings_are_those_of_the_tables(cave_source: CaveSource, ground: Ground, archive: Archive) -> None:
    """Counted again in the volume: voxels of the segment's body outside it, of other bodies inside it."""
    corrections = archive.corrections
    known = sorted(corrections.bodies_of())
    rows = [(s, c) for c in (*corrections.merges, *corrections.splits) for s in c.segments if s in known][::4]
    points = np.array([c.location_nm for _, c in rows])
    segments = np.array([s for s, _ in rows], np.uint64)
    found = cave_source.surroundings(segments, points, 150.0)
    before = {j.operation.edit_id: j.operation.before for j in archive.history.judged}
    half = 160.0
    for i, (segment, correction) in enumerate(rows):
        box = ground.crop(points[i], 2 * half)
        here = ground.rows[box]
        offsets = (np.arange(s.start, s.stop) + o + 0.5 for s, o in zip(box, OFFSET, strict=True))
        x, y, z = ((axis * VOXEL_NM - c) ** 2 for axis, c in zip(offsets, points[i], strict=True))
        near = x[:, None, None] + y[None, :, None] + z[None, None, :] <= 150.0**2
        own = (ground.segments(before[correction.edit_id]) == np.uint64(segment))[here]
        bodies = np.asarray(corrections.bodies_of()[segment], np.uint64)
        outside = int((np.isin(ground.final, bodies)[here] & ~own & near).sum())
        held = np.unique(ground.final[here[own & near]], return_counts=True)[1]
        # far more than is asked for in one part, or nothing at all
        if outside == 0 or outside > 1000:
            assert found.goes_on[i] == (outside > 1000)
        if len(held) < 2 or np.sort(held)[-2] > 1000:
            assert found.second_body[i] == (len(held) > 1)
    assert found.goes_on.any() and found.second_body.any() and not found.second_body.all()


def test_skeletons_and_contacts_are_those_of_the_surveys(cave_source: CaveSource) -> None:
    index = cave_source.archive.survey_index
    contacts = cave_source.contacts()
    assert len(contacts.areas) == sum(len(s.contacts.areas) for s in index.light())
    assert np.isin(contacts.segments, np.concatenate([s.segments for s in index.light()])).all()
    survey = index.of_operation(20)
    assert survey is not None
    edited = survey.sides[0]
    found = dict(cave_source.skeletons([edited, 123]))
    assert list(found) == [edited]
    np.testing.assert_array_equal(found[edited].nodes_nm, survey.skeletons[edited].nodes_nm)


def test_slices_show_image_data_and_the_segments_before_the_edit(
    cave_source: CaveSource, ground: Ground, archive: Archive
) -> None:
    edit = next(j.operation for j in archive.history.judged if j.operation.operation_id == 20)
    segment = edit.roots_before[0]
    parts = (Part(segment, "base"),)
    # a pixel is a voxel, and the middle of the picture is the corner of one
    x, y, z = (round(c / VOXEL_NM) * VOXEL_NM for c in edit.place_nm)
    site = Site("endpoint_error_identification_with_em", (x, y, z), 320.0, parts, "no", (segment,), (), "control")
    slices = cave_source.em_slices(site, 32)
    assert slices is not None and set(slices) == {"em_xy", "em_xz", "em_yz"}
    low = (np.asarray([x, y, z]) / VOXEL_NM - OFFSET - 16).astype(int)
    roots = ground.segments(edit.before)[ground.rows[tuple(slice(a, a + 32) for a in low)]]
    np.testing.assert_array_equal(slices["em_xy"].segments, roots[:, :, 16].T)
    np.testing.assert_array_equal(slices["em_xz"].segments, roots[:, 16, :].T)
    np.testing.assert_array_equal(slices["em_yz"].segments, roots[16].T)
    for cut in slices.values():
        assert (cut.segments == np.uint64(segment)).any() and cut.inside.all() and cut.gray.std() > 5
