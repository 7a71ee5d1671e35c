"""Open volumes from npz, npy, HDF5, Zarr, TIFF stacks, or any CloudVolume path.

Arrays carry no scale, so their axis order, voxel size and offset must be stated. Precomputed volumes carry all three in
their info file; what is stated beside it may not contradict it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.volume import IntPoint
from connectomebench.sources.volumes.containers import open_array

Kind = Literal["labels", "image"]

_CLOUD = ("precomputed://", "file://", "gs://", "s3://", "https://", "http://")
_HASHED_BYTES = 1 << 30  # files up to this size are identified by content, larger ones by size and modification time


@dataclass(frozen=True)
class VolumeSpec:
    """Location of a volume and placement of its array in the world.

    Attributes
    ----------
    path
        A file or folder (.npz, .npy, .h5, .zarr, .tif, a folder of .tif slices) or a CloudVolume path
        (``precomputed://``, ``file://``, ``gs://``, ``s3://``, ``https://``).
    key
        Name of the array inside an npz, HDF5 or Zarr container; optional if there is only one.
    axes
        Order of the axes as stored: a permutation of ``xyz``, with ``c`` anywhere for a channel axis of length 1.
        Required for arrays.
    voxel_size_nm
        Edge of a voxel, nm, always in the order x, y, z regardless of ``axes``. Required for arrays.
    offset_vx
        Absolute voxel coordinate of the first voxel, always x, y, z. Required for arrays.
    mip
        Resolution level of a CloudVolume path.
    fill_missing
        Read missing chunks of a CloudVolume path as zeros instead of raising an error.

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


@dataclass(frozen=True)
class ArrayVolume:
    """A volume over any sliceable array (numpy, memmap, h5py, Zarr, TIFF pages). See ``Volume``.

    Attributes
    ----------
    array
        Axes as stored.
    order
        For x, y, z: the axis of ``array``. An axis of ``array`` not named has length 1.
    kind
        Labels are returned as unsigned integers, image data as uint8.
    fingerprint
        Hash of the content and its placement in the world.
    """

    array: Any
    order: IntPoint
    shape: IntPoint
    voxel_size_nm: tuple[float, float, float]
    offset_vx: IntPoint
    kind: Kind
    fingerprint: str
    name: str

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        _check_range(self.name, lower, upper, self.shape)
        index: list[Any] = [0] * len(self.array.shape)
        for axis, start, stop in zip(self.order, lower, upper, strict=True):
            index[axis] = slice(start, stop)
        block = np.asarray(self.array[tuple(index)])
        # the channel axis is dropped, so later axes move up
        ranks = np.argsort(np.argsort(self.order))
        return _checked(block.transpose(ranks), self.kind, self.name)


@dataclass(frozen=True)
class CloudVolumeVolume:
    """One mip of a CloudVolume path. See ``Volume``."""

    cloud: Any
    shape: IntPoint
    voxel_size_nm: tuple[float, float, float]
    offset_vx: IntPoint
    kind: Kind
    fingerprint: str
    name: str
    # CloudVolume does not guarantee that one object can be read from several threads
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        from cloudvolume.exceptions import EmptyVolumeException

        _check_range(self.name, lower, upper, self.shape)
        if any(a == b for a, b in zip(lower, upper, strict=True)):
            return np.zeros([b - a for a, b in zip(lower, upper, strict=True)], self.cloud.dtype)
        slices = tuple(slice(a + o, b + o) for a, b, o in zip(lower, upper, self.offset_vx, strict=True))
        try:
            with self.lock:
                block = np.asarray(self.cloud[slices])[..., 0]
        except EmptyVolumeException:
            raise ConnectomeBenchError(
                f"{self.name}: chunks are missing between voxels {lower} and {upper}; "
                "set `fill_missing: true` to read them as background"
            ) from None
        return _checked(block, self.kind, self.name)


StoredVolume = ArrayVolume | CloudVolumeVolume


def open_volume(spec: VolumeSpec, *, kind: Kind, base: Path | None = None, name: str = "volume") -> StoredVolume:
    """Open a volume for block-wise reading.

    npz arrays are held in memory; everything else is read on demand.

    Parameters
    ----------
    spec
        Location and placement of the volume.
    kind
        ``labels`` (integers) or ``image`` (uint8).
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
    location = spec.path
    if location.startswith("graphene://"):
        raise ConnectomeBenchError(f"{name}: {location} is a ChunkedGraph; use the source `cave` for it")
    if location.startswith(_CLOUD):
        return _open_cloud(spec, _absolute(location, base), kind, name)
    path = (base or Path()) / location
    if not path.exists():
        raise ConnectomeBenchError(f"{name}: there is no {path}; check `path`")
    if (path / "info").is_file():
        return _open_cloud(spec, f"precomputed://file://{path.resolve()}", kind, name)
    order_and_scale = _stated(spec, name)
    try:
        array = open_array(path, spec.key, name)
    except (OSError, ValueError, EOFError, KeyError) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise ConnectomeBenchError(
                f"{name}: {path} holds Python objects (a pickle), which are never loaded; save a plain integer array"
            ) from None
        reason = " ".join(str(error).split())
        raise ConnectomeBenchError(f"{name}: cannot read {path} ({reason}); is the file damaged?") from error
    return _array_volume(array, spec, path, kind, name, *order_and_scale)


def _stated(spec: VolumeSpec, name: str) -> tuple[str, tuple[float, float, float], IntPoint]:
    examples = {"axes": "xyz", "voxel_size_nm": "[8, 8, 40]", "offset_vx": "[0, 0, 0]"}
    for needed, example in examples.items():
        if getattr(spec, needed) is None:
            hint = "the order of the axes as stored" if needed == "axes" else "in the order x, y, z"
            raise ConnectomeBenchError(f"{name}: add `{needed}: {example}` ({hint}); an array file does not say it")
    axes = str(spec.axes).lower()
    if sorted(axes.replace("c", "")) != ["x", "y", "z"] or axes.count("c") > 1:
        raise ConnectomeBenchError(f"{name}: axes {spec.axes!r} must be x, y, z in some order, for example zyx")
    voxel, offset = _triple(spec.voxel_size_nm, "voxel_size_nm", name), _triple(spec.offset_vx, "offset_vx", name)
    if min(voxel) <= 0:
        raise ConnectomeBenchError(f"{name}: voxel_size_nm {list(voxel)} must be positive")
    if any(o != int(o) for o in offset):
        raise ConnectomeBenchError(f"{name}: offset_vx {list(offset)} must be whole voxels")
    return axes, voxel, (int(offset[0]), int(offset[1]), int(offset[2]))


def _triple(value: Any, field: str, name: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(v) for v in value)
    except (TypeError, ValueError):
        raise ConnectomeBenchError(f"{name}: {field} must be three numbers (x, y, z), not {value!r}") from None
    return x, y, z


def _array_volume(
    array: Any,
    spec: VolumeSpec,
    path: Path,
    kind: Kind,
    name: str,
    axes: str,
    voxel: tuple[float, float, float],
    offset: IntPoint,
) -> ArrayVolume:
    stored = tuple(int(n) for n in array.shape)
    if len(stored) == 4 and "c" not in axes:
        axes = _with_channel(axes, stored, name, path)
    if len(axes) != len(stored):
        raise ConnectomeBenchError(f"{name}: {path} has shape {stored}, which axes {axes!r} do not describe")
    if "c" in axes and stored[axes.index("c")] != 1:
        raise ConnectomeBenchError(f"{name}: {path} has {stored[axes.index('c')]} channels; one is needed")
    _check_dtype(np.dtype(array.dtype), kind, name)
    x, y, z = (axes.index(a) for a in "xyz")
    shape = (stored[x], stored[y], stored[z])
    if 0 in shape:
        raise ConnectomeBenchError(f"{name}: {path} is empty (shape {stored})")
    fingerprint = content_key(_identity(path), spec.key, axes, list(voxel), list(offset))
    return ArrayVolume(array, (x, y, z), shape, voxel, offset, kind, fingerprint, name)


def _with_channel(axes: str, stored: tuple[int, ...], name: str, path: Path) -> str:
    if (stored[0] == 1) == (stored[-1] == 1):
        raise ConnectomeBenchError(
            f"{name}: {path} has four axes, shape {stored}; say which one is the channel with a c in `axes`"
        )
    return f"c{axes}" if stored[0] == 1 else f"{axes}c"


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

    if spec.axes not in (None, "xyz"):
        raise ConnectomeBenchError(f"{name}: {location} is stored as xyz; leave `axes` out")
    try:
        cloud: Any = CloudVolume(
            location, mip=spec.mip, bounded=True, fill_missing=spec.fill_missing, progress=False, parallel=1
        )
    except InfoUnavailableError:
        raise ConnectomeBenchError(f"{name}: no precomputed volume (info file) at {location}") from None
    except ScaleUnavailableError:
        raise ConnectomeBenchError(f"{name}: {location} has no mip {spec.mip}") from None
    except Exception as error:  # each storage back end raises its own exceptions
        reason = " ".join(str(error).split())[:300]
        raise ConnectomeBenchError(f"{name}: cannot open {location} ({type(error).__name__}: {reason})") from error
    if cloud.num_channels != 1:
        raise ConnectomeBenchError(f"{name}: {location} has {cloud.num_channels} channels; one is needed")
    _check_dtype(np.dtype(cloud.dtype), kind, name)
    x, y, z = (float(v) for v in cloud.resolution)
    ox, oy, oz = (int(v) for v in cloud.voxel_offset)
    nx, ny, nz = (int(v) for v in cloud.volume_size)
    for what, stored in (("voxel_size_nm", (x, y, z)), ("offset_vx", (ox, oy, oz))):
        stated = getattr(spec, what)
        if stated is not None and not np.allclose(_triple(stated, what, name), stored):
            raise ConnectomeBenchError(
                f"{name}: {what} {list(stated)} contradicts {list(stored)} in the info of {location}; leave it out"
            )
    fingerprint = content_key(location, cloud.info, spec.mip)
    return CloudVolumeVolume(cloud, (nx, ny, nz), (x, y, z), (ox, oy, oz), kind, fingerprint, name)


def _check_dtype(dtype: np.dtype[Any], kind: Kind, name: str) -> None:
    if dtype.hasobject:
        raise ConnectomeBenchError(f"{name}: the array holds Python objects, which are never loaded")
    if kind == "labels" and dtype.kind not in "ui":
        raise ConnectomeBenchError(f"{name}: labels must be integers, not {dtype}; convert them before use")
    if kind == "image" and dtype != np.uint8:
        raise ConnectomeBenchError(f"{name}: image data must be uint8, not {dtype}; rescale them to 0-255 before use")


def _checked(block: NDArray[Any], kind: Kind, name: str) -> NDArray[Any]:
    """Convert labels to unsigned integers in native byte order; negative labels raise an error, never wrap."""
    if kind == "labels" and block.dtype.kind == "i":
        if block.size and int(block.min()) < 0:
            raise ConnectomeBenchError(f"{name}: labels must not be negative; use 0 for background")
        return block.astype(f"u{block.dtype.itemsize}")
    return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))


def _check_range(name: str, lower: IntPoint, upper: IntPoint, shape: IntPoint) -> None:
    if any(not 0 <= a <= b <= n for a, b, n in zip(lower, upper, shape, strict=True)):
        raise IndexError(f"{name}: voxels {lower} to {upper} are outside the volume of shape {shape}")
