"""Measure how well each kind of candidate finds the merge errors of a segmentation, and count again from the arrays.

    python benchmarks/recount_candidates.py --config examples/fib25_family.yaml --segmentation ffn --cache DIR

Prints JSON: recall, precision and candidates per mm of skeleton for each kind and for all together, one a place; the
same for as many skeleton nodes drawn at random; what each sign of a contact of supervoxels does alone; and two
recounts. The first compares every candidate with every point of every localised split; exit status 1 where it differs
from what a build would write. The second knows nothing of the corrections and reads the arrays itself: a pair of bodies
counts where a segment holds at least ``min_core_voxels`` voxels of the core of each (eroded by itself) and the two
touch inside it, wherever and however little; it is found where a candidate of the segment lies within
``merge_radius_nm`` of a face between them, and a candidate is right where such a face lies so near to it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.correction import Corrections
from connectomebench.core.geometry import Skeleton
from connectomebench.core.tasks import MERGE_ERROR_KINDS
from connectomebench.execution.runner import SerialRunner
from connectomebench.sites.candidates import Candidates, coverage, find_candidates, measure, one_a_place, path_mm
from connectomebench.sites.interface_scores import interface_scores, interface_signs, joining_contacts
from connectomebench.sources.factory import open_source
from connectomebench.sources.family import SegmentationFamily

DRAWS = 20


def read(config: BuildConfig, base: Path, spec: Any) -> NDArray[Any]:
    """Read an array of a configuration with numpy alone, axes x, y, z."""
    with np.load(base / spec.path) as stored:
        return np.transpose(stored[spec.key], [spec.axes.index(axis) for axis in "xyz"])


def fused_faces(
    segments: NDArray[Any], bodies: NDArray[Any], erosion: int, least: int
) -> dict[Any, NDArray[np.float64]]:
    """Find pairs of bodies that a segment fuses: (segment, body, body) -> middles of the faces between them, voxels."""
    core = np.zeros(bodies.shape, bool)
    for body, box in enumerate(ndimage.find_objects(bodies.astype(np.int64)), 1):
        if box is not None:
            wide = tuple(slice(max(s.start - erosion, 0), s.stop + erosion) for s in box)
            core[wide] |= ndimage.binary_erosion(bodies[wide] == body, iterations=erosion, border_value=1)
    pairs, counts = np.unique(
        np.stack([segments[core & (bodies > 0)], bodies[core & (bodies > 0)]], axis=1), axis=0, return_counts=True
    )
    real = {tuple(pair) for pair, n in zip(pairs.tolist(), counts, strict=True) if pair[0] and n >= least}
    found: dict[Any, list[NDArray[np.float64]]] = {}
    for axis in range(3):
        before = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        after = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        across = (segments[before] == segments[after]) & (bodies[before] != bodies[after]) & (segments[before] > 0)
        at = np.argwhere(across)
        trios = np.stack([segments[before][across], bodies[before][across], bodies[after][across]], axis=1)
        middles = at + 0.5 + 0.5 * (np.arange(3) == axis)
        for trio in np.unique(trios, axis=0).tolist():
            segment, one, two = trio
            if (segment, one) in real and (segment, two) in real:
                key = (segment, min(one, two), max(one, two))
                found.setdefault(key, []).append(middles[(trios == trio).all(axis=1)])
    return {key: np.concatenate(points) for key, points in found.items()}


def recount(found: Candidates, targets: list[tuple[int, NDArray[np.float64]]], radius_nm: float) -> tuple[int, int]:
    """Compare candidates with all points (nm) of each target, which has a segment; count targets found, right ones."""
    right = np.zeros(len(found.segments), bool)
    reached = 0
    for segment, points in targets:
        rows = np.flatnonzero(found.segments == np.uint64(segment))
        near = np.zeros(len(rows), bool)
        for i, row in enumerate(rows):
            near[i] = (((points - found.points_nm[row].astype(np.float64)) ** 2).sum(axis=1) <= radius_nm**2).any()
        right[rows] |= near
        reached += bool(near.any())
    return reached, int(right.sum())


def by_chance(
    skeletons: dict[int, Skeleton], count: int, corrections: Corrections, radius_nm: float, length_mm: float
) -> dict[str, float]:
    """Measure skeleton nodes drawn at random along the path, as many as there are candidates; means of 20 draws."""
    segments = np.concatenate([np.full(len(s.nodes_nm), i, np.uint64) for i, s in skeletons.items()])
    points = np.concatenate([s.nodes_nm for s in skeletons.values()])
    measured = []
    for seed in range(DRAWS):
        rows = np.random.default_rng(seed).choice(len(points), min(count, len(points)), replace=False)
        ones = np.ones(len(rows), np.float32)
        some = Candidates(segments[rows], points[rows], ones, np.full(len(rows), "branch"), ones)
        measured.append(coverage(some, corrections, "branch", radius_nm, length_mm).as_dict())
    return {name: round(float(np.mean([m[name] for m in measured])), 4) for name in ("recall", "precision")}  # type: ignore[arg-type]


def main() -> int:
    """Measure, recount and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--segmentation", help="which one, where the configuration names several")
    parser.add_argument("--key", help="another array of the same file as the segmentation, for example ws")
    parser.add_argument("--cache", type=Path, help="folder for what is slow to find; a temporary one by default")
    args = parser.parse_args()
    config, base = load_config(args.config), args.config.parent
    volumes = config.source.volumes
    assert volumes is not None and volumes.proofread is not None, "a configuration of volumes with a truth"
    spec = volumes.automatic[args.segmentation] if isinstance(volumes.automatic, dict) else volumes.automatic
    spec = replace(spec, key=args.key) if args.key else spec
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        own = replace(config.source, volumes=replace(volumes, automatic=spec))
        source = open_source(own, config.species, args.cache or Path(folder), base, SerialRunner())
        assert not isinstance(source, SegmentationFamily)
        corrections, rules = source.corrections(), config.candidates
        sizes = corrections.overlaps.segment_sizes()
        large = sorted(s for s, size in sizes.items() if size >= config.sites.min_segment_voxels)
        skeletons = dict(source.skeletons(large))
        before = time.process_time()
        interfaces = source.supervoxel_interfaces(skeletons)
        searched_s = time.process_time() - before
    length, radius = path_mm(skeletons.values()), rules.merge_radius_nm
    found = find_candidates(skeletons.items(), rules, interfaces)
    measured = measure(found, corrections, MERGE_ERROR_KINDS, rules, length)
    parts = {kind: found.of_kind(kind) for kind in measured["kinds"]}
    parts["all"] = one_a_place(found, tuple(measured["kinds"]), rules.min_distance_nm)
    segments, bodies = read(config, base, spec), read(config, base, volumes.proofread)
    limits = volumes.corrections
    erosion = max(limits.erosion)
    assert limits.erosion == (erosion,) * 3, "one erosion along all axes"
    voxel, offset = np.asarray(spec.voxel_size_nm), np.asarray(spec.offset_vx)
    faces = fused_faces(segments, bodies, erosion, limits.min_core_voxels)
    pairs = [(key[0], (points + offset) * voxel) for key, points in faces.items() if key[0] in skeletons]
    splits = [(split.segment, np.asarray(split.points_nm, np.float64)) for split in corrections.splits]
    result: dict[str, Any] = {
        "segmentation": args.key or args.segmentation,
        "path_mm": round(length, 4),
        "splits": len(corrections.splits),
        "contacts of supervoxels": 0 if interfaces is None else len(interfaces.segments),
        "seconds for these": round(searched_s, 1),
        "seconds": round(time.process_time() - started, 1),
    }
    wrong = False
    for name, own_found in parts.items():
        of_build = measured if name == "all" else measured["kinds"][name]
        n = max(len(own_found.segments), 1)
        reached, right = recount(own_found, splits, radius)
        wrong |= (reached, right) != (
            round(of_build["recall"] * len(splits)),
            round((of_build["precision"] or 0.0) * of_build["candidates"]),
        )
        pairs_reached, right_at_pairs = recount(own_found, pairs, radius)
        result[name] = {
            "candidates": of_build["candidates"],
            "per mm": round(of_build["candidates_per_mm"], 1),
            "recall": round(of_build["recall"], 4),
            "precision": round(of_build["precision"] or 0, 4),
            "by chance": by_chance(skeletons, of_build["candidates"], corrections, radius, length),
            "recount of splits": [reached, right],
            "pairs in the arrays": {
                "pairs": len(pairs),
                "recall": round(pairs_reached / len(pairs), 4),
                "precision": round(right_at_pairs / n, 4),
            },
            "curve": [
                [round(p["candidates_per_mm"], 1), round(p["recall"], 3), round(p["precision"], 3)]
                for p in of_build.get("curve", [])
            ],
        }
    if interfaces is not None:
        joining = interfaces.take(joining_contacts(interfaces, rules.min_side_voxels))
        result["signs of contacts that join large parts"] = signs(joining, corrections, radius, length)
    print(json.dumps(result, indent=1))
    return int(wrong)


def signs(
    interfaces: Any, corrections: Corrections, radius_nm: float, length_mm: float
) -> dict[str, list[list[float]]]:
    """Rank contacts by one sign alone: candidates per mm, recall and precision of the first 5% to all of them."""
    rows = {}
    for name, sign in (interface_signs(interfaces) | {"score": interface_scores(interfaces)}).items():
        points = []
        for share in (0.05, 0.1, 0.2, 0.4, 1.0):
            kept = np.argsort(-sign, kind="stable")[: round(share * len(sign))]
            own = interfaces.take(kept)
            some = Candidates(
                own.segments,
                own.points_nm,
                own.depths_nm,
                np.full(len(kept), "interface"),
                sign[kept].astype(np.float32),
            )
            one = coverage(some, corrections, "interface", radius_nm, length_mm).as_dict()
            points.append([round(float(one[key] or 0), 3) for key in ("candidates_per_mm", "recall", "precision")])
        rows[name] = points
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
