"""Represent truth and automatic segmentation of neurons as one table of nodes, and derive corrections from it.

Each node has two ids, body (truth) and segment (automatic). There are three kinds of edges: those of both, *gaps*
(of the body alone, where a neurite was cut) and *bridges* (of the segment alone, where two were fused). Corrections are
the set difference of the edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import Contacts, Corrections, MergeCorrection, Overlaps, SplitCorrection
from connectomebench.core.cut import CutGraph
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.site import Point, as_point
from connectomebench.core.source import Surroundings
from connectomebench.sources.morphology.proximity import between, close_pairs, patches
from connectomebench.sources.morphology.windows import Flesh


@dataclass(frozen=True)
class Reconstruction:
    """Neurons and their simulated automatic segmentation, as one table of nodes.

    Attributes
    ----------
    nodes_nm
        float32, shape (n, 3), axes x, y, z in nm.
    radii_nm, body_radii_nm
        float32, shape (n,): radius of the segment, which tapers towards cuts, and of the body, which does not.
    bodies, segments
        uint64, shape (n,).
    edges
        int32, shape (m, 2): inside one body and one segment.
    gaps
        int32, shape (k, 2): between the two ends of a cut; inside one body, between segments.
    bridges
        int32, shape (f, 2): fusions; inside one segment, between bodies.
    bridge_radii_nm
        float32, shape (f,).
    border_nodes
        int64, shape (b,): natural ends where the data stop.
    hidden
        bool, shape (m,): edges that are not drawn, because ``flesh`` and ``through`` replace them.
    flesh
        Tubes of the segments around their faces.
    through
        Tubes of the bodies there: continuing through cuts, up to the face where two bodies meet.
    tips
        int64, shape (t,), and float64, shape (t, 10): edges near natural ends, and the faces that they stop at.
    meetings
        int32, shape (e, 2): nodes of two bodies that were made to meet.
    """

    nodes_nm: NDArray[np.float32]
    radii_nm: NDArray[np.float32]
    body_radii_nm: NDArray[np.float32]
    bodies: NDArray[np.uint64]
    segments: NDArray[np.uint64]
    edges: NDArray[np.int32]
    gaps: NDArray[np.int32]
    bridges: NDArray[np.int32]
    bridge_radii_nm: NDArray[np.float32]
    border_nodes: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    flesh: Flesh
    through: Flesh
    tips: tuple[NDArray[np.int64], NDArray[np.float64]]
    meetings: NDArray[np.int32]

    def degrees(self) -> NDArray[np.int64]:
        """Count the edges at each node inside its fragment (no gaps, no bridges); int64, shape (n,)."""
        return np.bincount(self.edges.ravel(), minlength=len(self.nodes_nm))

    def lengths_nm(self) -> NDArray[np.float64]:
        """Return the cable length per node, nm: half of each edge at it; float64, shape (n,)."""
        steps = self.nodes_nm[self.edges[:, 0]].astype(np.float64) - self.nodes_nm[self.edges[:, 1]]
        half = np.linalg.norm(steps, axis=1) / 2
        return _sums(self.edges.ravel(), np.repeat(half, 2), len(self.nodes_nm))

    def volumes_nm3(self) -> NDArray[np.float64]:
        """Return the neurite volume per node, nm³: half of each frustum at it; float64, shape (n,)."""
        a, b = self.edges[:, 0], self.edges[:, 1]
        nodes, radii = self.nodes_nm.astype(np.float64), self.radii_nm.astype(np.float64)
        frustum = np.linalg.norm(nodes[a] - nodes[b], axis=1) * np.pi / 3
        frustum *= radii[a] ** 2 + radii[a] * radii[b] + radii[b] ** 2
        return _sums(self.edges.ravel(), np.repeat(frustum / 2, 2), len(nodes))


def _sums(rows: NDArray[np.integer], weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.bincount(rows, weights, minlength=count).astype(np.float64)


def find_contacts(rec: Reconstruction, gap_nm: float, reach_nm: float, voxel_nm: float) -> Contacts:
    """Find where different segments touch.

    Parameters
    ----------
    rec
        The table.
    gap_nm
        Surfaces nearer than this touch, nm.
    reach_nm
        Places of one pair of segments nearer than this are one contact, nm.
    voxel_nm
        Edge of the voxel whose faces are the unit of area, nm.

    Returns
    -------
    Contacts
        Sorted by segments, then place. The place lies midway between the surfaces where they are closest; the area is
        that of the ribbon along which they touch.
    """
    pairs, gaps = close_pairs(rec.nodes_nm, rec.radii_nm, rec.segments, gap_nm)
    if len(pairs) == 0:
        return Contacts(np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    swap = rec.segments[pairs[:, 0]] > rec.segments[pairs[:, 1]]
    pairs[swap] = pairs[swap, ::-1]  # the node of the smaller id first
    couples, couple = np.unique(rec.segments[pairs], axis=0, return_inverse=True)
    couple = couple.ravel()
    places = between(rec.nodes_nm, rec.radii_nm, pairs)
    patch = patches(places, couple, reach_nm)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], gaps, patch))
    closest = order[np.unique(patch[order], return_index=True)[1]]
    lengths = rec.lengths_nm()
    ribbon = np.full(len(closest), np.inf)
    for side in (0, 1):  # each node once; the shorter side counts
        _, once = np.unique(np.stack([patch, pairs[:, side]]), axis=1, return_index=True)
        width = 2 * np.minimum(rec.radii_nm[pairs[once, 0]], rec.radii_nm[pairs[once, 1]])
        area = np.bincount(patch[once], lengths[pairs[once, side]] * width, minlength=len(closest))
        ribbon = np.minimum(ribbon, area)
    segments = couples[couple[closest]]
    points = places[closest].astype(np.float32)
    rows = np.lexsort((points[:, 2], points[:, 1], points[:, 0], segments[:, 1], segments[:, 0]))
    return Contacts(segments[rows], points[rows], (ribbon / voxel_nm**2).astype(np.float32)[rows])


def find_corrections(rec: Reconstruction, contacts: Contacts, voxel_nm: float) -> Corrections:
    """Derive corrections as the set difference of body and segment.

    A gap between two segments of one body is a merge, a bridge between two bodies in one segment a split. A merge of a
    segment that is itself to be split is a tangle: excluded, counted, and its place is kept.

    Parameters
    ----------
    rec
        The table.
    contacts
        All contacts of its segments; a merge takes the area of the contact at its place.
    voxel_nm
        Edge of the voxel that sizes are counted in, nm.
    """
    overlaps = _overlaps(rec, voxel_nm)
    bodies_of: dict[int, list[int]] = {}
    for segment, body in zip(overlaps.segments.tolist(), overlaps.bodies.tolist(), strict=True):
        bodies_of.setdefault(segment, []).append(body)
    fused = {s: tuple(b) for s, b in bodies_of.items() if len(b) > 1}
    body_of = {s: b[0] for s, b in bodies_of.items() if len(b) == 1}
    merges: list[MergeCorrection] = []
    unresolved: list[Point] = []
    tangles = 0
    places = between(rec.nodes_nm, rec.radii_nm, rec.gaps)
    ends = _end_points(rec, rec.gaps)
    for (a, b), body, place, patch in zip(
        np.sort(rec.segments[rec.gaps], axis=1).tolist(), rec.bodies[rec.gaps[:, 0]].tolist(), places, ends, strict=True
    ):
        if a in fused or b in fused:
            unresolved += [as_point(place), *patch]
            tangles += 1
        elif a != b:
            area = _area_at(contacts, a, b, place)
            merges.append(MergeCorrection(f"merge-{a:016x}-{b:016x}", (a, b), body, as_point(place), area, patch))
    places = between(rec.nodes_nm, rec.radii_nm, rec.bridges)
    areas = np.pi * rec.bridge_radii_nm.astype(np.float64) ** 2 / voxel_nm**2
    splits = []
    for (a, b), segment, place, area, patch in zip(
        np.sort(rec.bodies[rec.bridges], axis=1).tolist(),
        rec.segments[rec.bridges[:, 0]].tolist(),
        places,
        areas.tolist(),
        _end_points(rec, rec.bridges),
        strict=True,
    ):
        splits.append(SplitCorrection(f"split-{segment:016x}", segment, (a, b), as_point(place), area, patch))
    degree = rec.degrees()
    counts = {
        "bodies": len(np.unique(rec.bodies)),
        "segments": len(bodies_of),
        "cuts": len(rec.gaps),
        "merges": len(merges),
        "excluded_tangles": tangles,
        "splits": len(splits),
        "contacts": len(contacts.areas),
        "ends_of_cuts": int((degree[rec.gaps] == 1).sum()),
        "natural_ends": int((degree == 1).sum()) - int((degree[rec.gaps] == 1).sum()),
        "meetings": len(rec.meetings),
        "natural_ends_at_border": len(rec.border_nodes),
        "branch_points": int((degree > 2).sum()),
    }
    return Corrections(
        tuple(sorted(merges, key=lambda m: m.edit_id)),
        tuple(sorted(splits, key=lambda s: s.edit_id)),
        overlaps,
        body_of,
        fused,
        np.array(unresolved, np.float32).reshape(-1, 3),
        counts,
    )


def _end_points(rec: Reconstruction, pairs: NDArray[np.int32]) -> list[tuple[Point, ...]]:
    """Return both nodes of each pair: where skeletons reach the interface, however thick the neurite is there."""
    return [(as_point(rec.nodes_nm[a]), as_point(rec.nodes_nm[b])) for a, b in pairs.tolist()]


def look_around(
    rec: Reconstruction, segment_ids: NDArray[np.uint64], points_nm: NDArray[np.floating], radius_nm: float
) -> Surroundings:
    """Check for neurons that continue outside a segment, and for second neurons in it, near places.

    Parameters
    ----------
    rec
        The table.
    segment_ids, points_nm
        Shapes (n,) and (n, 3), nm: the places.
    radius_nm
        A neurite whose surface comes within this distance is near, nm; so is a cut or a fusion of the segment.

    Returns
    -------
    Surroundings
        One row per place.
    """
    goes_on, second = np.zeros((2, len(segment_ids)), np.bool_)
    held = {int(s): np.unique(rec.bodies[rec.segments == s]) for s in np.unique(segment_ids)}
    at_cut, at_fusion = np.zeros((2, len(rec.nodes_nm)), np.bool_)
    at_cut[rec.gaps], at_fusion[rec.bridges] = True, True
    near = _near(rec, points_nm, radius_nm)
    for row, (segment, nodes) in enumerate(zip(np.asarray(segment_ids).tolist(), near, strict=True)):
        inside = rec.segments[nodes] == np.uint64(segment)
        own_bodies = np.isin(rec.bodies[nodes], held[segment])
        goes_on[row] = bool((own_bodies & ~inside).any() or at_cut[nodes[inside]].any())
        second[row] = len(np.unique(rec.bodies[nodes[inside]])) > 1 or bool(at_fusion[nodes[inside]].any())
    return Surroundings(goes_on, second)


def _near(rec: Reconstruction, points_nm: NDArray[np.floating], radius_nm: float) -> Iterator[NDArray[np.int64]]:
    """Yield the nodes whose surface comes within a distance of each place.

    A soma reaches a hundred times as far as a twig, so nodes are searched by thickness: each kind only as far as its
    thickest node reaches.
    """
    kinds = np.frexp(np.maximum(rec.body_radii_nm, 1.0))[1]
    trees = []
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        trees.append((own, KDTree(rec.nodes_nm[own]), radius_nm + float(rec.body_radii_nm[own].max())))
    for point in points_nm:
        nodes = np.concatenate([own[np.asarray(tree.query_ball_point(point, far), int)] for own, tree, far in trees])
        distance = np.linalg.norm(rec.nodes_nm[nodes].astype(np.float64) - point, axis=1)
        yield nodes[distance - rec.body_radii_nm[nodes] <= radius_nm]


def _area_at(contacts: Contacts, a: int, b: int, place: NDArray[np.floating]) -> float:
    rows = np.flatnonzero((contacts.segments[:, 0] == a) & (contacts.segments[:, 1] == b))
    nearest = np.argmin(np.linalg.norm(contacts.points_nm[rows] - place, axis=1))
    return float(contacts.areas[rows[nearest]])


def _overlaps(rec: Reconstruction, voxel_nm: float) -> Overlaps:
    """Count the voxels of each segment in each body; a skeleton has no boundary slop, so all of them are core."""
    pairs, inverse = np.unique(np.stack([rec.segments, rec.bodies], axis=1), axis=0, return_inverse=True)
    voxels = np.rint(np.bincount(inverse.ravel(), rec.volumes_nm3()) / voxel_nm**3).astype(np.int64)
    return Overlaps(pairs[:, 0], pairs[:, 1], voxels, voxels.copy())


class SegmentIndex:
    """Index of the nodes and edges of each segment.

    Parameters
    ----------
    rec
        The table.

    Attributes
    ----------
    ids
        uint64, shape (n_segments,), ascending.
    edges
        int32, shape (m, 2): edges of segments, bridges included, in the order of their segments.
    edge_segment
        int64, shape (m,): row in ``ids``.
    edge_radii_nm
        float32, shape (m, 2): radius of the neurite at both ends of the edge; on a bridge that of the bridge.
    """

    def __init__(self, rec: Reconstruction) -> None:
        self._rec = rec
        self.ids, segment = np.unique(rec.segments, return_inverse=True)
        segment = segment.ravel()
        edges = np.concatenate([rec.edges, rec.bridges])
        radii = np.concatenate([rec.radii_nm[rec.edges], np.repeat(rec.bridge_radii_nm[:, None], 2, axis=1)])
        order = np.argsort(segment[edges[:, 0]], kind="stable")
        self.edges, self.edge_radii_nm = edges[order], radii[order]
        self.edge_segment = segment[self.edges[:, 0]].astype(np.int64)
        self._nodes = np.argsort(segment, kind="stable")
        rows = np.arange(len(self.ids) + 1)
        self._node_start = np.searchsorted(segment[self._nodes], rows)
        self._edge_start = np.searchsorted(self.edge_segment, rows)

    def row(self, segment_id: int) -> int | None:
        """Return the row of a segment in ``ids``; None if there is no such segment."""
        at = int(np.searchsorted(self.ids, np.uint64(segment_id)))
        return at if at < len(self.ids) and int(self.ids[at]) == segment_id else None

    def nodes_of(self, row: int) -> NDArray[np.int64]:
        """Return the nodes of a segment, ascending."""
        return self._nodes[self._node_start[row] : self._node_start[row + 1]]

    def edges_of(self, row: int) -> slice:
        """Return the rows of ``edges`` that belong to a segment."""
        return slice(int(self._edge_start[row]), int(self._edge_start[row + 1]))

    def skeleton(self, row: int) -> Skeleton:
        """Return the skeleton of a segment, with the bridge that fuses it if there is one."""
        nodes = self.nodes_of(row)
        edges = np.searchsorted(nodes, self.edges[self.edges_of(row)]).astype(np.int32)
        return Skeleton(self._rec.nodes_nm[nodes], edges, self._rec.radii_nm[nodes])

    def cut_graph(
        self, row: int, box: Box, voxel_nm: float, volumes_nm3: NDArray[np.float64]
    ) -> tuple[CutGraph, NDArray[np.int64]]:
        """Break the part of a segment in a box into its nodes (pieces).

        Parameters
        ----------
        row
            Row of the segment.
        box
            The cutout.
        voxel_nm
            Edge of the voxel that volumes and cross-sections are counted in, nm.
        volumes_nm3
            Shape (n,): see :meth:`Reconstruction.volumes_nm3`.

        Returns
        -------
        graph
            Its capacities are cross-sections at the thinner end of each edge, in voxel faces.
        nodes
            int64: the node that each piece of the graph is.
        """
        rec = self._rec
        nodes = self.nodes_of(row)
        nodes = nodes[box.contains(rec.nodes_nm[nodes])]
        own = self.edges_of(row)
        inside = np.isin(self.edges[own], nodes).all(axis=1)
        edge_rows = own.start + np.flatnonzero(inside)
        capacities = np.pi * self.edge_radii_nm[edge_rows].min(axis=1) ** 2 / voxel_nm**2
        bodies, body = np.unique(rec.bodies[nodes], return_inverse=True)
        voxels = np.zeros((len(nodes), len(bodies)))
        voxels[np.arange(len(nodes)), body.ravel()] = volumes_nm3[nodes] / voxel_nm**3
        edges = np.searchsorted(nodes, self.edges[edge_rows]).astype(np.int32)
        graph = CutGraph(rec.nodes_nm[nodes], edges, capacities.astype(np.float32), bodies, voxels)
        return graph, nodes
