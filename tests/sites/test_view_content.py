from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.geometry import Box, Skeleton
from connectomebench.sites.view_content import index_skeleton, view_content


def plain(skeleton: Skeleton, place: tuple[float, float, float], extent: float) -> dict[str, float]:
    """The same by a scan of the whole skeleton."""
    a, b = skeleton.edges.T
    inside = Box.around(place, extent).contains((skeleton.nodes_nm[a] + skeleton.nodes_nm[b]) / 2)
    length = np.linalg.norm(skeleton.nodes_nm[a] - skeleton.nodes_nm[b], axis=1)[inside]
    radius = ((skeleton.radii_nm[a] + skeleton.radii_nm[b]) / 2)[inside]
    ends = skeleton.nodes_nm[skeleton.degrees() == 1]
    nearest = min([extent, *np.linalg.norm(ends - np.array(place), axis=1).tolist()])
    values = length.sum(), (length * np.pi * radius**2).sum(), nearest
    return dict(zip(("log_cable_base", "log_volume_base", "log_end_base"), map(float, np.log1p(values)), strict=True))


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 10_000), nodes=st.integers(2, 40), extent=st.integers(1, 30), ring=st.booleans())
def test_it_is_what_a_scan_of_the_skeleton_finds(seed: int, nodes: int, extent: int, ring: bool) -> None:
    rng = np.random.default_rng(seed)
    parents = np.array([rng.integers(0, i) for i in range(1, nodes)])
    edges = np.stack([np.arange(1, nodes), parents], axis=1).astype(np.int32)
    if ring:  # no end at all
        edges = np.stack([np.arange(nodes), (np.arange(nodes) + 1) % nodes], axis=1).astype(np.int32)
    # whole numbers put edges exactly onto the borders of the cube
    skeleton = Skeleton(rng.integers(0, 20, (nodes, 3)).astype(np.float32), edges, rng.random(nodes).astype(np.float32))
    index = index_skeleton(skeleton)
    for _ in range(3):
        x, y, z = (float(c) for c in rng.integers(0, 20, 3))
        assert view_content(index, (x, y, z), extent, "base") == pytest.approx(plain(skeleton, (x, y, z), extent))


def test_a_segment_without_a_skeleton_shows_nothing() -> None:
    empty = Skeleton(np.zeros((1, 3), np.float32), np.zeros((0, 2), np.int32), np.ones(1, np.float32))
    assert index_skeleton(None) is None and index_skeleton(empty) is None
    assert view_content(None, (0.0, 0.0, 0.0), 50.0, "base") == {
        "log_cable_base": 0.0,
        "log_volume_base": 0.0,
        "log_end_base": pytest.approx(np.log1p(50.0)),
    }
