"""Partners of ends: many ends at a time find what each finds alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import CorrectionConfig
from connectomebench.corrections.contact_patches import group_patches, points_nm
from connectomebench.proofreading import contact_partners
from connectomebench.proofreading.contact_partners import FoundMerge, Touching
from connectomebench.sites.candidates import Candidates
from connectomebench.sources.volumes.arrays import ArrayVolume

VOXEL, OFFSET = (10.0, 10.0, 20.0), (3, -2, 5)
RULES = CorrectionConfig(patch_cell_vx=4, min_contact_faces=3)


def touching(objects: NDArray[np.uint64]) -> Touching:
    shape = (objects.shape[0], objects.shape[1], objects.shape[2])
    cells = np.arange(1, objects.size + 1, dtype=np.uint32).reshape(shape)  # each voxel a supervoxel
    automatic, supervoxels = (
        ArrayVolume(array, (0, 1, 2), shape, VOXEL, OFFSET, "labels", name, name)
        for array, name in ((objects, "objects"), (cells, "cells"))
    )
    source: Any = SimpleNamespace(automatic=automatic, supervoxels=supervoxels)
    return Touching(source, RULES, np.unique(objects[objects > 0]), 1)


def one_by_one(
    own: Touching, ends: Candidates, radius_nm: float, changed: frozenset[int] | None
) -> list[tuple[int, int, tuple[float, ...], int]]:
    """Group the contacts of each end by themselves: row of the end, partner, place and faces."""
    made = []
    tree = KDTree(own._points)
    for number, (end, segment) in enumerate(zip(ends.points_nm.astype(np.float64), ends.segments, strict=True)):
        near = np.sort(np.asarray(tree.query_ball_point(end, radius_nm), np.int64))
        near = near[(own.keys[near, :2] == segment).any(axis=1)]
        if not len(near):
            continue
        patches = group_patches(own.keys[near], own._values[near], own._grid)
        patches = patches.take(patches.areas >= RULES.min_contact_faces)
        places = points_nm(patches.points_vx, OFFSET, VOXEL)
        seen = set()
        for row in np.lexsort((*places.T[::-1], np.linalg.norm(places - end, axis=1))).tolist():
            a, b = (int(one) for one in patches.pairs[row])
            partner = b if a == int(segment) else a
            if partner in seen or (changed is not None and not changed & {partner, int(segment)}):
                continue
            seen.add(partner)
            made.append((number, partner, tuple(places[row].tolist()), int(patches.areas[row])))
    return made


def nearest(objects: NDArray[np.uint64], one: int, at: tuple[float, ...]) -> float:
    points = (np.argwhere(objects == np.uint64(one)) + OFFSET + 0.5) * VOXEL
    return float(np.linalg.norm(points - at, axis=1).min())


@given(seed=st.integers(0, 1000), radius=st.sampled_from([5.0, 60.0, 150.0]), some=st.booleans())
@settings(max_examples=25, deadline=None)
def test_many_ends_at_a_time_find_what_each_finds_alone(seed: int, radius: float, some: bool):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (4, 5, 3)).astype(np.uint64) * np.uint64(2**40)
    objects = np.kron(coarse, np.ones((4, 3, 4), np.uint64))
    objects[0, 0, 0] = 2**40
    own = touching(objects)
    at = np.argwhere(objects > 0)[rng.integers(0, int((objects > 0).sum()), 30)]
    ends = Candidates(
        objects[tuple(at.T)],
        ((at + OFFSET + 0.5) * VOXEL).astype(np.float32),
        np.ones(30, np.float32),
        np.full(30, "end"),
        np.ones(30, np.float32),
    )
    changed = frozenset([2**40, 3 * 2**40]) if some else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contact_partners, "_ENDS_AT_ONCE", 7)
        found = own.find(ends, radius, None, changed)
    expected = one_by_one(own, ends, radius, changed)
    assert [(one.end, one.partner, one.at_nm, one.faces) for one in found] == expected
    for one in found:
        check(one, objects, own, int(ends.segments[one.end]))


def check(one: FoundMerge, objects: NDArray[np.uint64], own: Touching, segment: int) -> None:
    """Both supervoxels lie in their objects, nearest to where these touch; faces are those of the pair."""
    for row, point, owner in zip(one.rows, one.points_nm, (segment, one.partner), strict=True):
        index = np.unravel_index(row, objects.shape)
        assert objects[index] == owner
        assert point == tuple((np.array(index) + OFFSET + 0.5) * VOXEL)
        assert np.linalg.norm(np.subtract(point, one.at_nm)) == pytest.approx(nearest(objects, owner, one.at_nm))
    pair = np.array(sorted((segment, one.partner)), np.uint64)
    rows = (own.keys[:, :2] == pair).all(axis=1)
    assert one.contact.pair_faces == int(cast(NDArray[np.int64], own._values[rows, 0]).sum())
