"""Passes over the voxels of a place, against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.proofreading.blocks import BlockGrid
from connectomebench.proofreading.piece_volume import ObjectVolume, PieceVolume
from connectomebench.proofreading.voxel_kernels import nearest_voxels

VOXELS = st.sampled_from([(10.0, 10.0, 10.0), (8.0, 8.0, 40.0), (3.3, 4.7, 29.0)])


@given(seed=st.integers(0, 1000), voxel=VOXELS, reach=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_nearest_voxel_of_an_object_is_that_of_a_plain_search(
    seed: int, voxel: tuple[float, float, float], reach: int
):
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, 4, (9, 11, 7)).astype(np.uint64) * np.uint64(2**40)
    offset, size = np.array([5, -3, 0]), np.array(voxel)
    asked = rng.choice(np.unique(objects), 20)
    # on corners, faces and middles of voxels, so that several are equally near
    places = (rng.integers(0, 2 * np.array(objects.shape), (20, 3)) / 2 + offset) * size
    found = nearest_voxels(objects, asked, places, size, offset, reach)
    for one, at, index in zip(asked, places, found, strict=True):
        # what lies beyond the first cube that holds a voxel is not looked at
        middle, far = np.floor(at / size).astype(np.int64) - offset, reach
        while True:
            lower = np.maximum(middle - far, 0)
            here = tuple(slice(a, b) for a, b in zip(lower, np.minimum(middle + far + 1, objects.shape), strict=True))
            own = np.argwhere(objects[here] == one) + lower
            if len(own):
                break
            far *= 2
        distance = np.linalg.norm((own + offset + 0.5) * size - at, axis=1)
        assert index.tolist() == own[np.argmin(distance)].tolist()


@given(seed=st.integers(0, 1000), edge=st.tuples(*[st.integers(1, 8)] * 3))
@settings(max_examples=40, deadline=None)
def test_a_box_of_objects_is_read_through_the_table_of_each_block(seed: int, edge: tuple[int, int, int]):
    rng = np.random.default_rng(seed)
    grid = BlockGrid((7, 8, 5), edge)
    sizes = rng.integers(1, 4, len(grid))
    starts = np.append(0, np.cumsum(sizes)).tolist()
    whole = np.zeros(grid.shape, np.uint32)
    blocks = []
    for index, count in enumerate(sizes.tolist()):
        own = grid.block(index)
        local = rng.integers(0, count + 1, np.subtract(own.upper, own.lower)).astype(np.uint32)
        blocks.append(local)
        here = tuple(slice(a, b) for a, b in zip(own.lower, own.upper, strict=True))
        whole[here] = np.where(local > 0, local + starts[index], 0)
    pieces = PieceVolume(grid, starts, blocks.__getitem__, (1.0, 1.0, 1.0), (0, 0, 0), "")
    of_rows = rng.integers(1, 2**60, starts[-1]).astype(np.uint64)
    objects = ObjectVolume(pieces, of_rows, "")
    lower = rng.integers(0, grid.shape)
    upper = rng.integers(lower, np.add(grid.shape, 1))
    box = tuple(lower.tolist()), tuple(upper.tolist())
    here = tuple(slice(a, b) for a, b in zip(*box, strict=True))
    read = pieces.read(*box)
    assert read.dtype == np.uint32 and np.array_equal(read, whole[here])
    read = objects.read(*box)
    assert read.dtype == np.uint64 and np.array_equal(read, np.append(np.uint64(0), of_rows)[whole[here]])
