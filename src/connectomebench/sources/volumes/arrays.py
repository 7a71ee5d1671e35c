"""Open volumes from npz, npy, HDF5, Zarr, TIFF, slices, or any precomputed path.

Arrays carry no scale that can be trusted, so their axis order, voxel size and offset must be stated; where a container
has metadata, they may not contradict it. Precomputed volumes carry all three in their info file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Strict

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.volume import IntPoint
from connectomebench.sources.volumes.containers import OpenedArray, damaged_chunk, n5_error, open_array
from connectomebench.sources.volumes.placement import AFFINITY_CHANNELS_NEEDED, axis_order, check_contradiction
from connectomebench.sources.volumes.precomputed_chunks import ChunkFiles, local_folder, without_zarr
from connectomebench.sources.volumes.read_errors import reading
from connectomebench.sources.volumes.server_marks import server_marks

Kind = Literal["labels", "image", "affinity"]
AFFINITY_CHANNELS = 3  # one an axis

# a number with a fraction or an exponent went through a float, which rounds large ids: such labels are refused
Label = Annotated[int, Strict()]

_ARRAYS = (".zarr", ".n5", ".h5", ".hdf5", ".hdf", ".tif", ".tiff", ".png", ".npy", ".npz", ".ckl", ".nrrd")
_CLOUD = ("precomputed://", "file://", "gs://", "s3://", "https://", "http://")
_HASHED_BYTES = 1 << 30  # files up to this size are identified by content, larger ones by size and modification time
_LARGEST_ID = 2**64 - 1


@dataclass(frozen=True)
class VolumeSpec:
    """Location of a volume and placement of its array in the world.

    Attributes
    ----------
    path
        A file or folder (.npz, .npy, .h5, .zarr, .tif, a folder of .tif or .png slices), or a precomputed volume: its
        folder or its address (``precomputed://``, ``file://``, ``gs://``, ``s3://``, ``https://``).
    key
        Name of the array inside an npz, HDF5 or Zarr container; optional if there is only one.
    axes
        Order of the axes as stored: x, y and z in some order. Other axes of length 1 (channel, time) may be named with
        other letters or left out. Required for arrays. Of an affinity map, ``c`` is the axis of its channels.
    voxel_size_nm
        Edge of a voxel, nm, always in the order x, y, z regardless of ``axes``. Required for arrays.
    offset_vx
        Absolute voxel coordinate of the first voxel, always x, y, z. Required for arrays.
    mip
        Resolution level of a CloudVolume path.
    fill_missing
        Read missing chunks, and missing slices of a folder, as background instead of raising an error.
    background
        Label, or labels, that mean "no object" and are read as 0. If 0 is not among them, it may not occur.

    Examples
    --------
    >>> from connectomebench import VolumeSpec
    >>> VolumeSpec("labels.npy", axes="zyx", voxel_size_nm=(4, 4, 40), offset_vx=(0, 0, 0)).voxel_size_nm
    (4, 4, 40)
    """

    path: str
    key: str | None = None
    axes: str | None = None
    voxel_size_nm: tuple[float, float, float] | None = None
    offset_vx: IntPoint | None = None
    mip: int = 0
    fill_missing: bool = False
    background: Label | tuple[Label, ...] = 0

    @property
    def backgrounds(self) -> tuple[int, ...]:
        """Labels of the background, ascending."""
        return (self.background,) if isinstance(self.background, int) else tuple(sorted(set(self.background)))


@dataclass(frozen=True)
class ArrayVolume:
    """A volume over any sliceable array (numpy, memmap, h5py, Zarr, TIFF pages). See ``Volume``.

    Attributes
    ----------
    array
        Axes as stored.
    order
        For x, y, z: the axis of ``array``. An axis of ``array`` not named has length 1, or is ``channel_axis``.
    kind
        Labels are returned as unsigned integers, image data as uint8, affinities as uint8 or floats.
    fingerprint
        Hash of the content and its placement in the world.
    name, path
        For messages.
    backgrounds
        Labels that are read as 0.
    channel_axis, channel
        Axis of the channels and the one that is read; None where there is one alone.
    """

    array: Any
    order: IntPoint
    shape: IntPoint
    voxel_size_nm: tuple[float, float, float]
    offset_vx: IntPoint
    kind: Kind
    fingerprint: str
    name: str
    path: str = ""
    backgrounds: tuple[int, ...] = (0,)
    channel_axis: int | None = None
    channel: int = 0

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        _check_range(self.name, lower, upper, self.shape)
        index: list[Any] = [0] * len(self.array.shape)
        if self.channel_axis is not None:
            index[self.channel_axis] = self.channel
        for axis, start, stop in zip(self.order, lower, upper, strict=True):
            index[axis] = slice(start, stop)
        with reading(self.name, self.path, lambda: damaged_chunk(self.array, tuple(index))):
            block = np.asarray(self.array[tuple(index)])
        # the channel axis is dropped, so later axes move up
        ranks = np.argsort(np.argsort(self.order))
        return _checked(block.transpose(ranks), self.kind, self.name, self.backgrounds)


@dataclass(frozen=True)
class CloudVolumeVolume:
    """One mip and channel of a CloudVolume path. See ``Volume``."""

    cloud: Any
    shape: IntPoint
    voxel_size_nm: tuple[float, float, float]
    offset_vx: IntPoint
    kind: Kind
    fingerprint: str
    name: str
    path: str = ""
    backgrounds: tuple[int, ...] = (0,)
    chunks: ChunkFiles | None = None
    channel: int = 0
    # CloudVolume does not guarantee that one object can be read from several threads
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        from cloudvolume.exceptions import EmptyVolumeException

        _check_range(self.name, lower, upper, self.shape)
        if any(a == b for a, b in zip(lower, upper, strict=True)):
            return np.zeros([b - a for a, b in zip(lower, upper, strict=True)], self.cloud.dtype)
        start, stop = (_shifted(corner, self.offset_vx) for corner in (lower, upper))
        if self.chunks is not None:
            with reading(self.name, self.path):
                self.chunks.check(start, stop, self.name)
        with self.lock, reading(self.name, self.path, lambda: self._damaged_chunk(start, stop)):
            try:
                block = self._read(start, stop)
            except EmptyVolumeException:
                raise ConnectomeBenchError(
                    f"{self.name}: {self.path} lacks {self._absent(start, stop)} between voxels {lower} and {upper}; "
                    "copy them again, or set `fill_missing: true` to read them as background"
                ) from None
        return _checked(block, self.kind, self.name, self.backgrounds)

    def _read(self, start: IntPoint, stop: IntPoint) -> NDArray[Any]:
        return np.asarray(self.cloud[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))])[..., self.channel]

    def _absent(self, start: IntPoint, stop: IntPoint) -> str:
        if self.chunks is None:
            return "chunks"
        return "{} of {} chunks".format(*self.chunks.absent(start, stop))

    def _damaged_chunk(self, start: IntPoint, stop: IntPoint) -> str:
        """Find the first chunk of a box that cannot be read; empty where each can, or they have no files here."""
        for chunk, low, high in self.chunks.boxes(start, stop) if self.chunks is not None else ():
            try:
                self._read(low, high)
            except Exception:  # each codec raises its own
                return f"chunk {chunk}"
        return ""


def _shifted(corner: IntPoint, offset: IntPoint) -> IntPoint:
    return corner[0] + offset[0], corner[1] + offset[1], corner[2] + offset[2]


StoredVolume = ArrayVolume | CloudVolumeVolume


def open_volume(spec: VolumeSpec, *, kind: Kind, base: Path | None = None, name: str = "volume") -> StoredVolume:
    """Open a volume for block-wise reading.

    npz arrays are held in memory; everything else is read on demand.

    Parameters
    ----------
    spec
        Location and placement of the volume.
    kind
        ``labels`` (integers), ``image`` (uint8), or ``affinity`` (uint8 or floats), of which the first channel is read;
        :func:`.affinities.open_affinities` opens all.
    base
        Base folder for relative paths; the working directory by default.
    name
        Name of the volume in messages, for example ``automatic``.

    Returns
    -------
    StoredVolume
        A :class:`connectomebench.core.volume.Volume` (axes x, y, z) with a ``fingerprint``.

    Raises
    ------
    ConnectomeBenchError
        If it is missing or damaged, of an unknown format or a wrong type, or if axes, voxel size or offset are missing
        or contradict what is stored.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench import VolumeSpec, open_volume
    >>> np.save("labels.npy", np.ones((10, 20, 30), np.uint64))
    >>> spec = VolumeSpec("labels.npy", axes="zyx", voxel_size_nm=(4, 4, 40), offset_vx=(0, 0, 0))
    >>> volume = open_volume(spec, kind="labels")
    >>> volume.shape
    (30, 20, 10)
    >>> volume.read((0, 0, 0), (3, 2, 1)).shape
    (3, 2, 1)
    """
    _check_background(spec, kind, name)
    location = spec.path
    if location.startswith("graphene://"):
        raise ConnectomeBenchError(f"{name}: {location} is a ChunkedGraph; use the source `cave` for it")
    if "n5://" in location.lower():
        raise n5_error(name, location)
    location = without_zarr(location)
    local = local_folder(_absolute(location, base))
    if location != spec.path and local is None and "://" in location:
        raise _not_read(name, spec.path)
    if location.startswith(_CLOUD) and (local is None or (local / "info").is_file()):
        if local is None and _names_an_array(location):
            raise _not_read(name, spec.path)
        return _open_cloud(spec, _absolute(location, base), kind, name)
    if local is None and "://" in location:
        raise _not_read(name, spec.path)
    path = local or (base or Path()) / location
    if not path.exists():
        raise ConnectomeBenchError(f"{name}: there is no {path}; check `path`")
    if (path / "info").is_file():
        return _open_cloud(spec, f"precomputed://file://{path.resolve()}", kind, name)
    axes, voxel, offset = _stated(spec, kind, name, path)
    with reading(name, path):
        opened = open_array(path, spec.key, name, spec.fill_missing)
        return _array_volume(opened, spec, path, kind, name, axes, voxel, offset)


def _not_read(name: str, address: str) -> ConnectomeBenchError:
    return ConnectomeBenchError(
        f"{name}: {address} is an address that is not read; known: precomputed volumes at {', '.join(_CLOUD)}; copy "
        "other data to a folder here"
    )


def _names_an_array(address: str) -> bool:
    """Return whether an address leads into what is read from disk alone: Zarr, HDF5, TIFF and the like."""
    return any(part.lower().endswith(_ARRAYS) for part in address.partition("://")[2].split("/"))


def stored_placement(spec: VolumeSpec, base: Path | None = None, name: str = "volume") -> tuple[OpenedArray, Path]:
    """Open the array of a specification without what must be stated about it; see :func:`open_volume` for errors.

    Parameters
    ----------
    spec
        Path and key of an array: no address.
    base, name
        As for :func:`open_volume`.
    """
    path = (base or Path()) / spec.path
    if not path.exists():
        raise ConnectomeBenchError(f"{name}: there is no {path}; check `path`")
    with reading(name, path):
        return open_array(path, spec.key, name, spec.fill_missing), path


def _check_background(spec: VolumeSpec, kind: Kind, name: str) -> None:
    if kind != "labels" and spec.backgrounds != (0,):
        raise ConnectomeBenchError(f"{name}: `background` is a label; {kind} data have none: leave it out")
    if not spec.backgrounds:
        raise ConnectomeBenchError(f"{name}: background is empty; name at least one label, or leave it out")
    for label in spec.backgrounds:
        if not -(2**63) <= label <= _LARGEST_ID:
            raise ConnectomeBenchError(f"{name}: background {label} is no 64-bit integer; check the label")


def _stated(spec: VolumeSpec, kind: Kind, name: str, path: Path) -> tuple[str, tuple[float, float, float], IntPoint]:
    axes = "czyx" if kind == "affinity" else "xyz"
    examples = {"axes": axes, "voxel_size_nm": "[8, 8, 40]", "offset_vx": "[0, 0, 0]"}
    for needed, example in examples.items():
        if getattr(spec, needed) is None:
            hint = "the order of the axes as stored" if needed == "axes" else "in the order x, y, z"
            raise ConnectomeBenchError(
                f"{name}: add `{needed}: {example}` ({hint}); `connectomebench inspect {path}` shows what the file says"
            )
    axes = str(spec.axes).lower()
    if len(set(axes)) != len(axes) or not set("xyz") <= set(axes) or not axes.isalpha():
        raise ConnectomeBenchError(f"{name}: axes {spec.axes!r} must be x, y, z in some order, for example zyx")
    if kind == "affinity" and "c" not in axes:
        raise ConnectomeBenchError(
            f"{name}: axes {spec.axes!r} name no channels; an affinity map has one an axis: add a c where they are "
            "stored, for example czyx"
        )
    voxel = _triple(spec.voxel_size_nm, "voxel_size_nm", name)
    if not all(0 < v < np.inf for v in voxel):
        raise ConnectomeBenchError(f"{name}: voxel_size_nm {list(voxel)} must be positive")
    assert spec.offset_vx is not None
    return axes, voxel, _whole(spec.offset_vx, "offset_vx", f"{name}:")


def _whole(values: Sequence[Any], what: str, where: str) -> IntPoint:
    """Return three whole numbers as they are; a fraction is refused, never cut."""
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        raise ConnectomeBenchError(f"{where} {what} must be three whole voxels (x, y, z), not {values!r}") from None
    if len(numbers) != 3 or not all(n.is_integer() for n in numbers):
        raise ConnectomeBenchError(
            f"{where} {what} {list(values)} must be three whole voxels (x, y, "
            "z); mend it, or resample the volume to whole voxels"
        )
    return int(values[0]), int(values[1]), int(values[2])


def _triple(value: Any, field: str, name: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(v) for v in value)
    except (TypeError, ValueError):
        raise ConnectomeBenchError(f"{name}: {field} must be three numbers (x, y, z), not {value!r}; mend it") from None
    return x, y, z


def _array_volume(
    opened: OpenedArray,
    spec: VolumeSpec,
    path: Path,
    kind: Kind,
    name: str,
    axes: str,
    voxel: tuple[float, float, float],
    offset: IntPoint,
) -> ArrayVolume:
    array = opened.array
    stored = tuple(int(n) for n in array.shape)
    channels = AFFINITY_CHANNELS if kind == "affinity" else 1
    x, y, z, *channel_axis = axis_order(axes, stored, opened.placement, name, path, channels)
    order = (x, y, z)
    if opened.lossy and kind == "labels":
        raise ConnectomeBenchError(f"{name}: {path} is JPEG, which changes labels; save them as PNG or TIFF")
    _check_dtype(np.dtype(array.dtype), kind, name)
    _check_fits(spec.backgrounds, np.dtype(array.dtype), name)
    shape = (stored[x], stored[y], stored[z])
    if 0 in shape:
        raise ConnectomeBenchError(f"{name}: {path} is empty (shape {stored})")
    check_contradiction(opened.placement, order, voxel, offset, name, path)
    absent, chunks = opened.absent
    if absent and not spec.fill_missing:
        raise ConnectomeBenchError(
            f"{name}: {path} lacks {absent} of {chunks} chunks; copy them again, or, where the program that wrote it "
            "left out chunks of background, set `fill_missing: true` to read them as such"
        )
    if absent and kind == "labels" and opened.fill not in spec.backgrounds:
        raise ConnectomeBenchError(
            f"{name}: the {absent} chunks that {path} lacks would be read as label {opened.fill}, its fill value, and "
            f"not as background; copy them again, or set `background: {[*spec.backgrounds, opened.fill]}`"
        )
    identity = [_identity(path), *(_identity(p) for p in opened.linked)]
    fingerprint = content_key(*identity, spec.key, axes, list(voxel), list(offset), *_background_key(spec))
    return ArrayVolume(
        array,
        order,
        shape,
        voxel,
        offset,
        kind,
        fingerprint,
        name,
        str(path),
        spec.backgrounds,
        channel_axis[0] if channel_axis else None,
    )


def _background_key(spec: VolumeSpec) -> list[Any]:
    return [] if spec.backgrounds == (0,) else [["background", *spec.backgrounds]]


def _identity(path: Path) -> list[Any]:
    """Identify the content: hashes of small files, size and modification time of large ones."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    total = sum(p.stat().st_size for p in files)
    named = [p.name if p == path else p.relative_to(path).as_posix() for p in files]
    if total <= _HASHED_BYTES:
        return [[n, _file_hash(p)] for n, p in zip(named, files, strict=True)]
    return [[n, p.stat().st_size, p.stat().st_mtime_ns] for n, p in zip(named, files, strict=True)]


def _file_hash(path: Path) -> str:
    import hashlib

    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _absolute(location: str, base: Path | None) -> str:
    """Resolve the path inside ``file://``; other protocols stay as they are."""
    head, mark, tail = location.partition("file://")
    if not mark:
        return location
    return f"{head}file://{((base or Path()) / tail).resolve()}"


def _open_cloud(spec: VolumeSpec, location: str, kind: Kind, name: str) -> CloudVolumeVolume:
    from cloudvolume import CloudVolume
    from cloudvolume.exceptions import InfoUnavailableError, ScaleUnavailableError

    _quiet_cloudvolume()
    if spec.mip < 0:
        raise ConnectomeBenchError(f"{name}: mip {spec.mip} is no level; 0 is the finest one")
    channels, stored_axes = (AFFINITY_CHANNELS, "xyzc") if kind == "affinity" else (1, "xyz")
    if spec.axes not in (None, stored_axes):
        raise ConnectomeBenchError(f"{name}: {location} is stored as {stored_axes}; leave `axes` out")
    folder = local_folder(location)
    remedy = (
        "check that its info is whole: copy it again" if folder is not None else "check the address and the network"
    )
    with reading(name, location, remedy=remedy):
        try:
            cloud: Any = CloudVolume(
                location, mip=spec.mip, bounded=True, fill_missing=spec.fill_missing, progress=False, parallel=1
            )
        except InfoUnavailableError:
            raise ConnectomeBenchError(
                f"{name}: no precomputed volume (info file) at {location}; check the path"
            ) from None
        except ScaleUnavailableError:
            raise ConnectomeBenchError(f"{name}: {location} has no mip {spec.mip}; choose a smaller number") from None
        if cloud.num_channels != channels:
            needed = "one is needed" if channels == 1 else AFFINITY_CHANNELS_NEEDED
            raise ConnectomeBenchError(f"{name}: {location} has {cloud.num_channels} channels; {needed}")
        _check_dtype(np.dtype(cloud.dtype), kind, name)
        _check_fits(spec.backgrounds, np.dtype(cloud.dtype), name)
        scale = cloud.info["scales"][spec.mip]
        x, y, z = _triple(scale["resolution"], f"resolution in the info of {location}", name)
        if not all(0 < v < np.inf for v in (x, y, z)):
            raise ConnectomeBenchError(f"{name}: resolution {[x, y, z]} in the info of {location} must be positive")
        offset = _whole(scale.get("voxel_offset", [0, 0, 0]), "voxel_offset", f"{name}: in the info of {location}")
        shape = _whole(scale["size"], "size", f"{name}: in the info of {location}")
        if min(shape) < 1:
            raise ConnectomeBenchError(f"{name}: {location} is empty (shape {shape})")
        for what, stored in (("voxel_size_nm", (x, y, z)), ("offset_vx", offset)):
            stated = getattr(spec, what)
            if stated is not None and not np.allclose(_triple(stated, what, name), stored):
                raise ConnectomeBenchError(
                    f"{name}: {what} {list(stated)} contradicts {list(stored)} in the info of {location}; leave it out"
                )
        chunks = None
        content: list[Any] = []
        if folder is not None:
            content = [_identity(folder / str(scale["key"]))] if (folder / str(scale["key"])).is_dir() else [[]]
            if scale.get("sharding") is None:
                chunks = ChunkFiles(folder, scale, np.dtype(cloud.dtype))
        elif scale.get("sharding") is None and (marks := server_marks(location, scale)):
            content = [marks]
    fingerprint = content_key(location, cloud.info, spec.mip, *content, *_background_key(spec))
    return CloudVolumeVolume(
        cloud, shape, (x, y, z), offset, kind, fingerprint, name, location, spec.backgrounds, chunks
    )


def _quiet_cloudvolume() -> None:
    """Silence two modules that print to the screen what they also raise."""
    import cloudfiles.compression
    import cloudvolume.datasource.precomputed.image.rx

    def silent(*_: Any, **__: Any) -> None: ...

    for module in (cloudfiles.compression, cloudvolume.datasource.precomputed.image.rx):
        module.__dict__.setdefault("print", silent)


def _check_fits(backgrounds: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Refuse a background that cannot occur: the label that is meant has another number in this type."""
    if dtype.kind not in "ui":
        return
    limits = np.iinfo(dtype)
    for label in backgrounds:
        if not limits.min <= label <= limits.max:
            same = label % 2**limits.bits
            meant = same if same <= limits.max else same - 2**limits.bits
            raise ConnectomeBenchError(
                f"{name}: background {label} cannot occur in labels of the type {dtype.name}; the same bits are "
                f"{meant} there: set `background: {meant}` if that is meant"
            )


def _check_dtype(dtype: np.dtype[Any], kind: Kind, name: str) -> None:
    if dtype.hasobject:
        raise ConnectomeBenchError(f"{name}: the array holds Python objects, which are never loaded")
    if kind == "labels" and dtype.kind not in "ui":
        raise ConnectomeBenchError(f"{name}: labels must be integers, not {dtype}; convert them before use")
    if kind == "image" and dtype != np.uint8:
        raise ConnectomeBenchError(f"{name}: image data must be uint8, not {dtype}; rescale them to 0-255 before use")
    if kind == "affinity" and dtype != np.uint8 and dtype.kind != "f":
        raise ConnectomeBenchError(
            f"{name}: affinities must be floats (0 to 1) or uint8 (0 to 255), not {dtype}; convert them before use"
        )


def _checked(block: NDArray[Any], kind: Kind, name: str, backgrounds: tuple[int, ...]) -> NDArray[Any]:
    """Convert labels to unsigned integers in native byte order, background 0; no label ever wraps.

    Affinities that are none are refused.
    """
    if kind == "affinity" and block.dtype.kind == "f":
        return _affinities(block, name)
    if kind == "labels" and backgrounds != (0,):
        block = _without_background(block, name, backgrounds)
    if kind == "labels" and block.dtype.kind == "i":
        if block.size and (least := int(block.min())) < 0:
            raise ConnectomeBenchError(
                f"{name}: labels must not be negative; if {least} is the background, set `background: {least}`"
            )
        return block.astype(f"u{block.dtype.itemsize}")
    return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))


def _affinities(block: NDArray[Any], name: str) -> NDArray[Any]:
    """Check that floats are affinities, and return them as float32 or float64."""
    if block.size:
        least, most = block.min(), block.max()
        if np.isnan(least):
            raise ConnectomeBenchError(f"{name}: some voxels are no number (NaN); fill them, with 0 if need be")
        if least < 0 or most > 1:
            raise ConnectomeBenchError(
                f"{name}: affinities of floats must be between 0 and 1, not {least if least < 0 else most:g}; rescale "
                "them, or store 0 to 255 as uint8"
            )
    return block.astype(np.float64 if block.dtype.itemsize > 4 else np.float32, copy=False)


def _without_background(block: NDArray[Any], name: str, backgrounds: tuple[int, ...]) -> NDArray[Any]:
    """Put 0 in place of all labels of the background."""
    limits = np.iinfo(block.dtype)
    zero = block.dtype.type(0)
    if 0 not in backgrounds and (block == zero).any():
        others = list(backgrounds)
        raise ConnectomeBenchError(
            f"{name}: label 0 occurs, though the background is {others[0] if len(others) == 1 else others}; if 0 is "
            f"background too, set `background: {[0, *others]}`, else give that object another label"
        )
    result = block.copy()
    for label in backgrounds:
        if limits.min <= label <= limits.max:
            result[block == block.dtype.type(label)] = zero
    return result


def _check_range(name: str, lower: IntPoint, upper: IntPoint, shape: IntPoint) -> None:
    if any(not 0 <= a <= b <= n for a, b, n in zip(lower, upper, shape, strict=True)):
        raise IndexError(f"{name}: voxels {lower} to {upper} are outside the volume of shape {shape}")
