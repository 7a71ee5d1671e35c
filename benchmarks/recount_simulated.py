"""Check the rows built from errors simulated in labels again, from the voxels and with other code than the build's.

    python benchmarks/recount_simulated.py OUT --config examples/mouse_simulated.yaml

The truth is read from the file of the configuration, the simulated segmentation from the cache of the build. A body's
core is the body eroded twice by itself. What must hold:

- `merge_action`: most voxels of the two segments lie in the same body where the answer is yes.
- `merge_action_multiple_choice`: the candidate of the answer alone shares the body of the segment; none does otherwise.
- `merge_error_identification`: the cores of two bodies lie inside the segment, at least ``min_case_voxels`` connected
  voxels of each with any of them in the view, where the answer is yes; where it is no, fewer than two lie within
  ``merge_radius_nm``.
- `split_action`: the segment holds ``min_core_voxels`` core voxels of two bodies.
- `segment_identity`: both views show one segment where the answer is yes, and segments of two bodies where it is no.

Prints JSON; exit status 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recount_family import eroded, overlapping
from scipy import ndimage

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import get_task
from connectomebench.dataset.schema import read_small_columns
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import open_source
from connectomebench.sources.volumes.volume_source import VolumeSource

COLUMNS = ("sample_id", "answer", "segment_ids", "body_ids", "choices", "location_nm", "extent_nm", "group")
EROSION = 2
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Raw:
    """Arrays with axes x, y, z: segments, bodies, their cores (0 outside); edge of a voxel, nm; boxes of segments."""

    segments: NDArray[Any]
    bodies: NDArray[Any]
    cores: NDArray[Any]
    voxel_nm: NDArray[np.float64]
    boxes: Mapping[int, Box]

    def held(self, segment: int, *, core: bool) -> dict[int, int]:
        """Count the voxels, or core voxels, of each body in a segment, the largest first."""
        box = self.boxes[segment]
        ids, counts = np.unique(
            (self.cores if core else self.bodies)[box][self.segments[box] == segment], return_counts=True
        )
        pairs = sorted(zip(ids.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
        return {body: n for body, n in pairs if body}

    def main_body(self, segment: int) -> int:
        """Return the body that holds most of a segment."""
        return next(iter(self.held(segment, core=False)))

    def bodies_near(self, segment: int, place: Any, radius_nm: float, least: int) -> int:
        """Count bodies with a large connected core inside a segment, any voxel of it within a distance of a place."""
        middle = np.asarray(place) / self.voxel_nm - 0.5
        reach = 2 * radius_nm / self.voxel_nm
        low = np.maximum(np.floor(middle - reach), 0).astype(int)
        high = np.minimum(np.ceil(middle + reach) + 1, self.segments.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        axes = [((np.arange(a, b) - m) * v) ** 2 for a, b, m, v in zip(low, high, middle, self.voxel_nm, strict=True)]
        near = axes[0][:, None, None] + axes[1][:, None] + axes[2] <= radius_nm**2
        cores = np.where(self.segments[box] == segment, self.cores[box], 0)
        found = 0
        for body in np.unique(cores[near]).tolist():
            if body:
                parts = np.zeros(cores.shape, np.int32)
                ndimage.label(cores == body, np.ones((3, 3, 3)), output=parts)
                sizes = np.bincount(parts.ravel())
                touched = np.unique(parts[near & (parts > 0)])
                found += bool((sizes[touched] >= least).any())
        return found


def contradicted(task: str, row: Mapping[str, Any], raw: Raw, config: BuildConfig) -> str | None:
    """Say what the voxels have against a label; None where they agree."""
    yes, segments = row["answer"] == "yes", row["segment_ids"]
    volumes = config.source.volumes
    assert volumes is not None
    if task in ("merge_action", "merge_action_with_em"):
        bodies = [raw.main_body(segment) for segment in segments]
        return None if (bodies[0] == bodies[1]) == yes else f"bodies {bodies}"
    if task == "merge_action_multiple_choice":
        own = raw.main_body(segments[0])
        right = [raw.main_body(choice) == own for choice in row["choices"]]
        wanted = [letter == row["answer"] for letter in get_task(task).labels[: len(right)]]
        return None if right == wanted else f"candidates of the body: {right}"
    if task in ("split_action", "split_action_with_em"):
        real = [n for n in raw.held(segments[0], core=True).values() if n >= volumes.corrections.min_core_voxels]
        return None if len(real) > 1 else "one body alone"
    if task == "segment_identity":
        bodies = [raw.main_body(segment) for segment in segments]
        same = len(set(segments)) == 1
        return None if same == yes and (yes or len(set(bodies)) == 2) else f"segments {segments}, bodies {bodies}"
    rules, radius = volumes.certainty, config.candidates.merge_radius_nm
    if yes:
        radius = max(radius, config.sites.extent_nm[0] / 2) + (1 + rules.erosion_vx) * float(raw.voxel_nm.max())
    found = raw.bodies_near(segments[0], row["location_nm"], radius, rules.min_case_voxels)
    return None if (found > 1) == yes else f"{found} bodies here"


def main() -> int:
    """Recount and print."""
    import crackle

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    args = parser.parse_args()
    config, base = load_config(args.config), args.config.parent
    volumes = config.source.volumes
    assert volumes is not None and volumes.simulated is not None, "a configuration with simulated errors"
    assert not isinstance(volumes.automatic, dict) and volumes.automatic.axes == "xyz"
    bodies = crackle.decompress(gzip.decompress((base / volumes.automatic.path).read_bytes()))
    source = open_source(config.source, config.species, args.out / ".cache" / "source", base, SerialRunner())
    assert isinstance(source, VolumeSource)
    segments = np.asarray(source.automatic.read((0, 0, 0), source.automatic.shape))
    assert segments.shape == bodies.shape and volumes.automatic.offset_vx == (0, 0, 0)

    result: dict[str, Any] = {}
    every: list[dict[str, Any]] = []
    tables = {
        task: [
            row | {"partition": partition}
            for partition in PARTITIONS
            for row in read_small_columns(args.out / task / config.species, partition, COLUMNS).to_pylist()
        ]
        for task in config.tasks
        if (args.out / task / config.species).exists()
    }
    wanted = sorted({i for rows in tables.values() for row in rows for i in (*row["segment_ids"], *row["choices"])})
    numbers = np.searchsorted(wanted, segments.ravel())
    numbers = np.where(np.append(wanted, 0)[numbers] == segments.ravel(), numbers + 1, 0).reshape(segments.shape)
    found = ndimage.find_objects(numbers.astype(np.int32))
    raw = Raw(
        segments,
        bodies,
        eroded(bodies, EROSION),
        np.asarray(volumes.automatic.voxel_size_nm, np.float64),
        dict(zip(wanted, found, strict=True)),
    )
    wrong = 0
    for task, rows in tables.items():
        against = {
            row["sample_id"]: f"{row['answer']}: {c}" for row in rows if (c := contradicted(task, row, raw, config))
        }
        result[task] = {
            "rows": {p: sum(row["partition"] == p for row in rows) for p in PARTITIONS},
            "groups": {p: len({row["group"] for row in rows if row["partition"] == p}) for p in PARTITIONS},
            "contradicted": against,
        }
        wrong += len(against)
        every += rows
    sides: dict[int, set[str]] = {}
    for row in every:
        for segment in row["segment_ids"]:
            sides.setdefault(segment, set()).add(row["partition"])
    result["views of two partitions that overlap"] = overlapping(every)
    result["segments in two partitions"] = sum(len(where) > 1 for where in sides.values())
    wrong += result["views of two partitions that overlap"] + result["segments in two partitions"]
    print(json.dumps(result, indent=1))
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
