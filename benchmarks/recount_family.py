"""Check the written rows of several segmentations again, from the raw volumes and with other code than the build's.

    python benchmarks/recount_family.py OUT --config examples/fib25_family.yaml

For every task: rows, groups and cases left after each step; labels that the volumes contradict; corrections that are
asked in two segmentations; questions about the same segments at the same place; and over all tasks the places and
segments in two partitions. A body's core is the body eroded twice by itself.

- `merge_action` and `merge_action_with_em`: the bodies that hold most of the two segments' cores are the same where the
  answer is yes.
- ends: the core of the segment's body goes on outside the segment, at least 200 connected voxels of it with any of
  them within 200 nm of the end, where the answer is yes (within 300 nm) and nowhere where it is no.
- places of merge errors: so do the cores of two bodies inside the segment.
- `split_action`: the segment holds the cores of two bodies. Seeds are not stored, so the cut itself is not judged.

Prints JSON; exit status 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recount_controls import EROSION, MIN_VOXELS, RADIUS_NM, large_parts

from connectomebench.build.config import load_config
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.schema import read_small_columns

COLUMNS = (
    "sample_id", "answer", "source", "segment_ids", "body_ids", "location_nm", "extent_nm", "edit_id", "group",
)  # fmt: skip
# a correction lies within the radius of its end; the voxels beyond it may begin a little further on
REACH_NM = 100.0


@dataclass(frozen=True)
class Raw:
    """The volumes as arrays, axes x, y, z: truth, its cores (0 outside), segmentations by name; voxel centres, nm."""

    bodies: NDArray[Any]
    cores: NDArray[Any]
    segmentations: Mapping[str, NDArray[Any]]
    centres_nm: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

    def around(self, place: Any, radius_nm: float) -> tuple[slice, slice, slice]:
        """Cut out the cube of one view round a place, so that parts are connected within it."""
        spans = []
        for centres, at in zip(self.centres_nm, place, strict=True):
            inside = np.flatnonzero(np.abs(centres - at) <= radius_nm)
            spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return spans[0], spans[1], spans[2]

    def near(self, place: Any, radius_nm: float, box: tuple[slice, slice, slice]) -> NDArray[np.bool_]:
        """Mark the voxels of a box within a distance of a place."""
        x, y, z = ((centres[span] - at) ** 2 for centres, at, span in zip(self.centres_nm, place, box, strict=True))
        return x[:, None, None] + y[None, :, None] + z[None, None, :] <= radius_nm**2


def eroded(bodies: NDArray[Any], rounds: int) -> NDArray[Any]:
    """Set to 0 the voxels that touch another body, so many times; the border of the volume erodes nothing."""
    core = bodies.copy()
    for _ in range(rounds):
        kept = np.ones(core.shape, bool)
        for axis in range(3):
            same = np.take(core, range(1, core.shape[axis]), axis) == np.take(core, range(core.shape[axis] - 1), axis)
            before = [slice(None)] * 3
            after = [slice(None)] * 3
            before[axis], after[axis] = slice(None, -1), slice(1, None)
            kept[tuple(before)] &= same
            kept[tuple(after)] &= same
        core = np.where(kept, core, 0)
    return core


def most_core(raw: Raw, source: str, segment: int) -> list[int]:
    """Bodies by their core in a segment, the largest first, those of at least ``MIN_VOXELS``; else the largest body."""
    inside = raw.segmentations[source] == segment
    for labels, least in ((raw.cores, MIN_VOXELS), (raw.bodies, 1)):
        ids, counts = np.unique(labels[inside], return_counts=True)
        order = [i for i in np.argsort(-counts, kind="stable") if ids[i] and counts[i] >= least]
        if order:
            return [int(ids[i]) for i in order]
    return []


def contradicted(task: str, row: Mapping[str, Any], raw: Raw) -> str | None:
    """Say what the volumes have against a label; None where they agree."""
    yes, source, place = row["answer"] == "yes", row["source"], row["location_nm"]
    segments = row["segment_ids"]
    found = [most_core(raw, source, segment) for segment in segments]
    if task in ("merge_action", "merge_action_with_em"):
        return None if (found[0][0] == found[1][0]) == yes else f"bodies {found[0][0]} and {found[1][0]}"
    if task in ("split_action", "split_action_with_em"):
        return None if len(found[0]) > 1 else "one body alone"
    box = raw.around(place, 3 * RADIUS_NM)
    inside = raw.segmentations[source][box] == segments[0]
    cores = raw.cores[box]
    near = raw.near(place, RADIUS_NM + (REACH_NM if yes else 0), box)
    if task in ("merge_error_identification", "merge_error_identification_with_em"):
        bodies = [b for b in found[0] if large_parts((cores == b) & inside, near)]
        return None if (len(bodies) > 1) == yes else f"{len(bodies)} bodies here"
    goes_on = large_parts((cores == found[0][0]) & ~inside, near)
    return None if bool(goes_on) == yes else f"{goes_on} voxels beyond"


def overlapping(rows: list[dict[str, Any]]) -> int:
    """Count the pairs of rows of two partitions whose views overlap."""
    places = np.array([row["location_nm"] for row in rows])
    extents = np.array([row["extent_nm"] for row in rows])
    sides = np.array([PARTITIONS.index(row["partition"]) for row in rows])
    count = 0
    for i in range(len(rows)):
        gap = np.abs(places[i + 1 :] - places[i]).max(axis=1)
        count += int(((gap < (extents[i + 1 :] + extents[i]) / 2) & (sides[i + 1 :] != sides[i])).sum())
    return count


def asked_twice(rows: list[dict[str, Any]], same_place_nm: float) -> int:
    """Count pairs of cases of two segmentations on the same bodies whose places lie as close as one correction's."""
    cases = [row for row in rows if row["answer"] == "yes"]
    return sum(
        a["source"] != b["source"]
        and set(a["body_ids"]) == set(b["body_ids"])
        and float(np.linalg.norm(np.subtract(a["location_nm"], b["location_nm"]))) <= same_place_nm
        for a, b in itertools.combinations(cases, 2)
    )


def main() -> int:
    """Recount and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    args = parser.parse_args()
    config = load_config(args.config)
    source = config.source.volumes
    assert source is not None and source.proofread is not None, "a configuration with a truth"
    assert isinstance(source.automatic, dict), "a configuration with several segmentations"

    def read(spec: Any) -> NDArray[Any]:
        with np.load(args.config.parent / spec.path) as stored:
            return np.transpose(stored[spec.key], [spec.axes.index(axis) for axis in "xyz"])

    bodies = read(source.proofread)
    spec = source.proofread
    offset, voxel = np.asarray(spec.offset_vx), np.asarray(spec.voxel_size_nm)
    x, y, z = ((np.arange(n) + offset[a] + 0.5) * voxel[a] for a, n in enumerate(bodies.shape))
    automatic = {f"{source.name}/{name}": read(one) for name, one in source.automatic.items()}
    raw = Raw(bodies, eroded(bodies, EROSION), automatic, (x, y, z))

    result: dict[str, Any] = {}
    every: list[dict[str, Any]] = []
    wrong = 0
    for task in config.tasks:
        rows = [
            row | {"partition": partition}
            for partition in PARTITIONS
            for row in read_small_columns(args.out / task / config.species, partition, COLUMNS).to_pylist()
        ]
        entry = read_manifest(args.out / task)["species"][config.species]
        against = {row["sample_id"]: f"{row['answer']}: {c}" for row in rows if (c := contradicted(task, row, raw))}
        edits = Counter((row["source"], row["edit_id"], *row["segment_ids"]) for row in rows if row["edit_id"])
        places = Counter((row["source"], *row["segment_ids"], *row["location_nm"]) for row in rows)
        found = {
            "rows": {p: sum(row["partition"] == p for row in rows) for p in PARTITIONS},
            "groups": {p: len({row["group"] for row in rows if row["partition"] == p}) for p in PARTITIONS},
            "by segmentation": dict(sorted(Counter(row["source"] for row in rows).items())),
            "cases": entry["cases"],
            "bodies": entry["partition"],
            "contradicted": against,
            "a correction and segment twice": sum(n > 1 for n in edits.values()),
            "the same segments at the same place twice": sum(n > 1 for n in places.values()),
            "cases of two segmentations within half of `same_place_nm`": asked_twice(rows, source.same_place_nm / 2),
        }
        wrong += len(against) + sum(found[name] for name in found if name.endswith("twice"))
        result[task] = found
        every += rows
    sides: dict[tuple[str, int], set[str]] = {}
    for row in every:
        for segment in row["segment_ids"]:
            sides.setdefault((row["source"], segment), set()).add(row["partition"])
    result["views of two partitions that overlap"] = overlapping(every)
    result["segments in two partitions"] = sum(len(where) > 1 for where in sides.values())
    wrong += result["views of two partitions that overlap"] + result["segments in two partitions"]
    print(json.dumps(result, indent=1))
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
