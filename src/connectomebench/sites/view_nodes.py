"""Choose numbered nodes on the skeleton in a view, and a view that does not give a place away.

Questions whose answer is a place list nodes that a model can name. Nothing about the answer enters their choice: they
spread evenly over what the view shows of the skeleton, and a seeded hash of the view gives them their numbers. So that
the middle of a picture says nothing, views are shifted by a seeded hash, uniformly over the cube in which nodes lie.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.place_score import credit, full_credit_nm
from connectomebench.core.site import Point

_STEP = 0.25  # of the least distance between nodes: how densely the skeleton is sampled


@dataclass(frozen=True)
class NodeConfig:
    """How many nodes are drawn, how far apart, and how far a view is shifted.

    Attributes
    ----------
    most
        Nodes of a view, if the skeleton has room for so many.
    least
        Views with room for fewer are left out.
    spacing
        Least distance between two nodes, as a multiple of the distance of full credit
        (:func:`connectomebench.core.place_score.full_credit_nm`).
    max_chance
        Views in which naming a node at random would be worth more than this on average, whichever node was right, are
        left out: all of a small segment lies near any place of it.
    shift
        Largest shift of a view from the place asked for along each axis, as a share of its edge. Nodes lie in the cube
        of the same reach, so that no node is less likely than another for where it lies in the view.
    seed
        Of shifts and numbers.
    """

    most: int = 12
    least: int = 4
    spacing: float = 1.0
    max_chance: float = 0.5
    shift: float = 0.42
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.least <= self.most <= 40:
            raise ConnectomeBenchError(f"nodes: {self.least} to {self.most} nodes a view; choose from 2 to 40")
        if not 0 < self.spacing <= 4:
            raise ConnectomeBenchError(f"nodes.spacing must be above 0 and at most 4, not {self.spacing}")
        if not 0 < self.max_chance <= 1:
            raise ConnectomeBenchError(f"nodes.max_chance must be above 0 and at most 1, not {self.max_chance}")
        if not 0 < self.shift <= 0.5:
            raise ConnectomeBenchError(f"nodes.shift must be above 0 and at most 0.5, not {self.shift}")


def shifted_centre(place_nm: Point, extent_nm: float, name: str, rules: NodeConfig) -> Point:
    """Return the centre of a view that shows a place anywhere but by rule in the middle.

    Parameters
    ----------
    place_nm
        The place (x, y, z), nm.
    extent_nm
        Edge of the view, nm.
    name
        Names the place and what is shown of it; the shift is a hash of it and the seed.
    rules
        Largest shift, and the seed.

    Returns
    -------
    Point
        Uniform in the cube of edge ``2 * shift * extent_nm`` around the place, in 0.1 nm.
    """
    draw = _rng(f"shift/{rules.seed}/{name}").uniform(-1.0, 1.0, 3) * rules.shift * extent_nm
    x, y, z = (round(float(c), 1) for c in np.asarray(place_nm) + draw)
    return (x, y, z)


def choose_nodes(
    skeleton: Skeleton, center_nm: Point, extent_nm: float, bounds_nm: Box, rules: NodeConfig
) -> tuple[Point, ...]:
    """Choose nodes on a skeleton in a view, numbered by their order.

    The skeleton is sampled densely inside the cube of nodes; the first node is the sample farthest from the middle of
    all samples, and each next the one farthest from those chosen (farthest-point sampling, Gonzalez 1985), until there
    are ``most`` or the next would be nearer than the spacing. So ends in the view come early, and no sample is farther
    from a node than the nodes are from each other.

    Parameters
    ----------
    skeleton
        Of the segment shown.
    center_nm, extent_nm
        Centre (x, y, z) and edge of the view, nm.
    bounds_nm
        All data; nothing is put nearer than half a spacing to its border, where a segment ends for want of data.
    rules
        Number, spacing and seed.

    Returns
    -------
    tuple of Point
        The same for the same skeleton and view; empty where there is no room for ``least`` nodes, or all
        are near each other.
    """
    full_nm = full_credit_nm(extent_nm)
    spacing_nm = rules.spacing * full_nm
    samples = _samples(skeleton, center_nm, 2 * rules.shift * extent_nm, _STEP * spacing_nm)
    edge_nm = spacing_nm / 2
    inner = Box(_moved(bounds_nm.lower_nm, edge_nm), _moved(bounds_nm.upper_nm, -edge_nm))
    samples = samples[inner.contains(samples)]
    if not len(samples):
        return ()
    # sorted, so that the order of the skeleton's nodes does not matter where distances are equal
    samples = samples[np.lexsort(samples.T[::-1])]
    chosen = [int(np.argmax(np.linalg.norm(samples - samples.mean(axis=0), axis=1)))]
    nearest = np.linalg.norm(samples - samples[chosen[0]], axis=1)
    while len(chosen) < rules.most and nearest.max() >= spacing_nm:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(samples - samples[chosen[-1]], axis=1))
    if len(chosen) < rules.least or _chance(samples[chosen], full_nm) > rules.max_chance:
        return ()
    view = f"{[round(c, 1) for c in center_nm]}/{round(extent_nm, 1)}"
    order = _rng(f"numbers/{rules.seed}/{view}").permutation(len(chosen))
    points = samples[[chosen[i] for i in order]].tolist()
    return tuple((round(x, 1), round(y, 1), round(z, 1)) for x, y, z in points)


def nearest_node(nodes_nm: tuple[Point, ...], place_nm: Point) -> tuple[int, float]:
    """Return the index (from 0) of the node nearest to a place, and its distance, nm."""
    apart = np.linalg.norm(np.asarray(nodes_nm, np.float64) - np.asarray(place_nm, np.float64), axis=1)
    return int(np.argmin(apart)), float(apart.min())


def _chance(nodes: NDArray[np.float64], full_nm: float) -> float:
    """Return what a node at random is worth if another one at random is right."""
    return float(credit(np.linalg.norm(nodes[:, None] - nodes[None], axis=2), full_nm).mean())


def _samples(skeleton: Skeleton, center_nm: Point, edge_nm: float, step_nm: float) -> NDArray[np.float64]:
    """Sample a skeleton inside a cube; float64, shape (n, 3), nm, at most ``step_nm`` apart along its edges."""
    nodes = skeleton.nodes_nm.astype(np.float64)
    cube = Box.around(center_nm, edge_nm)
    if not len(skeleton.edges):
        return nodes[cube.contains(nodes)]
    a, b = nodes[skeleton.edges[:, 0]], nodes[skeleton.edges[:, 1]]
    near = np.all(np.minimum(a, b) < cube.upper_nm, axis=1) & np.all(np.maximum(a, b) >= cube.lower_nm, axis=1)
    a, b = a[near], b[near]
    if not len(a):
        return np.zeros((0, 3))
    pieces = np.maximum(np.ceil(np.linalg.norm(b - a, axis=1) / step_nm).astype(np.int64), 1)
    edge = np.repeat(np.arange(len(a)), pieces + 1)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(pieces + 1) - (pieces + 1), pieces + 1)
    share = within / pieces[edge]
    points = a[edge] + share[:, None] * (b[edge] - a[edge])
    return np.unique(points[cube.contains(points)], axis=0)


def _moved(corner: tuple[float, float, float], by_nm: float) -> Point:
    x, y, z = (c + by_nm for c in corner)
    return (x, y, z)


def _rng(text: str) -> np.random.Generator:
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
