"""Time correction extraction on volumes of 64³ to 1024³ voxels.

    python benchmarks/corrections.py --json

The volumes are tiled from a base with ids made unique per tile, and made block by block as they are read, so that
memory is that of the extraction. The base is the FIB-25 cube (flood-filling networks against the proofread truth) where
../shared/data is at hand, else a synthetic one with cut, fused and jittered bodies. Each size runs in a process of its
own, after a warm-up that compiles the kernels. Making the blocks is also timed alone; `voxels_per_s` is without it,
`voxels_per_s_with_reading` with it. `scaling_exponent` is that of time over voxels, from 256³ up.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes
from numba import njit
from numpy.typing import NDArray

from connectomebench.core.correction import CorrectionConfig, Corrections
from connectomebench.core.volume import IntPoint
from connectomebench.corrections.find import find_corrections

FIB25 = Path(__file__).parents[2] / "shared" / "data" / "fib25_cube" / "fib25_cube.npz"
SIZES = (64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class TiledVolume:
    """A base label volume repeated in all directions; ids of every tile are its own. Axes x, y, z."""

    base: NDArray[Any]
    shape: IntPoint
    voxel_size_nm: tuple[float, float, float] = (10.0, 10.0, 10.0)
    offset_vx: IntPoint = (0, 0, 0)

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Make the voxels ``lower`` .. ``upper``, Fortran order."""
        out = np.empty(np.subtract(upper, lower)[::-1], self.base.dtype)
        tiles = np.array([-(-size // edge) for size, edge in zip(self.shape, self.base.shape, strict=True)])
        _make_tiles(self.base.T, out, np.array(lower), tiles, self._ids_of_a_tile)
        return out.T

    @cached_property
    def _ids_of_a_tile(self) -> int:
        # once: reads of single voxels would each search the whole base
        return int(self.base.max()) + 1


@njit(nogil=True, cache=True)
def _make_tiles(base, out, lower, tiles, step):
    """Fill ``out`` from ``base``, both with axes z, y, x; ``lower`` and ``tiles`` are x, y, z."""
    depth, height, width = base.shape
    for k in range(out.shape[0]):
        z = lower[2] + k
        for j in range(out.shape[1]):
            y = lower[1] + j
            source = base[z % depth, y % height]
            target = out[k, j]
            done = 0
            while done < len(target):
                x = lower[0] + done
                first = x % width
                length = min(width - first, len(target) - done)
                number = (x // width * tiles[1] + y // height) * tiles[2] + z // depth
                _add_where_filled(source[first : first + length], target[done : done + length], number * step)
                done += length


@njit(nogil=True, cache=True)
def _add_where_filled(source, target, number):
    shift = target.dtype.type(number)
    for k in range(len(target)):
        target[k] = source[k] + shift if source[k] != 0 else source[k]


def cube(edge: int) -> IntPoint:
    """Shape of a cube."""
    return edge, edge, edge


def fib25_base(dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Automatic and proofread labels of the FIB-25 cube, ids made consecutive."""
    with np.load(FIB25, allow_pickle=False) as arrays:
        automatic, proofread = (arrays[name].transpose(2, 1, 0) for name in ("ffn", "gt"))
    return _consecutive(automatic, dtype), _consecutive(proofread, dtype)


def synthetic_base(dtype: str, edge: int = 128, bodies: int = 120) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bodies that are the cells of random points, and an automatic segmentation of them with errors of all kinds.

    A fifth of the bodies is cut in two, one in ten is fused with a neighbour, borders are jittered by a
    voxel, and a membrane of background lies between segments.
    """
    from scipy.ndimage import minimum_filter
    from scipy.spatial import KDTree

    rng = np.random.default_rng(0)
    # Squeezed along z: cells become long, as neurites are.
    points = rng.random((bodies, 3)) * (edge, edge, edge / 4)
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * (1, 1, 0.25)
    nearest: NDArray[Any] = (
        np.asarray(KDTree(points).query(grid + rng.normal(0, 0.3, (edge**3, 1)))[1]).reshape(cube(edge)) + 1
    )
    clean: NDArray[Any] = np.asarray(KDTree(points).query(grid)[1]).reshape(cube(edge)) + 1
    segments = nearest.copy()
    for body in range(1, bodies + 1, 5):
        half = segments == body
        half[:, :, : int(points[body - 1, 2] * 4)] = False
        segments[half] = bodies + body
    for body in range(2, bodies, 10):
        beside = clean[1:][(clean[:-1] == body) & (clean[1:] != body)]
        if len(beside):
            segments[segments == body] = np.bincount(beside).argmax()
    segments[minimum_filter(segments, 3) != segments] = 0
    return _consecutive(segments, dtype), _consecutive(clean, dtype)


def _consecutive(labels: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Renumber labels from 1, keeping 0, in Fortran order."""
    ids = np.unique(labels)
    ids = ids[ids != 0]
    numbers = np.searchsorted(ids, labels) + 1
    return np.asfortranarray(np.where(labels == 0, 0, numbers).astype(dtype))


def volumes(size: int, dtype: str) -> tuple[TiledVolume, TiledVolume]:
    """Automatic and proofread volume of ``size``³ voxels."""
    automatic, proofread = fib25_base(dtype) if FIB25.exists() else synthetic_base(dtype)
    return TiledVolume(automatic, cube(size)), TiledVolume(proofread, cube(size))


def warm_up(dtype: str, threads: int | None) -> None:
    """Compile (or load) all kernels."""
    find_corrections(*volumes(128, dtype), CorrectionConfig(min_core_voxels=200), block=cube(64), threads=threads)


def time_size(size: int, dtype: str, threads: int | None) -> dict[str, Any]:
    """Extract the corrections of one volume, and read its blocks as often as that does."""
    from connectomebench.corrections.block_walk import BlockWalk

    automatic, proofread = volumes(size, dtype)
    warm_up(dtype, threads)
    rules = CorrectionConfig()
    seconds, counts = [], {}
    for _ in range(3 if size <= 256 else 1):
        start = time.perf_counter()
        counts = find_corrections(automatic, proofread, rules, threads=threads).counts
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    walk = BlockWalk(automatic, proofread, cube(256), threads, progress=False)
    start = time.perf_counter()
    for below in (rules.erosion, [rules.max_gap_vx + 1] * 3):
        for _ in walk.map(_nothing, walk.blocks, halo_below=below, halo_above=rules.erosion, title="reading"):
            pass
    reading_s = time.perf_counter() - start
    return {
        "voxels": size**3,
        "total_s": min(seconds),
        "reading_s": reading_s,
        "peak_rss_bytes": peak,
        "counts": counts,
    }


def _nothing(_: object) -> None:
    """Do nothing with a block that was read."""


def compare_in_one_piece(edge: int, dtype: str, threads: int | None) -> dict[str, Any]:
    """Extract in one piece and in small blocks, and tell whether all results are equal."""
    automatic, proofread = volumes(edge, dtype)
    whole = find_corrections(automatic, proofread, CorrectionConfig(), block=cube(edge), threads=1)
    blocks = find_corrections(automatic, proofread, CorrectionConfig(), block=(100, 128, 90), threads=threads)
    return {"same_in_blocks": _same(whole, blocks), "merges": len(whole.merges), "splits": len(whole.splits)}


def _same(one: Corrections, other: Corrections) -> bool:
    tables = ("segments", "bodies", "voxels", "core_voxels")
    return (
        (one.merges, one.splits, one.body_of, one.fused, one.counts)
        == (other.merges, other.splits, other.body_of, other.fused, other.counts)
        and np.array_equal(one.unresolved_nm, other.unresolved_nm)
        and all(np.array_equal(getattr(one.overlaps, name), getattr(other.overlaps, name)) for name in tables)
    )


def compare_with_numpy(edge: int, dtype: str, threads: int | None) -> dict[str, Any]:
    """Time the overlap step against numpy and scipy, on arrays in memory."""
    from connectomebench.corrections.block_walk import BlockWalk
    from connectomebench.corrections.steps import count_overlaps

    warm_up(dtype, threads)
    automatic, proofread = (
        TiledVolume(volume.read((0, 0, 0), volume.shape), volume.shape) for volume in volumes(edge, dtype)
    )
    walk = BlockWalk(automatic, proofread, cube(128), threads, progress=False)
    start = time.perf_counter()
    ours = count_overlaps(walk, CorrectionConfig()).table
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    theirs = numpy_overlaps(automatic.base, proofread.base, rounds=3)
    numpy_s = time.perf_counter() - start
    columns = (ours.segments, ours.bodies, ours.voxels, ours.core_voxels)
    agree = all(np.array_equal(a, b) for a, b in zip(columns, theirs, strict=True))
    return {"overlaps_s": ours_s, "numpy_overlaps_s": numpy_s, "agrees_with_numpy": agree}


def numpy_overlaps(segments: NDArray[Any], bodies: NDArray[Any], rounds: int) -> tuple[NDArray[Any], ...]:
    """Overlap table as one would write it with numpy and scipy: segments, bodies, voxels, core voxels."""
    from scipy.ndimage import binary_erosion, generate_binary_structure

    core = np.ones(bodies.shape, bool)
    for axis in range(3):
        same = np.diff(bodies, axis=axis) == 0
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        core[tuple(ahead)] &= same
        core[tuple(behind)] &= same
    if rounds > 1:
        core = binary_erosion(core, generate_binary_structure(3, 1), iterations=rounds - 1, border_value=1)
    both = (segments != 0) & (bodies != 0)
    stride = int(bodies.max()) + 1
    pairs, inverse, voxels = np.unique(
        segments[both].astype(np.uint64) * stride + bodies[both], return_inverse=True, return_counts=True
    )
    core_voxels = np.bincount(inverse, weights=core[both]).astype(np.int64)
    return pairs // stride, pairs % stride, voxels, core_voxels


def in_own_process(what: str, edge: int, dtype: str, threads: int | None) -> dict[str, Any]:
    """Run one measurement in a fresh interpreter and return what it prints."""
    command = [sys.executable, __file__, "--only", what, "--sizes", str(edge), "--dtype", dtype]
    if threads is not None:
        command += ["--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def summarise(sizes: list[int], one_piece: int, against_numpy: int, dtype: str, threads: int | None) -> dict[str, Any]:
    """Run everything; see the keys at the end."""
    runs = {size: in_own_process("size", size, dtype, threads) for size in sizes}
    piece = in_own_process("piece", one_piece, dtype, threads)
    against = in_own_process("numpy", against_numpy, dtype, threads)
    net = {size: max(run["total_s"] - run["reading_s"], 1e-9) for size, run in runs.items()}
    # Below 256³ a volume is one block on one thread, and fixed costs show.
    large = [size for size in sizes if size >= 256]
    exponent = None
    if len(large) > 1:
        logs = [math.log(size**3) for size in large], [math.log(net[size]) for size in large]
        exponent = float(np.polyfit(*logs, 1)[0])
    return {
        "base": "fib25" if FIB25.exists() else "synthetic",
        "dtype": dtype,
        "voxels_per_s": {str(size): size**3 / net[size] for size in sizes},
        "voxels_per_s_with_reading": {str(size): size**3 / runs[size]["total_s"] for size in sizes},
        "reading_s": {str(size): runs[size]["reading_s"] for size in sizes},
        "scaling_exponent": exponent,
        "peak_rss_gb": max(run["peak_rss_bytes"] for run in runs.values()) / 1e9,
        "peak_rss_bytes": {str(size): runs[size]["peak_rss_bytes"] for size in sizes},
        "counts": {str(size): runs[size]["counts"] for size in sizes},
        "same_in_blocks": piece["same_in_blocks"],
        "one_piece_edge": one_piece,
        "ratio_vs_numpy": against["numpy_overlaps_s"] / against["overlaps_s"],
        **against,
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="edges of the volumes, voxels")
    parser.add_argument("--dtype", choices=("uint32", "uint64"), default="uint64", help="type of the labels")
    parser.add_argument("--threads", type=int, help="blocks in work at one time (default: one per core)")
    parser.add_argument("--one_piece", type=int, default=384, help="edge of the volume that is done in one piece, too")
    parser.add_argument("--against_numpy", type=int, default=256, help="edge of the volume that numpy does, too")
    parser.add_argument("--only", choices=("size", "piece", "numpy"), help=argparse.SUPPRESS)
    options = parse_sizes(parser, sizes=[64, 128], one_piece=192, against_numpy=128)
    measurements = {"size": time_size, "piece": compare_in_one_piece, "numpy": compare_with_numpy}
    if options.only:
        result = measurements[options.only](options.sizes[0], options.dtype, options.threads)
    else:
        result = summarise(options.sizes, options.one_piece, options.against_numpy, options.dtype, options.threads)
    if options.json or options.only:
        print(json.dumps(result))
        return
    for size, rate in result["voxels_per_s"].items():
        print(f"{size}³ voxels: {rate / 1e6:.0f} million voxels/s, {result['peak_rss_bytes'][size] / 1e9:.2f} GB")
    print(f"exponent {result['scaling_exponent']}, same in blocks: {result['same_in_blocks']}")
    print(f"overlap step against numpy and scipy: {result['ratio_vs_numpy']:.1f}x")


if __name__ == "__main__":
    main()
