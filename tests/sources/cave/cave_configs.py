"""A small configuration of the source `cave` on the replayed server, and the source that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from connectomebench.build.config import parse_config
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import IN_PROCESS
from connectomebench.sources.cave.cave_source import CaveSource

CAVE = """\
species: fly
source:
  cave:
    roots: {ROOTS}
    until: "2026-11-23T02:10:28"
    server: SERVER
    graph_table: fib_medulla_ts2
    image: none
    license: cc-by-4.0
    citation: "FlyEM, HHMI Janelia: neuroproof_examples, training_sample2 (FIB-25)"
    meshes: voxels
    requests: {wait_s: 0.01, longest_wait_s: 0.05}
    survey: {cutout_nm: 900, label_voxel_nm: 10, border_nm: 60, min_body_voxels: 500, places_per_batch: 4}
    skeleton: {downsample: [3, 3, 3], dust_voxels: 200}
tasks: [merge_action]
sites: {extent_nm: [300, 450], min_segment_voxels: 300, merge_match_nm: 400}
proposals: {reach_nm: 900}
controls: {pool_per_case: 2}
partition: {cube_nm: 800, test_fraction: 0.3}
views: {image_px: 32, em_px: 32, engine: cpu}
"""
# proofread by time: all that were edited
EVERY_ROOT = 'changed_since: "2026-11-23T02:06:58.863"'


@contextmanager
def open_cave(url: str, folder: Path) -> Iterator[CaveSource]:
    """The source over all edited segments of a server, with image data; it keeps its files in a folder."""
    text = CAVE.replace("ROOTS", EVERY_ROOT).replace("image: none", "image: precomputed://SERVER/data/em")
    config = parse_config(yaml.safe_load(text.replace("SERVER", url)))
    assert config.source.cave is not None
    with open_runner(IN_PROCESS, 2) as runner:
        yield CaveSource(config.source.cave, config.species, folder, folder, runner)
