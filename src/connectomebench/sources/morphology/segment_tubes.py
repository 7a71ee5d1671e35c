"""Select the tubes of a segment, of a body, and of the two sides of a proposed cut."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

from connectomebench.core.cut import CutGraph
from connectomebench.sources.morphology.faces import draw_face, face_row, has_face, tilted
from connectomebench.sources.morphology.reconstruction import Reconstruction, SegmentIndex
from connectomebench.sources.morphology.tube_kernels import CHAIN
from connectomebench.sources.morphology.tubes import Tubes, cones_between, with_faces
from connectomebench.sources.morphology.windows import Flesh

_PART_GAP_NM = 8.0  # between the two sides of a proposed cut, so that their surfaces do not coincide


@dataclass(frozen=True)
class SegmentTubes:
    """Tubes of all segments, in the order of their segments.

    Attributes
    ----------
    tubes
        With the row of the segment as owner.
    nodes
        int64, shape (n, 2): the nodes that each tube lies between, twice the same for one beside a face.
    """

    tubes: Tubes
    nodes: NDArray[np.int64]

    def of(self, row: int) -> slice:
        """Return the rows of the tubes of a segment."""
        low, high = np.searchsorted(self.tubes.owners, [row, row + 1])
        return slice(int(low), int(high))


def edge_chains(edges: NDArray[np.integer], n_nodes: int) -> NDArray[np.int64]:
    """Return the number of the unbranched stretch of each edge; int64, shape (m,)."""
    ends = edges.ravel()
    order = np.argsort(ends, kind="stable")
    degree = np.bincount(ends, minlength=n_nodes)
    first = np.concatenate([[0], np.cumsum(degree)])[np.flatnonzero(degree == 2)]
    joined = order[np.stack([first, first + 1], axis=1)] // 2
    links = coo_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), shape=(len(edges), len(edges)))
    return connected_components(links, directed=False)[1].astype(np.int64)


def segment_tubes(rec: Reconstruction, index: SegmentIndex) -> SegmentTubes:
    """Return the tubes of the segments: along edges, and beside the faces of cuts and meetings."""
    edges = np.concatenate([rec.edges, rec.bridges]).astype(np.int64)
    radii = np.concatenate([rec.radii_nm[rec.edges], np.repeat(rec.bridge_radii_nm[:, None], 2, axis=1)])
    cones = _edge_cones(rec, edges, radii)
    drawn = np.concatenate([~rec.hidden, np.ones(len(rec.bridges), np.bool_)])
    flesh = _joined(rec.flesh, rec, cones)
    every = np.concatenate([cones[drawn], flesh])
    nodes = np.concatenate([edges[drawn], np.stack([rec.flesh.nodes] * 2, axis=1)])
    owners = np.searchsorted(index.ids, rec.segments[nodes[:, 0]]).astype(np.int64)
    order = np.argsort(owners, kind="stable")
    return SegmentTubes(Tubes(every[order], owners[order]), nodes[order])


def body_tubes(rec: Reconstruction) -> Tubes:
    """Return the tubes of the whole neurons: continuing through cuts, without tapering at them."""
    edges = rec.edges.astype(np.int64)
    cones = _edge_cones(rec, edges, rec.body_radii_nm[edges])
    every = np.concatenate([cones[~rec.hidden], _joined(rec.through, rec, cones)])
    nodes = np.concatenate([edges[~rec.hidden, 0], rec.through.nodes])
    return Tubes(every, np.unique(rec.bodies, return_inverse=True)[1].ravel().astype(np.int64)[nodes])


def _edge_cones(rec: Reconstruction, edges: NDArray[np.int64], radii: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the tubes along edges, cut off near natural ends."""
    chains = edge_chains(edges, len(rec.nodes_nm))
    a, b = edges[:, 0], edges[:, 1]
    cones = cones_between(rec.nodes_nm[a], rec.nodes_nm[b], radii[:, 0], radii[:, 1], chains)
    rows, faces = rec.tips
    cones[rows] = with_faces(cones[rows], faces, 1)
    return cones


def _joined(flesh: Flesh, rec: Reconstruction, cones: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the tubes around faces, joined to the stretch they continue; those of stubs are separate stretches."""
    chain_of = np.full(len(rec.nodes_nm), -1.0)
    rows = np.flatnonzero(rec.hidden)
    chain_of[rec.edges[rows]] = cones[rows, CHAIN][:, None]
    joined = flesh.cones.copy()
    joined[:, CHAIN] += cones[:, CHAIN].max(initial=-1) + 1
    goes_on = chain_of[flesh.nodes] >= 0
    joined[goes_on, CHAIN] = chain_of[flesh.nodes[goes_on]]
    return joined


def part_tubes(
    segments: SegmentTubes,
    own: slice,
    graph: CutGraph,
    nodes: NDArray[np.int64],
    sides: NDArray[np.int8],
    radii_nm: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split the tubes of a segment between the two sides of a cut.

    Parameters
    ----------
    segments, own
        All tubes, and which of them are those of the segment.
    graph, nodes, sides, radii_nm
        Pieces of the segment; the node, the side (see :func:`connectomebench.cuts.min_cut.apply_cut`) and the radius
        of each.

    Returns
    -------
    source, sink
        Shape (n, 20) each. Near each edge that is cut both have the same tubes, which end at a face.
    """
    cones, ends = segments.tubes.cones[own], segments.nodes[own]
    piece = np.searchsorted(nodes, ends).clip(max=len(nodes) - 1)
    side = np.where(nodes[piece] == ends, sides[piece], 0)
    faces, face_of = _cut_faces(graph, sides, radii_nm)
    near = np.where(nodes[piece] == ends, face_of[piece], -1).max(axis=1)
    near[has_face(cones)] = -1
    parts = []
    for sign in (1, -1):
        whole = cones[(side == sign).any(axis=1) & ((side == sign) | (side == 0)).all(axis=1) & (near < 0)]
        cut = with_faces(cones[near >= 0], faces[near[near >= 0]], sign)
        parts.append(np.concatenate([whole, cut]))
    return parts[0], parts[1]


def _cut_faces(
    graph: CutGraph, sides: NDArray[np.int8], radii_nm: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the faces of cut edges, shape (k, 10), pointing to the sink side, and the face near each piece or -1."""
    a, b = graph.edges[:, 0].astype(np.int64), graph.edges[:, 1].astype(np.int64)
    swap = sides[a] < sides[b]
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    across = np.flatnonzero(sides[a] * sides[b] == -1)
    points = graph.points_nm.astype(np.float64)
    lengths = np.linalg.norm(points[a] - points[b], axis=1)
    n = len(points)
    links = coo_array((np.maximum(lengths, 1e-3), (a, b)), shape=(n, n)).tocsr()
    faces, best, face_of = [], np.full(n, np.inf), np.full(n, -1)
    for number, row in enumerate(across.tolist()):
        one, two = int(a[row]), int(b[row])
        draw = draw_face(_rng(points[one], points[two]), 0.0)
        way = (points[two] - points[one]) / max(float(lengths[row]), 1e-9)
        middle = np.clip((lengths[row] + radii_nm[one] - radii_nm[two]) / 2, 0, lengths[row])
        normal, _ = tilted(way, 0.6 * draw.tilt, draw.turn)
        faces.append(face_row(points[one] + middle * way, normal, draw, _PART_GAP_NM))
        reach = lengths[row] + 2.2 * max(float(radii_nm[one]), float(radii_nm[two]))
        distance = dijkstra(links, directed=False, indices=[one, two], limit=reach).min(axis=0)
        closer = (distance < best) & (distance <= reach)
        best[closer], face_of[closer] = distance[closer], number
    return np.array(faces, np.float64).reshape(-1, 10), face_of


def _rng(*places: NDArray[np.float64]) -> np.random.Generator:
    digest = hashlib.sha256(np.round(np.concatenate(places), 1).tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
