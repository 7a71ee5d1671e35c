"""What people hand in: inputs of public reports read right, or get one line. See also the sweep of damaged files."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from field_volumes import CONTAINERS, SHAPE, precomputed, spec, toy, write
from PIL import Image
from scipy.spatial import KDTree

from connectomebench.build.config import parse_config
from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.corrections.find import find_corrections
from connectomebench.sources.volumes.arrays import VolumeSpec, open_volume
from connectomebench.sources.volumes.cropped import fit_image

RULES = CorrectionConfig(min_core_voxels=200)
TOP = 2**64 - 1


def read(made: VolumeSpec) -> np.ndarray:
    volume = open_volume(made, kind="labels", name="automatic")
    return volume.read((0, 0, 0), volume.shape)


def refused(made: VolumeSpec, *parts: str, kind: str = "labels") -> str:
    with pytest.raises(ConnectomeBenchError) as caught:
        volume = open_volume(made, kind=kind, name="automatic")  # type: ignore[arg-type]
        volume.read((0, 0, 0), volume.shape)
    text = str(caught.value)
    assert "\n" not in text and text.startswith("automatic: ")
    for part in parts:
        assert part in text
    return text


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_one_merge_and_one_split(container: str, tmp_path: Path) -> None:
    segments, bodies = toy()
    volumes = [
        open_volume(write(container, tmp_path / name, labels), kind="labels", name=name)
        for name, labels in (("automatic", segments), ("proofread", bodies))
    ]
    found = find_corrections(volumes[0], volumes[1], RULES, threads=1)
    assert (found.counts["merges"], found.counts["splits"]) == (1, 1)
    assert found.warnings == ()
    assert found.merges[0].segments == (1, 2) and found.splits[0].bodies == (12, 13)


# --- TIFF and slices


def test_pages_of_different_shape_are_no_stack(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for n in (8, 8, 9):
            file.write(np.zeros((n, 5), np.uint8))
    refused(spec(tmp_path / "a.tif"), "3 pages in 3 series", "not one stack")


def test_two_stacks_in_one_file_are_not_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for dtype in (np.uint8, np.uint16):
            file.write(np.zeros((4, 8, 5), dtype), photometric="minisblack")
    refused(spec(tmp_path / "a.tif"), "not one stack")


def test_previews_do_not_count(tmp_path: Path) -> None:
    stack = np.arange(4 * 8 * 5, dtype=np.uint16).reshape(4, 8, 5)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(stack, photometric="minisblack")
        file.write(stack[:, ::2, ::2], subfiletype=1, photometric="minisblack")
    assert np.array_equal(read(spec(tmp_path / "a.tif")), stack.T)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_missing_slices_are_named_or_filled(suffix: str, tmp_path: Path) -> None:
    made = write(f"{suffix}-folder", tmp_path, toy()[0])
    for i in (15, 16, 17, 18, 30):
        (tmp_path / "slices" / f"s{i:04d}.{suffix}").unlink()
    refused(made, "lacks slices 15-18, 30 of 0 to 55", "fill_missing: true")
    filled = read(dataclasses.replace(made, fill_missing=True))
    expected = toy()[0]
    expected[:, :, [15, 16, 17, 18, 30]] = 0
    assert np.array_equal(filled, expected)


def test_stacks_in_a_folder_are_no_slices(tmp_path: Path) -> None:
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    refused(spec(tmp_path), "holds 3 pages; in a folder every slice must be one page: give a file")


def test_every_tenth_number_is_no_gap_and_hidden_files_are_no_slices(tmp_path: Path) -> None:
    for i in range(4):
        tifffile.imwrite(tmp_path / f"z{i * 10}.tif", np.full((3, 2), i, np.uint8))
    (tmp_path / "._z5.tif").write_bytes(b"left by macOS")
    (tmp_path / "notes.txt").write_text("not a slice")
    assert read(spec(tmp_path)).tolist() == np.broadcast_to(np.arange(4), (2, 3, 4)).tolist()


def test_double_numbers_and_mixed_kinds_are_refused(tmp_path: Path) -> None:
    for name in ("s1.tif", "s01.tif", "s2.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((3, 2), np.uint8))
    refused(spec(tmp_path), "both with number 1")
    Image.new("L", (2, 3)).save(tmp_path / "s3.png")
    refused(spec(tmp_path), "slices of several kinds (1 .png, 3 .tif)")


def test_colours_are_counted_as_channels(tmp_path: Path) -> None:
    (tmp_path / "tif").mkdir()
    (tmp_path / "png").mkdir()
    for i in range(2):
        tifffile.imwrite(tmp_path / "tif" / f"{i}.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
        Image.new("RGB", (5, 4)).save(tmp_path / "png" / f"{i}.png")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((6, 4, 5, 3), np.uint8), photometric="rgb")
    for name in ("tif", "png", "rgb.tif"):
        refused(spec(tmp_path / name), "has 3 channels")


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P"])
def test_png_of_each_depth(mode: str, tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4) % (2 if mode == "1" else 12)
    if mode == "P":
        picture = Image.fromarray(values.astype(np.uint8), mode="L").convert("P")
        picture.putpalette([c for i in range(256) for c in (i, i, i)])
        picture.paste(Image.fromarray(values.astype(np.uint8), mode="L"))
    elif mode == "1":
        picture = Image.fromarray(values.astype(bool))
    else:
        picture = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
    picture.save(tmp_path / "s0.png")
    assert Image.open(tmp_path / "s0.png").mode == mode
    assert np.array_equal(read(spec(tmp_path))[:, :, 0], values.T)


def test_palettes_of_colours_and_lossy_labels_are_refused(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 3))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    (tmp_path / "p").mkdir()
    (tmp_path / "j").mkdir()
    picture.save(tmp_path / "p" / "s0.png")
    refused(spec(tmp_path / "p"), "palette of colours")
    Image.new("L", (4, 3), 7).save(tmp_path / "j" / "s0.jpg")
    refused(spec(tmp_path / "j"), "JPEG, which changes labels")
    image = open_volume(spec(tmp_path / "j"), kind="image")
    assert image.shape == (4, 3, 1) and int(image.read((0, 0, 0), (4, 3, 1))[0, 0, 0]) == 7


# --- chunks


def test_absent_zarr_chunks_are_counted(tmp_path: Path) -> None:
    made = write("zarr", tmp_path, toy()[0] + 1)
    (tmp_path / "a.zarr/c/0/0/0").unlink()
    refused(made, "lacks 1 of 8 chunks", "fill_missing: true")
    assert (read(dataclasses.replace(made, fill_missing=True))[:60, :32, :28] == 0).all()


def test_zarr_chunks_that_were_left_out_are_background(tmp_path: Path) -> None:
    """Zarr's own writer leaves out two chunks of the toy, in which no object lies."""
    made = write("zarr", tmp_path, toy()[0])
    assert len([p for p in (tmp_path / "a.zarr/c").rglob("*") if p.is_file()]) == 6
    assert np.array_equal(read(made), toy()[0])
    (tmp_path / "a.zarr/c/0/0/1").unlink()
    refused(made, "lacks 3 of 8 chunks")
    for chunk in (tmp_path / "a.zarr/c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    refused(made, "lacks 8 of 8 chunks")


@pytest.mark.parametrize("separator", [".", "/"])
def test_absent_chunks_of_zarr_2(separator: str, tmp_path: Path) -> None:
    made = spec(tmp_path / "a.zarr", key="g/labels")
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    key = {"name": "v2", "separator": separator}
    root.create_array("g/labels", data=toy()[0].T.copy(), chunks=(28, 32, 60), chunk_key_encoding=key)
    assert np.array_equal(read(made), toy()[0])
    (tmp_path / "a.zarr/g/labels" / separator.join("010")).unlink()
    refused(made, "lacks 3 of 8 chunks")


def test_absent_shards_are_counted(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "s.zarr", data=toy()[0].T + 1, chunks=(14, 16, 30), shards=(28, 32, 60))
    assert (read(spec(tmp_path / "s.zarr")) == toy()[0] + 1).all()
    (tmp_path / "s.zarr/c/1/0/1").unlink()
    refused(spec(tmp_path / "s.zarr"), "lacks 1 of 8 chunks")


def test_absent_chunks_whose_fill_value_is_a_label_are_no_background(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("labels", (8, 8, 8), np.uint32, chunks=(4, 4, 4), fillvalue=7)[:4] = 3
    zarr.create_array(tmp_path / "a.zarr", data=np.full((8, 8, 8), 3, np.uint32), chunks=(4, 4, 4), fill_value=7)
    (tmp_path / "a.zarr/c/0/0/0").unlink()
    for name, absent in (("a.h5", 4), ("a.zarr", 1)):
        made = spec(tmp_path / name, fill_missing=True)
        refused(made, f"the {absent} chunks", "would be read as label 7, its fill value", "`background: [0, 7]`")
        labels = read(dataclasses.replace(made, background=(0, 7)))
        assert set(np.unique(labels).tolist()) == {0, 3} and (labels == 0).sum() == absent * 64


def test_absent_hdf5_chunks_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("labels", (8, 8, 8), np.uint32, chunks=(4, 4, 4))
        dataset[:4] = 3
        file.create_dataset("never", (8, 8, 8), np.uint32)
    refused(spec(tmp_path / "a.h5", key="labels"), "lacks 4 of 8 chunks")
    refused(spec(tmp_path / "a.h5", key="never"), "lacks 1 of 1 chunks")


def test_absent_precomputed_chunks_are_counted(tmp_path: Path) -> None:
    made = write("precomputed", tmp_path, toy()[0])
    next((tmp_path / "pre").rglob("60-120_32-64_28-56*")).unlink()
    refused(made, "lacks 1 of 8 chunks", "fill_missing: true")


def test_files_of_a_virtual_dataset_must_be_there(tmp_path: Path) -> None:
    for i in range(2):
        with h5py.File(tmp_path / f"part{i}.h5", "w") as file:
            file["d"] = np.full((2, 3, 4), i + 1, np.uint16)
    layout = h5py.VirtualLayout((4, 3, 4), np.uint16)
    for i in range(2):
        layout[2 * i : 2 * i + 2] = h5py.VirtualSource(f"part{i}.h5", "d", (2, 3, 4))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    made = spec(tmp_path / "all.h5")
    assert read(made)[0, 0].tolist() == [1, 1, 2, 2]
    (tmp_path / "part1.h5").unlink()
    refused(made, "lacks 1 of the 2 files", "part1.h5")


def test_labels_rewritten_in_place_have_another_fingerprint(tmp_path: Path) -> None:
    for container in ("precomputed", "zarr", "tif-folder"):
        made = write(container, tmp_path / container, toy()[0])
        first = open_volume(made, kind="labels").fingerprint
        assert open_volume(made, kind="labels").fingerprint == first
        if container == "precomputed":
            info = (tmp_path / container / "pre/info").read_bytes()
            precomputed(tmp_path / container / "pre", toy()[1])
            assert (tmp_path / container / "pre/info").read_bytes() == info
        elif container == "zarr":
            zarr.open_array(tmp_path / container / "a.zarr", mode="r+")[0, 0, 0] = 9
        else:
            tifffile.imwrite(tmp_path / container / "slices/s0003.tif", np.ones((64, 120), np.uint32))
        assert open_volume(made, kind="labels").fingerprint != first


# --- background


@pytest.mark.parametrize("background", [TOP, TOP - 2, 1, 77])
@pytest.mark.parametrize("container", ["npy", "zarr", "precomputed"])
def test_any_label_may_be_background(background: int, container: str, tmp_path: Path) -> None:
    volumes, plain = [], []
    for name, labels in zip(("automatic", "proofread"), toy(), strict=True):
        moved = np.where(labels == 0, np.uint64(background), labels.astype(np.uint64) + np.uint64(100))
        made = write(container, tmp_path / name, moved)
        plain.append(open_volume(made, kind="labels"))
        volumes.append(open_volume(dataclasses.replace(made, background=background), kind="labels"))
        assert volumes[-1].fingerprint != plain[-1].fingerprint
    found = find_corrections(volumes[0], volumes[1], RULES, threads=1)
    assert (found.counts["merges"], found.counts["splits"], found.warnings) == (1, 1, ())
    assert found.merges[0].segments == (101, 102)
    doubtful = find_corrections(plain[0], plain[1], RULES, threads=1)
    assert len(doubtful.warnings) == 2 and f"set `background: {background}`" in doubtful.warnings[0]


def test_background_below_zero_several_and_beside_zero(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[-1, 5], [0, -7]]], np.int64))
    made = spec(tmp_path / "a.npy", "xyz")
    refused(made, "set `background: -7`")
    refused(dataclasses.replace(made, background=(-1, -7)), "label 0 occurs", "`background: [0, -7, -1]`")
    assert read(dataclasses.replace(made, background=(-1, 0, -7))).tolist() == [[[0, 5], [0, 0]]]
    np.save(tmp_path / "b.npy", np.zeros((2, 2, 2), np.uint8))
    refused(spec(tmp_path / "b.npy", "xyz", background=3), "`background` is a label", kind="image")


@pytest.mark.parametrize("container", ["npy", "precomputed"])
@pytest.mark.parametrize(
    ("dtype", "background", "same"),
    [("uint64", -1, TOP), ("uint32", TOP, 2**32 - 1), ("uint8", -1, 255), ("int64", TOP, -1), ("uint16", 70000, 4464)],
)
def test_background_that_cannot_occur_is_refused(
    dtype: str, background: int, same: int, container: str, tmp_path: Path
) -> None:
    made = write(container, tmp_path, np.ones((4, 4, 4), dtype))
    refused(dataclasses.replace(made, background=(0, background)), f"cannot occur in labels of the type {dtype}")
    refused(dataclasses.replace(made, background=background), f"set `background: {same}`")


@pytest.mark.parametrize("label", [1.8446744073709552e19, 3.6e17, "7", True, [1.5]])
def test_background_that_went_through_a_float_is_refused(label: object) -> None:
    volume = {"path": "a.npy", "axes": "xyz", "voxel_size_nm": [1, 1, 1], "offset_vx": [0, 0, 0]}
    own = {"name": "n", "version": "1", "automatic": volume | {"background": label}, "proofread": volume}
    with pytest.raises(ConnectomeBenchError, match=r"source\.volumes\.automatic\.background(\.0)?: .*integer"):
        parse_config({"species": "fly", "source": {"volumes": own}})
    exact = own | {"automatic": volume | {"background": [0, TOP]}}
    read_back = parse_config({"species": "fly", "source": {"volumes": exact}}).source.volumes
    assert read_back is not None and read_back.automatic.backgrounds == (0, TOP)  # type: ignore[union-attr]


# --- axes, scales, offsets


@pytest.mark.parametrize("axes", ["zyx", "tczyx"])
def test_axes_of_length_one_are_dropped(axes: str, tmp_path: Path) -> None:
    segments = toy()[0]
    for name in ("named", "bare"):
        root = zarr.create_group(tmp_path / f"{name}.zarr")
        root.create_array("s0", data=segments.T[None, None], chunks=(1, 1, 56, 64, 120))
        if name == "named":
            root.attrs["multiscales"] = [multiscale([("t", None), ("c", None), *ZYX], {"s0": [1, 1, 10, 10, 10]})]
        assert np.array_equal(read(spec(tmp_path / f"{name}.zarr", axes, "s0")), segments)


ZYX = [("z", "nanometer"), ("y", "nanometer"), ("x", "nanometer")]


def multiscale(axes: list, levels: dict[str, list[float]], shift: list[float] | None = None) -> dict:
    kinds = [{"name": n, "type": "space" if u else "other"} | ({"unit": u} if u else {}) for n, u in axes]
    steps = {p: [{"type": "scale", "scale": s}] for p, s in levels.items()}
    if shift is not None:
        steps = {p: [*s, {"type": "translation", "translation": shift}] for p, s in steps.items()}
    return {"axes": kinds, "datasets": [{"path": p, "coordinateTransformations": s} for p, s in steps.items()]}


def test_axes_longer_than_one_and_ambiguous_ones_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((2, 4, 5, 6), np.uint8))
    refused(spec(tmp_path / "t.npy", "tzyx"), "2 entries along its axis 't'")
    refused(spec(tmp_path / "t.npy", "czyx"), "2 channels")
    np.save(tmp_path / "a.npy", np.zeros((1, 5, 1, 6), np.uint8))
    refused(spec(tmp_path / "a.npy"), "four axes")
    np.save(tmp_path / "b.npy", np.zeros((1, 1, 5, 6), np.uint8))
    assert read(spec(tmp_path / "b.npy")).shape == (6, 5, 1)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_scales_may_not_be_contradicted(version: str, tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2 if version == "0.4" else 3)
    for key, step in (("s0", 1), ("s1", 2)):
        root.create_array(key, data=np.ascontiguousarray(toy()[0].T[::step, ::step, ::step]), chunks=(28, 32, 60))
    scales = [multiscale(ZYX, {"s0": [10, 10, 10], "s1": [20, 20, 20]})]
    root.attrs.update({"multiscales": scales} if version == "0.4" else {"ome": {"multiscales": scales}})
    refused(spec(tmp_path / "a.zarr", key="s1"), "[10.0, 10.0, 10.0] contradicts [20.0, 20.0, 20.0]")
    refused(spec(tmp_path / "a.zarr/s1"), "[10.0, 10.0, 10.0] contradicts [20.0, 20.0, 20.0]")
    refused(spec(tmp_path / "a.zarr", "xyz", "s0"), "axes 'xyz' contradicts 'zyx'")
    right = dataclasses.replace(spec(tmp_path / "a.zarr", key="s1"), voxel_size_nm=(20.0, 20.0, 20.0))
    assert read(right).shape == (60, 32, 28)
    assert read(spec(tmp_path / "a.zarr", key="s0")).shape == SHAPE


@pytest.mark.parametrize(
    ("axes", "scale", "fine"),
    [
        ([(n, "micrometer") for n in "zyx"], [0.01, 0.01, 0.01], True),
        ([(n, "micrometer") for n in "zyx"], [0.04, 0.01, 0.01], False),
        ([(n, None) for n in "zyx"], [1, 1, 1], True),  # says nothing
        ([(n, None) for n in "zyx"], [10, 10, 10], True),
        ([(n, None) for n in "zyx"], [0.01, 0.01, 0.01], True),
        ([(n, None) for n in "zyx"], [40, 10, 10], False),
    ],
)
def test_units_of_ome_zarr(axes: list, scale: list[float], fine: bool, tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_array("0", data=toy()[0].T.copy(), chunks=(28, 32, 60))
    root.attrs["multiscales"] = [multiscale(axes, {"0": scale})]
    made = spec(tmp_path / "a.zarr", key="0")
    if fine:
        assert read(made).shape == SHAPE
    else:
        refused(made, "contradicts")


def test_translations_may_not_be_contradicted(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_array("0", data=toy()[0].T.copy(), chunks=(28, 32, 60))
    root.attrs["multiscales"] = [multiscale(ZYX, {"0": [10, 10, 10]}, [300, 50, 1000])]
    refused(spec(tmp_path / "a.zarr", key="0"), "offset_vx [0, 0, 0] contradicts [100, 5, 30]")
    assert read(dataclasses.replace(spec(tmp_path / "a.zarr", key="0"), offset_vx=(100, 5, 30))).shape == SHAPE


def test_scales_of_hdf5_and_tiff_may_not_be_contradicted(tmp_path: Path) -> None:
    zyx = toy()[0].T.copy()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, name, value in (
            ("cremi", "resolution", (40, 4, 4)),
            ("ilastik", "element_size_um", (0.04, 0.004, 0.004)),
        ):
            file.create_dataset(key, data=zyx).attrs[name] = value
        file.create_dataset("x first", data=zyx).attrs["resolution"] = (4, 4, 40)
    assert (
        read(dataclasses.replace(spec(tmp_path / "a.h5", key="x first"), voxel_size_nm=(4.0, 4.0, 40.0))).shape == SHAPE
    )
    for key in ("cremi", "ilastik"):
        made = spec(tmp_path / "a.h5", key=key)
        refused(made, "contradicts [4.0, 4.0, 40.0]")
        assert read(dataclasses.replace(made, voxel_size_nm=(4.0, 4.0, 40.0))).shape == SHAPE
    tifffile.imwrite(
        tmp_path / "ij.tif",
        zyx.astype(np.uint16),
        imagej=True,
        resolution=(1 / 0.02, 1 / 0.02),
        metadata={"axes": "ZYX", "spacing": 0.04, "unit": "um"},
    )
    refused(spec(tmp_path / "ij.tif"), "contradicts [20.0, 20.0, 40.0]")
    pixel = {
        "axes": "ZYX",
        "PhysicalSizeX": 20,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 20,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", zyx.astype(np.uint16), metadata=pixel)
    refused(spec(tmp_path / "a.ome.tif"), "contradicts [20.0, 20.0, None]")


@pytest.mark.parametrize("field", ["voxel_offset", "size"])
def test_fractions_in_an_info_are_refused(field: str, tmp_path: Path) -> None:
    made = write("precomputed", tmp_path, toy()[0])
    path = tmp_path / "pre/info"
    info = json.loads(path.read_text())
    info["scales"][0][field] = [20.5, 0, 0]
    path.write_text(json.dumps(info))
    refused(made, field, "20.5", "whole voxels")


def test_offsets_beyond_floats_stay_exact(tmp_path: Path) -> None:
    write("npy", tmp_path, toy()[0])
    made = dataclasses.replace(spec(tmp_path / "a.npy"), offset_vx=(2**53 + 1, 0, 0))
    assert open_volume(made, kind="labels").offset_vx == (2**53 + 1, 0, 0)


def cells(seed: int) -> np.ndarray:
    """Fill a cube of 64 voxels with 60 cells of Voronoi."""
    points = np.random.default_rng(seed).uniform(0, 64, (60, 3))
    places = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return (KDTree(points).query(places)[1] + 1).reshape(64, 64, 64).astype(np.uint32)


def test_swapped_axes_of_a_cube_are_noticed_with_the_order_that_fits(tmp_path: Path) -> None:
    bodies = cells(0)
    segments = bodies.copy()
    segments[:8, :8, :8] = 99
    np.save(tmp_path / "a.npy", segments)
    np.save(tmp_path / "b.npy", bodies)
    first = open_volume(spec(tmp_path / "a.npy", "xyz"), kind="labels")
    for axes, order in (("xyz", None), ("yxz", "y, x, z"), ("zyx", "z, y, x")):
        found = find_corrections(first, open_volume(spec(tmp_path / "b.npy", axes), kind="labels"), RULES, threads=1)
        if order is None:
            assert found.warnings == ()
        else:
            assert "hardly agree" in found.warnings[0] and f"x, y, z are read as {order}" in found.warnings[0]


def test_moved_labels_are_noticed_with_the_shift(tmp_path: Path) -> None:
    labels = cells(1)
    np.save(tmp_path / "a.npy", labels)
    np.save(tmp_path / "b.npy", np.roll(labels, (9, -7, 0), (0, 1, 2)))
    first, second = (open_volume(spec(tmp_path / f"{n}.npy", "xyz"), kind="labels") for n in "ab")
    (warning,) = find_corrections(first, second, RULES, threads=1).warnings
    assert "moved by -9, 7, 0 voxels" in warning


def test_neurites_without_a_core_are_counted_and_named(tmp_path: Path) -> None:
    bodies = np.zeros((112, 40, 40), np.uint32)
    for i, (y, z) in enumerate([(4, 4), (4, 20), (20, 4), (20, 20)]):
        bodies[:, y : y + 6, z : z + 6] = i + 1
    np.save(tmp_path / "a.npy", bodies)
    volume = open_volume(spec(tmp_path / "a.npy", "xyz"), kind="labels")
    found = find_corrections(volume, volume, CorrectionConfig(), threads=1)
    assert (found.counts["bodies_without_core"], found.counts["segments_without_core"]) == (4, 4)
    assert "4 of 4 bodies" in found.warnings[0] and "erosion_vx" in found.warnings[0]
    thin = find_corrections(volume, volume, CorrectionConfig(erosion_vx=1, min_core_voxels=200), threads=1)
    assert thin.counts["bodies_without_core"] == 0 and thin.warnings == ()


# --- HDF5


def test_links_of_hdf5_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["real"] = toy()[0].T
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["group/inside"] = toy()[1].T
        file["soft"] = h5py.SoftLink("/group/inside")
        file["external"] = h5py.ExternalLink("data.h5", "/real")
        file["circle"] = h5py.SoftLink("/")
        file["gone"] = h5py.ExternalLink("absent.h5", "/real")
    made = {key: spec(tmp_path / "links.h5", key=key) for key in ("soft", "external", "group", "gone")}
    assert np.array_equal(read(made["soft"]), toy()[1]) and np.array_equal(read(made["group"]), toy()[1])
    assert np.array_equal(read(made["external"]), toy()[0])
    refused(made["gone"], "is a link to absent.h5:/real, which is not there")
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["external"] = h5py.ExternalLink("data.h5", "/real")
    assert read(spec(tmp_path / "one.h5")).shape == SHAPE


def test_links_in_a_circle_and_markers_without_data_are_no_arrays(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = toy()[0].T
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file["self"] = h5py.SoftLink("/")
        file["nothing"] = h5py.Empty("u4")
    assert read(spec(tmp_path / "a.h5")).shape == read(spec(tmp_path / "a.h5", key="self/self/labels")).shape == SHAPE
    refused(spec(tmp_path / "a.h5", key="a"), "is a link to /b", "leads back here")
    refused(spec(tmp_path / "a.h5", key="nothing"), "holds no array 'nothing'; it holds")


@pytest.mark.parametrize("user_block", [0, 512])
def test_hdf5_of_any_suffix_is_read(user_block: int, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=user_block) as file:
        file["labels"] = toy()[0].T
    assert read(spec(tmp_path / "a.mat")).shape == SHAPE
    (tmp_path / "b.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    refused(spec(tmp_path / "b.mat"), "is a .mat file; known: ")
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\3\4")
    refused(spec(tmp_path / "a.zarr.zip"), "unpack it")


def test_a_rewritten_linked_file_changes_the_fingerprint(tmp_path: Path) -> None:
    fingerprints = set()
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        with h5py.File(tmp_path / f"{i}/data.h5", "w") as file:
            file["real"] = np.full((2, 3, 4), i, np.uint8)
        with h5py.File(tmp_path / f"{i}/one.h5", "w") as file:
            file["external"] = h5py.ExternalLink("data.h5", "/real")
        fingerprints.add(open_volume(spec(tmp_path / f"{i}/one.h5"), kind="labels").fingerprint)
    assert len(fingerprints) == 2


def test_an_absent_filter_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((4, 4, 4))
        layout.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 4, 0))
        space = h5py.h5s.create_simple((4, 4, 4))
        made = h5py.h5d.create(file.id, b"labels", h5py.h5t.NATIVE_UINT32, space, layout)
        made.write_direct_chunk((0, 0, 0), b"compressed by Blosc")
    refused(spec(tmp_path / "a.h5"), "filter Blosc, which is not installed", "hdf5plugin")


# --- addresses


@pytest.mark.parametrize(
    "path",
    [
        "n5://file:///data/x.n5",
        "N5://https://x.org/a",
        "zarr://gs://bucket/x",
        "zarr3://gs://bucket/x",
        "https://x.org/a.zarr/s0",
        "s3://bucket/labels.H5",
        "boss://a/b/c",
        "ftp://x/y",
    ],
)
@pytest.mark.parametrize("axes", [None, "zyx"])
def test_addresses_that_are_not_read_are_named(path: str, axes: str | None) -> None:
    wanted = "convert it" if "n5" in path.lower() else "is an address that is not read"
    refused(VolumeSpec(path, axes=axes), path, wanted)


def test_n5_folders_are_named(tmp_path: Path) -> None:
    block = tmp_path / "a.n5/s0/0/0"
    block.mkdir(parents=True)
    (tmp_path / "a.n5/attributes.json").write_text('{"n5": "2.0.0"}')
    (tmp_path / "a.n5/s0/attributes.json").write_text('{"dimensions": [2, 2, 2], "dataType": "uint8"}')
    (block / "0").write_bytes(struct.pack(">HHIII", 0, 3, 2, 2, 2) + bytes(8))
    for name in ("a.n5", "a.n5/s0"):
        refused(spec(tmp_path / name), "N5, which is not read; convert it")


def test_file_addresses_of_arrays_are_paths(tmp_path: Path) -> None:
    write("zarr", tmp_path, toy()[0])
    for head in ("file://", "zarr://file://", "zarr2://file://", "zarr3://file://"):
        made = dataclasses.replace(spec(tmp_path / "a.zarr"), path=f"{head}{tmp_path}/a.zarr")
        assert read(made).shape == SHAPE


# --- image data


class Labels:
    shape, voxel_size_nm, offset_vx = (20, 16, 10), (8.0, 8.0, 40.0), (10, 5, 3)


def image(folder: Path, shape: tuple[int, int, int], nm: tuple[float, float, float], offset: tuple[int, int, int]):
    x, y, z = np.meshgrid(*(np.arange(n) + o for n, o in zip(shape, offset, strict=True)), indexing="ij")
    np.save(folder / "em.npy", ((x + 3 * y + 7 * z) % 251).astype(np.uint8))
    return open_volume(VolumeSpec(str(folder / "em.npy"), None, "xyz", nm, offset), kind="image")


@pytest.mark.parametrize("factor", [1, 2])
def test_larger_image_data_are_cropped_to_the_labels(factor: int, tmp_path: Path) -> None:
    nm = (8.0 / factor, 8.0 / factor, 40.0)
    offset = (10 * factor - 6, 5 * factor - 4, 1)
    em = fit_image(image(tmp_path, (20 * factor + 13, 16 * factor + 7, 16), nm, offset), Labels())  # type: ignore[arg-type]
    assert (em.shape, em.offset_vx) == ((20 * factor, 16 * factor, 10), (10 * factor, 5 * factor, 3))
    first = em.read((0, 0, 0), (2, 1, 1)).ravel().tolist()
    assert first == [(10 * factor + i + 3 * 5 * factor + 7 * 3) % 251 for i in range(2)]
    with pytest.raises(IndexError):
        em.read((0, 0, 0), (20 * factor + 1, 1, 1))


def test_image_data_that_do_not_cover_the_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="do not cover automatic"):
        fit_image(image(tmp_path, (20, 16, 9), (8.0, 8.0, 40.0), (10, 5, 3)), Labels())  # type: ignore[arg-type]
    same = image(tmp_path, (20, 16, 10), (8.0, 8.0, 40.0), (10, 5, 3))
    assert fit_image(same, Labels()) is same  # type: ignore[arg-type]
