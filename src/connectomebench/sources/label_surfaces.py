"""Mesh several labels jointly: surface nets (Gibson 1998) whose vertices are shared by neighbouring labels.

Every corner of a voxel that lies on a surface is one vertex, whatever labels meet there, and is moved once for all of
them. So two labels that touch have one surface between them: neither lies before the other, at any smoothing. (Marching
cubes of one label at a time gives two surfaces there; smoothed and simplified by themselves they cross each other, and
the image shows islets of one colour on the other.)

Arrays of kernels have the axes z, y, x, as a crop in Fortran order lies in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from connectomebench.sources.row_buffers import twice_as_long

# How far a vertex may move from the surface of voxels and along each axis, in voxels: with `GAP` added it stays within
# half a voxel, and corners that are neighbours never change places, so that a sheet of one voxel keeps two sides.
REACH = 0.45
# Each label draws back from a surface that it shares by this much, in voxels: what lies behind a shared surface is
# never as near to the viewer as what lies before it, in any arithmetic. Half an image pixel at most.
GAP = 0.05
# Rounds of the vote on the surface between labels: specks of up to some 3 voxels go, a sheet frays as much at its rim.
_ROUNDS = 3
# Share of the mean of its neighbours that a vertex takes on in a step; beyond 1 a chequerboard would grow.
_WEIGHT = 0.7
# the four corners of a face across z, y or x, from the lower corner of the upper voxel; counter-clockwise seen from
# above in the frame (x, y, z)
_STEPS = np.array(
    [
        [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]],
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]],
    ],
    np.int64,
)


@dataclass(frozen=True)
class Net:
    """Surfaces between labels, as quadrilaterals between voxels.

    Attributes
    ----------
    corners
        float64, shape (n, 3): voxel coordinates of the vertices, axes x, y, z; voxel ``i`` spans ``i`` to ``i + 1``.
    quads
        int32, shape (m, 4): vertices, counter-clockwise seen from the label above (against the axis that they cross).
    below, above
        uint8, shape (m,): label on the lower and on the upper side along the axis that the quadrilateral crosses.
    neighbours
        int32, shape (n, 6): neighbours of a vertex along -x, +x, -y, +y, -z, +z; -1 if no surface leads there.
    fixed
        bool, shape (n,): vertices on the rim of an open surface.
    """

    corners: NDArray[np.float64]
    quads: NDArray[np.int32]
    below: NDArray[np.uint8]
    above: NDArray[np.uint8]
    neighbours: NDArray[np.int32]
    fixed: NDArray[np.bool_]


def settle_owners(labels: NDArray[np.uint8], dust_voxels: int) -> NDArray[np.uint8]:
    """Remove segmentation noise: specks of one label in another's surface, and small connected parts.

    A voxel on the surface between two labels goes to the one that most of the 27 voxels around it belong to (background
    has no vote, on a tie it stays), in `_ROUNDS` rounds. After that a connected part of a label that is smaller than
    ``dust_voxels`` goes to the label that it touches most, or is left out where it touches none. All labels are treated
    alike, and the outer surface of what is kept stays where it is.

    Parameters
    ----------
    labels
        uint8, axes x, y, z, 0 for background.
    dust_voxels
        Smallest connected part (over faces, edges and corners) to keep. The largest part of a label is always kept.

    Returns
    -------
    uint8
        Same shape, in Fortran order.
    """
    turned = np.array(labels.T, np.uint8, order="C")  # a copy
    for _ in range(_ROUNDS):
        if not _vote(turned):
            break
    if dust_voxels > 1:
        _drop_dust(turned, dust_voxels)
    return turned.T


def _drop_dust(labels: NDArray[np.uint8], dust_voxels: int) -> None:
    """Assign small connected parts to the label they touch most, or to the background, in place."""
    import cc3d

    parts: Any = cc3d.connected_components(labels, connectivity=26)
    found: Any = cc3d.statistics(parts)
    sizes = np.asarray(found["voxel_counts"]).astype(np.int64)
    boxes = found["bounding_boxes"]
    owners = np.zeros(len(sizes), np.uint8)
    owners[parts.ravel()] = labels.ravel()
    small = (sizes < dust_voxels) & (owners > 0)
    for label in np.unique(owners[small]):
        own = np.flatnonzero(owners == label)
        small[own[np.argmax(sizes[own])]] = False
    for part in np.flatnonzero(small):
        # one voxel more on every side, so that the box includes what the part touches
        box = tuple(slice(max(b.start - 1, 0), b.stop + 1) for b in boxes[part])
        around, here = labels[box], parts[box] == part
        touching = np.zeros_like(here)
        for axis in range(3):
            a, b = np.moveaxis(here, axis, 0), np.moveaxis(touching, axis, 0)
            b[1:] |= a[:-1]
            b[:-1] |= a[1:]
        others = np.bincount(around[touching & ~here], minlength=256)
        others[[0, owners[part]]] = 0
        around[here] = others.argmax() if others.any() else 0


def find_net(labels: NDArray[np.uint8]) -> Net:
    """Find the surfaces between labels of a crop; none along the outside of the crop.

    Parameters
    ----------
    labels
        uint8, axes x, y, z, 0 for background; Fortran order is not copied.
    """
    turned = np.ascontiguousarray(labels.T)
    corners, quads, below, above, neighbours, uses = _net(turned, _count_quads(turned))
    # an edge that only one quadrilateral uses lies on the rim
    rim = ((neighbours >= 0) & (uses == 1)).any(axis=1)
    return Net(corners[:, ::-1].astype(np.float64), quads, below, above, neighbours[:, [4, 5, 2, 3, 0, 1]], rim)


def relax(net: Net, steps: int, reach: float = REACH) -> NDArray[np.float64]:
    """Smooth the vertices of a net.

    Means of neighbours take the steps of voxels away, but shrink what is thin. So the distance that vertices moved
    along their normals is itself averaged over the surface and given back: steps alternate and cancel out, shrinking
    does not.

    Parameters
    ----------
    net
        Of :func:`find_net`.
    steps
        Steps of averaging. 30 flatten steps that are up to some 10 voxels long.
    reach
        No vertex ends farther than this from the faces of voxels that meet at its corner, in voxels.

    Returns
    -------
    float64, shape (n, 3)
        Voxel coordinates, axes x, y, z; rims stay where they are.
    """
    if steps == 0 or len(net.corners) == 0:
        return net.corners.copy()
    # from the middle, so that 32 bits are enough
    middle = np.round(net.corners.mean(axis=0))
    start = (net.corners - middle).astype(np.float32)
    points = _average(start, net.neighbours, net.fixed, steps)
    # from the larger label to the smaller one, background last: the same side all over a sheet
    outward = np.where((net.below > net.above)[:, None], net.quads, net.quads[:, ::-1])
    faces = np.concatenate([outward[:, [0, 1, 2]], outward[:, [0, 2, 3]]])
    normals = _normals(points, faces)
    lost = ((start - points) * normals).sum(axis=1, keepdims=True).astype(np.float32)
    points = points + _average(lost, net.neighbours, net.fixed, steps) * normals
    moved = np.clip(points - start, -reach, reach).astype(np.float64)
    far = _distances(net, moved)[:, None]
    return net.corners + moved * (reach / np.maximum(far, reach))


def _distances(net: Net, moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure how far vertices moved from the nearest of the voxel faces that met at their corner.

    Measured per label; the largest distance counts, so that it holds for the surface of each label.

    Parameters
    ----------
    net
        Of :func:`find_net`.
    moved
        float64, shape (n, 3): how each vertex moved, in voxels.

    Returns
    -------
    float64, shape (n,)
        In voxels.
    """
    middles = net.corners[net.quads].mean(axis=1)
    largest = np.zeros(len(moved))
    labels = np.union1d(net.below, net.above)
    for label in labels[:1] if len(labels) == 2 else labels:  # all faces of two labels lie between them
        own = (net.below == label) | (net.above == label)
        nearest = np.full(len(moved), np.inf)
        for vertices in net.quads[own].T:
            side = middles[own] - net.corners[vertices]  # half a voxel along the face, 0 across it
            step = moved[vertices]
            off = np.where((side != 0) & (step * side >= 0), 0, step)  # what does not lead along the face
            np.minimum.at(nearest, vertices, np.linalg.norm(off, axis=1))
        largest = np.maximum(largest, np.where(np.isfinite(nearest), nearest, 0))
    return largest


def label_surface(
    net: Net, points: NDArray[np.float64], label: int, voxel_nm: NDArray[np.float64], gap: float = GAP
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Extract the surface of one label from a net.

    Parameters
    ----------
    net, points
        Of :func:`find_net` and :func:`relax`.
    label
        The label to extract.
    voxel_nm
        Edge of a voxel along x, y, z, nm, shape (3,).
    gap
        How far it draws back where it meets another label, over a face or an edge of voxels only, in voxels (the
        smallest edge counts).

    Returns
    -------
    vertices, faces
        float64, shape (n, 3), nm, axes x, y, z, and int32, shape (k, 3), counter-clockwise seen from outside.
    """
    up, down = net.below == label, net.above == label
    quads = np.concatenate([net.quads[up], net.quads[down][:, ::-1]])
    other = np.concatenate([net.above[up], net.below[down]])
    if len(quads) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int32)
    used = np.zeros(len(points), np.bool_)
    used[quads] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    vertices = points[used] * voxel_nm
    quads = number[quads]
    faces = _triangles(vertices, quads)
    # met by another label: over a face, or over an edge or a corner alone, where the two have vertices in one place too
    met = np.zeros(len(points), np.bool_)
    met[net.quads[~(up | down)]] = True
    shared = met[used]
    shared[quads[other > 0]] = True
    if shared.any():
        vertices[shared] -= gap * voxel_nm.min() * _normals(vertices, faces)[shared]
    return vertices, faces


def _triangles(vertices: NDArray[np.float64], quads: NDArray[np.int32]) -> NDArray[np.int32]:
    """Split quadrilaterals along the shorter diagonal, the same one for both labels that share it."""
    a, b, c, d = (vertices[quads[:, i]] for i in range(4))
    first, second = ((a - c) ** 2).sum(axis=1), ((b - d) ** 2).sum(axis=1)
    # on a tie the diagonal from the corner of the smallest number: numbers of both labels have one order
    smallest = quads.argmin(axis=1) % 2 == 0
    along_ac = np.where(first == second, smallest, first < second)[:, None, None]
    ac, bd = quads[:, [[0, 1, 2], [0, 2, 3]]], quads[:, [[1, 2, 3], [1, 3, 0]]]
    return np.where(along_ac, ac, bd).reshape(-1, 3)


def _normals(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compute unit normals of vertices, outwards; shape (n, 3), zero where faces cancel out."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    total: NDArray[Any] = np.zeros((len(vertices), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), minlength=len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0)


@numba.njit(cache=True, nogil=True)
def _vote(labels):
    """Assign voxels between two labels to the majority label around them; return how many changed."""
    nz, ny, nx = labels.shape
    won = np.empty((1024, 4), np.int32)  # z, y, x, label
    votes = np.zeros(256, np.int64)
    n = 0
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                own = labels[z, y, x]
                if own == 0:
                    continue
                # only voxels that touch another label over a face are considered
                meets = (x > 0 and labels[z, y, x - 1] != own and labels[z, y, x - 1] != 0) or (
                    x + 1 < nx and labels[z, y, x + 1] != own and labels[z, y, x + 1] != 0
                )
                meets |= (y > 0 and labels[z, y - 1, x] != own and labels[z, y - 1, x] != 0) or (
                    y + 1 < ny and labels[z, y + 1, x] != own and labels[z, y + 1, x] != 0
                )
                meets |= (z > 0 and labels[z - 1, y, x] != own and labels[z - 1, y, x] != 0) or (
                    z + 1 < nz and labels[z + 1, y, x] != own and labels[z + 1, y, x] != 0
                )
                if not meets:
                    continue
                votes[:] = 0
                for c in range(max(z - 1, 0), min(z + 2, nz)):
                    for b in range(max(y - 1, 0), min(y + 2, ny)):
                        for a in range(max(x - 1, 0), min(x + 2, nx)):
                            votes[labels[c, b, a]] += 1
                votes[0] = 0
                best = own
                for label in range(1, 256):
                    if votes[label] > votes[best]:
                        best = label
                if best == own:
                    continue
                if n == len(won):
                    won = twice_as_long(won)
                won[n, 0], won[n, 1], won[n, 2], won[n, 3] = z, y, x, best
                n += 1
    # all at once, so that the order in which voxels are visited does not matter
    for i in range(n):
        labels[won[i, 0], won[i, 1], won[i, 2]] = won[i, 3]
    return n


@numba.njit(cache=True, nogil=True)
def _count_quads(labels):
    """Count the voxel faces between different labels."""
    nz, ny, nx = labels.shape
    count = 0
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                own = labels[z, y, x]
                if x + 1 < nx and labels[z, y, x + 1] != own:
                    count += 1
                if y + 1 < ny and labels[z, y + 1, x] != own:
                    count += 1
                if z + 1 < nz and labels[z + 1, y, x] != own:
                    count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _net(labels, n_quads):
    """Find the corners of voxel faces between different labels, and link them along the edges of those faces.

    Corner (z, y, x) is the lower corner of voxel (z, y, x). Voxels of layer ``z`` have corners in the layers ``z`` and
    ``z + 1``, so that two layers of numbers are enough. Neighbours are in the order -z, +z, -y, +y, -x, +x.
    """
    nz, ny, nx = labels.shape
    number = np.full((2, ny + 1, nx + 1), -1, np.int32)
    corners = np.empty((1024, 3), np.int32)
    quads = np.empty((n_quads, 4), np.int32)
    below = np.empty(n_quads, np.uint8)
    above = np.empty(n_quads, np.uint8)
    n, q = 0, 0
    for z in range(nz):
        number[(z + 1) % 2, :, :] = -1
        for y in range(ny):
            for x in range(nx):
                own = labels[z, y, x]
                for axis in range(3):
                    # towards the lower neighbour, so that its corners lie in the layers z and z + 1 alone
                    if axis == 0:
                        if z == 0:
                            continue
                        other = labels[z - 1, y, x]
                    elif axis == 1:
                        if y == 0:
                            continue
                        other = labels[z, y - 1, x]
                    else:
                        if x == 0:
                            continue
                        other = labels[z, y, x - 1]
                    if other == own:
                        continue
                    for c in range(4):
                        cz, cy, cx = z + _STEPS[axis, c, 0], y + _STEPS[axis, c, 1], x + _STEPS[axis, c, 2]
                        v = number[cz % 2, cy, cx]
                        if v < 0:
                            if n == len(corners):
                                corners = twice_as_long(corners)
                            v = n
                            number[cz % 2, cy, cx] = v
                            corners[n, 0], corners[n, 1], corners[n, 2] = cz, cy, cx
                            n += 1
                        quads[q, c] = v
                    below[q], above[q] = other, own
                    q += 1
    corners = corners[:n].copy()
    neighbours = np.full((n, 6), -1, np.int32)
    uses = np.zeros((n, 6), np.uint8)
    for f in range(q):
        for c in range(4):
            a, b = quads[f, c], quads[f, (c + 1) % 4]
            for axis in range(3):
                step = corners[b, axis] - corners[a, axis]
                if step != 0:
                    ahead = 1 if step > 0 else 0
                    neighbours[a, 2 * axis + ahead] = b
                    neighbours[b, 2 * axis + 1 - ahead] = a
                    uses[a, 2 * axis + ahead] += 1
                    uses[b, 2 * axis + 1 - ahead] += 1
    return corners, quads, below, above, neighbours, uses


@numba.njit(cache=True, nogil=True)
def _average(values, neighbours, fixed, steps):
    """Move the values (float32, shape (n, k)) of each vertex towards the mean of its neighbours, step by step."""
    n, size = values.shape
    old = values.copy()
    new = values.copy()
    # neighbours without gaps: a vertex on a surface has three to six
    links = np.zeros((n, 6), np.int32)
    counts = np.zeros(n, np.int32)
    for v in range(n):
        if fixed[v]:
            continue
        for k in range(6):
            if neighbours[v, k] >= 0:
                links[v, counts[v]] = neighbours[v, k]
                counts[v] += 1
    keep, taken = np.float32(1 - _WEIGHT), np.float32(_WEIGHT)
    for _ in range(steps):
        for v in range(n):
            if counts[v] == 0:
                continue
            share = taken / np.float32(counts[v])
            for c in range(size):
                total = np.float32(0)
                for k in range(counts[v]):
                    total += old[links[v, k], c]
                new[v, c] = keep * old[v, c] + share * total
        old, new = new, old
    return old
