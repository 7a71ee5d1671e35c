"""Time each step of a build, an evaluation and a report alone, at growing numbers of items.

    python benchmarks/scale.py --json
    python benchmarks/scale.py --steps partition write --sizes 1000 10000

Items are synthetic and made before the clock starts; pictures are small, so that writing and checking measure the work
for a row and not that for PNG. Each step and size runs in a process of its own. `seconds` is the time of the step,
`cpu_s` that of all cores together, which other jobs disturb less, `peak_gb` the largest memory of its process (with the
items), `exponent` the slope of log `cpu_s` over log items from the two largest sizes that took at least 20 ms.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Part, Site
from connectomebench.core.source import SourceInfo

TASK, SPECIES = "merge_action", "fly"
EXTENT_NM = 8000.0
GROUP_ROWS = 3
SHORTEST_S = 0.02
TIMEOUT_S = 1800

Step = Callable[[], object]
"""What is timed; made by a function of the number of items and a folder, which is not."""


def volume_nm(n: int) -> float:
    """Edge of a cube in which n views lie as thinly as on a whole brain: one in 25 views' volumes."""
    return EXTENT_NM * (25 * n) ** (1 / 3)


def source_info(n: int) -> SourceInfo:
    """Describe a source whose box holds n sites."""
    edge = volume_nm(n)
    return SourceInfo(
        "synthetic", "1", SPECIES, Box((0, 0, 0), (edge, edge, edge)), False, False, 100.0, "cc0-1.0", "None."
    )


def sites(n: int) -> list[Site]:
    """Make n sites of `merge_action`, each segment in about two of them, at neighbouring places."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, volume_nm(n), (n, 3))
    order = np.lexsort(places.T[::-1] // 50_000)
    found = []
    for i, row in enumerate(order.tolist()):
        x, y, z = places[row].tolist()
        ids = (2**62 + i // 2, 2**61 + i)
        parts = (Part(ids[0], "base"), Part(ids[1], "candidate"))
        edit = f"merge-{i}" if i % 2 else None
        found.append(Site(TASK, (x, y, z), EXTENT_NM, parts, ("no", "yes")[i % 2], ids, ids, "simulated", edit))
    return found


def skeleton(n: int) -> Skeleton:
    """Grow one neurite of n nodes 100 nm apart, with a side branch about every 100 nodes.

    It goes straight for some micrometres and branches start near its tip, so that it is as thin in space with a million
    nodes as with a thousand: what grows with the pairs of near nodes must not grow faster because the tree is a ball.
    """
    rng = np.random.default_rng(0)
    parents = np.arange(-1, n - 1)
    jumps = np.flatnonzero(rng.random(n) < 0.01)
    parents[jumps] = np.maximum(jumps - rng.integers(1, 300, len(jumps)), np.minimum(jumps - 1, 0))
    turns = 0.2 * rng.normal(size=(n, 3))
    turns[jumps] *= 10
    nodes, ahead = np.zeros((n, 3)), np.zeros((n, 3))
    ahead[0] = (1, 0, 0)
    for i in range(1, n):
        step = ahead[parents[i]] + turns[i]
        ahead[i] = step / np.linalg.norm(step)
        nodes[i] = nodes[parents[i]] + 100 * ahead[i]
    edges = np.stack([np.arange(1, n), parents[1:]], axis=1).astype(np.int32)
    return Skeleton(nodes.astype(np.float32), edges, rng.uniform(50, 200, n).astype(np.float32))


def pictures(count: int = 60) -> list[bytes]:
    """Draw small grey pictures; PNG files."""
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (24, 24), np.uint8)).save(stream, "PNG")
        found.append(stream.getvalue())
    return found


def stored_rows(n: int) -> dict[str, list[dict[str, Any]]]:
    """Make n stored rows, 7 in 10 of them in train; they draw their pictures from a pool."""
    from connectomebench.core.tasks import get_task
    from connectomebench.dataset.schema import make_row

    pool, info = pictures(), source_info(n)
    rows: dict[str, list[dict[str, Any]]] = {partition: [] for partition in PARTITIONS}
    for i, site in enumerate(sites(n)):
        partition = PARTITIONS[0 if i % 10 < 7 else 1 if i % 10 == 7 else 2]
        images = {view: pool[(3 * i + k) % len(pool)] for k, view in enumerate(get_task(TASK).views)}
        rows[partition].append(make_row(site, images, f"g{i // GROUP_ROWS}", info))
    return rows


def write_rows(folder: Path, n: int) -> Path:
    """Write n stored rows; returns OUT/TASK/SPECIES."""
    from connectomebench.dataset.schema import write_partition

    where = folder / TASK / SPECIES
    for partition, own in stored_rows(n).items():
        write_partition(where, TASK, partition, own, len(own), sum(len(i["bytes"]) for r in own for i in r["images"]))
    return where


def records(n: int, model: str = "m") -> Any:
    """Make result records of one model on n rows."""
    import pandas as pd

    rng = np.random.default_rng(len(model))
    answers = np.where(rng.random(n) < 0.5, "yes", "no")
    probability = np.clip(np.where(answers == "yes", 0.6, 0.4) + rng.normal(0, 0.2, n), 0, 1)
    return pd.DataFrame(
        {
            "sample_id": [f"{i:016x}" for i in range(n)],
            "task": TASK,
            "species": SPECIES,
            "partition": "test",
            "condition": "default",
            "model": model,
            "model_revision": "r",
            "dataset_fingerprint": "f",
            "code_version": "0",
            "question": "?",
            "answer": answers,
            "prediction": np.where(probability > 0.5, "yes", "no"),
            "probability": probability,
            "group": [f"g{i // GROUP_ROWS}" for i in range(n)],
            "latency_s": 0.01,
            "reply": None,
            "tokens": None,
            "cost_usd": None,
        }
    )


def _candidates(n: int, folder: Path) -> Step:
    from connectomebench.sites.candidates import CandidateConfig, find_candidates

    giant = skeleton(n)
    return lambda: find_candidates([(1, giant)], CandidateConfig())


def _coverage(n: int, folder: Path) -> Step:
    from connectomebench.core.correction import Corrections, MergeCorrection, Overlaps
    from connectomebench.sites.candidates import Candidates, coverage

    rng = np.random.default_rng(0)
    places = rng.uniform(0, volume_nm(n), (n, 3))
    ones = np.ones(n, np.float32)
    some = Candidates(np.ones(n, np.uint64), places.astype(np.float32), ones, np.full(n, "end"), ones)
    near = (places + rng.normal(0, 1500, (n, 3))).tolist()
    merges = tuple(MergeCorrection(str(i), (1, i + 2), 1, (x, y, z), 1) for i, (x, y, z) in enumerate(near))
    ids, counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    truth = Corrections(merges, (), Overlaps(ids, ids, counts, counts), {}, {}, np.zeros((0, 3), np.float32))
    return lambda: coverage(some, truth, "end", 2000.0, 1.0)


def _view_content(n: int, folder: Path) -> Step:
    from connectomebench.sites.view_content import index_skeleton, view_content

    giant = skeleton(n)
    places: list[list[float]] = giant.nodes_nm.astype(float).tolist()

    def measure() -> None:
        index = index_skeleton(giant)
        for x, y, z in places[:: max(1, n // max(1, n // 10))]:
            view_content(index, (x, y, z), 2000.0, "base")

    return measure


def _assign_controls(n: int, folder: Path) -> Step:
    from connectomebench.sites.matched_controls import assign_controls

    rng = np.random.default_rng(0)
    cases, controls = rng.normal(size=(1000, 6)), rng.normal(size=(n, 6))
    return lambda: assign_controls(cases, controls, 3)


def _match_rendered(n: int, folder: Path) -> Step:
    from connectomebench.sites.matched_controls import ControlConfig, match_rendered

    rng = np.random.default_rng(0)
    is_case = np.arange(n) % 4 == 0
    features = rng.normal(size=(n, 60)) + 0.2 * is_case[:, None]
    groups = np.array([f"g{i // GROUP_ROWS}" for i in range(n)])
    return lambda: match_rendered(features, is_case, groups, ControlConfig())


def _partition(n: int, folder: Path) -> Step:
    from connectomebench.partition.assign import PartitionConfig, partition_sites

    every, bounds = sites(n), source_info(n).bounds_nm
    return lambda: partition_sites(every, PartitionConfig(max_validation=n, max_test=n), bounds)


def _write(n: int, folder: Path) -> Step:
    from connectomebench.dataset.schema import write_partition

    rows = stored_rows(n)

    def write() -> None:
        for partition, own in rows.items():
            write_partition(folder / SPECIES, TASK, partition, own, len(own), 1000 * len(own))

    return write


def _leaks_in_ids(n: int, folder: Path) -> Step:
    from connectomebench.dataset.leakage import id_leaks

    where = write_rows(folder, n)
    return lambda: id_leaks({TASK: where}, "segment")


def _leaks_in_pictures(n: int, folder: Path) -> Step:
    from connectomebench.dataset.leakage import PictureHashes, near_pictures

    rng = np.random.default_rng(0)
    # a third of the bits is set rarely, as where margins are white
    rare = rng.random((2, n, 22)) < 0.02
    often = rng.random((2, n, 42)) < 0.5
    order = rng.permutation(64)
    bits = np.concatenate([rare, often], axis=2)[:, :, order]
    values: NDArray[np.uint64] = np.packbits(bits, axis=2).view(">u8")[..., 0].astype(np.uint64)
    thumbnails = rng.normal(size=(2, n, 256)).astype(np.float32)
    thumbnails /= np.linalg.norm(thumbnails, axis=2, keepdims=True)
    names = [str(i) for i in range(n)]
    left, right = (PictureHashes(names, values[k], thumbnails[k]) for k in (0, 1))
    return lambda: near_pictures(left, right)


def _small_columns(n: int, folder: Path) -> Step:
    from connectomebench.dataset.schema import read_small_columns

    where = write_rows(folder, n)
    return lambda: [read_small_columns(where, partition) for partition in PARTITIONS]


def _metadata_cue(n: int, folder: Path) -> Step:
    from datasets import load_dataset

    from connectomebench.evaluation.cue_scores import score_cue
    from connectomebench.models.cues import CUES

    where = write_rows(folder, n)
    files = {p: str(where / f"{p}-*.parquet") for p in PARTITIONS}
    rows: Any = load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))
    cue = next(cue for cue in CUES if cue.name == "metadata")
    return lambda: score_cue(cue, rows["train"], rows["test"])


def _write_results(n: int, folder: Path) -> Step:
    from connectomebench.evaluation.results import read_results, write_results

    rows = records(n).to_dict("records")

    def both() -> None:
        read_results(write_results(folder / "test.parquet", rows))

    return both


def _summarise(n: int, folder: Path) -> Step:
    from connectomebench.evaluation.results import summarise

    frame = records(n)
    return lambda: summarise(frame)


def _compare(n: int, folder: Path) -> Step:
    import pandas as pd

    from connectomebench.evaluation.results import compare

    frame = pd.concat([records(n, "a"), records(n, "other").assign(answer=records(n, "a")["answer"])])
    return lambda: compare(frame, "a", "other")


def _report_samples(n: int, folder: Path) -> Step:
    from connectomebench.report.samples import summarise_dataset

    where = write_rows(folder, n)
    return lambda: summarise_dataset(where.parent, TASK, SPECIES)


SHORT, LONG = (1_000, 10_000, 100_000), (1_000, 10_000, 100_000, 1_000_000)
STEPS: dict[str, tuple[Callable[[int, Path], Step], tuple[int, ...]]] = {
    "build: find candidates": (_candidates, SHORT),
    "build: coverage": (_coverage, SHORT),
    "build: view content": (_view_content, SHORT),
    "build: assign controls": (_assign_controls, LONG),
    "build: match rendered": (_match_rendered, SHORT),
    "build: partition": (_partition, LONG),
    "build: write rows": (_write, SHORT),
    "build: leaks in ids": (_leaks_in_ids, SHORT),
    "build: leaks in pictures": (_leaks_in_pictures, SHORT),
    "load: small columns": (_small_columns, SHORT),
    "check: metadata": (_metadata_cue, SHORT),
    "evaluate: write and read records": (_write_results, SHORT),
    "report: summarise": (_summarise, SHORT),
    "report: compare": (_compare, SHORT),
    "report: samples": (_report_samples, SHORT),
}


def run_here(step: str, n: int) -> dict[str, float]:
    """Prepare and time one step in this process; the step is run once on few items first, to load what it needs."""
    prepare = STEPS[step][0]
    with tempfile.TemporaryDirectory() as folder:
        prepare(200, Path(folder) / "warm")()
        timed = prepare(n, Path(folder) / "items")
        start, cpu = time.perf_counter(), time.process_time()
        timed()
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def run_apart(step: str, n: int) -> dict[str, Any]:
    """Time one step in a process of its own."""
    command = [sys.executable, __file__, "--only", step, str(n)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {TIMEOUT_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def exponent(times: dict[int, float]) -> float | None:
    """Slope of log time over log items, from the two largest sizes that took long enough to measure."""
    slow = sorted(n for n, seconds in times.items() if seconds >= SHORTEST_S)[-2:]
    if len(slow) < 2:
        return None
    return math.log(times[slow[1]] / times[slow[0]]) / math.log(slow[1] / slow[0])


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", nargs="+", default=[""], metavar="WORD", help="steps whose name holds one of these")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of items (default: all that a step is made for)")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run_here(options.only[0], int(options.only[1]))))
        return
    found: dict[str, Any] = {}
    for step, (_, sizes) in STEPS.items():
        if not any(word in step for word in options.steps):
            continue
        runs = {n: run_apart(step, n) for n in options.sizes or sizes}
        slope = exponent({n: run["cpu_s"] for n, run in runs.items() if "cpu_s" in run})
        found[step] = {"runs": {str(n): run for n, run in runs.items()}, "exponent": slope}
        if not options.json:
            for n, run in runs.items():
                shown = (
                    run.get("failed")
                    or f"{run['seconds']:8.3f} s  {run['cpu_s']:8.3f} s of cores  {run['peak_gb']:.2f} GB"
                )
                print(f"{step:34} {n:>9,}  {shown}", flush=True)
            print(f"{step:34} exponent {slope if slope is None else round(slope, 2)}", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
