"""Open arrays inside files: npz, npy, HDF5, Zarr, TIFF and crackle, read slice by slice where possible."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

_HDF5 = (".h5", ".hdf5", ".hdf")
_TIFF = (".tif", ".tiff")
_CRACKLE = (".ckl", ".ckl.gz")
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")


def open_array(path: Path, key: str | None, name: str) -> Any:
    """Open the array at ``path`` as an object with shape, dtype and slicing, axes as stored.

    Parameters
    ----------
    path
        An existing file or folder.
    key
        Name of the array inside a container; None if there is only one.
    name
        Name of the volume in messages.

    Raises
    ------
    ConnectomeBenchError
        If the file format is unknown, the array is not in it, or a package for it is missing.
    OSError, ValueError
        If the file is damaged or holds pickled objects; the caller rewords these.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _open_npz(path, key, name)
    if suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if suffix in _HDF5:
        return _open_hdf5(path, key, name)
    if path.name.lower().endswith(_CRACKLE):
        return _open_crackle(path, name)
    if path.is_dir() and (suffix == ".zarr" or any((path / f).is_file() for f in _ZARR_FILES)):
        return _open_zarr(path, key, name)
    if suffix in _TIFF or (path.is_dir() and any(p.suffix.lower() in _TIFF for p in path.iterdir())):
        return _open_tiff(path, name)
    what = "a folder that holds no info, Zarr array or .tif slices" if path.is_dir() else f"a {suffix or 'bare'} file"
    raise ConnectomeBenchError(
        f"{name}: {path} is {what}; known: .npz, .npy, .h5, .zarr, .tif, .ckl, precomputed folders"
    )


def _open_npz(path: Path, key: str | None, name: str) -> NDArray[Any]:
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[_choose(dict.fromkeys(stored.files, None), key, path, name)]
    except BadZipFile as error:
        raise ValueError(str(error)) from error


def _open_hdf5(path: Path, key: str | None, name: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise _extra(name, path, "h5py") from None
    file = h5py.File(path, "r")
    found: dict[str, Any] = {}
    file.visititems(lambda n, item: found.update({n: item}) if isinstance(item, h5py.Dataset) else None)
    return found[_choose(found, key, path, name)]


def _open_zarr(path: Path, key: str | None, name: str) -> Any:
    try:
        import zarr
    except ImportError:
        raise _extra(name, path, "zarr") from None
    root = zarr.open(str(path), mode="r")
    if isinstance(root, zarr.Array):
        if key is not None:
            raise ConnectomeBenchError(f"{name}: {path} is one array without names; leave `key` out")
        return root
    found = {n: item for n, item in root.members(max_depth=None) if isinstance(item, zarr.Array)}
    return found[_choose(found, key, path, name)]


def _open_tiff(path: Path, name: str) -> Any:
    try:
        import tifffile  # noqa: F401
    except ImportError:
        raise _extra(name, path, "tifffile") from None
    from connectomebench.sources.volumes.tiff import open_tiff

    return open_tiff(path, name)


def _open_crackle(path: Path, name: str) -> NDArray[Any]:
    try:
        import crackle
    except ImportError:
        raise _extra(name, path, "crackle-codec") from None
    import gzip

    stored = path.read_bytes()
    try:
        return crackle.decompress(gzip.decompress(stored) if path.suffix.lower() == ".gz" else stored)
    except (EOFError, OSError, RuntimeError, crackle.FormatError) as error:
        raise ValueError(str(error)) from error


def _choose(found: Mapping[str, Any], key: str | None, path: Path, name: str) -> str:
    names = sorted(found)
    if not names:
        raise ConnectomeBenchError(f"{name}: {path} holds no array")
    if key is None:
        if len(names) == 1:
            return names[0]
        raise ConnectomeBenchError(f"{name}: {path} holds several arrays; add `key:` with one of {', '.join(names)}")
    wanted = key.strip("/")
    if wanted in found:
        return wanted
    near = get_close_matches(wanted, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it holds {', '.join(names)}"
    raise ConnectomeBenchError(f"{name}: {path} holds no array {key!r}; {hint}")


def _extra(name: str, path: Path, package: str) -> ConnectomeBenchError:
    return ConnectomeBenchError(
        f"{name}: reading {path} needs {package}; install it with `pip install 'connectomebench[arrays]'`"
    )
