"""Small graphs of supervoxels."""

from __future__ import annotations

import numpy as np

from connectomebench.proofreading.segmentation_graph import Supervoxels


def chain(segments: list[int], capacities: list[float] | None = None, voxels: list[int] | None = None) -> Supervoxels:
    """Supervoxels in a row, each touching the next."""
    n = len(segments)
    return Supervoxels(
        np.array(segments, np.uint64),
        np.stack([np.arange(n) * 10.0, np.zeros(n), np.zeros(n)], axis=1).astype(np.float32),
        np.array(voxels or [100] * n),
        np.array([[i, i + 1] for i in range(n - 1)], np.int32).reshape(-1, 2),
        np.array(capacities or [5.0] * (n - 1), np.float32),
        np.arange(1, n + 1, dtype=np.uint64),
    )
