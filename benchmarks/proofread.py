"""Time proofreading in blocks on volumes that are made as they are read.

    python benchmarks/proofread.py --json
    python benchmarks/proofread.py --sizes 256 512 --workers 1 2

The volumes are the FIB-25 cube (flood-filling networks, watershed as supervoxels, proofread truth) repeated with ids of
its own for every tile, or a synthetic cube where ../shared/data is absent; no volume is ever held or stored whole. Each
size and number of workers runs in a process of its own, with worker processes of a local Dask cluster. Corrections are
decided from the truth at their points, so that models take no time.

`seconds` are those of each stage: supervoxels, candidates (skeletons, contacts, partners), cuts, decisions and edits,
the written segmentation; `pictures_per_s` is the drawing of the first questions. `cpu_s` is that of all processes
together, warm-up and pictures included, which other work on the machine disturbs less; `exponent` is the slope of its
log over log voxels. `speed_up` is the time of the fewest workers over that of the most, `same_edits` whether edits
are the same for all numbers of workers. `one_piece` compares the edits of blocks with those of one piece on the
smallest size. `peak_gb`: this process, and the largest worker.
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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes
from corrections import FIB25, TiledVolume, _consecutive, cube, synthetic_base
from numpy.typing import NDArray

from connectomebench.build.config import BuildConfig, parse_config
from connectomebench.core.geometry import Box
from connectomebench.core.site import Point, Site
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import Runner
from connectomebench.proofreading.deciders import NOT_ASKED, Judgement, KnownError
from connectomebench.proofreading.drawing import make_drawer
from connectomebench.proofreading.finder import BlockFinder
from connectomebench.proofreading.loop import LoopConfig, run_loop
from connectomebench.proofreading.outputs import write_segmentation
from connectomebench.proofreading.place import Place, open_place_of
from connectomebench.proofreading.place_volumes import PlaceVolumes, open_here
from connectomebench.proofreading.proposals import Proposal, site_key
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.rendering.engines import choose_engine
from connectomebench.sources.volumes.volume_source import VolumeSource

SIZES = (256, 512)
VOXEL_NM = (10.0, 10.0, 10.0)
MAX_DENSITY = 30.0


@dataclass(frozen=True)
class NamedTiles(TiledVolume):
    """Tiles with a name, as proofreading wants volumes."""

    fingerprint: str = ""


@dataclass(frozen=True)
class TiledPlace:
    """Opens a place that is made as it is read; see ``VolumeOpener``."""

    size: int

    def open(self) -> PlaceVolumes:
        """Make volumes over the tiles; nothing but the base is held."""
        bases = _bases()
        shape = cube(self.size)
        made = {
            name: NamedTiles(base, shape, VOXEL_NM, (0, 0, 0), f"tiles {name} {self.size}")
            for name, base in bases.items()
        }
        config = _config()
        volumes = config.source.volumes
        assert volumes is not None
        source = _source(config).over(made["automatic"], made["proofread"], None, made["given"])
        high = self.size * VOXEL_NM[0]
        box = Box((0, 0, 0), (high, high, high))
        return PlaceVolumes(config, source, box, made["automatic"], made["proofread"], None, made["given"])


@lru_cache(maxsize=1)
def _bases() -> dict[str, NDArray[Any]]:
    if not FIB25.exists():
        automatic, proofread = synthetic_base("uint32")
        return {"automatic": automatic, "proofread": proofread, "given": automatic}
    with np.load(FIB25, allow_pickle=False) as arrays:
        names = {"automatic": "ffn", "proofread": "gt", "given": "ws"}
        return {name: _consecutive(arrays[key].transpose(2, 1, 0), "uint32") for name, key in names.items()}


def _config() -> BuildConfig:
    place = {"path": "base.npz", "axes": "xyz", "voxel_size_nm": list(VOXEL_NM), "offset_vx": [0, 0, 0]}
    return parse_config(
        {
            "species": "fly",
            "source": {
                "volumes": {
                    "name": "tiles",
                    "version": "1",
                    "automatic": {**place, "key": "automatic"},
                    "proofread": {**place, "key": "proofread"},
                    "corrections": {"min_core_voxels": 200},
                    "skeleton": {"downsample": [2, 2, 2]},
                    "border_nm": 60,
                }
            },
            "sites": {"extent_nm": [500, 500], "min_segment_voxels": 200},
            "candidates": {"radius_nm": 200, "merge_radius_nm": 200, "min_distance_nm": 60, "reach_nm": 200},
            "proposals": {
                "reach_nm": 800,
                "min_side_fraction": 0.01,
                "cuts": {"cutout_nm": 600, "min_body_voxels": 200},
            },
        }
    )


@lru_cache(maxsize=1)
def _source(config: BuildConfig) -> VolumeSource:
    """Open a source over a cube of 32 voxels, to be used over other volumes."""
    folder = Path(tempfile.mkdtemp(prefix="proofread-base-"))
    corner = {name: np.ascontiguousarray(base[:32, :32, :32]) for name, base in _bases().items()}
    np.savez(folder / "base.npz", **corner)  # type: ignore[arg-type]
    volumes = config.source.volumes
    assert volumes is not None
    return VolumeSource(volumes, config.species, folder / "cache", folder)


class TruthAtPoints:
    """Decides corrections from the bodies at their points, as a model would from pictures; places are not judged.

    Parameters
    ----------
    truth
        Bodies, read voxel by voxel.
    """

    end_task = "endpoint_error_identification"
    known_error: KnownError | None = None

    def __init__(self, truth: TiledVolume) -> None:
        self._truth = truth

    def can(self, operation: str) -> bool:
        """See ``Decider``."""
        return True

    def stands(self, proposal: Proposal, graph: SegmentationGraph) -> bool:
        """See ``Decider``."""
        return True

    def exhausted(self) -> bool:
        """See ``Decider``."""
        return False

    def identify(self, sites: Sequence[Site], source: VolumeSource) -> list[Judgement]:
        """See ``Decider``."""
        return [NOT_ASKED] * len(sites)

    def correct(self, proposals: Sequence[Proposal], source: VolumeSource, graph: SegmentationGraph) -> list[Judgement]:
        """See ``Decider``."""
        return [Judgement(0.97 if self._right(one) else 0.03) for one in proposals]

    def _right(self, one: Proposal) -> bool:
        mine, theirs = ({self._body(p) for p in points} for points in (one.source_points_nm, one.sink_points_nm))
        if 0 in mine | theirs:
            return False
        return mine == theirs if one.operation == "merge" else len(mine) == len(theirs) == 1 and mine != theirs

    def _body(self, at: Point) -> int:
        low = tuple(int(c // v) for c, v in zip(at, self._truth.voxel_size_nm, strict=True))
        return int(self._truth.read((low[0], low[1], low[2]), (low[0] + 1, low[1] + 1, low[2] + 1))[0, 0, 0])


def time_size(size: int, workers: int, block: int | None, pictures: int, rounds: int) -> dict[str, Any]:
    """Proofread a volume of ``size``³ voxels; see the keys of the module."""
    opener = TiledPlace(size)
    with (
        tempfile.TemporaryDirectory(prefix="proofread-") as folder,
        open_runner(f"local:{workers}" if workers else "none", 1) as runner,
    ):
        out = Path(folder)
        open_here(opener)  # its base is part of the benchmark; workers read theirs in the warm-up
        if workers:
            warm_up(runner, workers)
        seconds: dict[str, float] = {}
        place = _timed(seconds, "supervoxels", lambda: open_place_of(opener, out / "cache", block, runner))
        graph, finder = SegmentationGraph(place.supervoxels), BlockFinder(place, runner, MAX_DENSITY)
        dropped: Counter[str] = Counter()
        found = _timed(
            seconds,
            "candidates",
            lambda: finder.find(graph, TruthAtPoints.end_task, ("merge", "split"), None, dropped),
        )
        _timed(seconds, "cuts", lambda: finder.cuts(found, found.spots, graph, dropped))
        assert place.truth is not None
        decider, rules = TruthAtPoints(place.truth), LoopConfig(max_rounds=rounds)  # type: ignore[arg-type]
        result = _timed(seconds, "decisions and edits", lambda: run_loop(finder, graph, decider, rules))
        _timed(seconds, "segmentation", lambda: write_segmentation(place, graph, out))
        edits = [edit for one in result.rounds for edit in one.applied]
        sites = [one.site for one in found.merges[:pictures]]
        draw = make_drawer(runner, choose_engine("cpu"), place.config.views)
        drawing: dict[str, float] = {}
        if sites:
            _timed(drawing, "pictures", lambda: draw(sites, found.source))
    # workers are waited for when the runner closes: only then are they counted
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "size": size,
        "workers": workers,
        "blocks": len(place.spec.grid),
        "block_edge": place.spec.grid.edge[0],
        "halo": place.spec.grid.halo[0],
        "supervoxels": len(place.supervoxels.segments),
        "questions": len(found.merges),
        "places_of_merge_errors": len(found.spots),
        "dropped": dict(dropped),
        "edits": len(edits),
        "edit_ids": sorted(edit.edit_id for edit in edits),
        "points": sorted([edit.operation, [round(c, 1) for c in edit.location_nm]] for edit in edits),
        "seconds": seconds,
        "total_s": sum(seconds.values()),
        "voxels_per_s": {name: size**3 / s for name, s in seconds.items()},
        "voxels_per_s_in_all": size**3 / sum(seconds.values()),
        "pictures_per_s": len(sites) / drawing["pictures"] if sites else None,
        "cpu_s": sum(one.ru_utime + one.ru_stime for one in usage),
        "peak_gb": [round(one.ru_maxrss / 1e6, 3) for one in usage],
    }


def warm_up(runner: Runner, workers: int) -> None:
    """Have every worker import the package and compile the kernels, on a cube of 64 voxels each."""
    list(runner.run(_warm, list(range(4 * workers)), "warm-up"))


def _warm(_: int) -> int:
    from connectomebench.execution.runner import SerialRunner

    with tempfile.TemporaryDirectory() as folder:
        place: Place = open_place_of(TiledPlace(64), Path(folder), None, SerialRunner())
        finder = BlockFinder(place)
        found = finder.find(
            SegmentationGraph(place.supervoxels), TruthAtPoints.end_task, ("merge", "split"), None, Counter()
        )
        finder.cuts(found, found.spots[:2], SegmentationGraph(place.supervoxels), Counter())
    return len({site_key(one.site) for one in found.spots})


def _timed(seconds: dict[str, float], name: str, work: Any) -> Any:
    start = time.perf_counter()
    made = work()
    seconds[name] = time.perf_counter() - start
    return made


def in_own_process(size: int, workers: int, block: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in a fresh interpreter and return what it prints."""
    command = [sys.executable, __file__, "--only", str(size), str(workers), str(block)]
    command += ["--pictures", str(options.pictures), "--rounds", str(options.rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def summarise(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything."""
    runs: list[dict[str, Any]] = []
    for size in options.sizes:
        for workers in options.workers:
            runs.append(in_own_process(size, workers, options.block, options))
    least, most = min(options.workers), max(options.workers)
    by_size = {size: {run["workers"]: run for run in runs if run["size"] == size} for size in options.sizes}
    exponent = None
    if len(options.sizes) > 1:
        voxels = [math.log(s**3) for s in options.sizes]
        seconds = [math.log(by_size[s][least]["cpu_s"]) for s in options.sizes]
        exponent = float(np.polyfit(voxels, seconds, 1)[0])
    smallest = min(options.sizes)
    found: dict[str, Any] = {
        "base": "fib25" if FIB25.exists() else "synthetic",
        "max_density_um3": MAX_DENSITY,
        "exponent": exponent,
        "speed_up": {
            str(s): by_size[s][least]["total_s"] / by_size[s][most]["total_s"] for s in options.sizes if most > least
        },
        "same_edits": {
            str(s): len({json.dumps(run["edit_ids"]) for run in by_size[s].values()}) == 1 for s in options.sizes
        },
    }
    if options.one_piece:
        piece = in_own_process(smallest, 0, 0, options)
        blocks = in_own_process(smallest, 0, options.one_piece, options)
        found["one_piece"] = compare(piece, blocks)
    for run in runs:
        del run["edit_ids"], run["points"]
    return found | {"runs": runs}


def compare(piece: dict[str, Any], blocks: dict[str, Any]) -> dict[str, Any]:
    """Compare edits by what is done where: the same operation at the same place, to 0.1 nm."""
    one, other = ({json.dumps(p) for p in run["points"]} for run in (piece, blocks))
    return {
        "size": piece["size"],
        "block_edge": blocks["block_edge"],
        "edits_of_one_piece": piece["edits"],
        "edits_of_blocks": blocks["edits"],
        "in_both": len(one & other),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="edges of the volumes, voxels")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="worker processes; 0: this process")
    parser.add_argument("--block", type=int, default=256, help="edge of the blocks, voxels; 0 chooses it")
    parser.add_argument("--pictures", type=int, default=64, help="questions that are drawn")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of the loop")
    parser.add_argument(
        "--one-piece", type=int, default=128, metavar="EDGE", help="blocks compared with one piece; 0: none"
    )
    parser.add_argument("--only", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parse_sizes(parser, sizes=[128], workers=[1], block=64, pictures=4, one_piece=0)
    if options.only:
        size, workers, block = options.only
        print(json.dumps(time_size(size, workers, block or None, options.pictures, options.rounds)))
        return
    result = summarise(options)
    if options.json:
        print(json.dumps(result))
        return
    for run in result["runs"]:
        stages = ", ".join(f"{name} {s:.1f} s" for name, s in run["seconds"].items())
        rate = run["voxels_per_s_in_all"] / 1e6
        print(f"{run['size']}³, {run['workers']} workers: {rate:.2f} million voxels/s ({stages})")
    print(json.dumps({name: value for name, value in result.items() if name != "runs"}))


if __name__ == "__main__":
    main()
