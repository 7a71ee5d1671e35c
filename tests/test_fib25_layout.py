"""The script that lays out the FIB-25 cube, on small files of the same layout; the real cube where it is at hand."""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from connectomebench.core.errors import ConnectomeBenchError

SCRIPT = Path(__file__).parents[1] / "examples" / "lay_out_fib25.py"
CUBE = Path(__file__).parents[2] / "shared" / "data" / "fib25_cube" / "fib25_cube.npz"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("lay_out_fib25", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def arrays() -> dict[str, np.ndarray]:
    """Bodies of 4 x 5 x 6 voxels, each of two pieces, two of them fused."""
    z, y, x = np.indices((16, 20, 24))
    gt = 1000 + (z // 4 * 16 + y // 5 * 4 + x // 6).astype(np.uint32)
    ws = 2 * gt + (x % 6 > 2)
    ffn = ((gt - 1000) % 200 + 1).astype(np.uint8)
    ffn[ffn == 2] = 1
    gray = (gt % 251).astype(np.uint8)
    return {"gray": gray, "gt": gt, "ws": ws.astype(np.uint32), "ffn": ffn}


def write(folder: Path, script: Any, parts: dict[str, np.ndarray]) -> None:
    for name, array in parts.items():
        file, key, _ = script.PARTS[name]
        if file.endswith(".npz"):
            np.savez(folder / file, **{key: array, "request": np.asarray("text")})
        else:
            with h5py.File(folder / file, "w") as target:
                target[key] = array


def test_the_cube_is_laid_out(script: Any, tmp_path: Path) -> None:
    wanted = arrays()
    write(tmp_path, script, wanted)
    packed = tmp_path / "groundtruth.h5"
    with open(packed, "rb") as source, gzip.open(f"{packed}.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    packed.unlink()
    script.lay_out(tmp_path, tmp_path / "cube.npz")
    with np.load(tmp_path / "cube.npz") as found:
        assert sorted(found.files) == sorted(wanted)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
        assert {name: found[name].dtype for name in wanted} == {name: part[2] for name, part in script.PARTS.items()}


def test_files_that_do_not_fit_are_one_line(script: Any, tmp_path: Path) -> None:
    parts = arrays()
    write(tmp_path, script, parts | {"ws": parts["ws"][:-1]})
    with pytest.raises(ConnectomeBenchError, match="differ in shape"):
        script.lay_out(tmp_path, tmp_path / "cube.npz")
    rng = np.random.default_rng(0)
    write(tmp_path, script, parts | {"ws": rng.permutation(parts["ws"].ravel()).reshape(parts["ws"].shape)})
    with pytest.raises(ConnectomeBenchError, match="the axes of one file are swapped"):
        script.lay_out(tmp_path, tmp_path / "cube.npz")
    (tmp_path / "groundtruth.h5").write_bytes(b"no HDF5")
    with pytest.raises(ConnectomeBenchError, match=r"groundtruth\.h5"):
        script.lay_out(tmp_path, tmp_path / "cube.npz")
    (tmp_path / "groundtruth.h5").unlink()
    with pytest.raises(ConnectomeBenchError, match=r"there is no groundtruth\.h5"):
        script.lay_out(tmp_path, tmp_path / "cube.npz")
    assert not (tmp_path / "cube.npz").exists()


def test_the_threshold_separates_the_real_cube_from_one_with_swapped_axes(script: Any) -> None:
    if not CUBE.exists():
        pytest.skip("the FIB-25 cube is not at hand")
    with np.load(CUBE) as cube:
        gt, ws = cube["gt"][:30], cube["ws"]
    assert script.purity(ws[:30], gt) > script.LEAST_PURITY
    assert script.purity(ws.transpose(2, 1, 0)[:30], gt) < script.LEAST_PURITY
