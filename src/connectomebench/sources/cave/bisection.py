"""Meshes of the two sides of a cut: level-2 nodes by side, bisected by a plane where they lie on both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.geometry import EMPTY_MESH, Mesh
from connectomebench.sources.cave.meshes import compact, join_meshes

_SEAM_NM = 1.0  # vertices of two chunks nearer than this are the same: their grids agree up to rounding
_NO_POINTS = np.zeros((0, 3), np.float64)
_Pair = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class Piece:
    """A level-2 node of a cut segment. Pairs are (source side, sink side).

    Attributes
    ----------
    mesh
        Its mesh, nm.
    chunk
        Position of its chunk in the grid of chunks (x, y, z), as ``volume.meta.decode_chunk_position(id)`` gives it.
    counts
        Supervoxels (or voxels) of the node on either side; those on neither side do not count.
    points_nm
        Points of either side inside the node, shape (n, 3), nm, for example the centroids of its supervoxels. Asked
        only of nodes on both sides, and there not needed but helpful.
    """

    mesh: Mesh
    chunk: tuple[int, int, int]
    counts: tuple[int, int]
    points_nm: _Pair = field(default=(_NO_POINTS, _NO_POINTS))


@dataclass(frozen=True)
class _Hint:
    """Evidence for where to cut a node. Nodes with the smallest ``rank`` are cut first.

    ``pair`` is a point of either side, nearest to each other, or None.
    """

    rank: tuple[float, ...]
    pair: _Pair | None


def split_sides(pieces: Mapping[int, Piece]) -> tuple[Mesh, Mesh]:
    """Make the meshes of the two sides of a cut from the nodes of the segment before the cut.

    A node with supervoxels on one side alone goes there whole. A node on both sides is bisected by a plane. Its *outer
    vertices* are those that it shares with nodes of the six chunks around it, where the segment continues; each is on
    the side of that neighbour. The plane stands on the middle of the line between the two outer vertices of different
    sides that are nearest to each other, at a right angle to it, and faces are cut along it; the cut stays open.

    Cases that the rule alone does not settle:

    - A side has no outer vertices at the node, because it ends there or continues in nodes that are not settled yet:
      the side's points in the node take their place.
    - Several nodes on both sides next to each other: first those are cut that have outer vertices of both sides, then
      those of one side, then those of none. Halves count as neighbours of what is cut after them; nodes that are
      equally well known are cut at the same time, so that their order does not matter.
    - Outer vertices and points say nothing: the node goes whole to the side with more supervoxels, the clearest first;
      where both have as many, to neither.
    - Outer vertices that both sides claim (two chunks' grids may round so) are left out.
    - A node on neither side belongs to neither mesh, and a mesh without faces to none.

    A plane is right where the sides touch. The shape of a long node far from there is ignored.

    Parameters
    ----------
    pieces
        Node id -> node.

    Returns
    -------
    source, sink
        Either side, seams closed; swapping the pairs of all pieces swaps the two.
    """
    pieces = {i: piece for i, piece in pieces.items() if not piece.mesh.is_empty}
    settled: tuple[dict[int, Mesh], dict[int, Mesh]] = ({}, {})
    waiting: dict[int, KDTree] = {}
    for i, piece in pieces.items():
        on = [count > 0 for count in piece.counts]
        if all(on):
            waiting[i] = KDTree(piece.mesh.vertices_nm)
        elif any(on):
            settled[on.index(True)][i] = piece.mesh
    while waiting:
        hints = {i: _hint(i, tree, pieces, settled) for i, tree in waiting.items()}
        first = min(hint.rank for hint in hints.values())
        for i, hint in hints.items():
            if hint.rank == first:
                del waiting[i]
                for side, half in zip(settled, _halves(pieces[i], hint), strict=True):
                    if not half.is_empty:
                        side[i] = half
    source, sink = (join_meshes(meshes.values()) for meshes in settled)
    return source, sink


def _hint(i: int, tree: KDTree, pieces: Mapping[int, Piece], settled: tuple[dict[int, Mesh], dict[int, Mesh]]) -> _Hint:
    piece = pieces[i]
    outer = []
    for meshes in settled:
        shared = [_shared(tree, mesh) for j, mesh in meshes.items() if _are_neighbours(piece.chunk, pieces[j].chunk)]
        outer.append(np.concatenate([_NO_POINTS, *shared]))
    points = [np.asarray(p, np.float64).reshape(-1, 3) for p in piece.points_nm]
    known = [vertices if len(vertices) else p for vertices, p in zip(outer, points, strict=True)]
    pair = _nearest_pair(known[0], known[1])
    if pair is not None:
        return _Hint((float(sum(len(vertices) == 0 for vertices in outer)),), pair)
    pair = _nearest_pair(points[0], points[1])
    if pair is not None:
        return _Hint((2.0,), pair)
    a, b = piece.counts
    return _Hint((3.0, -abs(a - b) / (a + b)), None)


def _are_neighbours(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    return sum(abs(int(p) - int(q)) for p, q in zip(a, b, strict=True)) == 1


def _shared(tree: KDTree, mesh: Mesh) -> NDArray[np.float64]:
    """Return the vertices of a mesh that the node in the tree shares; float64, shape (n, 3), nm."""
    vertices = mesh.vertices_nm.astype(np.float64)
    near = ((vertices >= tree.mins - _SEAM_NM) & (vertices <= tree.maxes + _SEAM_NM)).all(axis=1)
    distance, _ = tree.query(vertices[near], distance_upper_bound=_SEAM_NM)
    return vertices[near][np.isfinite(distance)]


def _nearest_pair(a: NDArray[np.float64], b: NDArray[np.float64]) -> _Pair | None:
    """Find the closest pair of points of two sets; None where a set is empty.

    Points in both sets are left out. Of several such pairs, which are common on a grid, the same one is taken when the
    sets are swapped.
    """
    if not (len(a) and len(b)):
        return None
    a, b = a[KDTree(b).query(a)[0] > 0], b[KDTree(a).query(b)[0] > 0]
    if not (len(a) and len(b)):
        return None
    tree = KDTree(a)
    distance, _ = tree.query(b)
    candidates = np.flatnonzero(distance <= distance.min() * (1 + 1e-9))
    pairs = [
        (float(((a[k] - b[j]) ** 2).sum()), sorted([a[k].tolist(), b[j].tolist()]), k, j)
        for j, near in zip(candidates, tree.query_ball_point(b[candidates], distance.min() * (1 + 1e-9)), strict=True)
        for k in near
    ]
    *_, k, j = min(pairs)
    return a[k], b[j]


def _halves(piece: Piece, hint: _Hint) -> tuple[Mesh, Mesh]:
    if hint.pair is not None:
        source, sink = hint.pair
        return bisect(piece.mesh, (source + sink) / 2, source - sink)
    a, b = piece.counts
    return piece.mesh if a > b else EMPTY_MESH, piece.mesh if b > a else EMPTY_MESH


def bisect(mesh: Mesh, point_nm: NDArray[np.floating], normal: NDArray[np.floating]) -> tuple[Mesh, Mesh]:
    """Cut a mesh along a plane; the cut stays open.

    Parameters
    ----------
    mesh
        Vertices in nm.
    point_nm
        A point of the plane, shape (3,), nm.
    normal
        Shape (3,), of any length but 0.

    Returns
    -------
    front, back
        What lies on the side to which ``normal`` points, and the rest. Faces that the plane crosses are cut exactly
        (new vertices are float32 like the rest), and neighbouring faces share the new vertices. A face in the plane
        bounds what lies behind its outer side, and goes there. Swapping the sign of ``normal`` swaps the two.
    """
    vertices = mesh.vertices_nm.astype(np.float64)
    height = (vertices - point_nm) @ (normal / np.linalg.norm(normal))
    faces = mesh.faces.astype(np.int64)
    above, below = (height[faces] > 0).any(axis=1), (height[faces] < 0).any(axis=1)
    flat = faces[~above & ~below]
    sides = np.diff(vertices[flat], axis=1)
    outwards = np.cross(sides[:, 0], sides[:, 1]) @ normal
    fronts = [faces[above & ~below], flat[outwards < 0]]
    backs = [faces[below & ~above], flat[outwards > 0]]

    crossing = faces[above & below]
    in_plane = height[crossing] == 0
    touching = in_plane.any(axis=1)
    # one corner in the plane: the edge between the other two is cut
    corner, b, c = _led_by(crossing[touching], in_plane[touching])
    # none in the plane: one corner is alone on its side, and both its edges are cut
    upper = height[crossing[~touching]] > 0
    tip, d, e = _led_by(crossing[~touching], upper == (upper.sum(axis=1, keepdims=True) == 1))
    cuts, number = _cut_edges(vertices, height, np.concatenate([b, tip, tip]), np.concatenate([c, d, e]))
    at_bc, at_d, at_e = np.split(number, [len(b), len(b) + len(tip)])
    for leader, triangles in (
        (b, np.column_stack([corner, b, at_bc])),
        (c, np.column_stack([corner, at_bc, c])),
        (tip, np.column_stack([tip, at_d, at_e])),
        (d, np.column_stack([at_d, d, e])),
        (d, np.column_stack([at_d, e, at_e])),
    ):
        front = height[leader] > 0
        fronts.append(triangles[front])
        backs.append(triangles[~front])
    everything = np.concatenate([mesh.vertices_nm, cuts])
    return compact(everything, np.concatenate(fronts)), compact(everything, np.concatenate(backs))


def _cut_edges(
    vertices: NDArray[np.float64], height: NDArray[np.float64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find where edges pass the height 0: the new vertices, one an edge, and the number that each edge's will have."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    _, chosen, number = np.unique(low * len(vertices) + high, return_index=True, return_inverse=True)
    low, high = low[chosen], high[chosen]
    share = height[low] / (height[low] - height[high])
    cuts = vertices[low] + share[:, None] * (vertices[high] - vertices[low])
    return cuts.astype(np.float32), number.ravel() + len(vertices)


def _led_by(
    faces: NDArray[np.int64], leader: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Turn faces so that the one corner that is marked comes first, and return their corners column by column."""
    first = leader.argmax(axis=1)
    rows = np.arange(len(faces))
    return faces[rows, first], faces[rows, (first + 1) % 3], faces[rows, (first + 2) % 3]
