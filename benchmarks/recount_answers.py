"""Count the answers of written choices, masks and pairs again, from raw volumes and with other code than the build's.

    python benchmarks/recount_answers.py OUT --config examples/fib25.yaml

`merge_action_multiple_choice`: the body of a segment is the one that most of its voxels are of in the proofread volume.
A row is wrong where the candidates of the base segment's body are not those that its answer names.
`split_mask_generation`: from each pixel of a coarse grid a ray runs through the segmentation, and the body of the first
voxel of the segment is compared with the mask, in the better naming of the two parts. Measured is the share of the rays
of either body on its own side, the smaller one: pieces that hold both bodies keep it below 1 in right rows, too. A row
is wrong where that is no better than the best of 12 straight lines that halve the segment of every view, which are
masks without knowledge.
`segment_identity`: both places are looked up in the segmentation, and the bodies of their segments counted.
Prints JSON; exit status 1 where a row is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.part_masks import STAYS, TAKEN, read_mask
from connectomebench.core.partitions import PARTITIONS

CHOICES, MASKS, PAIRS = "merge_action_multiple_choice", "split_mask_generation", "segment_identity"
RAYS = 48
"""Rays along an edge of a view."""
LINES = 12
"""Halves by a line that masks are compared with: what a mask without knowledge reaches."""
NEAR = 4
"""Voxels between a node of a skeleton, which is traced on a coarser grid, and its segment."""
_PAIR = re.compile(r".*split-\d+-(\d+)-(\d+)-\d+")
# axis to the right, axis downwards, axis of sight and its direction: x is 0, y is 1, z is 2
SIGHT = {"front": (0, 1, 2, 1), "side": (1, 2, 0, 1), "top": (0, 2, 1, -1)}

Volume = NDArray[np.integer]


def read_volumes(config: BuildConfig, base: Path) -> tuple[dict[str, Volume], Volume, NDArray[np.float64], Any]:
    """Read the arrays, axes x, y, z: segmentations by the name in `source`, the truth, and its voxel and offset."""
    source = config.source.volumes
    assert source is not None and source.proofread is not None, "a configuration of volumes with a truth"

    def read(spec: Any) -> Volume:
        array = np.load(base / spec.path)[spec.key]
        return np.transpose(array, [spec.axes.index(axis) for axis in "xyz"])

    several = source.automatic if isinstance(source.automatic, dict) else None
    automatic = (
        {source.name: read(source.automatic)}
        if several is None
        else {f"{source.name}/{name}": read(one) for name, one in several.items()}
    )
    spec = source.proofread
    return automatic, read(spec), np.asarray(spec.voxel_size_nm, np.float64), np.asarray(spec.offset_vx)


def rows_of(folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the written rows of a species, as the files hold them."""
    for partition in PARTITIONS:
        for path in sorted(folder.glob(f"{partition}-*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(64, columns=list(columns)):
                yield from batch.to_pylist()


def check_source(rows: Sequence[Mapping[str, Any]], automatic: Mapping[str, Volume]) -> None:
    """Refuse rows of another source than the configuration names."""
    if other := sorted({row["source"] for row in rows} - set(automatic)):
        raise SystemExit(f"the rows are of {other[0]}, not of {', '.join(automatic)}; give their own configuration")


def main_body(automatic: Volume, proofread: Volume, segment: int) -> int:
    """Return the body that most voxels of a segment are of; 0 where most are of none."""
    held, counts = np.unique(proofread[automatic == segment], return_counts=True)
    return int(held[counts.argmax()]) if len(held) else 0


def wrong_choices(
    rows: Sequence[Mapping[str, Any]], automatic: Mapping[str, Volume], proofread: Volume
) -> list[dict[str, Any]]:
    """List the rows whose answer is not the candidate of the base segment's body."""
    known: dict[tuple[str, int], int] = {}

    def body(source: str, segment: int) -> int:
        if (source, segment) not in known:
            known[source, segment] = main_body(automatic[source], proofread, segment)
        return known[source, segment]

    wrong = []
    for row in rows:
        base = body(row["source"], row["segment_ids"][0])
        right = ["abcd"[i] for i, one in enumerate(row["choices"]) if base and body(row["source"], one) == base]
        if right != ([] if row["answer"] == "none" else [row["answer"]]):
            wrong.append({"sample_id": row["sample_id"], "answer": row["answer"], "counted": right})
    return wrong


def seen_bodies(
    view: str, row: Mapping[str, Any], automatic: Volume, proofread: Volume, voxel: NDArray[np.float64], offset: Any
) -> NDArray[np.int64]:
    """Return the body of the first voxel of the segment along RAYS x RAYS lines of sight, -1 where there is none."""
    right, down, along, sign = SIGHT[view]
    segment, centre, extent = row["segment_ids"][0], np.asarray(row["location_nm"]), float(row["extent_nm"])
    shares = (np.arange(RAYS) + 0.5) / RAYS - 0.5
    depth = np.arange(-0.5, 0.5, 0.4 * float(voxel[along]) / extent) * sign
    found = np.full((RAYS, RAYS), -1, np.int64)
    for r, y in enumerate(shares):
        for c, x in enumerate(shares):
            points = np.tile(centre, (len(depth), 1))
            points[:, right] += x * extent
            points[:, down] += y * extent
            points[:, along] += depth * extent
            index = np.floor(points / voxel).astype(np.int64) - offset
            inside = ((index >= 0) & (index < automatic.shape)).all(axis=1)
            index = index[inside]
            hit = np.flatnonzero(automatic[tuple(index.T)] == segment)
            if len(hit):
                found[r, c] = int(proofread[tuple(index[hit[0]])])
    return found


def agreement(
    row: Mapping[str, Any], bodies: Mapping[str, NDArray[np.int64]], masks: Mapping[str, NDArray[np.uint8]]
) -> tuple[float, int]:
    """Return which share of the rays of either body lies on its own side of masks, the smaller one, and their number.

    The two bodies are those that the correction is named after, else the two that most is seen of; rays to others, and
    those beside a mask, say nothing.
    """
    pair = _PAIR.fullmatch(str(row.get("edit_id")))
    seen = np.concatenate([own[own > 0] for own in bodies.values()])
    held, counts = np.unique(seen, return_counts=True)
    first, second = [int(one) for one in pair.groups()] if pair else [*held[np.argsort(-counts, kind="stable")], -1][:2]
    rays = np.zeros((2, 2), np.int64)
    for view, mask in masks.items():
        at = ((np.arange(RAYS) + 0.5) / RAYS * len(mask)).astype(np.int64)
        shown = mask[np.ix_(at, at)]
        for k, body in enumerate((first, second)):
            own = shown[bodies[view] == body]
            rays[k] += (int((own == TAKEN).sum()), int((own == STAYS).sum()))
    total = rays.sum(axis=1)
    if not total.all():
        return 0.0, int(total.sum())
    shares = rays / total[:, None]
    return max(min(shares[0, side], shares[1, 1 - side]) for side in (0, 1)), int(total.sum())


def line_masks(row: Mapping[str, Any]) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """Yield masks without knowledge: the segment of every view halved by a line through its middle, at LINES angles."""
    segments = {view: read_mask(mask) > 0 for view, mask in zip(row["views"], row["target_images"], strict=True)}
    for angle in np.arange(LINES) * np.pi / LINES:
        masks = {}
        for view, segment in segments.items():
            down, across = np.indices(segment.shape)
            along = across * np.cos(angle) + down * np.sin(angle)
            taken = along < np.median(along[segment])
            masks[view] = np.where(segment, np.where(taken, TAKEN, STAYS), 0).astype(np.uint8)
        yield masks


def at_place(automatic: Volume, segment: int, place: Sequence[float], voxel: NDArray[np.float64], offset: Any) -> bool:
    """Tell whether a segment has a voxel within NEAR voxels of a place (x, y, z), nm."""
    middle = np.floor(np.asarray(place, np.float64) / voxel).astype(np.int64) - offset
    low = np.maximum(middle - NEAR, 0)
    box = tuple(slice(a, b) for a, b in zip(low, middle + NEAR + 1, strict=True))
    return bool((automatic[box] == segment).any())


def wrong_pairs(
    rows: Sequence[Mapping[str, Any]],
    automatic: Mapping[str, Volume],
    proofread: Volume,
    voxel: NDArray[np.float64],
    offset: Any,
) -> list[dict[str, Any]]:
    """List the rows whose two places are not those of one segment (yes), or of two segments of two bodies (no)."""
    wrong = []
    for row in rows:
        own = automatic[row["source"]]
        first, second = row["segment_ids"][0], row["segment_ids"][-1]
        places = ((first, row["location_nm"]), (second, row["second_place"][:3]))
        there = [at_place(own, segment, place, voxel, offset) for segment, place in places]
        bodies = [main_body(own, proofread, segment) for segment in (first, second)]
        apart = first != second and bodies[0] != bodies[1]
        if not all(there) or row["answer"] != ("no" if apart else "yes") or (first != second) != apart:
            wrong.append({"sample_id": row["sample_id"], "answer": row["answer"], "there": there, "bodies": bodies})
    return wrong


def recount(out: Path, config: BuildConfig, base: Path) -> dict[str, dict[str, Any]]:
    """Count the wrong rows of both tasks; those that were not built are left out."""
    automatic, proofread, voxel, offset = read_volumes(config, base)
    found: dict[str, dict[str, Any]] = {}
    if (folder := out / CHOICES / config.species).exists():
        rows = list(rows_of(folder, ("sample_id", "answer", "source", "segment_ids", "choices")))
        check_source(rows, automatic)
        wrong = wrong_choices(rows, automatic, proofread)
        found[CHOICES] = {"rows": len(rows), "wrong": len(wrong), "which": wrong}
    if (folder := out / MASKS / config.species).exists():
        columns = (
            "sample_id",
            "source",
            "edit_id",
            "segment_ids",
            "location_nm",
            "extent_nm",
            "views",
            "target_images",
        )
        shares, lines = [], []
        which = []
        for row in rows_of(folder, columns):
            check_source([row], automatic)
            own = automatic[row["source"]]
            bodies = {view: seen_bodies(view, row, own, proofread, voxel, offset) for view in row["views"]}
            masks = {view: read_mask(mask) for view, mask in zip(row["views"], row["target_images"], strict=True)}
            share, rays = agreement(row, bodies, masks)
            shares.append(share)
            lines.append([agreement(row, bodies, other)[0] for other in line_masks(row)])
            if share <= max(lines[-1]):
                line = round(max(lines[-1]), 3)
                which.append({"sample_id": row["sample_id"], "agreement": round(share, 3), "line": line, "rays": rays})
        found[MASKS] = {"rows": len(shares), "wrong": len(which), "agreement": spread(shares), "which": which}
        found[MASKS]["agreement of halves by a line"] = spread([value for own in lines for value in own])
        found[MASKS]["of the best of these lines"] = spread([max(own) for own in lines])
    if (folder := out / PAIRS / config.species).exists():
        columns = ("sample_id", "answer", "source", "segment_ids", "location_nm", "second_place")
        rows = list(rows_of(folder, columns))
        check_source(rows, automatic)
        wrong = wrong_pairs(rows, automatic, proofread, voxel, offset)
        found[PAIRS] = {"rows": len(rows), "wrong": len(wrong), "which": wrong}
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return least, quartiles and greatest of values, rounded."""
    names = ("least", "lower quartile", "median", "upper quartile", "greatest")
    found = np.percentile(values, [0, 25, 50, 75, 100]) if len(values) else []
    return dict(zip(names, np.round(found, 3).tolist(), strict=False))


def main() -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the datasets")
    parser.add_argument("--config", type=Path, required=True, help="configuration that they were built from")
    arguments = parser.parse_args()
    found = recount(arguments.out, load_config(arguments.config), arguments.config.parent)
    print(json.dumps(found, indent=1))
    return int(any(one["wrong"] for one in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
