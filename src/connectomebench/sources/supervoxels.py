"""Break a segment inside a cutout into a graph of small pieces, on which cuts are computed.

With supervoxels, a piece is a connected part of a supervoxel inside the segment. Without them, pieces are the cells of
the power diagram of the largest balls that fit inside the segment: their borders lie where balls meet, at the necks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.cut import CutGraph
from connectomebench.core.geometry import Box


@dataclass(frozen=True)
class PieceConfig:
    """How a segment is broken into pieces, and what an edge between two pieces costs.

    Attributes
    ----------
    spacing_vx
        Smallest distance between the centres of pieces where there are no supervoxels, in voxels (geometric mean).
    brightness_exponent
        With image data, a face between two pieces costs ``(gray / median gray of the segment) ** exponent``, at most 1:
        a bright border (cytoplasm) is costly and a dark one (membrane) cheap to cut, like the affinities of real
        systems. 0 counts the faces alone.
    """

    spacing_vx: float = 8.0
    brightness_exponent: float = 4.0


@dataclass(frozen=True)
class Pieces:
    """Pieces of a segment as a label array and a graph.

    Attributes
    ----------
    labels
        uint32, axes x, y, z: 1 + row of the piece in the graph; 0 outside the segment.
    lower
        Index of the first voxel in the volume.
    graph
        The same as a graph.
    supervoxels
        Shape (pieces,): the supervoxel that each piece is part of; None where pieces are made from the shape alone.
    """

    labels: NDArray[np.uint32]
    lower: tuple[int, int, int]
    graph: CutGraph
    supervoxels: NDArray[Any] | None = None


EMPTY_GRAPH = CutGraph(
    np.zeros((0, 3), np.float32),
    np.zeros((0, 2), np.int32),
    np.zeros(0, np.float32),
    np.zeros(0, np.uint64),
    np.zeros((0, 0), np.float64),
)


def pieces_of_supervoxels(mask: NDArray[np.bool_], supervoxels: NDArray[Any]) -> NDArray[np.uint32]:
    """Label the connected (6 neighbours) parts of each supervoxel inside the segment.

    Parameters
    ----------
    mask
        The segment; axes x, y, z.
    supervoxels
        Ids of the same shape; where they are 0 inside the segment, that counts as one more supervoxel.

    Returns
    -------
    NDArray[np.uint32]
        1, 2, ... inside the segment, 0 outside.
    """
    import cc3d
    import fastremap

    small = supervoxels
    # names do not matter, only that adding 1 leaves them what they are
    if small.dtype.kind != "u" or small.dtype.itemsize > 4 or small.max(initial=0) == np.iinfo(np.uint32).max:
        small, _ = fastremap.renumber(np.asfortranarray(small), preserve_zero=False)
    inside = np.where(mask, small.astype(np.uint32, copy=False) + np.uint32(1), np.uint32(0))
    return np.asarray(cc3d.connected_components(np.asfortranarray(inside), connectivity=6)).astype(np.uint32)


def values_of_pieces(pieces: NDArray[np.uint32], values: NDArray[Any]) -> NDArray[Any]:
    """Return the value of each piece; shape (pieces,).

    Parameters
    ----------
    pieces
        1, 2, ... inside the segment, 0 outside; axes x, y, z.
    values
        Same shape, equal all over a piece.
    """
    from connectomebench.sources.piece_kernels import measure_pieces

    _, _, first = measure_pieces(np.ascontiguousarray(pieces), int(pieces.max(initial=0)))
    return values[np.unravel_index(first, pieces.shape)]


def pieces_of_balls(mask: NDArray[np.bool_], voxel_nm: Sequence[float], spacing_vx: float) -> NDArray[np.uint32]:
    """Break a segment into the cells of the power diagram of its largest inscribed balls.

    Balls are taken from the largest to the smallest; one whose centre lies inside an earlier ball, or nearer than
    ``spacing_vx`` to its centre, is left out. A voxel belongs to the ball of smallest ``distance² - radius²``, and
    disconnected cells are separate pieces.

    Parameters
    ----------
    mask
        The segment; axes x, y, z.
    voxel_nm
        Edge of a voxel along x, y, z, nm.
    spacing_vx
        See :class:`PieceConfig`.

    Returns
    -------
    NDArray[np.uint32]
        1, 2, ... inside the segment, 0 outside.
    """
    import edt

    # the faces of the mask count as the object's border, which they are where it is cropped to the object
    distance: NDArray[np.float32] = edt.edt(
        np.asfortranarray(mask), anisotropy=tuple(map(float, voxel_nm)), black_border=True, parallel=1
    )
    where = np.argwhere(mask)
    points = where * np.asarray(voxel_nm, np.float64)
    radii = distance[tuple(where.T)].astype(np.float64)
    spacing = spacing_vx * float(np.prod(voxel_nm)) ** (1 / 3)
    centres = _largest_balls(points, radii, spacing)
    # the power distance d² - r² is a plain distance after lifting each centre by sqrt(R² - r²), R the largest radius
    lift = np.sqrt(np.maximum(radii[centres].max() ** 2 - radii[centres] ** 2, 0))
    tree = KDTree(np.column_stack([points[centres], lift]))
    nearest = tree.query(np.column_stack([points, np.zeros(len(points))]))[1]
    cells = np.zeros(mask.shape, np.uint32)
    cells[tuple(where.T)] = nearest + 1
    return pieces_of_supervoxels(mask, cells)


def _largest_balls(points: NDArray[np.float64], radii: NDArray[np.float64], spacing: float) -> NDArray[np.int64]:
    """Choose ball centres from the largest on, dropping those inside a chosen one or too near its centre."""
    tree = KDTree(points)
    order = np.argsort(-radii, kind="stable")
    free = np.ones(len(points), np.bool_)
    chosen = []
    for row in order:
        if free[row]:
            chosen.append(row)
            free[tree.query_ball_point(points[row], max(radii[row], spacing))] = False
    return np.array(chosen, np.int64)


def piece_graph(
    pieces: NDArray[np.uint32],
    proofread: NDArray[Any],
    gray: NDArray[np.uint8] | None,
    lower_vx: Sequence[int],
    voxel_nm: Sequence[float],
    rules: PieceConfig,
) -> CutGraph:
    """Build the graph of pieces: neighbours, contact areas, and the bodies they belong to.

    Parameters
    ----------
    pieces
        1 to n inside the segment, 0 outside; axes x, y, z.
    proofread
        Bodies, same shape.
    gray
        Image data on the same voxels, or None.
    lower_vx
        Absolute voxel coordinate of the first voxel.
    voxel_nm
        Edge of a voxel along x, y, z, nm.
    rules
        Weight of brightness.

    Returns
    -------
    CutGraph
        Edges have the smaller piece first and are sorted; a capacity is the area of contact in faces of mean size,
        each weighted by brightness where there is image data.
    """
    n = int(pieces.max(initial=0))
    if n == 0:
        return EMPTY_GRAPH
    from connectomebench.sources.piece_kernels import measure_pieces

    pieces = np.ascontiguousarray(pieces)
    sizes, sums, _ = measure_pieces(pieces, n)
    points = (sums / sizes[:, None] + np.asarray(lower_vx, np.float64) + 0.5) * np.asarray(voxel_nm, np.float64)
    brightness = relative_brightness(gray, pieces)
    edges, capacities = touching_pieces(pieces, n, brightness, voxel_nm, rules.brightness_exponent)
    bodies, codes = _bodies_of(pieces, proofread)
    real = bodies != 0

    def voxels_within(box: Box | None) -> NDArray[np.float64]:
        inside = tuple(slice(None) for _ in range(3))
        if box is not None:
            centres = [(lower_vx[a] + np.arange(pieces.shape[a]) + 0.5) * voxel_nm[a] for a in range(3)]
            spans = zip(centres, box.lower_nm, box.upper_nm, strict=True)
            inside = tuple(slice(*np.searchsorted(c, (low, high)).tolist()) for c, low, high in spans)
        own = pieces[inside].astype(np.int64) - 1
        held = own >= 0
        table = np.bincount(own[held] * len(bodies) + codes[inside][held], minlength=n * len(bodies))
        return table.reshape(n, len(bodies))[:, real].astype(np.float64)

    return CutGraph(
        points.astype(np.float32),
        edges,
        capacities,
        bodies[real].astype(np.uint64),
        voxels_within(None),
        voxels_within,
    )


def _bodies_of(pieces: NDArray[np.uint32], proofread: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """Return the bodies inside pieces, ascending, and the row of each voxel's body; uint32, shape of the pieces."""
    codes = np.zeros(pieces.shape, np.uint32)
    inside = pieces > 0
    found = proofread[inside]
    if (found == found[:1]).all():  # mostly one, which needs no sorting
        return found[:1], codes
    bodies, inverse = np.unique(found, return_inverse=True)
    codes[inside] = inverse.ravel()
    return bodies, codes


def relative_brightness(gray: NDArray[np.uint8] | None, pieces: NDArray[np.uint32]) -> NDArray[np.float32] | None:
    """Divide the image by its median inside the pieces; float32, the same shape, or None without an image."""
    if gray is None:
        return None
    return gray.astype(np.float32) / np.float32(max(float(np.median(gray[pieces > 0])), 1.0))


def touching_pieces(
    pieces: NDArray[np.uint32],
    n: int,
    brightness: NDArray[np.float32] | None,
    voxel_nm: Sequence[float],
    exponent: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find touching pieces, and what it costs to cut them apart.

    Parameters
    ----------
    pieces
        1 to n, 0 outside; axes x, y, z.
    n
        Number of pieces.
    brightness
        From :func:`relative_brightness`, same shape; None counts the faces alone.
    voxel_nm
        Edge of a voxel along x, y, z, nm.
    exponent
        See :class:`PieceConfig`.

    Returns
    -------
    edges
        int32, shape (m, 2): rows of the pieces (label - 1), smaller first, sorted.
    capacities
        float32, shape (m,): see :func:`piece_graph`.
    """
    from connectomebench.sources.piece_kernels import summed_by_pair, touching_faces

    area = np.prod(voxel_nm) / np.asarray(voxel_nm, np.float64)
    area /= area.mean()
    rows, at, ends = touching_faces(np.ascontiguousarray(pieces))
    costs = np.repeat(area, np.diff(ends, prepend=0))
    if brightness is not None:
        flat = np.ascontiguousarray(brightness).ravel()
        strides = np.array([pieces.shape[1] * pieces.shape[2], pieces.shape[2], 1])
        mean = (flat[at] + flat[at + np.repeat(strides, np.diff(ends, prepend=0))]) / 2
        costs *= np.clip(mean, 0.0, 1.0) ** exponent
    edges, total = summed_by_pair(rows, costs, n)
    return edges, total.astype(np.float32)
