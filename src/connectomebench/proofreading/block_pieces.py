"""Make the supervoxels of one block, keep them packed on disk, and join the tables of all blocks.

A supervoxel never reaches beyond its block, as in a ChunkedGraph; across a face of two blocks it has an edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import ArrayCache, content_key
from connectomebench.proofreading.blocks import Block, BlockGrid
from connectomebench.proofreading.find_supervoxels import find_supervoxels
from connectomebench.proofreading.place_volumes import PlaceVolumes, VolumeOpener, open_here
from connectomebench.proofreading.segmentation_graph import Supervoxels
from connectomebench.sources.supervoxels import relative_brightness


@dataclass(frozen=True)
class PieceJob:
    """One block whose supervoxels are made."""

    opener: VolumeOpener
    block: Block
    cache: Path
    sample_vx: tuple[int, int, int]


@dataclass(frozen=True)
class BlockPieces:
    """Supervoxels of one block.

    Attributes
    ----------
    key
        Under which the cache holds them.
    table
        Rows and edges inside the block.
    """

    key: str
    table: Supervoxels


def make_pieces(job: PieceJob) -> BlockPieces:
    """Make the supervoxels of a block, or take them from the cache.

    Raises
    ------
    ConnectomeBenchError
        If a volume cannot be read.
    """
    held = open_here(job.opener)
    cache, key = ArrayCache(job.cache), _key(held, job)
    stored = cache.get(f"{key}table")
    if stored is None or cache.get(f"{key}faces") is None or cache.get(f"{key}pieces") is None:
        stored = _make(held, job, cache, key)
    return BlockPieces(key, Supervoxels(**stored))


def _key(held: PlaceVolumes, job: PieceJob) -> str:
    weighted = held.config.source.volumes
    assert weighted is not None
    volumes = [held.labels, held.given, held.image if weighted.pieces.brightness_exponent != 0 else None]
    rules = [asdict(weighted.pieces), held.config.sites.min_segment_voxels, list(job.sample_vx)]
    place = [list(job.block.lower), list(job.block.upper)]
    return content_key("pieces of a block 1", [v and v.fingerprint for v in volumes], rules, place)[:32]


def _make(held: PlaceVolumes, job: PieceJob, cache: ArrayCache, key: str) -> dict[str, NDArray[Any]]:
    import pyarrow as pa

    own = job.block
    volumes = held.config.source.volumes
    assert volumes is not None
    labels = np.ascontiguousarray(held.labels.read(own.lower, own.upper))
    given = None if held.given is None else held.given.read(own.lower, own.upper)
    gray = None
    if volumes.pieces.brightness_exponent != 0 and held.image is not None:
        gray = held.blind_source().gray_in(own.lower, own.upper)
    voxel = np.asarray(held.labels.voxel_size_nm)
    offset = np.add(held.labels.offset_vx, own.lower).astype(np.int64)
    pieces, table = find_supervoxels(
        labels, given, gray, offset, voxel, volumes.pieces, held.config.sites.min_segment_voxels
    )
    brightness = relative_brightness(gray, pieces)
    faces: dict[str, NDArray[Any]] = {}
    for axis in range(3):
        for side, at in (("low", 0), ("high", -1)):
            faces[f"{side}{axis}"] = np.take(pieces, at, axis)
            if brightness is not None:
                faces[f"bright_{side}{axis}"] = np.take(brightness, at, axis)
    # every n-th voxel of the volume, not of the block
    first = [-a % s for a, s in zip(own.lower, job.sample_vx, strict=True)]
    faces["sample"] = pieces[tuple(slice(a, None, s) for a, s in zip(first, job.sample_vx, strict=True))]
    packed = pa.compress(np.ascontiguousarray(pieces).data, codec="zstd", asbytes=True)
    cache.put(f"{key}pieces", packed=np.frombuffer(packed, np.uint8), shape=np.array(pieces.shape))
    cache.put(f"{key}faces", **faces)
    stored = asdict(table)
    cache.put(f"{key}table", **stored)
    return stored


def unpack_pieces(cache: ArrayCache, key: str) -> NDArray[np.uint32]:
    """Read the supervoxels of a block back: uint32, axes x, y, z.

    Raises
    ------
    ConnectomeBenchError
        If they are no longer in the cache.
    """
    import pyarrow as pa

    stored = cache.get(f"{key}pieces")
    if stored is None:
        raise ConnectomeBenchError(f"{cache.folder} lacks the supervoxels of a block; run the same command again")
    shape = tuple(stored["shape"].tolist())
    whole = pa.decompress(stored["packed"].tobytes(), int(np.prod(shape)) * 4, codec="zstd", asbytes=True)
    return np.frombuffer(whole, np.uint32).reshape(shape)


def join_tables(
    blocks: Sequence[BlockPieces],
    grid: BlockGrid,
    cache: ArrayCache,
    voxel_nm: Sequence[float],
    brightness_exponent: float,
) -> tuple[Supervoxels, list[int]]:
    """Join the supervoxels of all blocks, with edges across their faces.

    Parameters
    ----------
    blocks
        In the order of the grid.
    grid, cache
        Where they are.
    voxel_nm, brightness_exponent
        For the cost of an edge, see :func:`connectomebench.sources.supervoxels.touching_pieces`.

    Returns
    -------
    supervoxels
        Rows of the first block first.
    starts
        First row of each block, and the number of rows at the end.
    """
    sizes = [len(one.table.segments) for one in blocks]
    starts = np.append(0, np.cumsum(sizes)).tolist()
    edges = [one.table.edges.astype(np.int64) + start for one, start in zip(blocks, starts[:-1], strict=True)]
    costs = [one.table.capacities for one in blocks]
    for lower, upper, cost in _seams(blocks, grid, cache, voxel_nm, brightness_exponent, starts):
        edges.append(np.stack([lower, upper], axis=1))
        costs.append(cost.astype(np.float32))
    both = np.concatenate(edges) if edges else np.zeros((0, 2), np.int64)
    order = np.lexsort((both[:, 1], both[:, 0]))

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(one.table, name) for one in blocks])

    table = Supervoxels(
        joined("segments"),
        joined("points_nm"),
        joined("voxels"),
        both[order].astype(np.int32),
        np.concatenate(costs)[order].astype(np.float32),
        joined("sources"),
    )
    return table, starts


def _seams(
    blocks: Sequence[BlockPieces],
    grid: BlockGrid,
    cache: ArrayCache,
    voxel_nm: Sequence[float],
    exponent: float,
    starts: Sequence[int],
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Yield rows on both sides of each face between two blocks, and what it costs to cut them apart there."""
    area = np.prod(voxel_nm) / np.asarray(voxel_nm, np.float64)
    area /= area.mean()
    counts = grid.counts
    for index, one in enumerate(blocks):
        place = np.unravel_index(index, counts)
        mine = None
        for axis in range(3):
            if place[axis] + 1 == counts[axis]:
                continue
            mine = mine or _faces(cache, one.key)
            after = int(np.ravel_multi_index([p + (a == axis) for a, p in enumerate(place)], counts))
            theirs = _faces(cache, blocks[after].key)
            a, b = mine[f"high{axis}"], theirs[f"low{axis}"]
            both = np.nonzero((a > 0) & (b > 0))
            if not len(both[0]):
                continue
            lower = a[both].astype(np.int64) - 1 + starts[index]
            upper = b[both].astype(np.int64) - 1 + starts[after]
            cost = np.full(len(lower), area[axis], np.float64)
            if f"bright_high{axis}" in mine:
                mean = (mine[f"bright_high{axis}"][both] + theirs[f"bright_low{axis}"][both]) / 2
                cost *= np.clip(mean, 0.0, 1.0) ** exponent
            pairs, inverse = np.unique(np.stack([lower, upper], axis=1), axis=0, return_inverse=True)
            costs = np.bincount(inverse.ravel(), weights=cost, minlength=len(pairs)).astype(np.float64)
            yield pairs[:, 0], pairs[:, 1], costs


def _faces(cache: ArrayCache, key: str) -> dict[str, NDArray[Any]]:
    stored = cache.get(f"{key}faces")
    if stored is None:
        raise ConnectomeBenchError(f"{cache.folder} lacks the faces of a block; run the same command again")
    return stored


def read_samples(blocks: Sequence[BlockPieces], grid: BlockGrid, cache: ArrayCache, starts: Sequence[int]) -> Any:
    """Put together every n-th voxel of the supervoxels: int64, row + 1, 0 outside; axes x, y, z."""
    counts = grid.counts
    parts = np.empty(counts, object)
    for index, one in enumerate(blocks):
        local = _faces(cache, one.key)["sample"].astype(np.int64)
        parts[np.unravel_index(index, counts)] = np.where(local > 0, local + starts[index], 0)
    return np.block([[[parts[x, y, z] for z in range(counts[2])] for y in range(counts[1])] for x in range(counts[0])])
