"""Slices cut from a block that is read once are those that are read one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.build.config import load_config
from connectomebench.core.geometry import Box
from connectomebench.core.site import Part, Point, Site
from connectomebench.core.source import EMSlice
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import open_source
from connectomebench.sources.held_volume import HeldVolume, hold
from connectomebench.sources.slice_sampling import cut_pages, cut_slices
from connectomebench.sources.volumes.arrays import ArrayVolume

TASK = "endpoint_error_identification_with_em"
_AXES = {"em_xy": 2, "em_xz": 1, "em_yz": 0}


class Counted:
    """A volume that counts how often it is read."""

    def __init__(self, volume: ArrayVolume) -> None:
        self._volume = volume
        self.shape, self.voxel_size_nm, self.offset_vx = volume.shape, volume.voxel_size_nm, volume.offset_vx
        self.reads = 0

    def read(self, lower: Any, upper: Any) -> Any:
        self.reads += 1
        return self._volume.read(lower, upper)


def volumes(seed: int, factor: int = 2) -> tuple[ArrayVolume, ArrayVolume]:
    """Image data, and labels on coarser voxels along x and y."""
    rng, voxel, offset = np.random.default_rng(seed), (8.0, 8.0, 20.0), (5, 7, 3)
    labels = rng.integers(0, 2**63, (20, 16, 12), np.uint64)
    image = rng.integers(0, 256, (20 * factor, 16 * factor, 12), np.uint8)
    fine = (voxel[0] / factor, voxel[1] / factor, voxel[2])
    place = (5 * factor, 7 * factor, 3)
    return (
        ArrayVolume(image, (0, 1, 2), image.shape, fine, place, "image", "", "image"),
        ArrayVolume(labels, (0, 1, 2), labels.shape, voxel, offset, "labels", "", "labels"),
    )


def same(one: EMSlice, other: EMSlice) -> bool:
    pairs = [(one.gray, other.gray), (one.segments, other.segments), (one.inside, other.inside)]
    assert (one.sides is None) == (other.sides is None)
    if one.sides is not None and other.sides is not None:
        pairs.append((one.sides, other.sides))
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def one_by_one(slices: Any, center: Point, offsets: list[float]) -> dict[str, list[EMSlice]]:
    found: dict[str, list[EMSlice]] = {}
    for view, axis in _AXES.items():
        for offset in offsets:
            place = list(center)
            place[axis] += offset
            found.setdefault(view, []).append(slices((place[0], place[1], place[2]))[view])
    return found


@given(
    seed=st.integers(0, 9),
    center=st.tuples(*[st.floats(-40, 320)] * 3),  # some lie outside
    extent=st.floats(4, 260),
    pixels=st.integers(3, 40),
    share=st.floats(0.01, 0.4),
)
@settings(max_examples=60, deadline=None)
def test_pages_are_the_slices_through_their_places(seed, center, extent, pixels, share):
    image, labels = volumes(seed)
    offsets = [(page - 1) * share * extent for page in range(3)]
    pages = cut_pages(image, labels, center, extent, pixels, offsets)
    expected = one_by_one(lambda place: cut_slices(image, labels, place, extent, pixels), center, offsets)
    assert all(same(a, b) for view in _AXES for a, b in zip(pages[view], expected[view], strict=True))


def test_each_volume_is_read_once():
    image, labels = (Counted(one) for one in volumes(0))
    pages = cut_pages(image, labels, (120.0, 120.0, 180.0), 90.0, 16, [-20.0, 0.0, 20.0])  # type: ignore[arg-type]
    assert (image.reads, labels.reads) == (1, 1) and [len(one) for one in pages.values()] == [3, 3, 3]


def test_what_is_not_held_comes_from_the_volume():
    _, labels = volumes(1)
    held = hold(labels, Box.around((120.0, 120.0, 180.0), 30.0))
    assert isinstance(held, HeldVolume) and held.block.size < labels.array.size / 4
    assert (held.read((0, 0, 0), labels.shape) == labels.array).all()
    assert hold(labels, Box.around((9000.0, 0.0, 0.0), 30.0)) is labels


def test_drawn_pages_are_the_slices_through_their_places(short_config: Path, tmp_path: Path):
    config = load_config(short_config)
    source = open_source(config.source, "fly", tmp_path, short_config.parent, SerialRunner())
    # where tubes are: at the nodes of the neurons that the source draws
    places = source.reconstruction.nodes_nm[[100, 900]].astype(float).tolist()  # type: ignore[union-attr]
    offsets = [-300.0, 0.0, 187.5]
    for x, y, z in places:
        site = Site(TASK, (x, y, z), 3000.0, (Part(1, "base"),), "no", (1,), (), "edit")

        def slices(place: Point, site: Site = site) -> Any:
            return source.em_slices(replace(site, location_nm=place), 32)

        pages = source.em_pages(site, 32, offsets)
        expected = one_by_one(slices, site.location_nm, offsets)
        assert pages is not None and any(one.segments.any() for one in pages["em_xy"])
        assert all(same(a, b) for view in _AXES for a, b in zip(pages[view], expected[view], strict=True))


@pytest.mark.parametrize("offsets", [[], [0.0]])
def test_few_pages(offsets: list[float]):
    image, labels = volumes(2)
    assert {len(one) for one in cut_pages(image, labels, (100.0, 100.0, 100.0), 40.0, 8, offsets).values()} == {
        len(offsets)
    }
