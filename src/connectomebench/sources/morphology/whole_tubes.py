"""Whole segments of neurons: their cell bodies, their bounding box, and a mesh for views of all of it.

A view of a whole segment is up to a millimetre wide, and the field that close views are meshed from would not fit into
memory. Here every tube is a closed frustum of eight sides, which a pixel of such a view cannot tell from a round one.
Tubes that are wider than long, as in a cell body, get a ball at either end, as they have in close views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import TaskLacking
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.core.whole_segment import CellKind, WholeSegment, WholeSegments
from connectomebench.sources.morphology.reconstruction import Reconstruction, SegmentIndex
from connectomebench.sources.morphology.segment_tubes import SegmentTubes
from connectomebench.sources.morphology.swc import Neuron

SIDES = 8
_RINGS = 5  # of a ball, between its poles
_SHORTEST_NM = 1.0  # a ball is drawn as a frustum as long as it is wide


def find_somas(rec: Reconstruction, neurons: Sequence[Neuron]) -> NDArray[np.int64]:
    """Find the node of each cell body: the nearest one of its own neuron.

    Parameters
    ----------
    rec
        The neurons cut and fused.
    neurons
        With the middle of their soma, where it is known.

    Returns
    -------
    int64, shape (k,): one node a soma.
    """
    found = []
    for neuron in neurons:
        own = np.flatnonzero(rec.bodies == np.uint64(neuron.body))
        if neuron.soma_nm is not None and len(own):
            distance = np.linalg.norm(rec.nodes_nm[own].astype(np.float64) - neuron.soma_nm, axis=1)
            found.append(int(own[np.argmin(distance)]))
    return np.asarray(found, np.int64)


def find_whole_segments(
    rec: Reconstruction,
    index: SegmentIndex,
    tubes: SegmentTubes,
    somas: NDArray[np.int64],
    bodies_of: Mapping[int, tuple[int, ...]],
) -> WholeSegments:
    """Return every segment with its cell bodies; all are parts of neurons.

    Parameters
    ----------
    rec, index, tubes
        The segments, and what is drawn of them.
    somas
        From :func:`find_somas`.
    bodies_of
        Segment -> bodies.

    Raises
    ------
    TaskLacking
        If no neuron has a soma.
    """
    if not len(somas):
        raise TaskLacking(
            "segment_classification", "no point of these SWC files is labelled as soma (type 1); label the cell bodies"
        )
    held, counts = np.unique(rec.segments[somas], return_counts=True)
    somas_in = dict(zip(held.tolist(), counts.tolist(), strict=True))
    found = []
    for row, segment in enumerate(index.ids.tolist()):
        cones = tubes.tubes.cones[tubes.of(row)]
        if not len(cones):
            continue
        ends, reach = cones[:, :6].reshape(-1, 3), cones[:, 6:8].reshape(-1, 1)
        low, high = (ends - reach).min(axis=0), (ends + reach).max(axis=0)
        kinds: tuple[CellKind, ...] = ("neuron",) * somas_in.get(segment, 0)
        # a labelled soma is sure, and no nucleus is known that a segment could be measured by
        box = Box(tuple(low.tolist()), tuple(high.tolist()))
        found.append(WholeSegment(segment, bodies_of[segment], box, kinds, "neuron", None, checked=True))
    return WholeSegments(tuple(found))


def frusta_mesh(cones: NDArray[np.float64]) -> Mesh:
    """Make a closed frustum of every tube, and balls at the ends of those that are wider than long.

    Parameters
    ----------
    cones
        Shape (n, 20), see :func:`connectomebench.sources.morphology.tubes.cones_between`, nm; faces are not drawn.

    Returns
    -------
    Mesh
        Closed surfaces that overlap; ``4 * SIDES`` faces a frustum, first those of all frusta.
    """
    if not len(cones):
        return EMPTY_MESH
    frusta = _frusta(cones)
    length = np.linalg.norm(cones[:, 3:6] - cones[:, :3], axis=1)
    wide = cones[cones[:, 6:8].max(axis=1) > length]
    places = np.concatenate([wide[:, [0, 1, 2, 6]], wide[:, [3, 4, 5, 7]]])
    balls = _balls(np.unique(places, axis=0))  # two tubes of a stretch share an end
    return Mesh(
        np.concatenate([frusta.vertices_nm, balls.vertices_nm]),
        np.concatenate([frusta.faces, balls.faces + np.int32(len(frusta.vertices_nm))]),
    )


def _balls(places: NDArray[np.float64]) -> Mesh:
    """Make a ball at every place: centre (x, y, z) and radius, shape (n, 4), nm."""
    around, down = 2 * np.pi * np.arange(SIDES) / SIDES, np.pi * np.arange(1, _RINGS + 1) / (_RINGS + 1)
    rings = np.stack(
        [
            np.sin(down)[:, None] * np.cos(around),
            np.sin(down)[:, None] * np.sin(around),
            np.repeat(np.cos(down)[:, None], SIDES, axis=1),
        ],
        axis=-1,
    ).reshape(-1, 3)
    unit = np.concatenate([rings, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]])
    vertices = places[:, None, :3] + unit[None] * places[:, 3, None, None]
    here = np.arange(SIDES)
    after, top, last = (here + 1) % SIDES, len(rings), (_RINGS - 1) * SIDES
    faces = [np.stack([np.full(SIDES, top), here, after], axis=1)]
    for ring in range(_RINGS - 1):
        a, b = ring * SIDES, (ring + 1) * SIDES
        faces += [np.stack([a + here, b + here, b + after], axis=1), np.stack([a + here, b + after, a + after], axis=1)]
    faces.append(np.stack([np.full(SIDES, top + 1), last + after, last + here], axis=1))
    every = np.concatenate(faces)[None] + (np.arange(len(places)) * len(unit))[:, None, None]
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), every.reshape(-1, 3).astype(np.int32))


def _frusta(cones: NDArray[np.float64]) -> Mesh:
    """Make a closed frustum of every tube: ``2 * SIDES + 2`` vertices and ``4 * SIDES`` faces each."""
    start, end = cones[:, :3].copy(), cones[:, 3:6].copy()
    along = end - start
    length = np.linalg.norm(along, axis=1)
    ball = length < _SHORTEST_NM
    radius = np.maximum(cones[:, 6], cones[:, 7])
    along[ball] = np.array([0.0, 0.0, 1.0]) * radius[ball, None]
    start[ball] -= along[ball]
    end[ball] += along[ball]
    axis = along / np.linalg.norm(along, axis=1, keepdims=True)
    helper = np.where(np.abs(axis[:, :1]) < 0.9, np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]]))
    right = np.cross(axis, helper)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(axis, right)
    angle = 2 * np.pi * np.arange(SIDES) / SIDES
    ring = np.cos(angle)[None, :, None] * right[:, None] + np.sin(angle)[None, :, None] * down[:, None]
    lower = start[:, None] + ring * cones[:, 6, None, None]
    upper = end[:, None] + ring * cones[:, 7, None, None]
    vertices = np.concatenate([lower, upper, start[:, None], end[:, None]], axis=1)
    faces = (_frustum_faces()[None] + (np.arange(len(cones)) * vertices.shape[1])[:, None, None]).reshape(-1, 3)
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def _frustum_faces() -> NDArray[np.int64]:
    """Return the faces of one frustum, counter-clockwise from outside; int64, shape (4 * SIDES, 3)."""
    here = np.arange(SIDES)
    after = (here + 1) % SIDES
    first, last = np.full(SIDES, 2 * SIDES), np.full(SIDES, 2 * SIDES + 1)
    return np.concatenate(
        [
            np.stack([here, after, after + SIDES], axis=1),
            np.stack([here, after + SIDES, here + SIDES], axis=1),
            np.stack([first, after, here], axis=1),
            np.stack([last, here + SIDES, after + SIDES], axis=1),
        ]
    )
