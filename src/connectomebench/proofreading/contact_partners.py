"""What touches in one block: partners of an end near it, or the largest contacts, and what a contact looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.site import Point, as_point
from connectomebench.proofreading.membranes import sheetness
from connectomebench.sites.candidates import Candidates
from connectomebench.sources.volumes.volume_source import VolumeSource

_ENDS_AT_ONCE = 64  # whose contacts are grouped together
_NEAR_VX = 12  # voxels on either side of a place that are searched first for its objects


@dataclass(frozen=True)
class ContactCues:
    """What the contact of two objects looks like, as far as the block with its halo goes.

    Attributes
    ----------
    pair_faces
        Faces of contact of the two objects.
    own_faces, partner_faces
        Faces of contact of either object with all objects that take part.
    membrane, membrane_deviation
        Mean and standard deviation over the contact of the :func:`.membranes.sheetness` of the image, relative to the
        median brightness inside objects. Two cells have a membrane between them, two pieces of one have none, or have
        one at part of their contact. 0 without image data.
    """

    pair_faces: int
    own_faces: int
    partner_faces: int
    membrane: float = 0.0
    membrane_deviation: float = 0.0


@dataclass(frozen=True)
class FoundMerge:
    """A partner of an end, or of an object at a contact.

    Attributes
    ----------
    end
        Row of the end, or of the contact.
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
        # keys are sorted: the contacts of two objects lie in a row, and nobody needs to search all for them
        new = np.append(True, (self.keys[1:, :2] != self.keys[:-1, :2]).any(axis=1))
        starts = np.flatnonzero(new[: len(self.keys)])
        stops = np.append(starts[1:], len(self.keys)).tolist()
        pairs = map(tuple, self.keys[starts, :2].tolist())
        self._of_pair = dict(zip(pairs, map(slice, starts.tolist(), stops), strict=True))

    def contacts(self) -> tuple[Candidates, NDArray[np.uint64]]:
        """Return where each two objects touch most.

        Returns
        -------
        candidates
            Of kind ``contact``: the object with the lower id, the middle of the largest patch of contact, and the
            radius of a disc of its area; the score is its faces.
        partners
            uint64: the other object of each.
        """
        from connectomebench.corrections.contact_patches import group_patches, points_nm

        patches = group_patches(self.keys, self._values, self._grid)
        order = np.lexsort((*patches.points_vx.T[::-1], -patches.areas, *patches.pairs.T[::-1]))
        patches = patches.take(order)
        largest = patches.take(np.unique(patches.pairs, axis=0, return_index=True)[1])
        largest = largest.take(largest.areas >= self._rules.min_contact_faces)
        n, edge = len(largest.areas), float(np.prod(self._voxel)) ** (1 / 3)
        found = Candidates(
            largest.pairs[:, 0].astype(np.uint64),
            points_nm(largest.points_vx, *self._placed).astype(np.float32).reshape(n, 3),
            (edge * np.sqrt(largest.areas / np.pi)).astype(np.float32),
            np.full(n, "contact"),
            largest.areas.astype(np.float32),
        )
        return found, largest.pairs[:, 1].astype(np.uint64)

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
        if not len(self.keys) or not len(ends.segments):
            return []
        tree = KDTree(self._points)
        found: list[tuple[int, int, int, Point, int]] = []
        for start in range(0, len(ends.segments), _ENDS_AT_ONCE):
            some = ends.take(np.arange(start, min(start + _ENDS_AT_ONCE, len(ends.segments))))
            for number, own, partner, at, faces in self._near(tree, some, radius_nm, changed):
                found.append((start + number, own, partner, at, faces))
        return self._described(found, gray)

    def _near(
        self, tree: KDTree, ends: Candidates, radius_nm: float, changed: frozenset[int] | None
    ) -> Iterator[tuple[int, int, int, Point, int]]:
        """Yield row of an end, own object, partner, place and faces of each partner, end by end, the nearest first."""
        from connectomebench.corrections.contact_patches import group_patches, points_nm

        points, own = ends.points_nm.astype(np.float64), ends.segments
        around = []
        for end, segment in zip(points, own, strict=True):
            near = np.sort(np.asarray(tree.query_ball_point(end, radius_nm), np.int64))
            around.append(near[(self.keys[near, :2] == segment).any(axis=1)])
        rows, of_end = np.concatenate(around), np.repeat(np.arange(len(own)), [len(near) for near in around])
        first, second, cells = self.keys[rows].T
        partners = np.where(first == own[of_end], second, first)
        # sorted by end, partner and cell, as the keys are by pair and cell: no two ends share a patch
        patches = group_patches(
            np.column_stack([of_end.astype(np.uint64), partners, cells]), self._values[rows], self._grid
        )
        patches = patches.take(patches.areas >= self._rules.min_contact_faces)
        of_end = patches.pairs[:, 0].astype(np.int64)
        places = points_nm(patches.points_vx, *self._placed)
        order = np.lexsort((*places.T[::-1], np.linalg.norm(places - points[of_end], axis=1), of_end))
        seen: set[tuple[int, int]] = set()
        for row in order.tolist():
            number, partner = (int(one) for one in patches.pairs[row])
            segment = int(own[number])
            if (number, partner) in seen or (changed is not None and not changed & {partner, segment}):
                continue
            seen.add((number, partner))
            yield number, segment, partner, as_point(places[row]), int(patches.areas[row])

    def at_contacts(
        self,
        contacts: Candidates,
        partners: NDArray[np.uint64],
        gray: NDArray[np.uint8] | None,
        first: int,
    ) -> list[FoundMerge]:
        """Describe the merge at each of some contacts, as :meth:`find` at ends; ``first`` is the row of the first."""
        places = map(as_point, contacts.points_nm.astype(np.float64))
        own, faces = contacts.segments.tolist(), contacts.scores.astype(np.int64).tolist()
        rows = range(first, first + len(own))
        return self._described(list(zip(rows, own, partners.tolist(), places, faces, strict=True)), gray)

    def _described(
        self, found: Sequence[tuple[int, int, int, Point, int]], gray: NDArray[np.uint8] | None
    ) -> list[FoundMerge]:
        """Describe merges that were found: row of the end or contact, own object, partner, place and faces of each."""
        from connectomebench.proofreading.voxel_kernels import nearest_voxels

        if not found:
            return []
        objects, supervoxels, membrane = self._opened(gray)
        both = np.array([[own, partner] for _, own, partner, _, _ in found], np.uint64)
        places = np.repeat(np.array([at for _, _, _, at, _ in found], np.float64), 2, axis=0)
        offset = self._offset.astype(np.int64)
        voxels = nearest_voxels(objects, both.ravel(), places, self._voxel.astype(np.float64), offset, _NEAR_VX)
        rows = (supervoxels[tuple(voxels.T)].astype(np.int64) - 1).reshape(-1, 2).tolist()
        points = ((voxels + offset + 0.5) * self._voxel).reshape(-1, 2, 3)
        return [
            FoundMerge(
                number, partner, at, faces, (a, b), (as_point(one), as_point(other)), self._cues(own, partner, membrane)
            )
            for (number, own, partner, at, faces), (a, b), (one, other) in zip(found, rows, points, strict=True)
        ]

    def _opened(
        self, gray: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.float64] | None]:
        """Read objects and supervoxels of the block, and measure the image at all contacts where there is one."""
        objects = self._objects.read((0, 0, 0), self._objects.shape)
        supervoxels = self._supervoxels.read((0, 0, 0), self._objects.shape)
        if gray is None:
            return objects, supervoxels, None
        inside = gray[objects > 0]
        median = max(float(np.median(inside)) if len(inside) else 0.0, 1.0)
        at = np.floor(self._points / self._voxel).astype(np.int64) - self._offset
        return objects, supervoxels, sheetness(gray, at, self._voxel.tolist()) / median

    def _cues(self, own: int, partner: int, membrane: NDArray[np.float64] | None) -> ContactCues:
        pair = self._of_pair[min(own, partner), max(own, partner)]
        faces = self._values[pair, 0]
        mean = deviation = 0.0
        if membrane is not None:
            mean = float(np.average(membrane[pair], weights=faces))
            deviation = float(np.sqrt(np.average((membrane[pair] - mean) ** 2, weights=faces)))
        own_faces, partner_faces = (self._faces_of.get(one, 0) for one in (own, partner))
        return ContactCues(int(faces.sum()), own_faces, partner_faces, mean, deviation)
