"""Sites in batches of one place: each drawn once, kept on disk, and left out where the data cannot be had."""

from __future__ import annotations

import json
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_neurons import write_neurons

from connectomebench.build import render_worker
from connectomebench.build.batch_files import read_rendered, read_summaries
from connectomebench.build.config import load_config
from connectomebench.build.failure_policy import FailureConfig
from connectomebench.build.pipeline import build_datasets
from connectomebench.build.render_batches import BATCH, batches_of, render_sites
from connectomebench.build.render_worker import RemoteRenderer, SiteBatch, SiteRenderer, Stopped
from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.core.site import Part, Site
from connectomebench.core.source import SourceInfo
from connectomebench.dataset.manifest import read_manifest
from connectomebench.execution.runner import SerialRunner, ThreadRunner
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.views import ViewConfig
from connectomebench.sources.factory import MorphologyConfig, SourceConfig, open_source

RULES = ViewConfig(image_px=32, em_px=32)
LENIENT = FailureConfig(max_share=1.0)
INFO = SourceInfo("blocks", "1", "fly", Box((0, 0, 0), (1e6, 1e6, 1e6)), True, True, 1.0, "none", "")
CUBE = np.array([[0, 1, 2], [2, 1, 3], [4, 6, 5], [5, 6, 7], [0, 4, 1], [1, 4, 5], [2, 3, 6], [3, 7, 6], [0, 2, 4],
                 [2, 6, 4], [1, 5, 3], [3, 5, 7]], np.int32)  # fmt: skip
CORNERS = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], np.float32)


def site(number: int, place: tuple[float, float, float] | None = None, task: str = "merge_action") -> Site:
    parts = (Part(2 * number + 1, "base"), Part(2 * number + 2, "candidate"))
    return Site(
        task,
        place or (1000.0 * number, 0.0, 0.0),
        1000.0,
        parts,
        "yes" if number % 2 else "no",
        tuple(part.segment_id for part in parts),
        (1, 1),
        "simulated",
    )


class Blocks:
    """A source of two blocks at every place; some places cannot be had, some are empty."""

    info = INFO

    def __init__(self) -> None:
        self.unavailable: dict[int, str] = {}
        self.empty: set[int] = set()
        self.asked: Counter[int] = Counter()

    def meshes(self, site: Site) -> list[Mesh]:
        number = (site.segment_ids[0] - 1) // 2
        self.asked[number] += 1
        if number in self.unavailable:
            raise SiteUnavailable(self.unavailable[number])
        if number in self.empty:
            return [EMPTY_MESH, EMPTY_MESH]
        size = 100 + 5 * (number % 20)
        offsets = np.array([[-250, 0, 0], [250, 0, 0]], np.float32)
        return [Mesh(size * CORNERS + site.location_nm + offset, CUBE) for offset in offsets.astype(np.float32)]


class Shuffled:
    """Does the jobs in another order, and each of them twice."""

    in_process = True

    def run(
        self, work: Callable[[Any], Any], jobs: Sequence[Any], label: str
    ) -> Generator[tuple[int, Any], None, None]:
        for i in reversed(range(len(jobs))):
            work(jobs[i])
            yield i, work(jobs[i])


def names(sites: Sequence[Site]) -> list[str]:
    return [INFO.sample_id(s) for s in sites]


def draw(sites: Sequence[Site], source: Any, folder: Path, runner: Any = None, failures: FailureConfig = LENIENT):
    renderer = SiteRenderer(source, CpuEngine(1), RULES)
    return render_sites(sites, names(sites), renderer, runner or SerialRunner(), folder, failures)


places = st.tuples(*[st.floats(-1e6, 1e6, allow_nan=False)] * 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(places, max_size=150), st.randoms(use_true_random=False))
def test_every_site_is_in_one_batch_whatever_the_order(points: list[tuple[float, float, float]], random: Any) -> None:
    sites = [site(i, point) for i, point in enumerate(points)]
    groups = batches_of(sites, names(sites))
    assert sorted(i for group in groups for i in group) == list(range(len(sites)))
    assert all(1 <= len(group) <= BATCH for group in groups)
    assert len(groups) == -(-len(sites) // BATCH)
    shuffled = random.sample(sites, len(sites))
    ids, other = names(sites), names(shuffled)
    assert [[ids[i] for i in g] for g in groups] == [[other[i] for i in g] for g in batches_of(shuffled, other)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_batch_lies_in_one_place(clusters: int, seed: int) -> None:
    """Clusters of just one batch each, far apart: no batch takes from two of them."""
    rng = np.random.default_rng(seed)
    centres = rng.permutation(np.mgrid[0:4, 0:4, 0:4].reshape(3, -1).T)[:clusters] * 65536.0
    points = np.repeat(centres, BATCH, axis=0) + rng.uniform(0, 2000, (clusters * BATCH, 3))
    sites = [site(i, tuple(points[i])) for i in rng.permutation(len(points))]
    for group in batches_of(sites, names(sites)):
        spread = np.ptp([sites[i].location_nm for i in group], axis=0)
        assert (spread <= 2000).all()


def test_drawings_come_in_the_order_of_the_sites(tmp_path: Path) -> None:
    """Whatever the runner, however often a job is done; two tasks share one run."""
    sites = [site(i * 37 % 80) for i in range(80)] + [
        site(i, task="merge_error_identification") for i in range(100, 110)
    ]
    source = Blocks()
    source.empty = {7, 50}
    plain = draw(sites, source, tmp_path / "a")
    with ThreadPoolExecutor(3) as pool:
        others = [draw(sites, source, tmp_path / "b", runner) for runner in (Shuffled(), ThreadRunner(pool))]
        others.append(draw(sites, source, tmp_path / "c", ThreadRunner(pool)))
    for other in others:
        for i, summary in enumerate(plain.summaries):
            assert summary.problem == other.summaries[i].problem
            np.testing.assert_array_equal(summary.features, other.summaries[i].features)
        assert list(other.images(range(len(sites)))) == list(plain.images(range(len(sites))))
    alone = draw([sites[3]], source, tmp_path / "d")
    assert list(plain.images([3])) == list(alone.images([0]))
    assert plain.summaries[3].size == sum(map(len, next(plain.images([3])).values())) > 0
    empty = [i for i, s in enumerate(sites) if s.parts[0].segment_id in (15, 101)]
    assert [i for i, s in enumerate(plain.summaries) if s.problem] == empty
    assert not any(plain.images(empty))


def test_what_is_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    sites, source = [site(i) for i in range(70)], Blocks()
    first = draw(sites, source, tmp_path)
    assert set(source.asked.values()) == {1}
    again = draw(list(reversed(sites)), source, tmp_path)
    assert set(source.asked.values()) == {1}
    assert [s.size for s in again.summaries] == [s.size for s in reversed(first.summaries)]


def test_other_sites_beside_them_do_not_draw_sites_again(tmp_path: Path) -> None:
    """Batches are of neighbours, so that one site more moves many; what is drawn is found wherever it is."""
    sites, source = [site(i) for i in range(70)], Blocks()
    first = draw(sites[10:], source, tmp_path)
    again = draw(sites[:60], source, tmp_path)
    assert set(source.asked.values()) == {1} and len(source.asked) == 70
    assert list(again.images(range(10, 60))) == list(first.images(range(50)))


def test_a_damaged_file_is_drawn_again_and_a_lost_one_is_told(tmp_path: Path) -> None:
    sites, source = [site(i) for i in range(40)], Blocks()
    draw(sites, source, tmp_path)
    path = sorted(tmp_path.glob("*.parquet"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    drawn = draw(sites, source, tmp_path)
    assert path.read_bytes() == whole
    assert sorted(Counter(source.asked.values())) == [1, 2]
    path.unlink()
    with pytest.raises(ConnectomeBenchError, match="run the same command again"):
        list(drawn.images(range(40)))


def test_another_look_is_another_file(tmp_path: Path) -> None:
    sites, source = [site(i) for i in range(3)], Blocks()
    draw(sites, source, tmp_path)
    renderer = SiteRenderer(source, CpuEngine(1), replace(RULES, image_px=16))  # type: ignore[arg-type]
    render_sites(sites, names(sites), renderer, SerialRunner(), tmp_path, LENIENT)
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_sites_without_their_data_are_left_out_and_tried_again_by_the_next_run(tmp_path: Path) -> None:
    sites, source = [site(i) for i in range(64)], Blocks()
    source.unavailable = {5: "503 from\nthe server", 6: "id 13 is gone", 40: "id 81 is gone"}
    drawn = draw(sites, source, tmp_path)
    failed = {i: s for i, s in enumerate(drawn.summaries) if s.failed}
    assert {i: s.reason for i, s in failed.items()} == {
        5: "503 from the server",
        6: "id 13 is gone",
        40: "id 81 is gone",
    }
    assert failed[6].problem == "not available: id 13 is gone"
    del source.unavailable[5]
    asked = source.asked.copy()
    again = draw(sites, source, tmp_path)
    assert source.asked - asked == Counter([5, 6, 40])
    assert [i for i, s in enumerate(again.summaries) if s.failed] == [6, 40]
    assert len(next(again.images([5]))) == 3
    assert [s.reason for s in again.summaries if not s.failed] == [None] * 62


@pytest.mark.parametrize(("failures", "stops"), [(3, False), (4, True), (64, True)])
def test_too_many_sites_without_their_data_stop_the_run(tmp_path: Path, failures: int, stops: bool) -> None:
    """Of 64 sites, 5% are 3.2. The next run goes on and tries them again."""
    sites, source = [site(i) for i in range(64)], Blocks()
    source.unavailable = {i: "timed out" if i % 3 else "gone" for i in range(63, 63 - failures, -1)}
    rules = FailureConfig(max_share=0.05, min_sites=64)
    if not stops:
        assert sum(s.failed for s in draw(sites, source, tmp_path, failures=rules).summaries) == failures
        return
    with pytest.raises(ConnectomeBenchError) as caught:
        draw(sites, source, tmp_path, failures=rules)
    told = str(caught.value)
    assert told.startswith(f"merge_action: the data of {failures} of 64 sites ({failures / 64:.1%})")
    assert "most often: timed out" in told and "run the same command again" in told and "\n" not in told
    before, source.unavailable = source.asked.copy(), {}
    assert not any(s.failed for s in draw(sites, source, tmp_path, failures=rules).summaries)
    assert (source.asked - before).total() == failures


def test_a_run_stops_early_where_all_fails(tmp_path: Path) -> None:
    sites, source = [site(i) for i in range(20 * BATCH)], Blocks()
    source.unavailable = dict.fromkeys(range(len(sites)), "no route to host")
    with pytest.raises(ConnectomeBenchError, match="no route to host"):
        draw(sites, source, tmp_path, failures=FailureConfig())
    assert len(source.asked) == BATCH


def test_the_share_is_that_of_each_task(tmp_path: Path) -> None:
    """One in 30 fails, but one in 10 of the smaller task."""
    sites = [site(i) for i in range(60)] + [site(i, task="merge_error_identification") for i in range(60, 90)]
    source = Blocks()
    source.unavailable = dict.fromkeys((60, 70, 80), "gone")
    with pytest.raises(ConnectomeBenchError, match="^merge_error_identification: the data of 3 of"):  # noqa: RUF043
        draw(sites, source, tmp_path, failures=FailureConfig(max_share=0.09, min_sites=30))
    draw(sites, source, tmp_path, failures=FailureConfig(max_share=0.1, min_sites=30))


@pytest.mark.parametrize("values", [{"max_share": -0.1}, {"max_share": 5.0}, {"min_sites": 0}])
def test_senseless_failure_rules_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    path.write_text(json.dumps({"species": "fly", "source": {"morphology": {}}, "failures": values}))
    with pytest.raises(ConnectomeBenchError, match=f"failures.{next(iter(values))} must be"):
        load_config(path)


def test_failure_rules_may_change_between_runs(small_config: Path) -> None:
    other = load_config(small_config, {"failures.max_share": 0.5})
    assert other.fingerprint() == load_config(small_config).fingerprint()
    assert load_config(small_config, {"views.image_px": 65}).fingerprint() != other.fingerprint()


def test_a_stopped_batch_is_not_written(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    path = tmp_path / "batch.parquet"
    renderer = SiteRenderer(Blocks(), CpuEngine(1), RULES)  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        renderer.draw(SiteBatch((site(0),), ("a",), path), stop)
    assert not list(tmp_path.iterdir())
    summaries = renderer.draw(SiteBatch((site(0), site(1)), ("a", "b"), path))
    assert [s.size for s in summaries] == [s.size for _, s in read_summaries(path) or []]
    assert len(read_rendered(path) or []) == 2


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> RemoteRenderer:
    base = tmp_path_factory.mktemp("base")
    write_neurons(base / "neurons")
    config = SourceConfig(morphology=MorphologyConfig(path="neurons", unit_nm=1000))
    version = open_source(config, "fly", base / "cache", base, SerialRunner()).info.version
    return RemoteRenderer(config, "fly", base / "cache", base, version, "cpu", RULES)


def test_a_worker_opens_the_source_once_and_draws_the_same(
    remote: RemoteRenderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(render_worker, "open_source", lambda *a: opened.append(open_source(*a)) or opened[-1])
    for number in range(2):
        there = pickle.loads(pickle.dumps(remote))
        assert there == remote
        assert [s.problem for s in there.draw(SiteBatch((), (), tmp_path / f"{number}.parquet"))] == []
    assert len(opened) == 1
    source = opened[0]
    contacts = source.contacts()
    a, b = (int(i) for i in contacts.segments[0])
    x, y, z = (float(c) for c in contacts.points_nm[0])
    one = Site(
        "merge_action", (x, y, z), 3000.0, (Part(a, "base"), Part(b, "candidate")), "no", (a, b), (1, 2), "control"
    )
    here = SiteRenderer(source, CpuEngine(2), RULES)
    assert here.look == remote.look
    (near,), (far,) = (
        s.draw(SiteBatch((one,), ("a",), tmp_path / f"{name}.parquet")) for s, name in ((here, "a"), (remote, "b"))
    )
    assert near.size == far.size > 0
    assert read_rendered(tmp_path / "a.parquet")[0].images == read_rendered(tmp_path / "b.parquet")[0].images  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "0.0.1"}, "install the same everywhere"),
        ({"source_version": "other"}, "sees version .* of the data"),
    ],
)
def test_a_worker_that_differs_says_so(
    remote: RemoteRenderer, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConnectomeBenchError, match=words):
        replace(remote, **change).draw(SiteBatch((), (), tmp_path / "batch.parquet"))


def test_a_worker_that_does_not_see_the_folder_says_so(remote: RemoteRenderer, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="that all machines see"):
        remote.draw(SiteBatch((), (), tmp_path / "elsewhere" / "batch.parquet"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_build_lists_what_it_skipped(short_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole build whose source loses one place in four: it stops, goes on under other rules, and is made again."""
    reason = "408 from the mesh service"
    config = load_config(short_config, {"tasks": ["endpoint_error_identification_with_em"], "controls.max_cases": 8})
    share = 4

    def open_flaky(*arguments: Any) -> Any:
        source = open_source(*arguments)
        whole = source.meshes

        def meshes(site: Site) -> list[Mesh]:
            if share and int(INFO.sample_id(site), 16) % share == 0:
                raise SiteUnavailable(reason)
            return whole(site)

        monkeypatch.setattr(source, "meshes", meshes)
        return source

    monkeypatch.setattr("connectomebench.build.pipeline.open_source", open_flaky)
    out = tmp_path / "out"
    folder = out / config.tasks[0]
    with pytest.raises(ConnectomeBenchError, match=reason):
        build_datasets(config, out, short_config.parent)
    assert not folder.exists()

    build_datasets(replace(config, failures=FailureConfig(0.5)), out, short_config.parent)
    skipped = [json.loads(line) for line in (folder / "fly-skipped.jsonl").read_text().splitlines()]
    dropped = read_manifest(folder)["species"]["fly"]["dropped"]["drawing and matching"]
    assert len(skipped) == dropped[f"not available: {reason}"] > 3
    assert all(row["reason"] == reason and len(row["location_nm"]) == 3 for row in skipped)
    assert all(isinstance(i, int) for row in skipped for i in row["segment_ids"])
    assert len({row["sample_id"] for row in skipped}) == len(skipped)

    share = 0
    next((folder / "fly").glob("test-*.parquet")).unlink()
    build_datasets(config, out, short_config.parent)
    assert not (folder / "fly-skipped.jsonl").exists()
    assert reason not in (folder / "manifest.json").read_text()
