"""Meshes to draw: marching cubes of wandering tubes, as segmentations give them."""

from __future__ import annotations

import numpy as np

from connectomebench.core.geometry import Mesh
from connectomebench.sources.label_shapes import MeshConfig, mesh_labels

VOXEL_NM = 20.0


def voxel_meshes(seed: int, size: int = 96) -> list[Mesh]:
    """Two tubes in a cube of ``size`` voxels whose middle is at (size / 2) * 20 nm."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size,) * 3, np.uint8)
    for label in (1, 2):
        at, heading = rng.uniform(0.35, 0.65, 3) * size, rng.normal(size=3)
        for step in range(40):
            heading += 0.4 * rng.normal(size=3)
            at = np.clip(at + 2 * heading / np.linalg.norm(heading), 8, size - 8)
            # no radius is over 7 voxels
            box = tuple(slice(max(a - 8, 0), min(a + 9, size)) for a in np.floor(at).astype(int))
            here, grid = labels[box], np.moveaxis(np.mgrid[box], 0, -1)
            near = np.linalg.norm(grid - at, axis=-1) < 5 + 2 * np.sin(step / 7)
            here[near & (here == 0)] = label
    return mesh_labels(labels, 2, (0, 0, 0), (VOXEL_NM,) * 3, np.ones((3, 2), bool), MeshConfig())


def middle(size: int = 96) -> tuple[float, float, float]:
    return (size * VOXEL_NM / 2,) * 3
