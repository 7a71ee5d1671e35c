"""Candidates in one block: ends and places of merge errors, without reading the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Box
from connectomebench.core.site import as_point
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.tasks import MERGE_ERROR_KINDS
from connectomebench.core.tasks import CandidateKind as Kind
from connectomebench.core.volume import IntPoint
from connectomebench.proofreading.blocks import Block
from connectomebench.proofreading.contact_partners import FoundMerge, Touching
from connectomebench.proofreading.cut_search import find_branches
from connectomebench.proofreading.place import PlaceState, block_source
from connectomebench.proofreading.place_volumes import PlaceVolumes
from connectomebench.sites.candidates import Candidates, find_candidates, one_a_place
from connectomebench.sources.supervoxel_interfaces import find_interfaces
from connectomebench.sources.volumes.cropped import CroppedVolume
from connectomebench.sources.volumes.volume_source import VolumeSource

DENSITY_CELL_NM = 1000.0


@dataclass(frozen=True)
class SearchJob:
    """One block to search for candidates.

    Attributes
    ----------
    state
        The place and its objects.
    block
        Number of the block.
    large
        uint64: the objects in the block and its halo that take part, ascending.
    changed
        Only what concerns one of these objects counts; None: all.
    merges, splits
        Whether partners of ends are searched, and branches at places of merge errors.
    max_density
        Most ends, most contacts, and most places of merge errors, in a cube of 1 µm; None sets no limit.
    threads
        For the scan of contacts.
    contacts
        Whether every two objects that touch are candidates too, the largest contacts first.
    """

    state: PlaceState
    block: int
    large: NDArray[np.uint64]
    changed: frozenset[int] | None
    merges: bool
    splits: bool
    max_density: float | None
    threads: int | None = 1
    contacts: bool = False


@dataclass(frozen=True)
class Found:
    """What a block holds.

    Attributes
    ----------
    ends, spots
        Candidates for split errors (ends, then contacts), and for merge errors (one a place).
    merges
        Partners of the ends, and of the objects at contacts.
    branches
        Of each spot: seeds of the branches that meet there, see :func:`find_branches`.
    dropped
        What was left out, by reason.
    """

    ends: Candidates
    spots: Candidates
    merges: tuple[FoundMerge, ...] = ()
    branches: tuple[tuple[NDArray[np.float32], ...], ...] = ()
    dropped: Counter[str] = field(default_factory=Counter)


def search_block(job: SearchJob) -> Found:
    """Find candidates, partners and branches in a block, away from the border of the data.

    An object is looked at as far as it lies in the block with its halo. What is found belongs to the block in whose
    own part it lies, so that every place is found once.

    Raises
    ------
    ConnectomeBenchError
        If the volumes or supervoxels cannot be read.
    """
    held, pieces = job.state.spec.open()
    own = job.state.spec.grid.block(job.block)
    source = block_source(held, pieces, job.state.rows(), job.state.key, own)
    rules, volumes = held.config.candidates, held.config.source.volumes
    assert volumes is not None
    objects, cells = source.automatic, source.supervoxels
    assert cells is not None
    inner = tuple(slice(a - o, b - o) for a, b, o in zip(own.lower, own.upper, own.outer_lower, strict=True))
    array = objects.read((0, 0, 0), objects.shape)
    present = np.intersect1d(np.unique(array[inner]), job.large)
    touching = None
    if job.merges and len(present):
        touching = Touching(source, volumes.corrections, job.large, job.threads)
    if job.changed is not None:
        concerned = set(job.changed)
        if touching is not None:
            concerned |= touching.partners(job.changed)
        present = present[np.isin(present, np.fromiter(concerned, np.uint64, len(concerned)))]
    skeletons = dict(source.skeletons(present.tolist()))
    gray = held.blind_source().gray_in(own.outer_lower, own.outer_upper) if len(present) else None
    found = find_candidates(skeletons.items(), rules, _interfaces(job, held, own, source, gray, list(skeletons)))
    found = found.take(np.flatnonzero(~held.blind_source().at_border(found.segments, found.points_nm)))
    dropped: Counter[str] = Counter()
    mine = _core_box(own, held.labels.voxel_size_nm, held.labels.offset_vx)
    ends = _kept(found.of_kind("end"), mine, job.max_density, dropped, "ends")
    merges: tuple[FoundMerge, ...] = ()
    if touching is not None:
        merges = tuple(touching.find(ends, rules.radius_nm, gray, job.changed))
        if job.contacts:
            contacts, partners = _contacts(touching, job, held, mine, dropped)
            merges += tuple(touching.at_contacts(contacts, partners, gray, len(ends.segments)))
            ends = _joined(ends, contacts)
    if not job.splits:
        return Found(ends, found.take(np.zeros(0, np.int64)), merges, (), dropped)
    kinds: list[Kind] = [kind for kind in MERGE_ERROR_KINDS if kind in rules.kinds]
    spots = one_a_place(found, kinds, rules.min_distance_nm)
    if job.changed is not None:
        spots = spots.take(np.isin(spots.segments, np.fromiter(job.changed, np.uint64, len(job.changed))))
    spots = _kept(spots, mine, job.max_density, dropped, "places of merge errors")
    branches = tuple(
        tuple(find_branches(skeletons[int(segment)], as_point(at), float(radius), rules, held.config.proposals))
        for segment, at, radius in zip(spots.segments, spots.points_nm, spots.radii_nm, strict=True)
    )
    return Found(ends, spots, merges, branches, dropped)


def _interfaces(
    job: SearchJob,
    held: PlaceVolumes,
    own: Block,
    source: VolumeSource,
    gray: NDArray[np.uint8] | None,
    segments: Sequence[int],
) -> SupervoxelInterfaces | None:
    """Find where supervoxels of the configuration touch inside objects; None where there are none.

    The pieces that objects are edited in do not serve: those made from shapes say nothing of the data, and all are
    cut at the faces of blocks.
    """
    if not job.splits or held.given is None or "interface" not in held.config.candidates.kinds:
        return None
    volumes = held.config.source.volumes
    assert volumes is not None
    cells = CroppedVolume(held.given, own.outer_lower, source.automatic.shape)

    def read_gray(lower: IntPoint, upper: IntPoint) -> NDArray[np.uint8]:
        assert gray is not None
        return gray[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]

    return find_interfaces(
        source.automatic,
        cells,
        None if gray is None else read_gray,
        np.asarray(segments, np.uint64),
        volumes.corrections,
        threads=job.threads,
    )


def _contacts(
    touching: Touching, job: SearchJob, held: PlaceVolumes, mine: Box, dropped: Counter[str]
) -> tuple[Candidates, NDArray[np.uint64]]:
    """Choose the contacts of a block and their partners, away from the border and where something changed."""
    found, partners = touching.contacts()
    kept = ~held.blind_source().at_border(found.segments, found.points_nm)
    if job.changed is not None:
        changed = np.fromiter(job.changed, np.uint64, len(job.changed))
        kept &= np.isin(found.segments, changed) | np.isin(partners, changed)
    rows = np.flatnonzero(kept)
    rows = rows[_in_box(found.take(rows), mine, job.max_density, dropped, "contacts")]
    return found.take(rows), partners[rows]


def _joined(first: Candidates, second: Candidates) -> Candidates:
    parts = zip(vars(first).values(), vars(second).values(), strict=True)
    return Candidates(*(np.concatenate([a, b]) for a, b in parts))


def _core_box(block: Block, voxel_nm: Sequence[float], offset_vx: Sequence[int]) -> Box:
    low, high = (((np.asarray(corner) + offset_vx) * voxel_nm).tolist() for corner in (block.lower, block.upper))
    return Box(as_point(low), as_point(high))


def _kept(found: Candidates, box: Box, max_density: float | None, dropped: Counter[str], words: str) -> Candidates:
    """Take the candidates in a box (lower bound inside, upper outside), at most so many a cube of 1 µm."""
    return found.take(_in_box(found, box, max_density, dropped, words))


def _in_box(
    found: Candidates, box: Box, max_density: float | None, dropped: Counter[str], words: str
) -> NDArray[np.int64]:
    """Return the rows that :func:`_kept` takes."""
    points = found.points_nm
    inside = np.flatnonzero(((points >= box.lower_nm) & (points < box.upper_nm)).all(axis=1))
    if max_density is None or not len(inside):
        return inside
    kept = densest(found.take(inside), max_density)
    if len(kept) < len(inside):
        dropped[f"{words} beyond {max_density:g} a µm³"] += len(inside) - len(kept)
    return inside[kept]


def densest(found: Candidates, max_density: float) -> NDArray[np.int64]:
    """Choose the most pronounced candidates of each cube of 1 µm, and of equal ones the thickest.

    Parameters
    ----------
    found
        Candidates.
    max_density
        Most candidates in a cube.

    Returns
    -------
    int64
        Their rows, ascending. The cubes start at 0 nm, so that nothing depends on blocks, unless a face of blocks runs
        through a cube: then each side has a share of its own.
    """
    cells = np.floor(found.points_nm / DENSITY_CELL_NM).astype(np.int64)
    x, y, z = found.points_nm.T
    order = np.lexsort((z, y, x, -found.radii_nm, -found.scores, *cells.T))
    sorted_cells = cells[order]
    new = np.append(True, (sorted_cells[1:] != sorted_cells[:-1]).any(axis=1))
    start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    return np.sort(order[np.arange(len(order)) - start < max_density])
