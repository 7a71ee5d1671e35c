"""Affinity maps as they are opened: which channel is which axis, what is refused, and in which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloudvolume import CloudVolume

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.affinities import open_affinities
from connectomebench.sources.volumes.arrays import ArrayVolume, VolumeSpec, open_volume

SHAPE, VOXEL, OFFSET = (5, 4, 3), (4.0, 4.0, 40.0), (7, 0, 2)


def labels(folder: Path, shape: tuple[int, ...] = SHAPE) -> ArrayVolume:
    np.save(folder / "labels.npy", np.ones(shape, np.uint8))
    volume = open_volume(VolumeSpec("labels.npy", None, "xyz", VOXEL, OFFSET), kind="labels", base=folder)
    assert isinstance(volume, ArrayVolume)
    return volume


def channels(dtype: type = np.float32) -> np.ndarray:
    """Affinities along x, y, z; shape (3, x, y, z), all different."""
    values = np.arange(3 * np.prod(SHAPE)).reshape(3, *SHAPE)
    return values.astype(dtype) if dtype == np.uint8 else (values / values.max()).astype(dtype)


def spec_of(axes: str | None = "czyx", path: str = "map.npy") -> VolumeSpec:
    return VolumeSpec(path, None, axes, VOXEL, OFFSET)


def stored(axes: str, values: np.ndarray) -> np.ndarray:
    """Lay channels x, y, z out as ``axes`` say; channels follow the order of the spatial axes."""
    spatial = [a for a in axes if a in "xyz"]
    values = values[["xyz".index(a) for a in spatial]]
    names = "cxyz"
    for extra in sorted(set(axes) - set(names)):
        values, names = values[None], extra + names
    return values.transpose([names.index(a) for a in axes])


@pytest.mark.parametrize("axes", ["czyx", "zyxc", "xyzc", "cxyz", "tczyx", "yczx"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4"])
def test_channels_are_in_the_order_of_the_axes(tmp_path: Path, axes: str, dtype):
    values = channels(np.uint8) if dtype == np.uint8 else channels(np.float64).astype(dtype)
    np.save(tmp_path / "map.npy", stored(axes, values))
    opened = open_affinities(spec_of(axes), labels(tmp_path), tmp_path)
    for volume, own in zip(opened, values, strict=True):
        read = volume.read((1, 0, 1), (5, 4, 2))
        assert read.dtype in (np.uint8, np.float32, np.float64) and read.dtype.isnative
        assert np.array_equal(read, own[1:5, :, 1:2])
    assert len({volume.fingerprint for volume in opened}) == 3


def test_precomputed_maps_have_channels_x_y_z(tmp_path: Path):
    values = channels()
    info = CloudVolume.create_new_info(3, "image", "float32", "raw", VOXEL, OFFSET, SHAPE, chunk_size=(4, 4, 4))
    cloud: Any = CloudVolume(f"precomputed://file://{tmp_path}/map", info=info, compress=False, progress=False)
    cloud.commit_info()
    cloud[:] = np.moveaxis(values, 0, -1)
    for axes in (None, "xyzc"):
        opened = open_affinities(VolumeSpec("map", axes=axes), labels(tmp_path), tmp_path)
        for volume, own in zip(opened, values, strict=True):
            assert np.array_equal(volume.read((0, 1, 0), (5, 3, 3)), own[:, 1:3])
    with pytest.raises(ConnectomeBenchError, match="is stored as xyzc; leave `axes` out"):
        open_affinities(VolumeSpec("map", axes="czyx"), labels(tmp_path), tmp_path)
    with pytest.raises(ConnectomeBenchError, match="has 3 channels; one is needed"):
        open_volume(VolumeSpec("map"), kind="image", base=tmp_path)


@pytest.mark.parametrize("container", ["h5", "zarr", "npz"])
def test_other_containers_are_read(tmp_path: Path, container: str):
    values = channels()
    path = tmp_path / f"map.{container}"
    if container == "npz":
        np.savez(path, affinity=stored("czyx", values))
    elif container == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            made = file.create_dataset("affinity", data=stored("czyx", values), chunks=(3, 2, 2, 2))
            made.attrs["resolution"] = (40, 4, 4)  # of the three axes of space, as waterz and gunpowder write it
            made.attrs["offset"] = (80, 0, 28)
    else:
        import zarr

        root = zarr.open_group(str(path), mode="w")
        root.create_array("affinity", data=stored("czyx", values), chunks=(3, 2, 2, 2))
    opened = open_affinities(replace(spec_of(path=path.name), key="affinity"), labels(tmp_path), tmp_path)
    for volume, own in zip(opened, values, strict=True):
        assert np.array_equal(volume.read((0, 0, 0), SHAPE), own)


def problem(folder: Path, values: np.ndarray, spec: VolumeSpec, shape: tuple[int, ...] = SHAPE) -> str:
    np.save(folder / "map.npy", values)
    with pytest.raises(ConnectomeBenchError) as caught:
        for volume in open_affinities(spec, labels(folder, shape), folder):
            volume.read((0, 0, 0), volume.shape)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_affinity_map_is_one_line(tmp_path: Path):
    good = stored("czyx", channels())
    assert "has 2 channels; an affinity map has three, one an axis" in problem(tmp_path, good[:2], spec_of())
    assert "has 1 channel; an affinity map has three" in problem(tmp_path, good[:1], spec_of())
    assert "must be floats (0 to 1) or uint8 (0 to 255), not int32" in problem(
        tmp_path, np.zeros(good.shape, np.int32), spec_of()
    )
    for value, words in ((np.nan, "some voxels are no number (NaN)"), (1.5, "between 0 and 1, not 1.5")):
        bad = good.copy()
        bad[2, 1, 3, 4] = value
        assert words in problem(tmp_path, bad, spec_of())
    assert "between 0 and 1, not -0.25" in problem(tmp_path, good - np.float32(0.25), spec_of())
    assert "name no channels; an affinity map has one an axis: add a c" in problem(tmp_path, good, spec_of("zyx"))
    assert "add `axes: czyx`" in problem(tmp_path, good, spec_of(None))
    assert "`background` is a label; affinity data have none" in problem(
        tmp_path, good, replace(spec_of(), background=1)
    )


def test_a_map_of_another_place_is_one_line(tmp_path: Path):
    good = stored("czyx", channels())
    assert "automatic and affinity differ in shape (x, y, z): [5, 4, 6] and [5, 4, 3]" in problem(
        tmp_path, good, spec_of(), (5, 4, 6)
    )
    assert "differ in voxel_size_nm" in problem(tmp_path, good, replace(spec_of(), voxel_size_nm=(4.0, 4.0, 30.0)))
    assert "differ in offset_vx" in problem(tmp_path, good, replace(spec_of(), offset_vx=(0, 0, 2)))
    assert "the numbers are the same in another order" in problem(tmp_path, good, spec_of("cxyz"))
