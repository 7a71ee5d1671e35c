"""What is done in one block: candidates, partners at ends, and cuts, without reading the truth."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.cut import CutGraph, ProposalConfig, ProposedCut
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.site import Cut, Point
from connectomebench.core.tasks import MERGE_ERROR_KINDS
from connectomebench.core.tasks import CandidateKind as Kind
from connectomebench.cuts.min_cut import SINK_SIDE, SOURCE_SIDE, SeedsTouch, apply_cut
from connectomebench.cuts.proposals import CutPlace, evaluate_cut
from connectomebench.proofreading.blocks import Block
from connectomebench.proofreading.place import PlaceState, blind_source, block_source
from connectomebench.sites.candidates import CandidateConfig, Candidates, find_candidates, one_a_place
from connectomebench.sources.volumes.volume_source import VolumeSource

MAX_BRANCHES = 5
MAX_CUTS = 4  # questions about one place, the cheapest cuts first
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
        uint64: the objects that take part, ascending.
    changed
        Only what concerns one of these objects counts; None: all.
    merges, splits
        Whether partners of ends are searched, and branches at places of merge errors.
    max_density
        Most ends, and most places of merge errors, in a cube of 1 µm; None sets no limit.
    threads
        For the scan of contacts.
    """

    state: PlaceState
    block: int
    large: NDArray[np.uint64]
    changed: frozenset[int] | None
    merges: bool
    splits: bool
    max_density: float | None
    threads: int | None = 1


@dataclass(frozen=True)
class FoundMerge:
    """A partner of an end.

    Attributes
    ----------
    end
        Row of the end.
    partner
        The other object.
    at_nm
        Where they touch (x, y, z), nm.
    faces
        Faces of contact near the end.
    rows, points_nm
        The nearest supervoxel of either side (own first), and the centre of its voxel there.
    contact
        What the contact looks like.
    """

    end: int
    partner: int
    at_nm: Point
    faces: int
    rows: tuple[int, int]
    points_nm: tuple[Point, Point]
    contact: ContactCues


@dataclass(frozen=True)
class ContactCues:
    """What the contact of two objects looks like, as far as the block with its halo goes.

    Attributes
    ----------
    pair_faces
        Faces of contact of the two objects.
    own_faces, partner_faces
        Faces of contact of either object with all objects that take part.
    brightness, darkest
        Mean brightness of the image at the contacts near the end, and of the darkest voxel next to each, relative to
        the median inside objects; a membrane is dark. 0 without image data.
    """

    pair_faces: int
    own_faces: int
    partner_faces: int
    brightness: float = 0.0
    darkest: float = 0.0


@dataclass(frozen=True)
class Found:
    """What a block holds.

    Attributes
    ----------
    ends, spots
        Candidates for split errors, and for merge errors (one a place).
    merges
        Partners of the ends.
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
    found = find_candidates(skeletons.items(), rules)
    found = found.take(np.flatnonzero(~held.blind_source().at_border(found.segments, found.points_nm)))
    dropped: Counter[str] = Counter()
    mine = _core_box(own, held.labels.voxel_size_nm, held.labels.offset_vx)
    ends = _kept(found.of_kind("end"), mine, job.max_density, dropped, "ends")
    merges: tuple[FoundMerge, ...] = ()
    if touching is not None:
        gray = held.blind_source().gray_in(own.outer_lower, own.outer_upper) if len(ends.segments) else None
        merges = tuple(touching.find(ends, rules.radius_nm, gray, job.changed))
    if not job.splits:
        return Found(ends, found.take(np.zeros(0, np.int64)), merges, (), dropped)
    kinds: list[Kind] = [kind for kind in MERGE_ERROR_KINDS if kind in rules.kinds]
    spots = one_a_place(found, kinds, rules.min_distance_nm)
    if job.changed is not None:
        spots = spots.take(np.isin(spots.segments, np.fromiter(job.changed, np.uint64, len(job.changed))))
    spots = _kept(spots, mine, job.max_density, dropped, "places of merge errors")
    branches = tuple(
        tuple(find_branches(skeletons[int(segment)], _point(at), float(radius), rules, held.config.proposals))
        for segment, at, radius in zip(spots.segments, spots.points_nm, spots.radii_nm, strict=True)
    )
    return Found(ends, spots, merges, branches, dropped)


def _core_box(block: Block, voxel_nm: Sequence[float], offset_vx: Sequence[int]) -> Box:
    low, high = (((np.asarray(corner) + offset_vx) * voxel_nm).tolist() for corner in (block.lower, block.upper))
    return Box(_point(low), _point(high))


def _kept(found: Candidates, box: Box, max_density: float | None, dropped: Counter[str], words: str) -> Candidates:
    """Take the candidates in a box (lower bound inside, upper outside), at most so many a cube of 1 µm."""
    points = found.points_nm
    inside = np.flatnonzero(((points >= box.lower_nm) & (points < box.upper_nm)).all(axis=1))
    found = found.take(inside)
    if max_density is None or not len(found.segments):
        return found
    kept = densest(found, max_density)
    if len(kept) < len(found.segments):
        dropped[f"{words} beyond {max_density:g} a µm³"] += len(found.segments) - len(kept)
    return found.take(kept)


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


class _Brightness:
    """Brightness of the image at contacts, relative to the median inside objects."""

    def __init__(
        self,
        gray: NDArray[np.uint8],
        objects: NDArray[np.uint64],
        points_nm: NDArray[np.floating],
        voxel_nm: NDArray[np.float64],
        offset_vx: NDArray[np.int64],
    ) -> None:
        inside = gray[objects > 0]
        self._median = max(float(np.median(inside)) if len(inside) else 0.0, 1.0)
        self._gray = gray
        self._at = np.floor(points_nm / voxel_nm).astype(np.int64) - offset_vx

    def at(self, rows: NDArray[np.int64], faces: NDArray[np.int64]) -> tuple[float, float]:
        """Return the mean over contacts, weighted by faces, of the voxel there and of the darkest one next to it."""
        at = self._at[rows]
        here = self._gray[tuple(at.T)].astype(np.float64)
        steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        near = np.clip(at[:, None] + steps, 0, np.subtract(self._gray.shape, 1))
        darkest = self._gray[tuple(np.moveaxis(near, -1, 0))].min(axis=1).astype(np.float64)
        return (
            float(np.average(here, weights=faces)) / self._median,
            float(np.average(darkest, weights=faces)) / self._median,
        )


class Touching:
    """Contacts of the objects of a block source, by cell.

    Parameters
    ----------
    source
        See :func:`connectomebench.proofreading.place.block_source`.
    rules
        Of contacts.
    large
        uint64: the objects that take part.
    threads
        For the scan.
    """

    def __init__(
        self, source: VolumeSource, rules: CorrectionConfig, large: NDArray[np.uint64], threads: int | None
    ) -> None:
        from connectomebench.corrections.contact_patches import CellGrid, contact_points, points_nm
        from connectomebench.corrections.contacts import contact_cells

        volume = source.automatic
        shape = tuple(volume.shape)
        assert source.supervoxels is not None
        self._objects, self._supervoxels = volume, source.supervoxels
        self._rules = rules
        self._grid = CellGrid((shape[0], shape[1], shape[2]), rules.patch_cell_vx)
        self._voxel, self._offset = np.asarray(volume.voxel_size_nm), np.asarray(volume.offset_vx)
        self._placed = tuple(volume.offset_vx), tuple(volume.voxel_size_nm)
        keys, values = contact_cells(volume, volume, rules, (256, 256, 256), threads, False)
        kept = np.isin(keys[:, 0], large) & np.isin(keys[:, 1], large)
        self.keys, self._values = keys[kept], values[kept]
        self._points = points_nm(contact_points(self.keys, self._values, self._grid), *self._placed)

        ids, inverse = np.unique(self.keys[:, :2], return_inverse=True)
        sums = np.bincount(inverse.ravel(), weights=np.repeat(self._values[:, 0], 2), minlength=len(ids))
        self._faces_of = dict(zip(ids.tolist(), sums.astype(np.int64).tolist(), strict=True))

    def partners(self, objects: frozenset[int]) -> set[int]:
        """Return the objects that touch one of some objects."""
        own = np.fromiter(objects, np.uint64, len(objects))
        a, b = self.keys[:, 0], self.keys[:, 1]
        return set(b[np.isin(a, own)].tolist()) | set(a[np.isin(b, own)].tolist())

    def find(
        self,
        ends: Candidates,
        radius_nm: float,
        gray: NDArray[np.uint8] | None,
        changed: frozenset[int] | None,
    ) -> list[FoundMerge]:
        """Find every object that touches that of an end within a distance of it.

        Only contacts within that distance count, grouped into patches; of several patches with one object the nearest
        counts, and where it touches is the contact nearest to its middle.
        """
        from connectomebench.corrections.contact_patches import group_patches, points_nm

        if not len(self.keys) or not len(ends.segments):
            return []
        tree = KDTree(self._points)
        objects = self._objects.read((0, 0, 0), self._objects.shape)
        supervoxels = self._supervoxels.read((0, 0, 0), self._objects.shape)
        bright = None if gray is None else _Brightness(gray, objects, self._points, self._voxel, self._offset)
        made = []
        for number, (end, own) in enumerate(zip(ends.points_nm.astype(np.float64), ends.segments, strict=True)):
            near = np.sort(np.asarray(tree.query_ball_point(end, radius_nm), np.int64))
            near = near[(self.keys[near, :2] == own).any(axis=1)]
            if not len(near):
                continue
            patches = group_patches(self.keys[near], self._values[near], self._grid)
            patches = patches.take(patches.areas >= self._rules.min_contact_faces)
            places = points_nm(patches.points_vx, *self._placed)
            order = np.lexsort((*places.T[::-1], np.linalg.norm(places - end, axis=1)))
            seen: set[int] = set()
            for row in order.tolist():
                a, b = (int(one) for one in patches.pairs[row])
                partner = b if a == int(own) else a
                if partner in seen or (changed is not None and not changed & {partner, int(own)}):
                    continue
                seen.add(partner)
                at = _point(places[row])
                rows, points = zip(
                    *(self._nearest(one, at, objects, supervoxels) for one in (int(own), partner)), strict=True
                )
                made.append(
                    FoundMerge(
                        number,
                        partner,
                        at,
                        int(patches.areas[row]),
                        (rows[0], rows[1]),
                        (points[0], points[1]),
                        self._cues(int(own), partner, near, bright),
                    )
                )
        return made

    def _cues(self, own: int, partner: int, near: NDArray[np.int64], bright: _Brightness | None) -> ContactCues:
        low, high = min(own, partner), max(own, partner)
        pair = (self.keys[:, 0] == np.uint64(low)) & (self.keys[:, 1] == np.uint64(high))
        faces = self._values[:, 0]
        rows = near[pair[near]]
        brightness, darkest = (0.0, 0.0) if bright is None else bright.at(rows, faces[rows])
        own_faces, partner_faces = (self._faces_of.get(one, 0) for one in (own, partner))
        return ContactCues(int(faces[pair].sum()), own_faces, partner_faces, brightness, darkest)

    def _nearest(
        self, one: int, at: Point, objects: NDArray[np.uint64], supervoxels: NDArray[np.uint32]
    ) -> tuple[int, Point]:
        """Return the row of an object's supervoxel nearest to a point, and the centre of its voxel there."""
        middle = np.floor(np.asarray(at) / self._voxel).astype(np.int64) - self._offset
        reach = 12
        while True:
            lower, upper = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, objects.shape)
            here = tuple(slice(a, b) for a, b in zip(lower.tolist(), upper.tolist(), strict=True))
            own = np.argwhere(objects[here] == np.uint64(one))
            if len(own):
                points = (own + lower + self._offset + 0.5) * self._voxel
                best = int(np.argmin(np.linalg.norm(points - np.asarray(at), axis=1)))
                return int(supervoxels[here][tuple(own[best])]) - 1, _point(points[best])
            reach *= 2


def find_branches(
    skeleton: Skeleton, at: Point, calibre_nm: float, limits: CandidateConfig, rules: ProposalConfig
) -> list[NDArray[np.float32]]:
    """Find the branches that meet at a place.

    Returns
    -------
    list of float32, shape (k, 3)
        Seed points (x, y, z), nm, of at most :data:`MAX_BRANCHES` branches, those with most nodes first. A branch is a
        connected part of the skeleton between the calibre of the place and 0.4 of the cutout that comes within
        ``merge_radius_nm``; its seeds are the node nearest to that distance, and the farthest.
    """
    inner = max(calibre_nm, limits.min_distance_nm)
    outer = max(0.4 * rules.reach_nm, inner)
    distance = np.linalg.norm(skeleton.nodes_nm.astype(np.float64) - np.asarray(at), axis=1)
    shell = (distance > inner) & (distance <= outer)
    a, b = skeleton.edges[:, 0], skeleton.edges[:, 1]
    kept = shell[a] & shell[b]
    n = len(distance)
    links = coo_array((np.ones(int(kept.sum()), np.int8), (a[kept], b[kept])), shape=(n, n))
    part = connected_components(links.tocsr(), directed=False)[1]
    found = []
    for number in np.unique(part[shell]).tolist():
        nodes = np.flatnonzero((part == number) & shell)
        reached = distance[nodes]
        if reached.min() > max(limits.merge_radius_nm, inner * 1.5) or reached.max() < 1.25 * inner:
            continue
        near = nodes[int(np.argmin(np.abs(reached - limits.merge_radius_nm)))]
        far = nodes[int(np.argmax(reached))]
        found.append((len(nodes), skeleton.nodes_nm[np.unique([near, far])]))
    found.sort(key=lambda one: -one[0])
    return [seeds for _, seeds in found[:MAX_BRANCHES]]


@dataclass(frozen=True)
class Spot:
    """A place where cuts are searched: a name, the object, the place (x, y, z), nm, and its branches."""

    key: str
    segment: int
    at_nm: Point
    branches: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class CutJob:
    """Places in one block at which cuts are searched."""

    state: PlaceState
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class FoundCut:
    """A cut in terms of supervoxels.

    Attributes
    ----------
    cut, place_nm
        The cut of the pieces near the place, and where it runs (x, y, z), nm.
    cost
        What it costs.
    sources, sinks
        Rows of the supervoxels along it on either side.
    border
        int64, shape (k, 2): rows on both sides of every edge that is cut.
    """

    cut: Cut
    place_nm: Point
    cost: float
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    border: NDArray[np.int64]


def search_cuts(job: CutJob) -> list[tuple[list[FoundCut], Counter[str]]]:
    """Find the cheapest cuts between the branches at each place; also return why cuts are missing, by reason."""
    held, pieces = job.state.spec.open()
    source = blind_source(held, pieces, job.state.rows(), job.state.key)
    rules, largest = held.config.proposals, held.config.sites.extent_nm[1]
    made = []
    for spot in job.spots:
        dropped: Counter[str] = Counter()
        found: list[FoundCut] = []
        if len(spot.branches) < 2:
            dropped["fewer than two branches"] += 1
        else:
            local = source.pieces(spot.segment, spot.at_nm, rules.reach_nm)
            if len(local.graph.points_nm) < 2:
                dropped["one piece"] += 1
            else:
                where = CutPlace(spot.key, spot.segment, (), spot.at_nm, rules.reach_nm, local.graph, _cheapest)
                upper = tuple(a + n for a, n in zip(local.lower, local.labels.shape, strict=True))
                rows = _rows_of_pieces(local.labels, pieces.read(local.lower, (upper[0], upper[1], upper[2])))
                for cut in _cheapest_cuts(where, spot.branches, rules, largest, dropped):
                    one = _in_supervoxels(cut, local.graph, rows)
                    if isinstance(one, str):
                        dropped[one] += 1
                    else:
                        found.append(one)
        made.append((found, dropped))
    return made


def _cheapest(graph: CutGraph, cut: Cut) -> NDArray[np.int8] | str:
    try:
        return apply_cut(graph, cut)
    except SeedsTouch:
        return "seeds of both sides in one piece"


def _cheapest_cuts(
    where: CutPlace,
    branches: Sequence[NDArray[np.float32]],
    rules: ProposalConfig,
    largest_view_nm: float,
    dropped: Counter[str],
) -> list[ProposedCut]:
    """Cut between all divisions of the branches into two sides, and keep the cheapest different cuts."""
    tree = KDTree(where.graph.points_nm)
    seeds = [np.unique(tree.query(points)[1]) for points in branches]
    found: dict[bytes, ProposedCut] = {}
    others = range(1, len(branches))
    for size in range(len(branches) - 1):
        for chosen in itertools.combinations(others, size):
            mine = np.concatenate([seeds[i] for i in (0, *chosen)])
            theirs = np.concatenate([seeds[i] for i in others if i not in chosen])
            made = evaluate_cut(where, where.cut(mine, theirs), rules, largest_view_nm)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            sides = where.part(where.graph, made.cut)
            assert not isinstance(sides, str)
            found.setdefault(sides.tobytes(), made)
    return sorted(found.values(), key=lambda cut: (cut.cost, cut.place_nm))[:MAX_CUTS]


def _rows_of_pieces(labels: NDArray[np.uint32], supervoxels: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the row of the supervoxel that each piece of a cutout is part of; int64, shape (pieces,)."""
    flat, own = labels.ravel(), supervoxels.ravel()
    first = np.zeros(int(labels.max()) + 1, np.int64)
    inside = np.flatnonzero(flat)
    first[flat[inside]] = inside
    return own[first[1:]].astype(np.int64) - 1


def _in_supervoxels(cut: ProposedCut, local: CutGraph, rows: NDArray[np.int64]) -> FoundCut | str:
    """Express a cut of a cutout in supervoxels."""
    sides = apply_cut(local, cut.cut)
    mine, theirs = np.unique(rows[sides == SOURCE_SIDE]), np.unique(rows[sides == SINK_SIDE])
    both = np.intersect1d(mine, theirs)
    a, b = local.edges[:, 0], local.edges[:, 1]
    border = rows[local.edges[sides[a] * sides[b] == -1]]
    sources = np.setdiff1d(np.intersect1d(border, mine), both)
    sinks = np.setdiff1d(np.intersect1d(border, theirs), both)
    if not len(sources) or not len(sinks):
        return "a side is no supervoxel of its own"
    return FoundCut(cut.cut, cut.place_nm, cut.cost, tuple(sources.tolist()), tuple(sinks.tolist()), border)


def _point(values: NDArray[np.floating] | Sequence[float]) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z
