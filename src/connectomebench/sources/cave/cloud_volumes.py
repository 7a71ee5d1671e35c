"""Cloud volumes, read in blocks and cached on disk; labels as of a time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.volume import IntPoint, Volume
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.cave_config import RequestConfig
from connectomebench.sources.cave.retries import with_retries
from connectomebench.sources.label_shapes import int_point

_LEAST_BLOCK = 64  # blocks are whole chunks of at least this many voxels along each axis
_IN_MEMORY_BYTES = 1 << 27  # of the blocks of a layer that were read last: neighbouring places share most of theirs

# ``voxels`` of a block, or of labels the number of each voxel in ``ids``
_Block = dict[str, NDArray[Any]]


class CloudLayer:
    """One level of a CloudVolume path, read in whole cached blocks. See ``Volume``.

    Labels of a ``graphene://`` path are supervoxels. Where storage has no chunk, it is background.

    Parameters
    ----------
    path
        CloudVolume path.
    voxel_nm
        The coarsest level whose voxels are at most this long along x is read, nm.
    kind
        ``labels`` or ``image`` (uint8).
    cache
        Where blocks are kept.
    rules, login
        Retries of failed reads; see :func:`connectomebench.sources.cave.retries.with_retries`.
    token
        Sent to the server of a ``graphene://`` path, and to no other.

    Raises
    ------
    ConnectomeBenchError
        If there is no such volume, or it does not state its voxel size.
    """

    def __init__(
        self,
        path: str,
        voxel_nm: float,
        kind: Literal["labels", "image"],
        cache: BlobCache,
        rules: RequestConfig,
        login: str,
        token: str | None,
    ) -> None:
        self._token = token
        self._path, self._kind, self._cache, self._rules, self._login = path, kind, cache, rules, login
        # CloudVolume does not promise that one object may be read from several threads
        self._local = threading.local()
        self._info: Any = None
        self._mip = 0
        cloud = self._open(0)
        self._info = cloud.info
        self._mip = self._choose(cloud, voxel_nm)
        cloud = self.cloud
        if cloud.num_channels != 1:
            raise ConnectomeBenchError(f"{path} has {cloud.num_channels} channels; one is needed")
        dtype = np.dtype(cloud.dtype)
        if (kind == "image" and dtype != np.uint8) or (kind == "labels" and dtype.kind != "u"):
            raise ConnectomeBenchError(f"{path} holds {dtype}; {kind} must be {'uint8' if kind == 'image' else 'uint'}")
        self._dtype = dtype
        self._shape = int_point(cloud.volume_size)
        self._offset = int_point(cloud.voxel_offset)
        x, y, z = (float(v) for v in cloud.resolution)
        self._voxel = (x, y, z)
        chunk = np.asarray([int(c) for c in cloud.chunk_size])
        self._block = chunk * np.maximum(1, -(-_LEAST_BLOCK // chunk))
        blocks = _IN_MEMORY_BYTES // (int(self._block.prod()) * 4)  # numbers of voxels have up to four bytes
        self._stored = lru_cache(maxsize=max(1, blocks))(self._read_stored)
        self.fingerprint = content_key(path, self._mip, list(self._voxel), list(self._shape), list(self._offset))

    @property
    def shape(self) -> IntPoint:  # noqa: D102
        return self._shape

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:  # noqa: D102
        return self._voxel

    @property
    def offset_vx(self) -> IntPoint:  # noqa: D102
        return self._offset

    def _open(self, mip: int) -> Any:
        from cloudvolume import CloudVolume
        from cloudvolume.exceptions import InfoUnavailableError

        options: dict[str, Any] = {"mip": mip, "fill_missing": True, "progress": False, "parallel": 1}
        options["use_https"] = True
        if self._path.startswith("graphene://"):
            options["agglomerate"] = False
            # cloud-volume asks for a token even where the server does not
            options["secrets"] = {"token": self._token or "none"}
        if self._info is not None:
            options["info"] = self._info

        def connect() -> Any:
            try:
                return CloudVolume(self._path, **options)
            except InfoUnavailableError:
                raise ConnectomeBenchError(f"there is no volume (info file) at {self._path}; check the path") from None

        return with_retries(f"the info of {self._path}", connect, self._rules, self._login)

    @property
    def cloud(self) -> Any:
        """The ``CloudVolume`` of the calling thread."""
        if not hasattr(self._local, "cloud"):
            self._local.cloud = self._open(self._mip)
        return self._local.cloud

    def _choose(self, cloud: Any, voxel_nm: float) -> int:
        try:
            sizes = [[float(v) for v in scale["resolution"]] for scale in self._info["scales"]]
        except (KeyError, TypeError, ValueError):
            sizes = []
        if not sizes or min(min(s) for s in sizes) <= 0:
            raise ConnectomeBenchError(
                f"{self._path} does not state its voxel size in its info, and none is assumed; check the path"
            )
        fitting = [mip for mip, size in enumerate(sizes) if size[0] <= voxel_nm]
        return max(fitting, default=0)

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` (inclusive) to ``upper`` (exclusive); axes x, y, z."""
        if any(not 0 <= a <= b <= n for a, b, n in zip(lower, upper, self._shape, strict=True)):
            raise IndexError(f"voxels {lower} to {upper} are outside the volume of shape {self._shape}")
        out = np.zeros(np.subtract(upper, lower), self._dtype, order="F")
        if not out.size:
            return out
        first, last = np.asarray(lower) // self._block, (np.asarray(upper) - 1) // self._block
        blocks = [int_point(b) for b in itertools.product(*(range(a, b + 1) for a, b in zip(first, last, strict=True)))]
        found = {block: self._cached(block) for block in blocks}
        missing = [block for block in blocks if found[block] is None]
        if missing:
            found |= self._fetch(missing)
        for block, stored in found.items():
            assert stored is not None
            start = np.asarray(block) * self._block
            low, high = np.maximum(start, lower), np.minimum(start + stored["voxels"].shape, upper)
            here = tuple(slice(a, b) for a, b in zip(low - lower, high - lower, strict=True))
            part = stored["voxels"][tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))]
            out[here] = stored["ids"][part] if "ids" in stored else part
        return out

    def _key(self, block: IntPoint) -> str:
        return content_key("block 1", self.fingerprint, list(block))

    def _cached(self, block: IntPoint) -> _Block | None:
        try:
            return self._stored(block)
        except LookupError:
            return None

    def _read_stored(self, block: IntPoint) -> _Block:
        """Read a block from the cache; what is not there raises, since only what is there may be remembered."""
        stored = self._cache.get(self._key(block))
        if stored is None:
            raise LookupError
        return stored

    def _fetch(self, blocks: list[IntPoint]) -> dict[IntPoint, _Block]:
        """Read the box around some blocks at once, so that chunks are requested in parallel, and cache the blocks."""
        lower = np.min(blocks, axis=0) * self._block
        upper = np.minimum((np.max(blocks, axis=0) + 1) * self._block, self._shape)
        start = lower + self._offset
        slices = tuple(slice(int(a), int(b)) for a, b in zip(start, upper + self._offset, strict=True))
        cloud = self.cloud  # that of this thread, not of the one that reads
        box = with_retries(
            f"voxels of {self._path}", lambda: np.asarray(cloud[slices])[..., 0], self._rules, self._login
        )
        found: dict[IntPoint, _Block] = {}
        for block in blocks:
            low = np.asarray(block) * self._block
            high = np.minimum(low + self._block, self._shape)
            voxels = box[tuple(slice(a, b) for a, b in zip(low - lower, high - lower, strict=True))]
            found[block] = {"voxels": voxels}
            if not voxels.any():
                continue  # a chunk that is unavailable for now looks the same, so it is not cached
            if self._kind == "labels":
                ids, codes = distinct(voxels)
                self._cache.put(self._key(block), voxels=codes, ids=ids)
            else:
                self._cache.put(self._key(block), voxels=np.asfortranarray(voxels))
        return found


@dataclass(frozen=True)
class RootLayer:
    """Segments as of a time: supervoxels, each with a root. See ``Volume``.

    Attributes
    ----------
    supervoxels
        The layer below.
    root_of
        Roots (uint64) of distinct supervoxels (uint64, sorted, 0 among them).
    """

    supervoxels: Volume
    root_of: Callable[[NDArray[np.uint64]], NDArray[np.uint64]]

    @property
    def shape(self) -> IntPoint:  # noqa: D102
        return self.supervoxels.shape

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:  # noqa: D102
        return self.supervoxels.voxel_size_nm

    @property
    def offset_vx(self) -> IntPoint:  # noqa: D102
        return self.supervoxels.offset_vx

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint64]:
        """Read voxels ``lower`` (inclusive) to ``upper`` (exclusive); axes x, y, z."""
        return relabel(self.supervoxels.read(lower, upper), self.root_of)


@dataclass(frozen=True)
class InMemoryLayer:
    """Labels of a box in memory. See ``Volume``; ``offset_vx`` is that of the box."""

    labels: NDArray[np.uint64]
    voxel_size_nm: tuple[float, float, float]
    offset_vx: IntPoint

    @property
    def shape(self) -> IntPoint:  # noqa: D102
        return int_point(self.labels.shape)

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint64]:
        """Read voxels ``lower`` (inclusive) to ``upper`` (exclusive); axes x, y, z."""
        return self.labels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]


def distinct(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Find the distinct labels and number them.

    Returns
    -------
    ids
        The distinct labels, sorted, with 0 first whether or not it occurs; dtype of ``labels``.
    codes
        Shape of ``labels``: row in ``ids``; an unsigned type that holds it.
    """
    import fastremap

    small, names = fastremap.renumber(np.asfortranarray(labels), preserve_zero=True)
    rows = np.fromiter(names.values(), np.int64, len(names))
    ids = np.zeros(1 + int(rows.max(initial=0)), labels.dtype)
    ids[rows] = np.fromiter(names.keys(), labels.dtype, len(names))
    order = np.argsort(ids, kind="stable")
    rank = np.zeros(len(ids), small.dtype)
    rank[order] = np.arange(len(ids))
    return ids[order], rank[small]


def relabel(labels: NDArray[Any], root_of: Callable[[NDArray[np.uint64]], NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Replace each label by its root; background stays 0."""
    ids, codes = distinct(labels)
    roots = root_of(ids.astype(np.uint64)).copy()
    roots[0] = 0
    return roots[codes]
