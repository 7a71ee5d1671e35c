"""Open arrays inside files: npz, npy, HDF5, Zarr, TIFF, slices and crackle, read piece by piece where possible."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.placement import (
    NOTHING,
    Placement,
    attribute_placement,
    ome_zarr_placement,
)
from connectomebench.sources.volumes.slices import JPEG, PNG, TIFF, open_slices, slice_files
from connectomebench.sources.volumes.zarr_chunks import absent_chunks

_log = logging.getLogger(__name__)

_HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
_HDF5_BYTES = b"\x89HDF\r\n\x1a\n"
_HDF5_STARTS = (0, 512)  # the second is MATLAB's
_PACKED = (".zip", ".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar")
_FIRST_BYTES = {".npy": b"\x93NUMPY", ".npz": b"PK"}
_PICKLE = b"\x80"
_CRACKLE = (".ckl", ".ckl.gz")
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_N5_FILE = "attributes.json"
KNOWN = ".npz, .npy, .h5, .zarr, .tif, .ckl, folders of .tif or .png slices, precomputed folders"


@dataclass(frozen=True)
class OpenedArray:
    """An array in a container.

    Attributes
    ----------
    array
        With shape, dtype and slicing; axes as stored.
    placement
        What the container says about axes, voxel size and offset.
    linked
        Files outside the container that hold a part of it.
    absent
        Chunks that are missing, and all chunks. Readers return the fill value in their place.
    left_out
        Chunks that the writer left out since they hold the fill value alone; not in ``absent``.
    fill
        The fill value: what is read in place of chunks that are missing.
    lossy
        Values may differ from those that were stored: of no use for labels.
    """

    array: Any
    placement: Placement = NOTHING
    linked: tuple[Path, ...] = ()
    absent: tuple[int, int] = (0, 0)
    left_out: int = 0
    fill: int | float = 0
    lossy: bool = False


def open_array(path: Path, key: str | None, name: str, fill_missing: bool = False) -> OpenedArray:
    """Open the array at ``path``.

    Parameters
    ----------
    path
        An existing file or folder.
    key
        Name of the array inside a container; None if there is only one.
    name
        Name of the volume in messages.
    fill_missing
        Read absent slices of a folder as background instead of raising an error.

    Raises
    ------
    ConnectomeBenchError
        If the file format is unknown, the array is not in it, or a package or filter for it is missing.
    Exception
        If the file is damaged: whatever the container's library raises; the caller rewords it.
    """
    suffix = path.suffix.lower()
    if path.is_file() and suffix in _FIRST_BYTES:
        _check_first_bytes(path, _FIRST_BYTES[suffix])
    if suffix == ".npz":
        return OpenedArray(_open_npz(path, key, name))
    if suffix == ".npy":
        return OpenedArray(np.load(path, mmap_mode="r", allow_pickle=False))
    if is_hdf5(path):
        return _open_hdf5(path, key, name)
    if path.name.lower().endswith(_CRACKLE):
        return OpenedArray(_open_crackle(path, name))
    if path.is_dir() and (suffix == ".zarr" or any((path / f).is_file() for f in _ZARR_FILES)):
        return _open_zarr(path, key, name)
    if path.is_dir() and (suffix == ".n5" or (path / _N5_FILE).is_file()):
        raise n5_error(name, path)
    if (path.is_dir() and slice_files(path)) or (path.is_file() and suffix in (*TIFF, *PNG, *JPEG)):
        return _open_pictures(path, name, fill_missing)
    if suffix in _PACKED and path.is_file():
        raise ConnectomeBenchError(f"{name}: {path} is a {suffix} file; unpack it, and give what is in it as `path`")
    what = "a folder that holds no info, Zarr array or slices" if path.is_dir() else f"a {suffix or 'bare'} file"
    raise ConnectomeBenchError(f"{name}: {path} is {what}; known: {KNOWN}")


def is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5, by its suffix or, since other programs have their own, by what it begins with."""
    if path.suffix.lower() in _HDF5:
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return any(stream.seek(start) == start and stream.read(8) == _HDF5_BYTES for start in _HDF5_STARTS)


def _check_first_bytes(path: Path, wanted: bytes) -> None:
    """Refuse what numpy would take for a pickle, unless it is one: that has a message of its own."""
    with open(path, "rb") as stream:
        found = stream.read(len(wanted))
    if found != wanted and not found.startswith(_PICKLE):
        raise ValueError(f"it does not begin like a {path.suffix} file")


def n5_error(name: str, path: str | Path) -> ConnectomeBenchError:
    """Make the error for an N5 container, with a way to convert it."""
    return ConnectomeBenchError(
        f"{name}: {path} is N5, which is not read; convert it: pip install tensorstore, then in Python "
        "numpy.save('labels.npy', tensorstore.open({'driver': 'n5', 'kvstore': 'file:///FOLDER/s0/'}).result().read()"
        ".result()), whose axes are xyz"
    )


def array_names(path: Path) -> list[str]:
    """Return the names of all arrays in an npz, HDF5 or Zarr container; empty for a container of a single array."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return sorted(stored.files)
    if is_hdf5(path):
        import h5py

        with h5py.File(path, "r") as file:
            return sorted(_hdf5_arrays(file))
    if path.is_dir() and (suffix == ".zarr" or any((path / f).is_file() for f in _ZARR_FILES)):
        import zarr

        root = zarr.open(str(path), mode="r")
        return [] if isinstance(root, zarr.Array) else sorted(_zarr_arrays(root))
    return []


def _open_npz(path: Path, key: str | None, name: str) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as stored:
        return stored[_choose(dict.fromkeys(stored.files, None), key, path, name)]


def _open_hdf5(path: Path, key: str | None, name: str) -> OpenedArray:
    try:
        import h5py
    except ImportError:
        raise _extra(name, path, "h5py") from None
    file = h5py.File(path, "r")
    found = _hdf5_arrays(file)
    asked = (key or "").strip("/")
    if asked and asked not in found:
        link = _link(file, asked)
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink) and not _leads_somewhere(file, asked):
            target = link.path if isinstance(link, h5py.SoftLink) else f"{link.filename}:{link.path}"
            raise ConnectomeBenchError(
                f"{name}: {key!r} in {path} is a link to {target}, which is not there, or leads back here; copy it too"
            )
        item = file[asked] if _leads_somewhere(file, asked) else None
        if isinstance(item, h5py.Dataset) and item.shape is not None:  # through a link inside a linked group
            found[asked] = item
        elif isinstance(item, h5py.Group):
            inside = {f"{asked}/{n}": array for n, array in _hdf5_arrays(item).items()}
            if inside:
                asked = _choose(inside, None, path, name)
                found[asked] = inside[asked]
    if not asked:  # links to one array are one array
        found = {min(names, key=len): found[min(names, key=len)] for names in _same_arrays(found)}
    dataset = found[_choose(found, asked or None, path, name)]
    _check_filters(dataset, path, name)
    linked = [Path(dataset.file.filename)] if Path(dataset.file.filename).resolve() != path.resolve() else []
    if dataset.is_virtual:
        linked += _virtual_files(dataset, path, name)
    absent, fill = _absent_in_hdf5(dataset), _fill(dataset.fillvalue)
    return OpenedArray(dataset, _hdf5_placement(dataset), tuple(linked), absent, fill=fill)


_NO_TARGET = (KeyError, OSError, RuntimeError)  # the last one for links in a circle


def _link(file: Any, key: str) -> Any:
    try:
        return file.get(key, getlink=True)
    except (KeyError, ValueError):
        return None


def _leads_somewhere(file: Any, key: str) -> bool:
    try:
        return file[key] is not None
    except _NO_TARGET:
        return False


def _hdf5_arrays(group: Any) -> dict[str, Any]:
    """Return all arrays below a group by name, also those behind soft and external links; each group once."""
    import h5py
    from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]: compiled, without stubs

    found: dict[str, Any] = {}
    seen: set[Any] = set()
    waiting = [("", group)]
    while waiting:
        prefix, parent = waiting.pop()
        mark = (parent.file.filename, h5o.get_info(parent.id).addr)
        if mark in seen:
            continue
        seen.add(mark)
        for child in parent:
            try:
                item = parent[child]
            except _NO_TARGET:
                continue
            if isinstance(item, h5py.Dataset) and item.shape is not None:  # else a marker without any data
                found[f"{prefix}{child}"] = item
            elif isinstance(item, h5py.Group):
                waiting.append((f"{prefix}{child}/", item))
    return found


def _same_arrays(found: Mapping[str, Any]) -> list[list[str]]:
    """Group the names of one array."""
    from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]: compiled, without stubs

    names: dict[tuple[str, int], list[str]] = {}
    for name, dataset in found.items():
        names.setdefault((dataset.file.filename, h5o.get_info(dataset.id).addr), []).append(name)
    return list(names.values())


_FILTERS = {
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32026: "Blosc2",
    307: "bzip2",
    305: "LZO",
}


def _check_filters(dataset: Any, path: Path, name: str) -> None:
    """Check that every filter (compression) of a dataset is installed; ``hdf5plugin`` brings more where it is."""
    import h5py

    listing = dataset.id.get_create_plist()
    codes = [listing.get_filter(i)[0] for i in range(listing.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code in codes):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401  # pyright: ignore[reportMissingImports] -- registers filters
    lacking = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if lacking:
        shown = ", ".join(_FILTERS.get(code, f"number {code}") for code in lacking)
        raise ConnectomeBenchError(
            f"{name}: {path} is compressed with the HDF5 filter {shown}, which is not installed; run pip install "
            "hdf5plugin, or repack the file: h5repack -f GZIP=4 IN OUT"
        )


def _virtual_files(dataset: Any, path: Path, name: str) -> list[Path]:
    """Return the files of a virtual dataset; HDF5 reads zeros where one is missing."""
    files = {Path(s.file_name) for s in dataset.virtual_sources() if s.file_name != "."}
    files = {f if f.is_absolute() else Path(dataset.file.filename).parent / f for f in files}
    missing = sorted(str(f) for f in files if not f.is_file())
    if missing:
        raise ConnectomeBenchError(
            f"{name}: {path} lacks {len(missing)} of the {len(files)} files that hold its virtual array (first: "
            f"{missing[0]}); copy them too"
        )
    return sorted(files)


def _fill(value: Any) -> int | float:
    """Return a fill value as a number; 0 where there is none."""
    return value.item() if isinstance(value, np.integer | np.floating) else 0


def _absent_in_hdf5(dataset: Any) -> tuple[int, int]:
    if dataset.is_virtual or dataset.external or dataset.size == 0:
        return 0, 0
    if dataset.chunks is None:
        return int(dataset.id.get_storage_size() == 0), 1
    chunks = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]))
    return chunks - int(dataset.id.get_num_chunks()), chunks


def _hdf5_placement(dataset: Any) -> Placement:
    parents, item = [], dataset
    while True:
        parents.append(item)
        if item.name in ("/", None):
            break
        item = item.parent
    for item in parents:
        found = attribute_placement(dict(item.attrs), dataset.ndim, f"of {item.name}")
        if found is not None:
            return found
    return NOTHING


def _open_zarr(path: Path, key: str | None, name: str) -> OpenedArray:
    try:
        import zarr
    except ImportError:
        raise _extra(name, path, "zarr") from None
    root = zarr.open(str(path), mode="r")
    if isinstance(root, zarr.Array):
        if key is not None:
            raise ConnectomeBenchError(f"{name}: {path} is one array without names; leave `key` out")
        array, levels = root, _outer_groups(path)
    else:
        found = _zarr_arrays(root)
        chosen = _choose(found, key, path, name)
        array = found[chosen]
        levels = [*_inner_groups(root, chosen), *((g, f"{below}/{chosen}") for g, below in _outer_groups(path))]
    placement = NOTHING
    for attributes, level in levels:
        read = ome_zarr_placement(attributes, level, array.ndim)
        if read is not None:
            placement = read
            break
    else:
        placement = attribute_placement(dict(array.attrs), array.ndim, "of the array") or NOTHING
    absent, chunks, lost = absent_chunks(array, path, name)
    fill = _fill(array.fill_value)
    if absent and not lost:
        _log.info("%s: %d of %d chunks of %s were not written: they are read as %s", name, absent, chunks, path, fill)
        return OpenedArray(array, placement, absent=(0, chunks), left_out=absent, fill=fill)
    return OpenedArray(array, placement, absent=(absent, chunks), fill=fill)


def _zarr_arrays(root: Any) -> dict[str, Any]:
    import zarr

    return {n: item for n, item in root.members(max_depth=None) if isinstance(item, zarr.Array)}


def _inner_groups(root: Any, key: str) -> list[tuple[Mapping[str, Any], str]]:
    """Return attributes of the groups that hold an array, innermost first, with its path in each."""
    parts = key.split("/")
    groups = []
    for depth in range(len(parts) - 1, -1, -1):
        group = root["/".join(parts[:depth])] if depth else root
        groups.append((dict(group.attrs), "/".join(parts[depth:])))
    return groups


def _outer_groups(path: Path) -> list[tuple[Mapping[str, Any], str]]:
    """Return the same for the folders above a path that points into a Zarr group."""
    import zarr

    groups, level = [], path.resolve().name
    for parent in path.resolve().parents:
        if not any((parent / f).is_file() for f in ("zarr.json", ".zgroup")):
            break
        groups.append((dict(zarr.open_group(str(parent), mode="r").attrs), level))
        level = f"{parent.name}/{level}"
    return groups


def _open_pictures(path: Path, name: str, fill_missing: bool) -> OpenedArray:
    files = slice_files(path) if path.is_dir() else [path]
    lossy = any(p.suffix.lower() in JPEG for p in files)
    if any(p.suffix.lower() in TIFF for p in files):
        try:
            import tifffile  # noqa: F401
        except ImportError:
            raise _extra(name, path, "tifffile") from None
        if path.is_file():
            from connectomebench.sources.volumes.tiff import open_tiff

            return OpenedArray(*open_tiff(path, name))
    return OpenedArray(open_slices(path, name, fill_missing), lossy=lossy)


def _open_crackle(path: Path, name: str) -> NDArray[Any]:
    try:
        import crackle  # noqa: F401
    except ImportError:
        raise _extra(name, path, "crackle-codec") from None
    import gzip

    from connectomebench.sources.volumes.crackle_checks import decompress_apart

    stored = path.read_bytes()
    return decompress_apart(gzip.decompress(stored) if path.suffix.lower() == ".gz" else stored)


def damaged_chunk(array: Any, index: tuple[slice | int, ...]) -> str:
    """Find the first chunk of an HDF5 or Zarr array inside a box that cannot be read.

    Parameters
    ----------
    array
        With ``chunks``.
    index
        Slices and integers, one a stored axis.

    Returns
    -------
    str
        For example ``chunk c/1/0/2``; empty where the array has no chunks, or each can be read by itself.
    """
    chunks = getattr(array, "chunks", None)
    if not chunks:
        return ""
    spans = []
    for part, length, edge in zip(index, array.shape, chunks, strict=True):
        start, stop, _ = part.indices(length) if isinstance(part, slice) else (part, part + 1, 1)
        spans.append(range(start // edge, -(-stop // edge)))
    for place in np.ndindex(*(len(s) for s in spans)):
        chunk = tuple(span[i] for span, i in zip(spans, place, strict=True))
        box = tuple(slice(c * e, min((c + 1) * e, n)) for c, e, n in zip(chunk, chunks, array.shape, strict=True))
        try:
            array[box]
        except Exception:  # each codec raises its own
            return f"chunk {_chunk_name(array)(chunk)}"
    return ""


def _chunk_name(array: Any) -> Callable[[tuple[int, ...]], str]:
    """Return how a chunk is called: its file in Zarr, its first voxel in HDF5."""
    if hasattr(array, "metadata"):
        return lambda chunk: array.metadata.encode_chunk_key(chunk)
    return lambda chunk: f"at {tuple(c * e for c, e in zip(chunk, array.chunks, strict=True))}"


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
