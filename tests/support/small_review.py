"""The output folder of a small proofreading: six objects in a row, and a queue of merges and a split."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from swept_tubes import tube

from connectomebench.core.site import Part, Site
from connectomebench.proofreading.edit_log import Edit, apply_edit
from connectomebench.proofreading.graph_files import write_edges
from connectomebench.proofreading.outputs import write_mapping
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.scene_file import NAME, site_scene
from connectomebench.rendering.views import ViewConfig, render_site

SEGMENTS = [1, 1, 2, 2, 3, 3, 3, 3, 4, 4]
VOXELS = [100, 100, 80, 80, 60, 60, 60, 60, 300, 300]


def supervoxels() -> Supervoxels:
    """Ten supervoxels in a row; the weakest edge inside segment 3 is in its middle."""
    n = len(SEGMENTS)
    capacities = np.full(n - 1, 5.0, np.float32)
    capacities[5] = 1.0
    return Supervoxels(
        np.array(SEGMENTS, np.uint64),
        np.stack([np.arange(n) * 100.0, np.zeros(n), np.zeros(n)], axis=1).astype(np.float32),
        np.array(VOXELS),
        np.array([[i, i + 1] for i in range(n - 1)], np.int32),
        capacities,
        np.arange(101, 101 + n, dtype=np.uint64),
    )


def expected_gain(confidence: float, first: float, second: float) -> float:
    """Compute the expected gain of a decision from its definition, with entropies in place of the closed form."""
    total, both = sum(VOXELS), first + second
    p = np.array([first, second]) / both
    return confidence * both / total * float(-(p * np.log2(p)).sum())


def proposal(name: str, operation: str, source: int, sink: int, confidence: float, *sizes: int) -> Edit:
    """Propose an edit between two supervoxels (ids from 1), whose sides have so many voxels."""
    value = expected_gain(confidence, *sizes)
    points = supervoxels().points_nm
    before = tuple(dict.fromkeys(SEGMENTS[one - 1] for one in (source, sink)))
    a, b = (tuple(float(c) for c in points[one - 1]) for one in (source, sink))
    middle = tuple((x + y) / 2 for x, y in zip(a, b, strict=True))
    return Edit(
        name * 16, operation, 1, middle, (a,), (b,), (source,), (sink,), before, confidence, None, confidence, value,
        "end" if operation == "merge" else "branch", evidence=tuple(f"evidence/{name}/{v}.png" for v in VIEWS),
        neuroglancer="https://neuroglancer-demo.appspot.com/#!%7B%7D",
    )  # fmt: skip


VIEWS = ("front", "side", "top")
QUEUE = (
    proposal("a", "merge", 8, 9, 0.7, 240, 600),  # 3 and 4
    proposal("b", "split", 6, 7, 0.6, 120, 120),  # 3
    proposal("c", "merge", 2, 3, 0.4, 200, 160),  # 1 and 2
    proposal("d", "merge", 4, 5, 0.3, 160, 240),  # 2 and 3
)


APPLIED = proposal("e", "merge", 2, 3, 0.95, 200, 160)  # 1 and 2


def write_small_review(
    folder: Path, *, pictures: bool = True, trusted: tuple[int, ...] = (), applied: tuple[Edit, ...] = ()
) -> Path:
    """Write what a finished run leaves, which applied these edits; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = SegmentationGraph(supervoxels())
    write_mapping(graph, folder)
    write_edges(graph, folder)
    done = SegmentationGraph(supervoxels(), trusted)
    made = [replace(edit, after=apply_edit(done, edit)) for edit in applied]
    (folder / "edits.jsonl").write_text("".join(edit.as_line() + "\n" for edit in made))
    (folder / "run.json").write_text(json.dumps({"trusted": list(trusted)}))
    (folder / "queue.jsonl").write_text("".join(edit.as_line() + "\n" for edit in QUEUE))
    if pictures:
        for edit in (*QUEUE, *applied):
            _write_evidence(folder, edit)
    return folder


def _write_evidence(folder: Path, edit: Edit) -> None:
    x = edit.location_nm[0]
    roles = ("base", "candidate") if edit.operation == "merge" else ("source", "sink")
    meshes = [
        tube(np.array([[x - 300, -150, -80], [x - 10, 0, 0]]), np.array([40.0, 60.0])),
        tube(np.array([[x + 10, 0, 0], [x + 300, 120, 60]]), np.array([60.0, 30.0])),
    ]
    parts = (Part(edit.before[0], roles[0]), Part(edit.before[-1], roles[1]))
    task = "merge_action" if edit.operation == "merge" else "split_action"
    site = Site(task, edit.location_nm, 500.0, parts, "no", edit.before, (), "control")
    images = render_site(site, meshes, None, rules=ViewConfig(image_px=128), engine=CpuEngine(1))
    place = (folder / edit.evidence[0]).parent
    place.mkdir(parents=True)
    for view, image in images.items():
        stream = io.BytesIO()
        image.save(stream, "PNG")
        (place / f"{view}.png").write_bytes(stream.getvalue())
    gray = np.tile(np.linspace(40, 220, 128).astype(np.uint8), (128, 1))
    Image.fromarray(np.repeat(gray[..., None], 3, axis=2)).save(place / "em_xy.png")
    (place / NAME).write_bytes(site_scene(site, meshes))
