"""Contacts of supervoxels inside segments: against a plain implementation, and on shapes whose answer is known."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import toy_segmentation
from hypothesis import given, settings
from hypothesis import strategies as st
from label_reference import MemoryVolume
from numpy.typing import NDArray
from scipy import ndimage

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.sites.interface_scores import interface_scores, interface_signs, joining_contacts
from connectomebench.sources import supervoxel_interfaces
from connectomebench.sources.supervoxel_interfaces import find_interfaces

EDGE = 10.0
Row = tuple[int, int, int, tuple[int, int, int], int, int, int, float, float, float, float | None]


def depths(segments: NDArray, voxel: tuple[float, ...], halo: int) -> NDArray[np.int64]:
    """Distance to the nearest voxel of another label, in sixteenths of the smallest edge, at most the halo."""
    found = np.zeros(segments.shape)
    for label in np.unique(segments[segments > 0]):
        mask = segments == label
        far = np.full(segments.shape, np.inf) if mask.all() else ndimage.distance_transform_edt(mask, sampling=voxel)
        found[mask] = far[mask]
    return np.rint(np.minimum(found, halo * min(voxel)) * 16 / min(voxel)).astype(np.int64)


def plain(
    segments: NDArray,
    cells: NDArray,
    gray: NDArray | None,
    ids: list[int],
    rules: CorrectionConfig,
    voxel: tuple[float, ...],
    offset: tuple[int, int, int],
    halo: int,
    near: int,
) -> list[Row]:
    """Face by face, with dictionaries."""
    deep = depths(segments, voxel, halo)
    faces: dict[tuple[int, int, int], list[tuple]] = defaultdict(list)
    for later in itertools.product(*map(range, segments.shape)):
        for axis in range(3):
            earlier = tuple(v - (a == axis) for a, v in enumerate(later))
            if min(earlier) < 0 or segments[later] != segments[earlier] or cells[later] == cells[earlier]:
                continue
            if segments[later] in ids and cells[later] and cells[earlier]:
                pair = sorted((int(cells[later]), int(cells[earlier])))
                light = None if gray is None else int(gray[later]) + int(gray[earlier])
                faces[int(segments[later]), *pair].append((later, min(deep[later], deep[earlier]), light))
    coarse = (np.indices(segments.shape) + np.array(offset).reshape(3, 1, 1, 1)) // near
    rows = []
    for (segment, a, b), own in faces.items():
        grid = np.array([(np.array(v) + offset) // rules.patch_cell_vx for v, _, _ in own])
        number = components(np.abs(grid[:, None] - grid[None]).max(axis=2) <= 1)
        for patch in np.unique(number):
            some = [face for face, n in zip(own, number, strict=True) if n == patch]
            if len(some) < rules.min_contact_faces:
                continue
            place, depth, _ = min(some, key=lambda face: (-face[1], face[0]))
            apart = coarse - ((np.array(place) + offset) // near).reshape(3, 1, 1, 1)
            shown = np.abs(apart).max(axis=0) <= 1
            sides = [shown & (segments == segment) & (cells == one) for one in (a, b)]
            light = None
            if gray is not None:
                inside = gray[sides[0] | sides[1]].astype(float).mean()
                light = sum(face[2] for face in some) / (2 * len(some)) / max(inside, 1.0)
            scale = min(voxel) / 16
            calibres = [deep[side].max() * scale for side in sides]
            voxels = [int(side.sum()) for side in sides]
            rows.append((segment, a, b, place, len(some), *voxels, depth * scale, *calibres, light))
    return sorted(rows)


def components(touching: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the connected components of a matrix of neighbours."""
    number = np.arange(len(touching))
    for _ in range(len(touching)):
        number = np.where(touching, number[None], len(touching)).min(axis=1)
    return number


def rows_of(found: SupervoxelInterfaces, volume: MemoryVolume) -> list[Row]:
    voxels = found.points_nm / np.array(volume.voxel_size_nm) - 0.5 - np.array(volume.offset_vx)
    return [
        (
            int(found.segments[i]),
            *found.supervoxels[i].tolist(),
            tuple(np.rint(voxels[i]).astype(int).tolist()),
            int(found.areas[i]),
            *found.voxels[i].tolist(),
            float(found.depths_nm[i]),
            *found.calibres_nm[i].tolist(),
            None if np.isnan(found.brightness[i]) else float(found.brightness[i]),
        )
        for i in range(len(found.segments))
    ]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(3, 11)] * 3),
    block=st.tuples(*[st.integers(2, 12)] * 3),
    offset=st.tuples(*[st.integers(0, 9)] * 3),
    voxel=st.sampled_from([(10.0, 10.0, 10.0), (10.0, 10.0, 30.0)]),
    cell=st.integers(1, 4),
    least=st.integers(1, 4),
    lit=st.booleans(),
    order=st.sampled_from("CF"),
)
def test_agrees_with_a_plain_implementation(seed, shape, block, offset, voxel, cell, least, lit, order):
    rng = np.random.default_rng(seed)

    def blobs(count: int) -> NDArray[np.int64]:
        noise = ndimage.gaussian_filter(rng.normal(size=(count, *shape)), (0, 1.2, 1.2, 1.2))
        return noise.argmax(axis=0)

    segments = blobs(3).astype(np.uint64, order=order) * np.uint64(2**40 + 1)
    cells = blobs(5).astype(np.uint32, order=order)
    gray = rng.integers(0, 256, shape).astype(np.uint8) if lit else None
    ids = [2**40 + 1]
    rules = CorrectionConfig(patch_cell_vx=cell, min_contact_faces=least)
    volume, parts = MemoryVolume(segments, voxel, offset), MemoryVolume(cells, voxel, offset)
    read = None if gray is None else MemoryVolume(gray, voxel, offset).read
    with mock.patch.multiple(supervoxel_interfaces, _HALO_VX=4, _NEAR_VX=3):
        found = find_interfaces(volume, parts, read, np.array(ids, np.uint64), rules, block=block, threads=1)
    got, expected = rows_of(found, volume), plain(segments, cells, gray, ids, rules, voxel, offset, 4, 3)
    assert [row[:7] for row in got] == [row[:7] for row in expected]
    for one, other in zip(got, expected, strict=True):
        assert one[7:10] == pytest.approx(other[7:10])
        assert one[10] == (None if other[10] is None else pytest.approx(other[10], rel=1e-5))


def two_neurites() -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]:
    """Segment 1 of two neurites, 12 and 6 voxels wide, fused by a bridge; each in two supervoxels along x."""
    cells = np.zeros((80, 40, 24), np.uint32)
    cells[:, 2:14, 4:16], cells[:, 22:28, 7:13] = 1, 3
    cells[38:42, 14:22, 9:11] = 3
    cells[40:][cells[40:] == 1] = 2
    cells[60:][cells[60:] == 3] = 4
    gray = np.full(cells.shape, 150, np.uint8)
    gray[38:42, 13:15, 9:11] = 60  # a membrane
    return (cells > 0).astype(np.uint32), cells, gray


def test_the_contact_of_two_neurites_is_the_most_suspect_by_every_sign():
    segments, cells, gray = two_neurites()
    volume = MemoryVolume(segments, offset_vx=(7, 3, 5))
    arguments = volume, MemoryVolume(cells, offset_vx=(7, 3, 5)), MemoryVolume(gray).read
    rules = CorrectionConfig(min_contact_faces=2)
    found = find_interfaces(*arguments, np.array([1], np.uint64), rules)
    pairs = [tuple(pair) for pair in found.supervoxels.tolist()]
    assert pairs == [(1, 2), (1, 3), (2, 3), (3, 4)]
    signs = {name: dict(zip(pairs, sign.tolist(), strict=True)) for name, sign in interface_signs(found).items()}
    for name, least in (("dark", 0.5), ("waist", 0.3), ("step", 0.4)):
        for sound in ((1, 2), (3, 4)):
            assert signs[name][sound] < 0.1 < least < min(signs[name][1, 3], signs[name][2, 3]), name
    scores = interface_scores(found)
    assert set(np.argsort(-scores)[:2].tolist()) == {1, 2} and scores.max() <= 1
    at = found.points_nm[1] / EDGE - np.array([7, 3, 5])
    assert 38 <= at[0] <= 42 and 13 <= at[1] <= 15 and 9 <= at[2] <= 11
    # without image data shape alone speaks
    dark = find_interfaces(*arguments[:2], None, np.array([1], np.uint64), rules)
    assert np.isnan(dark.brightness).all() and (interface_signs(dark)["dark"] == 0).all()
    assert set(np.argsort(-interface_scores(dark))[:2].tolist()) == {1, 2}
    # put together again, the two neurites are whole before the stronger of their contacts joins them
    halves, fusion = joining_contacts(found, 2500).tolist()
    assert halves == 0 and fusion in (1, 2) and joining_contacts(found, 4000).tolist() == [0]


def test_other_segments_and_voxels_without_supervoxel_have_no_contact():
    segments, cells, _ = two_neurites()
    volume, parts = MemoryVolume(segments), MemoryVolume(cells)
    rules = CorrectionConfig()
    assert not len(find_interfaces(volume, parts, None, np.array([2], np.uint64), rules).segments)
    assert not len(find_interfaces(volume, parts, None, np.zeros(0, np.uint64), rules).segments)
    empty = MemoryVolume(np.where(cells == 1, cells, 0))
    assert not len(find_interfaces(volume, empty, None, np.array([1], np.uint64), rules).segments)


def test_a_crop_has_the_contacts_of_the_whole():
    segments, cells, gray = two_neurites()
    rules = CorrectionConfig(min_contact_faces=2)
    ids = np.array([1], np.uint64)

    def found(start: int, stop: int) -> list[Row]:
        offset = (7 + start, 3, 5)
        volume = MemoryVolume(segments[start:stop], offset_vx=offset)
        made = find_interfaces(
            volume, MemoryVolume(cells[start:stop], offset_vx=offset), MemoryVolume(gray[start:stop]).read, ids, rules
        )
        return [(*row[:3], (row[3][0] + start, *row[3][1:]), *row[4:]) for row in rows_of(made, volume)]

    with mock.patch.multiple(supervoxel_interfaces, _HALO_VX=8, _NEAR_VX=4):
        assert found(15, 75) == found(0, 80)


def test_a_source_of_volumes_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from connectomebench.build.config import load_config
    from connectomebench.execution.runner import SerialRunner
    from connectomebench.sources.factory import open_source

    config = load_config(toy_segmentation.write_toy(tmp_path))

    def of_source(name: str) -> SupervoxelInterfaces | None:
        source = open_source(config.source, "fly", tmp_path / name, tmp_path, SerialRunner())
        return source.supervoxel_interfaces([4, 1])

    first = of_source("cache")
    assert first is not None and set(first.segments.tolist()) == {1, 4}
    monkeypatch.setattr(supervoxel_interfaces, "find_interfaces", None)
    again = of_source("cache")
    assert again is not None and rows_equal(first, again)
    config = load_config(toy_segmentation.write_toy(tmp_path, supervoxels=False))
    assert of_source("other") is None


def rows_equal(one: SupervoxelInterfaces, other: SupervoxelInterfaces) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
