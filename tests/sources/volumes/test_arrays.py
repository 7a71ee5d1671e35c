"""The same volume reads the same from every container, and bad input gets one clear line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from cloudvolume import CloudVolume

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.arrays import StoredVolume, VolumeSpec, open_volume

VOXEL, OFFSET = (8.0, 10.0, 40.0), (100, 20, 3)


def labels_xyz() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**40, (13, 11, 7), np.uint64)


def spec(path: Path, axes: str, key: str | None = None) -> VolumeSpec:
    return VolumeSpec(str(path), key, axes, VOXEL, OFFSET)


def stored(container: str, folder: Path, xyz: np.ndarray) -> VolumeSpec:
    zyx = np.ascontiguousarray(xyz.T)
    if container == "npz":
        np.savez_compressed(folder / "a.npz", labels=zyx, other=zyx[:2])
        return spec(folder / "a.npz", "zyx", "labels")
    if container == "npy":
        np.save(folder / "a.npy", xyz)
        return spec(folder / "a.npy", "xyz")
    if container == "h5":
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("volumes/labels", data=xyz.transpose(1, 2, 0)[None], chunks=True)
            file.create_dataset("volumes/other", data=zyx)
        return spec(folder / "a.h5", "cyzx", "/volumes/labels")
    if container == "zarr":
        zarr.create_group(folder / "a.zarr").create_array("s0", data=zyx[..., None], chunks=(4, 4, 4, 1))
        return spec(folder / "a.zarr", "zyx", "s0")
    if container == "zarr-array":
        zarr.create_array(folder / "plain", data=xyz, chunks=(4, 4, 4))
        return spec(folder / "plain", "xyz")
    if container == "tif":
        tifffile.imwrite(folder / "a.tif", zyx, photometric="minisblack", compression="zlib")
        return spec(folder / "a.tif", "zyx")
    if container == "tif-contiguous":
        tifffile.imwrite(folder / "b.tif", zyx, photometric="minisblack")
        return spec(folder / "b.tif", "zyx")
    if container == "tif-folder":
        (folder / "slices").mkdir()
        for i, page in enumerate(np.concatenate([zyx, zyx])[:7]):  # names without leading zeros: natural order matters
            tifffile.imwrite(folder / "slices" / f"s{i + 6}.tif", page, photometric="minisblack")
        return spec(folder / "slices", "zyx")
    assert container == "precomputed"
    path = f"file://{folder}/pre"
    CloudVolume.from_numpy(
        xyz, path, resolution=[8, 10, 40], voxel_offset=OFFSET, layer_type="segmentation", progress=False
    )
    return VolumeSpec(path)


CONTAINERS = ("npz", "npy", "h5", "zarr", "zarr-array", "tif", "tif-contiguous", "tif-folder", "precomputed")


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_reads_the_same(container: str, tmp_path: Path) -> None:
    xyz = labels_xyz()
    volume = open_volume(stored(container, tmp_path, xyz), kind="labels")
    assert (volume.shape, volume.voxel_size_nm, volume.offset_vx) == (xyz.shape, VOXEL, OFFSET)
    assert np.array_equal(volume.read((0, 0, 0), xyz.shape), xyz)
    block = volume.read((2, 3, 1), (9, 4, 6))
    assert block.dtype == np.uint64
    assert np.array_equal(block, xyz[2:9, 3:4, 1:6])
    assert volume.read((2, 2, 2), (2, 5, 5)).shape == (0, 3, 3)
    with pytest.raises(IndexError, match="outside"):
        volume.read((0, 0, 0), (14, 11, 7))


def test_fingerprint_follows_content_and_place(tmp_path: Path) -> None:
    xyz = labels_xyz()
    first = stored("npy", tmp_path, xyz)
    opened: StoredVolume = open_volume(first, kind="labels")
    moved = open_volume(dataclasses.replace(first, offset_vx=(0, 0, 0)), kind="labels")
    assert opened.fingerprint == open_volume(first, kind="labels").fingerprint != moved.fingerprint
    xyz[0, 0, 0] += 1
    assert open_volume(stored("npy", tmp_path, xyz), kind="labels").fingerprint != opened.fingerprint


def test_paths_may_be_relative_to_a_folder(tmp_path: Path) -> None:
    for container in ("npy", "precomputed"):
        made = stored(container, tmp_path, labels_xyz())
        relative = made.path.replace(f"{tmp_path}/", "")
        assert open_volume(dataclasses.replace(made, path=relative), kind="labels", base=tmp_path).shape == (13, 11, 7)


def test_a_precomputed_folder_needs_no_protocol_but_may_not_be_contradicted(tmp_path: Path) -> None:
    stored("precomputed", tmp_path, labels_xyz())
    path = str(tmp_path / "pre")
    assert open_volume(VolumeSpec(path, voxel_size_nm=VOXEL), kind="labels").offset_vx == OFFSET
    for wrong in ({"voxel_size_nm": (4, 4, 40)}, {"offset_vx": (0, 0, 0)}):
        with pytest.raises(ConnectomeBenchError, match="contradicts"):
            open_volume(VolumeSpec(path, **wrong), kind="labels")
    with pytest.raises(ConnectomeBenchError, match="xyz"):
        open_volume(VolumeSpec(path, axes="zyx"), kind="labels")
    with pytest.raises(ConnectomeBenchError, match="no mip 3"):
        open_volume(VolumeSpec(path, mip=3), kind="labels")


def test_missing_chunks_are_refused_unless_told(tmp_path: Path) -> None:
    made = stored("precomputed", tmp_path, labels_xyz())
    chunks = [p for p in (tmp_path / "pre").rglob("*") if p.is_file() and "_" in p.name and p.parent.name != "pre"]
    for chunk in chunks:
        chunk.unlink()
    with pytest.raises(ConnectomeBenchError, match="fill_missing: true"):
        open_volume(made, kind="labels").read((0, 0, 0), (13, 11, 7))
    filled = open_volume(dataclasses.replace(made, fill_missing=True), kind="labels")
    assert not filled.read((0, 0, 0), (13, 11, 7)).any()


@pytest.mark.parametrize("missing", ["axes", "voxel_size_nm", "offset_vx"])
def test_scale_of_arrays_must_be_stated(missing: str, tmp_path: Path) -> None:
    made = dataclasses.replace(stored("npy", tmp_path, labels_xyz()), **{missing: None})
    with pytest.raises(ConnectomeBenchError, match=f"automatic: add `{missing}:"):
        open_volume(made, kind="labels", name="automatic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "absent.npy"}, "there is no"),
        ({"path": "text.txt"}, "a .txt file; known"),
        ({"path": "empty"}, "holds no info"),
        ({"path": "broken.npz"}, "damaged"),
        ({"path": "broken.h5"}, "damaged"),
        ({"path": "broken.tif"}, "damaged"),
        ({"path": "pickle.npy"}, "pickle"),
        ({"path": "pickle.npz"}, "pickle"),
        ({"path": "float.npy"}, "must be integers, not float32"),
        ({"path": "two.npz"}, "several arrays; add `key:` with one of labels, lables2"),
        ({"path": "two.npz", "key": "lables"}, "did you mean"),
        ({"path": "four.npy"}, "four axes"),
        ({"path": "flat.npy"}, "do not describe"),
        ({"path": "file:///nowhere/at/all"}, "there is no /nowhere/at/all"),
        ({"path": "graphene://https://example.org/x"}, "ChunkedGraph"),
        ({"axes": "xyy"}, "some order"),
        ({"voxel_size_nm": (8, 8)}, "three numbers"),
        ({"voxel_size_nm": (8, 8, 0)}, "positive"),
    ],
)
def test_bad_input_gets_one_clear_line(change: dict, message: str, tmp_path: Path) -> None:
    xyz = labels_xyz().astype(np.uint32)
    np.save(tmp_path / "good.npy", xyz)
    np.save(tmp_path / "float.npy", xyz.astype(np.float32))
    np.save(tmp_path / "flat.npy", xyz[0])
    np.save(tmp_path / "four.npy", np.stack([xyz, xyz]))
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "pickle.npz", a=np.array([{}], object))
    np.savez(tmp_path / "two.npz", labels=xyz, lables2=xyz)
    (tmp_path / "empty").mkdir()
    for name in ("text.txt", "broken.npz", "broken.h5", "broken.tif"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
    good = VolumeSpec("good.npy", None, "xyz", VOXEL, OFFSET)
    with pytest.raises(ConnectomeBenchError, match=message) as caught:
        open_volume(dataclasses.replace(good, **change), kind="labels", base=tmp_path)
    assert "\n" not in str(caught.value)


def test_signed_labels_are_read_unsigned_and_negative_ones_refused(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    np.save(tmp_path / "a.npy", values)
    assert open_volume(spec(tmp_path / "a.npy", "xyz"), kind="labels").read((0, 0, 0), (2, 2, 2)).dtype == np.uint32
    np.save(tmp_path / "b.npy", values - 1)
    with pytest.raises(ConnectomeBenchError, match="negative"):
        open_volume(spec(tmp_path / "b.npy", "xyz"), kind="labels").read((0, 0, 0), (2, 2, 2))


def test_image_data_must_be_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2), np.uint16))
    with pytest.raises(ConnectomeBenchError, match="uint8"):
        open_volume(spec(tmp_path / "a.npy", "xyz"), kind="image")


def test_slices_of_different_size_are_refused(tmp_path: Path) -> None:
    for i, n in enumerate((4, 5)):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.zeros((n, 4), np.uint8))
    with pytest.raises(ConnectomeBenchError, match=r"1\.tif is"):
        open_volume(spec(tmp_path, "zyx"), kind="labels")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for container, package in (("h5", "h5py"), ("zarr", "zarr"), ("tif", "tifffile")):
        made = stored(container, tmp_path, labels_xyz())
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, package, None)
            with pytest.raises(ConnectomeBenchError, match=rf"needs {package}.*connectomebench\[arrays\]"):
                open_volume(made, kind="labels")
