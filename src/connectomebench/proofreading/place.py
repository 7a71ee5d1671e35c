"""The place to proofread: its volumes, whole or a box of them, and sources over the current state of its objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import ArrayCache, atomic_path, content_key
from connectomebench.core.geometry import Box
from connectomebench.core.volume import FingerprintedVolume, IntPoint
from connectomebench.execution.runner import Runner, SerialRunner
from connectomebench.proofreading.block_pieces import (
    BlockPieces,
    PieceJob,
    join_tables,
    make_pieces,
    read_samples,
    unpack_pieces,
)
from connectomebench.proofreading.blocks import Block, BlockGrid, make_grid
from connectomebench.proofreading.piece_volume import ObjectVolume, PieceVolume
from connectomebench.proofreading.place_volumes import ConfiguredVolumes, PlaceVolumes, VolumeOpener, open_here
from connectomebench.proofreading.segmentation_graph import Supervoxels
from connectomebench.proofreading.somas import find_somas, outside, sample_step, soma_name
from connectomebench.sources.volumes.arrays import ArrayVolume
from connectomebench.sources.volumes.volume_source import VolumeSource


@dataclass(frozen=True)
class PlaceSpec:
    """What a worker needs to open a place; small, and can be pickled.

    Attributes
    ----------
    opener
        Opens its volumes.
    grid
        Its blocks.
    starts
        First row of the supervoxels of each block, and the number of rows.
    keys
        Under which the cache holds the supervoxels of each block.
    cache
        Folder of the cache.
    """

    opener: VolumeOpener
    grid: BlockGrid
    starts: tuple[int, ...]
    keys: tuple[str, ...]
    cache: Path

    @property
    def fingerprint(self) -> str:
        """Hash of the supervoxels."""
        return content_key(list(self.keys), list(self.grid.edge))

    def open(self) -> tuple[PlaceVolumes, PieceVolume]:
        """Open volumes and supervoxels in this process, or return the open ones."""
        return open_here(self.opener), _open_pieces(self.cache, self.keys, self.grid, self.starts, _where(self.opener))


@dataclass(frozen=True)
class PlaceState:
    """The objects of a moment, as all workers find them.

    Attributes
    ----------
    spec
        The place.
    path
        File of uint64, shape (supervoxels,): the object of each.
    key
        Hash of it.
    """

    spec: PlaceSpec
    path: Path
    key: str

    def rows(self) -> NDArray[np.uint64]:
        """Open the objects of the supervoxels without reading them all."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)


def _where(opener: VolumeOpener) -> tuple[tuple[float, float, float], IntPoint]:
    labels = open_here(opener).labels
    return tuple(labels.voxel_size_nm), tuple(labels.offset_vx)  # type: ignore[return-value]


@lru_cache(maxsize=2)
def _open_pieces(
    cache: Path,
    keys: tuple[str, ...],
    grid: BlockGrid,
    starts: tuple[int, ...],
    where: tuple[tuple[float, float, float], IntPoint],
) -> PieceVolume:
    stored = ArrayCache(cache)
    return PieceVolume(
        grid, starts, lambda i: unpack_pieces(stored, keys[i]), *where, content_key("pieces", list(keys))
    )


def blind_source(
    held: PlaceVolumes, pieces: PieceVolume, of_rows: NDArray[np.uint64], key: str, state: PlaceState | None = None
) -> VolumeSource:
    """Return a source over objects that has no access to any truth and reads as it is asked."""
    volume = ObjectVolume(pieces, of_rows, key, state)
    return held.source.over(volume, volume, held.image, pieces)


def block_source(
    held: PlaceVolumes, pieces: PieceVolume, of_rows: NDArray[np.uint64], key: str, block: Block
) -> VolumeSource:
    """Return the same over one block with its halo, read into memory, without image data."""
    lower, upper = block.outer_lower, block.outer_upper
    x, y, z = (a + b for a, b in zip(pieces.offset_vx, lower, strict=True))
    made = []
    for name, volume in (("objects", ObjectVolume(pieces, of_rows, key)), ("supervoxels", pieces)):
        array = volume.read(lower, upper)
        shape = (array.shape[0], array.shape[1], array.shape[2])
        identity = content_key(volume.fingerprint, list(lower), list(upper))
        made.append(ArrayVolume(array, (0, 1, 2), shape, pieces.voxel_size_nm, (x, y, z), "labels", identity, name))
    objects, cells = made
    return held.source.over(objects, objects, None, cells)


@dataclass(frozen=True)
class Place:
    """Everything that does not change while a segmentation is proofread.

    Voxels are read and made block by block; what is held for all of it is the table of supervoxels.

    Attributes
    ----------
    config
        Rules of sites, candidates and cuts.
    source
        Source over the volumes of the configuration. Only scores may ask it for truth.
    box
        The box that is proofread, nm.
    labels
        Segments in it.
    truth
        Bodies in it; None where there are none.
    image
        Image data of the box, or None.
    pieces
        Supervoxel of each voxel.
    supervoxels
        The same as a graph.
    fingerprint
        Hash of all of that.
    spec
        How a worker opens it.
    anchors
        Rows of supervoxels in somas, found or given, with a name; see ``core.trusted.TrustedConfig``.
    """

    config: BuildConfig
    source: VolumeSource
    box: Box
    labels: FingerprintedVolume
    truth: FingerprintedVolume | None
    image: FingerprintedVolume | None
    pieces: PieceVolume
    supervoxels: Supervoxels
    fingerprint: str
    spec: PlaceSpec
    anchors: dict[int, str] = field(default_factory=dict)

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Edge of a label voxel along x, y, z, nm."""
        return self.pieces.voxel_size_nm

    @property
    def offset_vx(self) -> IntPoint:
        """Absolute coordinate of the first voxel of ``labels``."""
        return self.pieces.offset_vx

    @property
    def shape(self) -> IntPoint:
        """Voxels along x, y, z."""
        return self.pieces.shape

    @property
    def volumes(self) -> PlaceVolumes:
        """The volumes as a worker opens them."""
        return PlaceVolumes(self.config, self.source, self.box, self.labels, self.truth, self.image, None)

    def objects(self, of_rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the object of each voxel of the whole place, from that of each supervoxel (uint64, shape (n,))."""
        return ObjectVolume(self.pieces, of_rows, "").read((0, 0, 0), self.shape)

    def blind(self, of_rows: NDArray[np.uint64], state: PlaceState | None = None) -> VolumeSource:
        """Return a source over the current objects that has no access to any truth."""
        key = state.key if state is not None else content_key(of_rows)
        return blind_source(self.volumes, self.pieces, of_rows, key, state)

    def against_truth(self, of_rows: NDArray[np.uint64]) -> VolumeSource:
        """Return a source over the current objects with the truth, for scores alone."""
        assert self.truth is not None, "there is no truth"
        volume = ObjectVolume(self.pieces, of_rows, content_key(of_rows))
        return self.source.over(volume, self.truth, self.image, volume)

    def over_truth(self) -> VolumeSource:
        """Return a source whose segments are the bodies of the truth, for their skeletons."""
        assert self.truth is not None, "there is no truth"
        return self.source.over(self.truth, self.truth, self.image, self.truth)

    def store(self, of_rows: NDArray[np.uint64]) -> PlaceState:
        """Write the objects of a moment where workers find them; the last one written stays alone."""
        key = content_key(of_rows)
        folder = self.spec.cache / "objects"
        path = folder / f"{key}.npy"
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, of_rows)
        for other in folder.glob("*.npy"):
            if other != path:
                other.unlink(missing_ok=True)
        return PlaceState(self.spec, path, key)


def open_place(
    config: BuildConfig,
    base: Path,
    cache: Path,
    segmentation: str | None = None,
    box_nm: tuple[float, float, float, float, float, float] | None = None,
    block_vx: int | None = None,
    runner: Runner | None = None,
) -> Place:
    """Open the volumes of a configuration and break the segmentation into supervoxels, block by block.

    Parameters
    ----------
    config
        A configuration with the source `volumes`.
    base
        Base folder for its relative paths.
    cache
        Cache folder for supervoxels, meshes, skeletons and contacts.
    segmentation
        Which one, where the configuration names several.
    box_nm
        Lower x, y, z and upper x, y, z of the box to proofread, nm; None takes the whole volume.
    block_vx
        Edge of the blocks, voxels; see :func:`connectomebench.proofreading.blocks.make_grid`.
    runner
        Runs the work on blocks; None: one after the other in this thread.

    Raises
    ------
    ConnectomeBenchError
        If the source has no volumes, the segmentation is not named or unknown, the box is empty, or a volume cannot be
        opened.
    """
    opener = ConfiguredVolumes(config, base.resolve(), cache.resolve(), segmentation, box_nm)
    return open_place_of(opener, cache.resolve(), block_vx, runner or SerialRunner())


def halo_nm(config: BuildConfig) -> float:
    """Return how far a decision at a place looks, nm."""
    rules = config.candidates
    reach = max(rules.radius_nm, rules.merge_radius_nm, rules.reach_nm, config.proposals.reach_nm / 2)
    return reach + rules.min_distance_nm


def open_place_of(opener: VolumeOpener, cache: Path, block_vx: int | None, runner: Runner) -> Place:
    """Open a place whose volumes need not come from a configuration; see :func:`open_place`."""
    held = open_here(opener)
    volumes = held.config.source.volumes
    assert volumes is not None
    voxel = held.labels.voxel_size_nm
    x, y, z = (math.lcm(volumes.corrections.patch_cell_vx, d) for d in volumes.skeleton.downsample)
    nx, ny, nz = held.labels.shape
    grid = make_grid((nx, ny, nz), voxel, block_vx, halo_nm(held.config), (x, y, z))
    trusted = held.config.trusted
    step = sample_step(trusted.soma_radius_nm, voxel)
    blocks = _make_blocks(opener, grid, cache, step, runner)
    stored = ArrayCache(cache)
    table, starts = join_tables(blocks, grid, stored, voxel, volumes.pieces.brightness_exponent)
    if not len(table.segments):
        raise ConnectomeBenchError("the segmentation is all background there; check the volume or choose another --box")
    spec = PlaceSpec(opener, grid, tuple(starts), tuple(one.key for one in blocks), cache)
    _, pieces = spec.open()
    truth = None if held.truth is None else held.truth.fingerprint
    key = content_key(spec.fingerprint, truth, list(held.box.lower_nm), held.source.info.version)
    anchors: dict[int, str] = {}
    if trusted.soma_radius_nm is not None:
        samples = read_samples(blocks, grid, stored, starts)
        found = find_somas(
            samples, table.segments, [s * v for s, v in zip(step, voxel, strict=True)], trusted.soma_radius_nm
        )
        anchors = {row: soma_name(table.points_nm[row], radius) for row, radius in found.items()}
    anchors |= _given_somas(held, pieces)
    return Place(
        held.config,
        held.source,
        held.box,
        held.labels,
        held.truth,
        held.image,
        pieces,
        table,
        key,
        spec,
        anchors,
    )


def _make_blocks(
    opener: VolumeOpener, grid: BlockGrid, cache: Path, step: IntPoint, runner: Runner
) -> Sequence[BlockPieces]:
    jobs = [PieceJob(opener, grid.block(i), cache, step) for i in range(len(grid))]
    made: dict[int, BlockPieces] = {}
    with tqdm(total=len(jobs), desc="supervoxels", unit="block", leave=False, delay=1) as bar:
        for i, found in runner.run(make_pieces, jobs, "supervoxels"):
            made[i] = found
            bar.update()
    return [made[i] for i in range(len(jobs))]


def _given_somas(held: PlaceVolumes, pieces: PieceVolume) -> dict[int, str]:
    """Return the supervoxels at the points of the configuration that lie in the box."""
    points = held.config.trusted.somas_nm
    away = outside(points, held.box.lower_nm, held.box.upper_nm)
    inside = [p for p in points if p not in away]
    if not inside:
        return {}
    at = np.floor(np.asarray(inside) / held.labels.voxel_size_nm).astype(np.int64) - held.labels.offset_vx
    rows = pieces.at(at).astype(np.int64) - 1
    for point, row in zip(inside, rows.tolist(), strict=True):
        if row < 0:
            raise ConnectomeBenchError(
                f"trusted.somas_nm: there is no object at {', '.join(f'{c:g}' for c in point)} nm; give points inside "
                "somas, in nm"
            )
    return {int(row): soma_name(point) for point, row in zip(inside, rows, strict=True)}
