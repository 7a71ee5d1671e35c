"""Count requests of the source `cave` and time it against a server of 50 ms, and break server and workers on purpose.

Run:
    PYTHONPATH=tests/support python benchmarks/cave.py --json

The server replays recorded exchanges of a real PyChunkedGraph server (see `tests/support/replay_server.py`) with a
latency before every answer. Its volumes are the recorded ones where ../shared/data/chunkedgraph_recording is at hand,
else ones made for the recorded graph; `volumes` in the result says which. They are 250 voxels cubed, in 64 chunks, so
that chunks are shared far more than on a whole brain; requests to the graph and to the volumes are therefore counted
apart. Four parts:

- `survey`: time and memory of one survey in a cube of the size that a whole brain needs.
- `requests`: a build of `merge_action`, drawn, against reading each sample by itself with nothing kept: the log of its
  root, the details of its edit, the final roots of its two sides, the roots of its cube at two times, its chunks.
- `workers`: surveys and drawings of the same sites with one and with two Dask workers, each warmed up, nothing kept.
- `faults`: the same build once undisturbed, and once with a share of answers that are 429, 500 or cut short, while
  workers are killed at random; then fingerprints and sample ids are compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import replay_server as replay
from bench_arguments import parse_sizes
from replay_server import TABLE, Faults, ReplayServer, replay_server
from replay_volumes import RECORDING, layer_files

from connectomebench.build.collect_sites import CollectedSites, collect_sites
from connectomebench.build.config import BuildConfig, parse_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.build.render_batches import render_sites
from connectomebench.build.render_worker import RemoteRenderer, SiteRenderer
from connectomebench.core.site import Site
from connectomebench.core.species import get_species
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.schema import read_small_columns
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import Runner
from connectomebench.rendering.engines import choose_engine
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.cloud_volumes import InMemoryLayer
from connectomebench.sources.cave.connect import connect
from connectomebench.sources.cave.history import JudgedOperation, Operation, judge_operations
from connectomebench.sources.cave.jobs import open_layer
from connectomebench.sources.cave.survey import survey
from connectomebench.sources.factory import open_source
from connectomebench.sources.label_shapes import SkeletonConfig

LATENCY_S = 0.05
KILLS = 5
VOLUMES = RECORDING if RECORDING.exists() else None


def make_config(url: str, neighbours: int) -> BuildConfig:
    """Configure a build on the recorded graph; more neighbours give more controls."""
    return parse_config(
        {
            "species": "fly",
            "source": {
                "cave": {
                    "roots": {"changed_since": "2026-11-23T02:06:58.863"},
                    "until": "2026-11-23T02:10:28",
                    "server": url,
                    "graph_table": TABLE,
                    "image": "none",
                    "license": "cc-by-4.0",
                    "citation": "FlyEM, HHMI Janelia: neuroproof_examples, training_sample2",
                    "meshes": "voxels",
                    "requests": {"wait_s": 0.05, "longest_wait_s": 1.0, "attempts": 10},
                    "survey": {
                        "cutout_nm": 1900,
                        "label_voxel_nm": 10,
                        "image_voxel_nm": 10,
                        "border_nm": 60,
                        "min_body_voxels": 500,
                        "min_contact_faces": 4,
                        "neighbours": neighbours,
                        "places_per_batch": 4,
                    },
                    "skeleton": {"downsample": [2, 2, 2]},
                }
            },
            "tasks": ["merge_action"],
            "sites": {"extent_nm": [600, 900], "min_segment_voxels": 50, "merge_match_nm": 400},
            "proposals": {"reach_nm": 1900},
            "controls": {"pool_per_case": 200},
            "partition": {"cube_nm": 800, "test_fraction": 0.3},
            "views": {"image_px": 128},
        }
    )


@contextmanager
def separate_server(latency_s: float) -> Iterator[str]:
    """Run the server in a process of its own, so that it shares no lock with what is timed."""
    command = [sys.executable, replay.__file__, "--port", "0", "--latency-ms", str(1000 * latency_s)]
    if VOLUMES is not None:
        command += ["--recording", str(VOLUMES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def draw(config: BuildConfig, folder: Path, runner: Runner, remote: bool) -> tuple[CaveSource, CollectedSites]:
    """Survey and draw all sites of a configuration."""
    cache = folder / "source"
    source = open_source(config.source, config.species, cache, folder, runner)
    assert isinstance(source, CaveSource)
    gathered = collect_sites(source, config)
    ids = [source.info.sample_id(site) for site in gathered.sites]
    if remote:
        renderer = RemoteRenderer(
            config.source, config.species, cache, folder, source.info.version, "cpu", config.views
        )
    else:
        renderer = SiteRenderer(source, choose_engine("cpu"), config.views)
    render_sites(gathered.sites, ids, renderer, runner, folder / "drawn", config.failures)
    return source, gathered


def split_requests(server: ReplayServer) -> dict[str, int]:
    """Count requests so far, those to the graph and those to the volumes."""
    data = sum(n for name, n in server.endpoints.items() if name.startswith("data/"))
    return {"graph": server.requests - data, "volumes": data}


def measure_requests(neighbours: int, singles: int) -> dict[str, Any]:
    """Compare requests per sample."""
    with replay_server(latency_s=LATENCY_S, recording=VOLUMES) as server, tempfile.TemporaryDirectory() as folder:
        config = make_config(server.url, neighbours)
        with open_runner("none", 4) as runner:
            source, gathered = draw(config, Path(folder), runner, remote=False)
        n, edits = len(gathered.sites), len(source.archive.history.judged)
        total = split_requests(server)
        ours = {name: count / n for name, count in total.items()}
        rows = np.random.default_rng(0).choice(n, size=min(singles, n), replace=False)
        alone = [one_sample(server, config, gathered.sites[i], source.archive) for i in rows.tolist()]
    single = {name: float(np.mean([a[name] for a in alone])) for name in ("graph", "volumes")}
    return {
        "sites": n,
        "edits": edits,
        "requests_per_sample": ours,
        "graph_requests_per_edit": total["graph"] / edits,
        "one_at_a_time": {"samples": len(alone), "requests_per_sample": single},
        "times_fewer": {
            "graph": single["graph"] / ours["graph"],
            "volumes": single["volumes"] / ours["volumes"],
            "all": sum(single.values()) / sum(ours.values()),
        },
    }


def one_sample(server: ReplayServer, config: BuildConfig, site: Site, archive: Archive) -> dict[str, int]:
    """Read one sample with nothing kept; opening the dataset is not counted."""
    cave = config.source.cave
    assert cave is not None
    number = archive.survey_index.state(site.parts[0].segment_id, site.location_nm).survey.operation_id
    known = next(j for j in archive.history.judged if j.operation.operation_id == number)
    connection = connect(cave, get_species(config.species))
    with tempfile.TemporaryDirectory() as folder:
        blobs = BlobCache(Path(folder), 10**9)
        layer = open_layer(
            connection, connection.segmentation, "labels", cave.survey.label_voxel_nm, blobs, cave.requests
        )
        graph, until = connection.graph, archive.spec.until
        graph.voxel_nm()
        server.reset()
        graph.change_logs(known.bodies[:1])
        graph.operation_details([number])
        judged, _ = judge_operations(graph, [known.operation], until)
        survey(judged[0], layer, graph.roots, until, cave.survey, cave.skeleton)
        return split_requests(server)


def measure_survey() -> dict[str, Any]:
    """Survey one cube as large as on a whole brain: the supervoxels, repeated along z, at 64 x 64 x 40 nm."""
    shape, voxel_nm = (250, 250, 400), (64.0, 64.0, 40.0)
    with replay_server(recording=VOLUMES) as server:
        config = make_config(server.url, 6).source.cave
        assert config is not None
        connection = connect(config, get_species("fly"))
        with tempfile.TemporaryDirectory() as folder:
            layer = open_layer(
                connection, connection.segmentation, "labels", 10, BlobCache(Path(folder), 10**9), config.requests
            )
            recorded = layer.read((0, 0, 0), layer.shape)
    ids, codes = np.unique(recorded, return_inverse=True)
    codes = codes.reshape(recorded.shape) + 1
    labels = np.concatenate([codes, codes + len(ids)], axis=2)[:, :, : shape[2]].astype(np.uint64)
    # every third supervoxel belongs to the segment before it, so that there are segments of all sizes
    roots = np.concatenate([[0], np.arange(2 * len(ids)) // 3 + 1]).astype(np.uint64)
    middle = tuple(n // 2 for n in shape)
    a = int(labels[middle])
    near = labels[tuple(slice(m - 20, m + 20) for m in middle)]
    b = int(near[roots[near] != roots[a]][0])
    x, y, z = (float(m * v) for m, v in zip(middle, voxel_nm, strict=True))
    place = (x, y, z)
    edit = Operation(1, "merge", datetime(2020, 1, 1, tzinfo=UTC), (1, 2), (3,), (place,), (place,), (a,), (b,), False)
    rules = dataclasses.replace(config.survey, cutout_nm=16000, label_voxel_nm=64, min_body_voxels=1000)
    start = time.perf_counter()
    made = survey(
        JudgedOperation(edit, "correction", (1, 1)),
        InMemoryLayer(labels, voxel_nm, (0, 0, 0)),
        lambda asked, _: roots[asked.astype(np.int64)],
        datetime(2021, 1, 1, tzinfo=UTC),
        rules,
        SkeletonConfig(downsample=(1, 1, 2)),
    )
    seconds = time.perf_counter() - start
    assert not isinstance(made, str), made
    return {
        "voxels": int(labels.size),
        "supervoxels": len(made.supervoxels),
        "segments_kept": len(made.segments),
        "seconds": seconds,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def warm(_: int) -> int:
    """Import what a worker needs, and compile or load its kernels."""
    from connectomebench.rendering.colour_features import trivial_features  # noqa: F401
    from connectomebench.rendering.rasterizer import available_threads

    time.sleep(1)
    return available_threads()


def measure_workers(neighbours: int) -> dict[str, Any]:
    """Compare one worker with two."""
    seconds, sites = {}, 0
    with separate_server(LATENCY_S) as url:
        config = make_config(url, neighbours)
        for run in ("warm-up", "timed"):
            for workers in (1, 2):
                with open_runner(f"local:{workers}", 1) as runner, tempfile.TemporaryDirectory() as folder:
                    list(runner.run(warm, list(range(4 * workers)), "warm"))
                    if run == "warm-up" and workers == 2:
                        continue
                    start = time.perf_counter()
                    _, gathered = draw(config, Path(folder), runner, remote=True)
                    seconds[workers], sites = time.perf_counter() - start, len(gathered.sites)
    return {
        "sites": sites,
        "cores": os.cpu_count(),
        "seconds": {str(k): s for k, s in seconds.items()},
        "sites_per_s": {str(k): sites / s for k, s in seconds.items()},
        "times_as_fast_with_two": seconds[1] / seconds[2],
    }


def worker_pids() -> list[int]:
    """Find the processes of the Dask workers that this process started."""
    import psutil

    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any("spawn_main" in part for part in child.cmdline()) and child.memory_info().rss > 100e6:
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def measure_faults(neighbours: int, rate: float) -> dict[str, Any]:
    """Build twice, the second time with faults and kills."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, replay_server(recording=VOLUMES) as server:
        config = make_config(server.url, neighbours)
        clean, broken = Path(folder) / "clean", Path(folder) / "broken"
        build_datasets(config, clean, Path(folder), scheduler="local:2")
        server.reset()
        server.faults = Faults(rate=rate, seed=1)
        killed: list[int] = []
        done = threading.Event()

        def kill() -> None:
            # the first when drawing has begun, the others as it goes on
            while len(killed) < KILLS and not done.wait(0.2):
                drawn = len(list(broken.rglob("drawn/**/*.parquet")))
                pids = worker_pids()
                if pids and drawn >= 1 + 2 * len(killed):
                    pid = rng.choice(pids)
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            build_datasets(config, broken, Path(folder), scheduler="local:2")
        finally:
            done.set()
            killer.join()
        entries = [read_manifest(out / "merge_action")["species"]["fly"] for out in (clean, broken)]
        ids = [sample_ids(out / "merge_action") for out in (clean, broken)]
        return {
            "sites_drawn": drawn_sites(clean),
            "rows": len(ids[0]),
            "fault_rate": rate,
            "answers": server.requests,
            "answers_replaced_by_a_fault": sum(server.faulted.values()),
            "workers_killed": len(killed),
            "rows_lost": len(set(ids[0]) - set(ids[1])),
            "rows_twice": len(ids[1]) - len(set(ids[1])),
            "rows_too_many": len(set(ids[1]) - set(ids[0])),
            "same_fingerprint": entries[0]["fingerprint"] == entries[1]["fingerprint"],
        }


def drawn_sites(out: Path) -> int:
    """Count the sites that were drawn for a dataset: its rows, and those left out when they were matched."""
    entry = read_manifest(out / "merge_action")["species"]["fly"]
    kept = sum(sum(counts.values()) for counts in entry["counts"].values())
    matched = entry["dropped"]["drawing and matching"]
    return kept + sum(matched.values()) + sum(entry["dropped"]["partition"].values())


def sample_ids(folder: Path) -> list[str]:
    """Sample ids of all rows of a dataset."""
    found: list[str] = []
    for partition in ("train", "validation", "test"):
        found += read_small_columns(folder / "fly", partition)["sample_id"].to_pylist()
    return found


def main() -> None:
    """Run the parts that are asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one line")
    parser.add_argument("--part", choices=("survey", "requests", "workers", "faults", "all"), default="all")
    parser.add_argument("--neighbours", type=int, default=12, help="neighbours kept at each edit: more give more sites")
    parser.add_argument("--singles", type=int, default=20, help="samples read one at a time")
    parser.add_argument("--fault-rate", type=float, default=0.1)
    arguments = parse_sizes(parser, neighbours=3, singles=3)
    wanted = ("survey", "requests", "workers", "faults") if arguments.part == "all" else (arguments.part,)
    result: dict[str, Any] = {"latency_ms": 1000 * LATENCY_S, "volumes": "recorded" if VOLUMES else "made"}
    layer_files("ws", VOLUMES)  # laid out before anything is timed
    if "survey" in wanted:  # first, so that its memory is told apart
        result["survey"] = measure_survey()
    if "requests" in wanted:
        result["requests"] = measure_requests(arguments.neighbours, arguments.singles)
    if "workers" in wanted:
        result["workers"] = measure_workers(arguments.neighbours)
    if "faults" in wanted:
        result["faults"] = measure_faults(arguments.neighbours, arguments.fault_rate)
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
