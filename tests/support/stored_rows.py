"""Sites, pictures and rows for the tests of what is stored."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from connectomebench.core.geometry import Box
from connectomebench.core.part_masks import STAYS, TAKEN, TARGET_PREFIX, mask_png
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Part, Site
from connectomebench.core.source import SourceInfo
from connectomebench.core.tasks import get_task
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species, library_versions
from connectomebench.dataset.row_format import FORMAT_VERSION
from connectomebench.dataset.schema import make_row, write_partition

HIGH = 2**63 + 2**40  # ids need all 64 bits


def source_info(species: str = "fly") -> SourceInfo:
    return SourceInfo(
        "cube", "7", species, Box((0, 0, 0), (9e4, 9e4, 9e4)), False, True, 1000.0, "cc-by-4.0", "Someone (2020)."
    )


def site(
    x: float, segments: Sequence[int], answer: str = "yes", task: str = "merge_action", extent: float = 10.0
) -> Site:
    first, *others = get_task(task).roles
    parts = (Part(segments[0], first), *(Part(s, role) for s in segments[1:] for role in others))
    choices = tuple(segments[1:]) if get_task(task).has_candidates else ()
    bodies = tuple(s + 1 for s in segments)
    return Site(task, (x, 5.0, 5.0), extent, parts, answer, tuple(segments), bodies, "edit", "e1", choices=choices)


def png(seed: int, size: int = 48) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3)).astype(np.uint8))
    stream = io.BytesIO()
    coarse.resize((size, size), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def row(number: int, answer: str, task: str = "merge_action", species: str = "fly") -> dict[str, Any]:
    shown = 5 if get_task(task).has_candidates else len(get_task(task).roles)
    place = site(100.0 * number, [HIGH + 10 * number + i for i in range(shown)], answer, task)
    images = {view: png(100 * number + i) for i, view in enumerate(place.views)}
    if get_task(task).scoring == "masks":
        halves = np.full((48, 48), STAYS, np.uint8)
        halves[: 8 + number % 8] = TAKEN
        images |= {TARGET_PREFIX + view: mask_png(halves) for view in place.views}
    segments = place.segment_ids
    return make_row(place, images, f"segment-{segments[0]}", source_info(species))


def partition_rows(task: str = "merge_action", species: str = "fly") -> dict[str, list[dict[str, Any]]]:
    numbers = {"train": range(0, 8), "validation": range(8, 12), "test": range(12, 16)}
    return {p: [row(n, ("no", "yes")[n % 2], task, species) for n in numbers[p]] for p in PARTITIONS}


def entry(counts: dict[str, dict[str, int]], fingerprint: str = "f" * 32) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "config_fingerprint": "c" * 32,
        "fingerprint": fingerprint,
        "counts": counts,
        "source": {
            "name": "cube",
            "version": "7",
            "simulated_errors": False,
            "simulated_em": True,
            "license": "cc-by-4.0",
            "citation": "Someone (2020).",
        },
        "candidates": {"candidates": 31, "corrections": 20, "recall": 0.75, "precision": None},
        "dropped": {"labels": {"at the border of the data": 5, "never": 0}},
        "partition": {"cubes": 9, "bodies": 8, "bodies_shared": 3},
        "leaks": {"sample_ids": 0, "segments": 0, "places": 0, "pictures": 0},
        "config": {"partition": {"group_by": "segment", "cube_nm": 500.0}},
        "versions": library_versions(),
    }


def write_dataset(
    out: Path,
    task: str = "merge_action",
    species: str = "fly",
    rows: dict[str, list[dict[str, Any]]] | None = None,
) -> Path:
    """Write a whole dataset folder as the build does, of these rows or of small ones; returns OUT/TASK."""
    folder = out / task
    rows = rows or partition_rows(task, species)
    for p, own in rows.items():
        write_partition(folder / species, task, p, own, len(own), 1000)
    named = ("no", "yes") if get_task(task).labels else ("any",)
    counts = {
        p: {a: sum(get_task(task).counted_as(r["answer"]) == a for r in own) for a in named} for p, own in rows.items()
    }
    write_card(folder, add_species(folder, task, species, entry(counts)))
    return folder
