"""Interfaces of supervoxels, one segment after the other."""

from __future__ import annotations

import numpy as np
import pytest

from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces


@pytest.mark.parametrize("segments", [[], [4], [4, 4, 9], [1, 2, 2, 7]])
def test_each_segment_has_its_own_and_there_may_be_none(segments: list[int]) -> None:
    n = len(segments)
    pairs = np.arange(2 * n, dtype=np.uint64).reshape(n, 2)
    empty = np.zeros((n, 2), np.int64)
    found = SupervoxelInterfaces(
        np.array(segments, np.uint64),
        pairs,
        np.zeros((n, 3), np.float32),
        np.arange(n),
        np.zeros(n, np.float32),
        empty.astype(np.float32),
        empty,
        np.full(n, np.nan, np.float32),
    )
    own = dict(found.by_segment())
    assert list(own) == sorted(set(segments))
    for segment, some in own.items():
        rows = [row for row, one in enumerate(segments) if one == segment]
        assert some.areas.tolist() == rows and (some.supervoxels == pairs[rows]).all()
