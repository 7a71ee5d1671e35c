"""`connectomebench inspect` says what each kind of path is, and its last lines read it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
import zarr
from stored_rows import write_dataset

from connectomebench.build.config import parse_config
from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.rows import DataRecord
from connectomebench.evaluation.result_records import result_schema
from connectomebench.inspection import Finding, as_json, as_text, inspect_pair, inspect_path
from connectomebench.models.model_record import ModelRecord, write_record
from connectomebench.sources.volumes.arrays import VolumeSpec, open_volume

sys.path.insert(0, str(Path(__file__).parents[1] / "sources/volumes"))

from field_volumes import CONTAINERS, SHAPE, toy, write


def opened(finding: Finding, name: str = "automatic"):
    """Read the volume through the lines that the finding ends with."""
    config = yaml.safe_load("\n".join(finding.usage))
    parsed = parse_config({"species": "fly", **config})
    assert parsed.source.volumes is not None
    spec = getattr(parsed.source.volumes, name)
    return open_volume(spec, kind="labels")


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_container_is_described_and_read_by_its_lines(container: str, tmp_path: Path) -> None:
    made = write(container, tmp_path, toy()[0])
    (finding,) = inspect_path(made.path)
    assert finding.kind.startswith("labels in ") and not finding.warnings
    assert tuple(finding.facts["shape x, y, z"]) == SHAPE
    assert finding.facts["labels"] == 4
    sizes = {str(i): int((toy()[0] == i).sum()) for i in (3, 4, 1, 2)}
    total = toy()[0].size
    assert finding.facts["largest labels (share of voxels)"] == {i: f"{n / total:.1%}" for i, n in sizes.items()}
    assert finding.facts["background (label 0)"] == f"{(toy()[0] == 0).mean():.1%}"
    volume = opened(finding)
    assert np.array_equal(volume.read((0, 0, 0), volume.shape), toy()[0])


def test_what_ome_zarr_says_is_used(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_array("s1", data=toy()[0].T[None].copy(), chunks=(1, 28, 32, 60))
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    levels = [{"path": "s1", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.04, 0.01, 0.02]}]}]
    root.attrs["multiscales"] = [{"axes": [{"name": "c", "type": "channel"}, *axes], "datasets": levels}]
    (finding,) = inspect_path(str(tmp_path / "a.zarr"), VolumeSpec("", key="s1"))
    assert finding.facts["voxel size x, y, z (nm)"] == [20.0, 10.0, 40.0]
    volume = opened(finding)
    assert (volume.shape, volume.voxel_size_nm) == (SHAPE, (20.0, 10.0, 40.0))


@pytest.mark.parametrize("head", ["file://", "precomputed://file://", "zarr://file://", "zarr://"])
def test_local_addresses_are_described_as_their_paths(head: str, tmp_path: Path) -> None:
    container = "precomputed" if "precomputed" in head else "zarr"
    made = write(container, tmp_path, toy()[0])
    (finding,) = inspect_path(head + made.path)
    volume = opened(finding)
    assert finding.facts["labels"] == 4 and np.array_equal(volume.read((0, 0, 0), volume.shape), toy()[0])
    pair = inspect_pair(head + made.path, made.path)
    assert pair[-1].facts["overlap of foregrounds"] == "100.0%"


def test_labels_below_zero_are_taken_for_background(tmp_path: Path) -> None:
    labels = np.where(toy()[0] == 0, -1, toy()[0].astype(np.int32))
    made = write("npy", tmp_path, labels)
    (finding,) = inspect_path(made.path)
    assert any("labels below zero (-1) are taken for background" in w for w in finding.warnings)
    volume = opened(finding)
    assert np.array_equal(volume.read((0, 0, 0), volume.shape), toy()[0])
    other = write("h5", tmp_path, toy()[0])
    assert inspect_pair(made.path, other.path)[-1].facts["overlap of foregrounds"] == "100.0%"


@pytest.mark.parametrize("dtype", ["bool", "float32", "complex64", "S1", [("a", "i4")]])
def test_what_is_no_volume_is_one_line(dtype: object, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), dtype))  # type: ignore[arg-type]
    with pytest.raises(ConnectomeBenchError, match="it holds values of the type"):
        inspect_path(str(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", np.zeros((0, 4, 5), np.uint32))
    with pytest.raises(ConnectomeBenchError, match="it is empty"):
        inspect_path(str(tmp_path / "b.npy"))


def test_image_data_of_16_bits_are_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 60000, (8, 9, 10), np.uint16))
    (finding,) = inspect_path(str(tmp_path / "a.npy"))
    assert finding.kind == "image data in npy" and "rescale them to 0-255" in finding.warnings[0]


def test_all_arrays_of_a_container_are_described(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"], file["raw"], file["scores"] = toy()[0], gray, np.zeros((4, 4, 4), np.float32)
    kinds = {f.path.rpartition(":")[2]: f for f in inspect_path(str(tmp_path / "a.h5"))}
    assert kinds["labels"].kind == "labels in HDF5" and kinds["raw"].kind == "image data in HDF5"
    assert "values of the type float32" in kinds["scores"].warnings[0]
    assert "image:" in "\n".join(kinds["raw"].usage)
    (one,) = inspect_path(f"{tmp_path / 'a.h5'}:raw")
    assert one.facts["grey values"]["most"] == int(gray.max())


def test_what_seems_wrong_is_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.where(toy()[0] == 0, 77, toy()[0]))
    assert "set `background: 77`" in inspect_path(str(tmp_path / "b.npy"))[0].warnings[0]
    right = inspect_path(str(tmp_path / "b.npy"), VolumeSpec("", background=77))[0]
    assert not right.warnings and right.facts["labels"] == 4
    made = write("zarr", tmp_path / "z", toy()[0])
    (tmp_path / "z/a.zarr/c/0/0/0").unlink()
    (finding,) = inspect_path(made.path)
    assert "3 of 8 chunks are missing" in finding.warnings[0] and finding.facts["chunks"]["missing"] == 3
    assert opened(finding).shape == SHAPE  # its lines say fill_missing
    slices = write("tif-folder", tmp_path / "s", toy()[0])
    (tmp_path / "s/slices/s0007.tif").unlink()
    (finding,) = inspect_path(slices.path)
    assert "lacks slices 7 of 0 to 55" in finding.warnings[0] and opened(finding).shape == SHAPE
    pre = write("precomputed", tmp_path / "p", toy()[0])
    next((tmp_path / "p/pre").rglob("0-60_0-32_0-28*")).unlink()
    (finding,) = inspect_path(pre.path)
    assert finding.facts["chunks"] == {"all": 8, "missing": 1} and opened(finding).shape == SHAPE


def test_two_segmentations_are_compared(tmp_path: Path) -> None:
    for name, labels in zip("ab", toy(), strict=True):
        np.save(tmp_path / f"{name}.npy", labels)
    *_, found = inspect_pair(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), VolumeSpec("", axes="xyz"))
    # body 11 is in two halves: 1 bit on its voxels; bodies 12 and 13, of one size, are fused: 1 bit on theirs
    sizes = {i: int((toy()[1] == i).sum()) for i in (11, 12, 13, 14)}
    total = sum(sizes.values())
    split, merge = sizes[11] / total, (sizes[12] + sizes[13]) / total
    assert found.facts["variation of information (bits)"]["split"] == pytest.approx(split)
    assert found.facts["variation of information (bits)"]["merge"] == pytest.approx(merge)
    assert found.facts["overlap of foregrounds"] == "100.0%" and not found.warnings
    assert opened(found, "proofread").shape == opened(found).shape == SHAPE


def test_other_axes_and_shapes_are_named(tmp_path: Path) -> None:
    labels = np.random.default_rng(3).integers(1, 40, (4, 4, 4)).astype(np.uint32)
    cube = labels.repeat(9, 0).repeat(9, 1).repeat(9, 2)
    np.save(tmp_path / "a.npy", cube)
    np.save(tmp_path / "b.npy", cube.transpose(0, 2, 1))
    *_, found = inspect_pair(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    assert "the axes x, y, z are read as y, x, z" in found.warnings[0]
    np.save(tmp_path / "c.npy", toy()[0])
    np.save(tmp_path / "d.npy", toy()[0].T)
    with pytest.raises(ConnectomeBenchError, match="another order: check `axes`"):
        inspect_pair(str(tmp_path / "c.npy"), str(tmp_path / "d.npy"))


def test_radii_that_are_unknown_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1.swc").write_text("1,3,0,0,0,2,-1\n2,3,10,0,0,-1,1\n3,3,20,0,0,-1,2\n")
    (finding,) = inspect_path(str(tmp_path))
    assert "2 of 3 points have no radius above zero" in finding.warnings[0]


def test_neurons_and_meshes(tmp_path: Path) -> None:
    (tmp_path / "swc").mkdir()
    (tmp_path / "swc/1.swc").write_text("# x\n1 3 0 0 0 2 -1\n2 3 10 0 0 2 1\n3 3 10 10 0 2 2\n4 3 20 0 0 2 2\n")
    (tmp_path / "swc/bad.swc").write_text("1 3 0 0\n")
    (finding,) = inspect_path(str(tmp_path / "swc"))
    assert (finding.facts["neurons"], finding.facts["readable"], finding.facts["points"]) == (2, 1, 4)
    assert (finding.facts["ends"], finding.facts["branch points"]) == (3, 1)
    assert "bad.swc" in finding.warnings[0] and "morphology:" in "\n".join(finding.usage)
    assert parse_config({"species": "fly", **yaml.safe_load("\n".join(finding.usage))}).source.morphology is not None
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh/1.obj").write_text("v 0 0 0\nv 100 0 0\nv 0 50 0\nf 1 2 3\n")
    (finding,) = inspect_path(str(tmp_path / "mesh"))
    assert finding.facts["faces"] == 1 and finding.facts["extent x, y, z (units of the files)"] == [100.0, 50.0, 0.0]


def test_tables_models_and_lfs_pointers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "t.parquet")
    (finding,) = inspect_path(str(tmp_path / "t.parquet"))
    assert finding.facts == {"rows": 2, "columns": ["a", "b"]}
    (tmp_path / "t.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in inspect_path(str(tmp_path))[0].warnings[0]
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "qwen3_vl"}')
    (finding,) = inspect_path(str(tmp_path / "model"))
    assert finding.facts == {"model_type": "qwen3_vl"} and "safetensors" in finding.warnings[0]


def test_datasets_results_and_models_of_this_package(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "out")
    (finding,) = inspect_path(str(tmp_path / "out"))
    assert finding.facts["task"] == "merge_action" and finding.facts["fly"]["test"] == {"no": 2, "yes": 2}
    assert finding.usage[0] == f'load_dataset("{folder}", "fly")' and not finding.warnings
    next((folder / "fly").glob("test-*")).unlink()
    assert "is not whole" in inspect_path(str(folder))[0].warnings[0]
    data = DataRecord("merge_action", "fly", "train", "brains/merge_action", "c" * 40, "f" * 32, {}, {"name": "made"})
    data = (data, replace(data, repo=None, species="mouse"))
    record = ModelRecord("trivial", "trivial", "r1", "merge_action", None, None, {}, data, {})
    write_record(tmp_path / "models/trivial/merge_action/fly", record)
    (finding,) = inspect_path(str(tmp_path / "models"))
    digest = "f" * 32
    assert finding.facts["trained on"] == {"fly": f"brains/merge_action, {digest}", "mouse": f"made, {digest}"}
    assert finding.facts["kind"] == "trivial" and finding.usage[0].startswith("load_model(")
    pq.write_table(result_schema().empty_table(), tmp_path / "r.parquet")
    assert inspect_path(str(tmp_path / "r.parquet"))[0].kind == "result records of evaluations"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", toy()[0].T, photometric="minisblack")
    assert main(["inspect", str(tmp_path / "a.tif"), "--json", "--voxel-size-nm", "8", "8", "40"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["facts"]["voxel size x, y, z (nm)"] == [8.0, 8.0, 40.0]
    assert main(["inspect", str(tmp_path / "a.tif")]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].endswith("labels in TIFF") and "source:" in text.split("\n\n")[-1]
    assert main(["inspect", str(tmp_path / "absent")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "there is no" in error


def test_text_and_json_hold_the_same(tmp_path: Path) -> None:
    finding = Finding("p", "k", {"a": (1, 2), "b": {"c": 0.12345}, "d": None}, ("w",), ("line",))
    assert as_text([finding]).splitlines() == [
        "p: k",
        "  a  1, 2",
        "  b  c 0.1235",
        "  d  not stated",
        "  warning: w",
        "",
        "line",
    ]
    assert json.loads(as_json([finding]))[0]["facts"]["a"] == [1, 2]
