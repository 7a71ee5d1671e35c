"""Look at volumes of labels and image data, and compare two segmentations of one place."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.volume import IntPoint
from connectomebench.corrections.agreement import (
    agreement_of,
    find_better_placement,
)
from connectomebench.inspection.findings import Finding
from connectomebench.sources.volumes.arrays import (
    ArrayVolume,
    CloudVolumeVolume,
    Kind,
    StoredVolume,
    VolumeSpec,
    open_volume,
    stored_placement,
)
from connectomebench.sources.volumes.containers import OpenedArray, array_names, is_hdf5
from connectomebench.sources.volumes.placement import UNNAMED, axis_order
from connectomebench.sources.volumes.precomputed_chunks import local_folder
from connectomebench.sources.volumes.read_errors import reading

_BLOCK_VX = 256
_WHOLE_VOXELS = 1 << 28  # larger volumes are looked at in their middle
_SAMPLE_EDGE_VX = 640
_DISTANT_EDGE_VX = 192
_LARGEST = 5
_BRIGHTEST = 255
_BACKGROUND_SHARE = 1 / 3
_BORDER_SHARE = 1 / 2
_SLICED = "zyx"  # pages, rows, columns
_FORMATS = {
    ".npz": "npz",
    ".npy": "npy",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".hdf": "HDF5",
    ".he5": "HDF5",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".ckl": "crackle",
    ".gz": "crackle",
}


@dataclass(frozen=True)
class LookedAt:
    """A volume that was opened, with what is known of it.

    Attributes
    ----------
    volume
        Axes as stated, as the container names them, or as they are stored.
    spec
        What opens it; ``axes``, voxel size and offset are guesses where ``guessed`` names them.
    kind
        Labels or image data.
    guessed
        Fields of ``spec`` that nothing states.
    facts, warnings
        For the finding.
    """

    volume: StoredVolume
    spec: VolumeSpec
    kind: Kind
    guessed: frozenset[str]
    facts: dict[str, Any]
    warnings: tuple[str, ...]


def look_at(spec: VolumeSpec) -> LookedAt:
    """Open a volume of which nothing but the place is known.

    Parameters
    ----------
    spec
        Path and key; axes, voxel size and offset where they are known.

    Raises
    ------
    ConnectomeBenchError
        As for :func:`connectomebench.sources.volumes.arrays.open_volume`.
    """
    path = Path(spec.path)
    is_array = "://" not in spec.path and not (path / "info").is_file()
    return _with_negative_background(_look_at_array(spec) if is_array else _look_at_precomputed(spec))


def _look_at_array(spec: VolumeSpec) -> LookedAt:
    warnings: list[str] = []
    try:
        opened, path = stored_placement(spec)
    except ConnectomeBenchError as error:
        if "lacks slices" not in str(error):
            raise
        warnings.append(str(error).removeprefix("volume: "))
        spec = replace(spec, fill_missing=True)
        opened, path = stored_placement(spec)
    array, placement = opened.array, opened.placement
    stored = tuple(int(n) for n in array.shape)
    axes, guessed = _axes(spec, opened, stored, path)
    order = axis_order(axes, stored, placement, "volume", path)
    said = placement.voxel_size_nm(order)
    voxel = spec.voxel_size_nm or said
    absent, chunks = opened.absent
    if absent:
        warnings.append(
            f"{absent} of {chunks} chunks are missing: copy them again, or set `fill_missing: true` to read them as "
            "background"
        )
    with reading("volume", path):
        kind = _kind_of(array, order)
    x, y, z = (stored[a] for a in order)
    volume = ArrayVolume(
        array,
        (order[0], order[1], order[2]),
        (x, y, z),
        voxel or (1.0, 1.0, 1.0),
        spec.offset_vx or (0, 0, 0),
        kind,
        "",
        "volume",
        str(path),
        spec.backgrounds,
    )
    facts = {
        "container": _container(path),
        **({"array": spec.key} if spec.key else {}),
        "shape as stored": stored,
        "dtype": str(np.dtype(array.dtype)),
        "axes": f"{axes}{' (not in the file: the usual order)' if 'axes' in guessed else ''}",
        "shape x, y, z": volume.shape,
        "voxel size x, y, z (nm)": voxel and [round(v, 6) for v in voxel],
        "offset x, y, z (voxels)": spec.offset_vx,
        **({"chunks": {"all": chunks, "missing": absent, "left out as background": opened.left_out}} if chunks else {}),
        **({"said by": placement.where} if said and placement.where else {}),
    }
    left = {n for n in ("voxel_size_nm", "offset_vx") if getattr(spec, n) is None}
    filled = replace(spec, axes=axes, voxel_size_nm=voxel, offset_vx=spec.offset_vx or (0, 0, 0))
    guesses = guessed | (left - ({"voxel_size_nm"} if voxel else set()))
    if absent:
        filled = replace(filled, fill_missing=True)
    return LookedAt(volume, filled, kind, frozenset(guesses), facts, tuple(warnings))


def _axes(spec: VolumeSpec, opened: OpenedArray, stored: tuple[int, ...], path: Path) -> tuple[str, frozenset[str]]:
    """Return the axes as stated, as named by the container, or in the usual order, and what of it is a guess."""
    if spec.axes:
        return spec.axes, frozenset()
    names = opened.placement.names
    if names is not None and set("xyz") <= set(names) and all(len(n) == 1 for n in names):
        return "".join(names), frozenset()
    if names is not None and any(n.startswith(UNNAMED) for n in names):
        return _SLICED, frozenset({"axes"})
    slices = path.is_dir() and not any((path / f).is_file() for f in ("zarr.json", ".zarray", ".zgroup"))
    return ("xyz" if _container(path) == "crackle" else _SLICED), frozenset(() if slices else ("axes",))


def _look_at_precomputed(spec: VolumeSpec) -> LookedAt:
    kind: Kind = "labels"
    warnings: tuple[str, ...] = ()
    try:
        volume = open_volume(replace(spec, axes=None), kind=kind)
    except ConnectomeBenchError as error:
        if "must be integers" not in str(error):
            raise
        kind = "image"
        volume = open_volume(replace(spec, axes=None), kind=kind)
    assert isinstance(volume, CloudVolumeVolume)
    cloud = volume.cloud
    if str(cloud.layer_type) == "image":
        kind = "image"
    chunks = None
    if volume.chunks is not None:
        first = volume.offset_vx
        last = (first[0] + volume.shape[0], first[1] + volume.shape[1], first[2] + volume.shape[2])
        absent, every = volume.chunks.absent(first, last)
        chunks = {"all": every, "missing": absent}
        if absent:
            warnings = (f"{absent} of {every} chunks are missing; set `fill_missing: true` to read them as background",)
            spec = replace(spec, fill_missing=True)
            volume = open_volume(replace(spec, axes=None), kind="labels")
    facts = {
        "container": "precomputed",
        "encoding": cloud.info["scales"][spec.mip].get("encoding"),
        "mips": {i: s["resolution"] for i, s in enumerate(cloud.info["scales"])},
        "dtype": str(np.dtype(cloud.dtype)),
        "axes": "xyz",
        "shape x, y, z": volume.shape,
        "voxel size x, y, z (nm)": list(volume.voxel_size_nm),
        "offset x, y, z (voxels)": volume.offset_vx,
        **({"chunks": chunks} if chunks else {}),
    }
    return LookedAt(volume, spec, kind, frozenset(), facts, warnings)


def _container(path: Path) -> str:
    if path.is_dir():
        if any((path / f).is_file() for f in ("zarr.json", ".zarray", ".zgroup")):
            return "Zarr"
        kinds = Counter(_FORMATS.get(p.suffix.lower()) for p in path.iterdir() if not p.name.startswith("."))
        kinds.pop(None, None)
        return f"{next(iter(kinds))} slices" if kinds else "folder"
    return "HDF5" if is_hdf5(path) else _FORMATS.get(path.suffix.lower(), path.suffix)


def _kind_of(array: Any, order: list[int]) -> Kind:
    """Tell labels from image data: bytes whose neighbours mostly differ are grey values."""
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "ui":
        raise ConnectomeBenchError(
            f"volume: it holds values of the type {dtype}; convert labels to integers, and image data to uint8 (0-255)"
        )
    if 0 in array.shape:
        raise ConnectomeBenchError(f"volume: it is empty (shape {tuple(array.shape)})")
    if dtype.itemsize > 2 or dtype.kind == "i":
        return "labels"
    box: list[Any] = [0] * len(array.shape)
    for axis in order:
        middle = array.shape[axis] // 2
        box[axis] = slice(max(middle - 32, 0), middle + 32)
    values = np.asarray(array[tuple(box)]).astype(np.int16)
    longest = int(np.argmax(values.shape))
    equal = np.diff(values, axis=longest) == 0
    return "labels" if equal.size and equal.mean() > 0.6 else "image"


def describe(looked: LookedAt, path: str) -> Finding:
    """Describe one volume: labels with the largest ones and the share of background, or the range of grey values."""
    lower, upper, whole = _part(looked.volume)
    facts, warnings = dict(looked.facts), list(looked.warnings)
    if not whole:
        facts["looked at"] = f"voxels {lower} to {upper} alone, in the middle"
    ids, counts = _count(looked.volume, lower, upper)
    total = int(counts.sum())
    if looked.kind == "image":
        facts["grey values"] = {
            "least": int(ids.min()),
            "most": int(ids.max()),
            "mean": float((ids * counts).sum() / total),
        }
        if ids.max() > _BRIGHTEST:
            warnings.append(
                "these seem to be image data, since neighbours mostly differ: rescale them to 0-255 (uint8)"
            )
    else:
        background = int(counts[ids == 0].sum())
        order = np.argsort(-counts[ids != 0], kind="stable")[:_LARGEST]
        largest = zip(ids[ids != 0][order].tolist(), counts[ids != 0][order].tolist(), strict=True)
        facts["labels"] = int((ids != 0).sum())
        facts["largest labels (share of voxels)"] = {str(i): f"{n / total:.1%}" for i, n in largest}
        facts["background (label 0)"] = f"{background / total:.1%}"
        suspect = _background_suspect(looked.volume, lower, upper, ids, counts)
        if suspect is not None:
            warnings.append(
                f"label {suspect} covers most of the border and over a third of the volume: if it is no object, set "
                f"`background: {suspect}`"
            )
        if not facts["labels"]:
            warnings.append("all is background: check path and key")
    name = "image" if looked.kind == "image" else "automatic"
    return Finding(
        path,
        f"{'image data' if looked.kind == 'image' else 'labels'} in {looked.facts['container']}",
        facts,
        tuple(warnings),
        _source_lines({name: looked}),
    )


def _with_negative_background(looked: LookedAt) -> LookedAt:
    """Take a label below zero for background, as most programs that write signed labels mean it, and say so."""
    volume = looked.volume
    dtype = np.dtype(volume.array.dtype if isinstance(volume, ArrayVolume) else volume.cloud.dtype)
    if looked.kind == "image" or dtype.kind != "i" or looked.spec.backgrounds != (0,):
        return looked
    raw = replace(volume, kind="image")  # as stored
    lower, upper, _ = _part(volume)
    found: set[int] = set()
    for low, high in _blocks(lower, upper):
        block = raw.read(low, high)
        found.update(np.unique(block[block <= 0]).tolist())
    below = tuple(sorted(found - {0}))
    if not below or len(below) > _LARGEST:
        return looked
    backgrounds = (*below, 0) if 0 in found else below
    warning = f"labels below zero ({', '.join(map(str, below))}) are taken for background here"
    return replace(
        looked,
        volume=replace(volume, backgrounds=backgrounds),
        spec=replace(looked.spec, background=backgrounds),
        guessed=looked.guessed | {"background"},
        warnings=(*looked.warnings, warning),
    )


def _part(volume: StoredVolume) -> tuple[IntPoint, IntPoint, bool]:
    """Return the box that is looked at, and whether it is all: a part of large volumes, a small one of distant ones."""
    shape = volume.shape
    distant = isinstance(volume, CloudVolumeVolume) and local_folder(volume.path) is None
    largest = _DISTANT_EDGE_VX**3 if distant else _WHOLE_VOXELS
    if int(np.prod(shape, dtype=np.int64)) <= largest:
        return (0, 0, 0), shape, True
    edges = [min(n, _DISTANT_EDGE_VX if distant else _SAMPLE_EDGE_VX) for n in shape]
    x, y, z = ((n - e) // 2 for n, e in zip(shape, edges, strict=True))
    return (x, y, z), (x + edges[0], y + edges[1], z + edges[2]), False


def _blocks(lower: IntPoint, upper: IntPoint) -> Iterator[tuple[IntPoint, IntPoint]]:
    for x, y, z in itertools.product(*(range(a, b, _BLOCK_VX) for a, b in zip(lower, upper, strict=True))):
        yield (x, y, z), (min(x + _BLOCK_VX, upper[0]), min(y + _BLOCK_VX, upper[1]), min(z + _BLOCK_VX, upper[2]))


def _count(volume: StoredVolume, lower: IntPoint, upper: IntPoint) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Count the voxels of each value."""
    found: Counter[int] = Counter()
    for low, high in _blocks(lower, upper):
        values, counts = np.unique(volume.read(low, high), return_counts=True)
        found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    ids = np.array(sorted(found), np.uint64)
    return ids, np.array([found[int(i)] for i in ids.tolist()], np.int64)


def _background_suspect(
    volume: StoredVolume, lower: IntPoint, upper: IntPoint, ids: NDArray[Any], counts: NDArray[np.int64]
) -> int | None:
    largest = int(np.argmax(counts))
    label = int(ids[largest])
    if label == 0 or counts[largest] <= _BACKGROUND_SHARE * counts.sum():
        return None
    same = every = 0
    for axis in range(3):
        for at in (lower[axis], upper[axis] - 1):
            low, high = list(lower), list(upper)
            low[axis], high[axis] = at, at + 1
            face = volume.read((low[0], low[1], low[2]), (high[0], high[1], high[2]))
            same, every = same + int((face == face.dtype.type(label)).sum()), every + face.size
    return label if same > _BORDER_SHARE * every else None


def compare(first: LookedAt, second: LookedAt, paths: tuple[str, str]) -> Finding:
    """Compare two segmentations, the first as automatic, the second as proofread.

    Raises
    ------
    ConnectomeBenchError
        If one is no segmentation, or their shapes differ in more than the order of the axes.
    """
    for looked, path in zip((first, second), paths, strict=True):
        if looked.kind != "labels":
            raise ConnectomeBenchError(f"{path} holds image data; two segmentations can be compared")
    warnings = []
    for what in ("voxel_size_nm", "offset_vx"):
        one, two = (getattr(looked.volume, what) for looked in (first, second))
        if not np.allclose(one, two) and not {what} & (first.guessed | second.guessed):
            warnings.append(f"they differ in {what}: {list(one)} and {list(two)}")
    shapes = first.volume.shape, second.volume.shape
    if shapes[0] != shapes[1]:
        hint = (
            "the axes of one are in another order: check `axes`"
            if sorted(shapes[0]) == sorted(shapes[1])
            else "crop one"
        )
        raise ConnectomeBenchError(
            f"{paths[0]} and {paths[1]} differ in shape (x, y, z): {list(shapes[0])} and {list(shapes[1])}; {hint}"
        )
    lower, upper, whole = min((_part(looked.volume) for looked in (first, second)), key=lambda part: part[2])
    pairs: Counter[tuple[int, int]] = Counter()
    for low, high in _blocks(lower, upper):
        pairs.update(_pairs(first.volume.read(low, high), second.volume.read(low, high)))
    segments, bodies = (np.array([p[side] for p in pairs], np.uint64) for side in (0, 1))
    agreement = agreement_of(segments, bodies, np.array(list(pairs.values()), np.int64))
    better = find_better_placement(first.volume, second.volume)
    if better is not None:
        warnings.append(better.text())
    facts = {
        **({} if whole else {"looked at": f"voxels {lower} to {upper} alone, in the middle"}),
        "segments": int(np.count_nonzero(np.unique(segments))),
        "bodies": int(np.count_nonzero(np.unique(bodies))),
        "overlap of foregrounds": f"{agreement.foreground_overlap:.1%}",
        "variation of information (bits)": {"split": agreement.vi_split, "merge": agreement.vi_merge},
        "shared information": f"{agreement.shared:.1%}",
    }
    return Finding(
        f"{paths[0]} and {paths[1]}",
        "two segmentations of one place (the first as automatic, the second as proofread)",
        facts,
        tuple(warnings),
        _source_lines({"automatic": first, "proofread": second}),
    )


def _pairs(one: NDArray[Any], two: NDArray[Any]) -> dict[tuple[int, int], int]:
    first, at_first = np.unique(one, return_inverse=True)
    second, at_second = np.unique(two, return_inverse=True)
    codes, counts = np.unique(at_first.ravel() * len(second) + at_second.ravel(), return_counts=True)
    return {
        (int(first[c // len(second)]), int(second[c % len(second)])): int(n)
        for c, n in zip(codes.tolist(), counts.tolist(), strict=True)
    }


def _source_lines(volumes: Mapping[str, LookedAt]) -> tuple[str, ...]:
    lines = ["source:", "  volumes:", "    name: my-volume", '    version: "1"']
    for name, looked in volumes.items():
        lines.append(f"    {name}:")
        spec = looked.spec
        values = {
            "path": _quoted(spec.path),
            "key": spec.key and _quoted(spec.key),
            "axes": spec.axes,
            "voxel_size_nm": spec.voxel_size_nm and _list(spec.voxel_size_nm),
            "offset_vx": spec.offset_vx and _list(spec.offset_vx),
            "mip": spec.mip or None,
            "fill_missing": "true" if spec.fill_missing else None,
            "background": None if spec.backgrounds == (0,) else _list(spec.backgrounds),
        }
        if "voxel_size_nm" in looked.guessed:
            values["voxel_size_nm"] = "[1, 1, 1]"
        for key, value in values.items():
            if value is not None:
                note = "  # not in the file: check" if key in looked.guessed else ""
                lines.append(f"      {key}: {value}{note}")
    if set(volumes) == {"automatic"}:
        lines.append("    simulated: {}  # or, in its place, proofread: with the keys of automatic")
    return tuple(lines)


def _list(values: Any) -> str:
    return f"[{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)}]"


def _quoted(text: str) -> str:
    import yaml

    return yaml.safe_dump(text, default_flow_style=True, width=1 << 20).removesuffix("\n").removesuffix("\n...")


def arrays_in(path: str) -> list[str]:
    """Return the names of the arrays in a container that holds several; empty for one."""
    place = Path(path)
    if not place.exists() or (place / "info").is_file():
        return []
    with reading("volume", place):
        names = array_names(place)
    return names if len(names) > 1 else []
