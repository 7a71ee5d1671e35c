"""A small segmentation with known errors: neurites broken in pieces, and two neurites fused by a bridge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

SHAPE, VOXEL, OFFSET = (120, 64, 32), [10, 10, 10], [30, 0, 4]
# body 10 is broken into segments 1, 2 and 3; bodies 20 and 30 touch at a bridge and are fused in segment 4; body 40 is
# sound (segment 5) and runs along body 10
SPLIT_ERRORS, MERGE_ERRORS = 2, 1


def arrays() -> dict[str, np.ndarray]:
    truth = np.zeros(SHAPE, np.uint64)
    x, y, z = np.indices(SHAPE)
    for body, cy in ((10, 10), (40, 20), (20, 36), (30, 54)):
        truth[(y - cy) ** 2 + (z - 16) ** 2 <= 20] = body
    # the bridge is thinnest where it meets the other body
    half = np.where(y < 48, 4, 2)
    bridge = (np.abs(x - 60) <= half) & (np.abs(z - 16) <= half) & (y > 36) & (y < 54)
    truth[bridge & (truth == 0)] = 20
    automatic = np.zeros(SHAPE, np.uint32)
    for segment, (low, high) in enumerate(((0, 40), (40, 80), (80, 120)), 1):
        automatic[low:high][truth[low:high] == 10] = segment
    automatic[(truth == 20) | (truth == 30)] = 4
    automatic[truth == 40] = 5
    gray = np.where(truth > 0, 160, 50).astype(np.uint8)
    cells = (x // 10 + 20 * (y // 9)).astype(np.uint64)
    supervoxels = np.where(truth > 0, truth * 1000 + cells, 0).astype(np.uint64)
    return {"automatic": automatic, "proofread": truth, "image": gray, "supervoxels": supervoxels}


def write_toy(folder: Path, *, truth: bool = True, supervoxels: bool = True) -> Path:
    """Write the volumes and a configuration that names them; return the configuration."""
    made = arrays()
    np.savez(folder / "toy.npz", **made)
    keys = ["automatic", "image", *(["proofread"] if truth else []), *(["supervoxels"] if supervoxels else [])]
    place = {"path": "toy.npz", "axes": "xyz", "voxel_size_nm": VOXEL, "offset_vx": OFFSET}
    config = {
        "species": "fly",
        "source": {
            "volumes": {
                "name": "toy",
                "version": "1",
                "license": "cc0-1.0",
                "citation": "none",
                **{key: {**place, "key": key} for key in keys},
                "corrections": {"min_core_voxels": 100, "erosion_vx": 1},
                "skeleton": {"dust_voxels": 50, "const_nm": 40, "scale": 1.5},
                "pieces": {"spacing_vx": 6},
                "border_nm": 30,
            }
        },
        "sites": {"extent_nm": [500, 500], "min_segment_voxels": 200},
        "candidates": {
            "radius_nm": 120, "merge_radius_nm": 120, "min_distance_nm": 40, "reach_nm": 150, "min_nodes": 3,
            "parallel_gap_nm": 20,
        },
        "proposals": {"reach_nm": 900, "min_side_fraction": 0.01, "cuts": {"cutout_nm": 800, "min_body_voxels": 50}},
        "views": {"image_px": 64, "em_px": 64, "engine": "cpu"},
    }  # fmt: skip
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
