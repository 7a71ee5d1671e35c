"""Neighbourhoods beside the rows of a dataset, whole and damaged."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_places import place

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.neighbourhoods import (
    NEIGHBOUR,
    StoredNeighbourhoods,
    pack,
    unpack,
    write_neighbourhoods,
)


def test_what_is_packed_comes_back(tmp_path: Path):
    made = place((1.0, 2.0, 3.0), 500.0)
    back = unpack(pack(made))
    assert (back.center_nm, back.extent_nm, back.reach_nm) == ((1, 2, 3), 500, 1000)
    assert back.names == ("base", NEIGHBOUR) and back.pages == 3
    for ours, theirs in zip(made.meshes, back.meshes, strict=True):
        assert np.allclose(ours.vertices_nm, theirs.vertices_nm, atol=0.02) and np.array_equal(ours.faces, theirs.faces)
    assert np.array_equal(back.slices, made.slices) and np.array_equal(back.labels, made.labels)
    paths = [tmp_path / name / "fly/neighbourhoods-test-00000-of-00001.zip" for name in "ab"]
    assert [write_neighbourhoods(path, [("s", made)]) for path in paths] == [1, 1]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vertices", np.array([["x"]], object)),
        ("faces", np.array([[0, 1, 9]] * 24, np.int32)),
        ("names", np.array(["base"] * 9)),
        ("sizes_nm", np.array([math.nan, 1, 1, 1])),
        ("face_starts", np.array([0, 5])),
        ("slices", np.zeros((2, 2), np.uint8)),
        ("center_nm", None),
    ],
)
def test_damaged_neighbourhoods_give_one_line(tmp_path: Path, name: str, value: np.ndarray | None):
    with np.load(io.BytesIO(pack(place((1.0, 2.0, 3.0), 500.0)))) as arrays:
        content = {key: arrays[key] for key in arrays.files} | {name: value}
    stream = io.BytesIO()
    np.savez(stream, **{key: one for key, one in content.items() if one is not None})
    folder = tmp_path / "fly"
    folder.mkdir()
    with zipfile.ZipFile(folder / "neighbourhoods-test-00000-of-00001.zip", "w") as archive:
        archive.writestr("s.npz", stream.getvalue())
        # a few kilobytes that would unpack to more than is read
        if name == "center_nm":
            archive.writestr("bomb.npz", bytes(64_000_001), zipfile.ZIP_DEFLATED)
        archive.writestr("text.npz", b"no archive")
    stored = StoredNeighbourhoods(folder)
    for sample in ("s", "text"):
        with pytest.raises(
            ConnectomeBenchError, match=r"cannot be read \(.+\); write the neighbourhoods again"
        ) as error:
            stored.get(sample)
        assert "\n" not in str(error.value)
    if name == "center_nm":
        with pytest.raises(ConnectomeBenchError, match="too large"):
            stored.get("bomb")
        with pytest.raises(ConnectomeBenchError, match="has no neighbourhood"):
            stored.get("else")
