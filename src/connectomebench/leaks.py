"""Leak check on the written files: ids, places and perceptual hashes of pictures across partitions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.errors import ConnectomeBenchError
from connectomebench.records import PARTITIONS, read_rows

# two samples show the same when this share of the bits of all their views' hashes agrees
SAME_PICTURE = 0.97
_COLUMNS = ["sample_id", "segment_ids", "body_ids", "location_nm", "extent_nm"]


def check_leaks(folders: Mapping[str, Path], task: str, group_by: str) -> dict[str, int]:
    """Compare the partitions of a task with each other, and with those of the other tasks of the build.

    Parameters
    ----------
    folders
        Task -> folder of the species, all of one build; those of other tasks may be incomplete.
    task
        The task that was just written.
    group_by
        ``body`` counts shared bodies too.

    Returns
    -------
    dict
        Check -> number of leaks: ``shared_segments``, ``shared_bodies`` (with ``body``), ``overlapping_places``,
        ``same_pictures``.

    Raises
    ------
    ConnectomeBenchError
        If a sample, a segment, a place (or a body, with ``body``) is in two partitions.
    """
    rows = {p: _read(folders, p) for p in PARTITIONS}
    found = {"shared_samples": 0, "shared_segments": 0, "overlapping_places": 0}
    if group_by == "body":
        found["shared_bodies"] = 0
    for first, second in combinations(PARTITIONS, 2):
        a, b = rows[first], rows[second]
        found["shared_samples"] += len(a["sample_id"] & b["sample_id"])
        found["shared_segments"] += len(a["segment_ids"] & b["segment_ids"])
        if group_by == "body":
            found["shared_bodies"] += len(a["body_ids"] & b["body_ids"])
        found["overlapping_places"] += count_overlaps(a["places"], b["places"])
    if any(found.values()):
        leaks = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in found.items() if n)
        raise ConnectomeBenchError(f"{task}: leak between partitions ({leaks}); this is a bug, please report it")
    return found | {"same_pictures": _same_pictures(folders[task])}


def _read(folders: Mapping[str, Path], partition: str) -> dict[str, Any]:
    tables = [
        read_rows(folder, partition, _COLUMNS)
        for folder in folders.values()
        if any(folder.glob(f"{partition}-*.parquet"))
    ]
    locations = [np.asarray(t["location_nm"].to_pylist(), np.float64).reshape(-1, 3) for t in tables]
    extents = [np.asarray(t["extent_nm"].to_pylist(), np.float64) for t in tables]
    return {
        "sample_id": {s for t in tables for s in t["sample_id"].to_pylist()},
        "segment_ids": {s for t in tables for ids in t["segment_ids"].to_pylist() for s in ids},
        "body_ids": {s for t in tables for ids in t["body_ids"].to_pylist() for s in ids},
        "places": np.column_stack([np.concatenate(locations), np.concatenate(extents)]) if tables else np.zeros((0, 4)),
    }


def count_overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> int:
    """Count pairs of view cubes that overlap.

    Parameters
    ----------
    first, second
        Shape (n, 4): centre x, y, z and edge, nm.

    Returns
    -------
    int
        Pairs, one of each, that have volume in common.
    """
    if not len(first) or not len(second):
        return 0
    reach = (first[:, 3].max() + second[:, 3].max()) / 2
    near = KDTree(first[:, :3]).query_ball_tree(KDTree(second[:, :3]), reach, p=np.inf)
    count = 0
    for i, others in enumerate(near):
        gap = np.abs(second[others, :3] - first[i, :3]).max(axis=1)
        count += int((gap < (second[others, 3] + first[i, 3]) / 2 - 1e-6).sum())
    return count


def _same_pictures(folder: Path) -> int:
    """Count pairs of samples in different partitions whose pictures have nearly the same perceptual hashes."""
    hashes = {p: _hashes(folder, p) for p in PARTITIONS}
    count = 0
    for first, second in combinations(PARTITIONS, 2):
        a, b = hashes[first], hashes[second]
        limit = (1 - SAME_PICTURE) * a.shape[1] * 8
        for row in b:
            count += int((np.bitwise_count(a ^ row).sum(axis=1) <= limit).sum())
    return count


def _hashes(folder: Path, partition: str) -> NDArray[np.uint8]:
    """Difference hashes of all views of each sample; uint8, shape (n_rows, n_views * 8)."""
    import imagehash
    from PIL import Image

    rows = []
    for images in read_rows(folder, partition, ["images"])["images"].to_pylist():
        views = [imagehash.dhash(Image.open(io.BytesIO(image["bytes"]))).hash for image in images]
        rows.append(np.packbits(np.concatenate([v.ravel() for v in views])))
    return np.stack(rows)
