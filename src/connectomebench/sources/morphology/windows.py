"""Open skeletons at faces: replace the cable around each face by new ends and tubes that stop at the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.sources.morphology.faces import Opening


@dataclass(frozen=True)
class Window:
    """A face on a run of nodes.

    Attributes
    ----------
    nodes
        int64, shape (k,): the run; of two neurites that meet, those of the one and then those of the other.
    along_nm
        Shape (k,): their distance from the first, nm.
    at_nm
        Place of the face, nm.
    opening
        Replacement of the cable around it.
    tapers
        Radius at the face over that of the neurite, per side.
    stub
        The first node is that of a trunk (or of another neurite) and stays.
    """

    nodes: NDArray[np.int64]
    along_nm: NDArray[np.float64]
    at_nm: float
    opening: Opening
    tapers: tuple[float, float]
    stub: bool

    def span(self, backwards: bool) -> tuple[float, float]:
        """Return the replaced cable, nm from the first node, or from the last if the run is read backwards."""
        low, high = (0.0 if self.stub else self.at_nm - self.opening.reach_nm), self.at_nm + self.opening.reach_nm
        length = float(self.along_nm[-1])
        return (length - high, length - low) if backwards else (low, high)


@dataclass(frozen=True)
class Flesh:
    """Tubes that replace nodes whose edges are not drawn.

    Attributes
    ----------
    cones
        Shape (m, 20); see :func:`tubes.cones_between`. The chain is the number of the window and side.
    nodes
        int64, shape (m,): a node of the segment (or body) that each belongs to.
    """

    cones: NDArray[np.float64]
    nodes: NDArray[np.int64]

    @staticmethod
    def join(parts: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> Flesh:
        """Concatenate tables."""
        cones = [cones for cones, _ in parts]
        nodes = [nodes for _, nodes in parts]
        return Flesh(
            np.concatenate([np.zeros((0, 20)), *cones]),
            np.concatenate([np.zeros(0, np.int64), *nodes]).astype(np.int64),
        )


@dataclass(frozen=True)
class Opened:
    """Skeletons after opening.

    Attributes
    ----------
    nodes_nm
        float32, shape (n, 3), nm.
    radii_nm, body_radii_nm
        float32, shape (n,), nm: tapering towards the faces, and as they were.
    edges
        int64, shape (m, 2).
    hidden
        bool, shape (m,): edges at new nodes, for which ``flesh`` is drawn.
    faces
        int64, shape (k, 2): the two nodes at each face.
    came_from
        int64, shape (n,): node before, -1 for new ones.
    grown_from
        int64, shape (n,): node before; of new ones that of the cable they stand at the end of.
    flesh
        Tubes of each side.
    through
        The neurites themselves, continuing through the faces.
    """

    nodes_nm: NDArray[np.float32]
    radii_nm: NDArray[np.float32]
    body_radii_nm: NDArray[np.float32]
    edges: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    faces: NDArray[np.int64]
    came_from: NDArray[np.int64]
    grown_from: NDArray[np.int64]
    flesh: Flesh
    through: Flesh


def open_windows(
    nodes_nm: NDArray[np.float32],
    radii_nm: NDArray[np.float32],
    edges: NDArray[np.integer],
    windows: Sequence[Window],
    taper_nm: float,
) -> Opened:
    """Open skeletons at windows that do not overlap.

    Parameters
    ----------
    nodes_nm, radii_nm, edges
        Shapes (n, 3), (n,) and (m, 2), nm; forests.
    windows
        Where to open them.
    taper_nm
        Length over which the radius changes towards a face, nm.
    """
    n = len(nodes_nm)
    keep, factor = np.ones(n, np.bool_), np.ones(n)
    points, calibres, tapered = [nodes_nm], [radii_nm], [radii_nm]
    grown = [np.arange(n)]
    links: list[tuple[int, int]] = []
    faces: list[tuple[int, int]] = []
    flesh: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
    through: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
    count = n
    for number, w in enumerate(windows):
        low = 0.0 if w.stub else w.at_nm - w.opening.reach_nm
        high = w.at_nm + w.opening.reach_nm
        inside = (w.along_nm > low) & (w.along_nm < high)
        keep[w.nodes[inside]] = False
        before, after = np.flatnonzero(w.along_nm <= low)[-1], np.flatnonzero(w.along_nm >= high)[0]
        ends = []
        for side, last in enumerate((before, after)):
            new = w.opening.nodes_nm[side]
            numbers = count + np.arange(len(new))
            run = np.concatenate([[w.nodes[last]], numbers])
            links += list(zip(run[:-1].tolist(), run[1:].tolist(), strict=True))
            ends.append(int(run[-1]))
            count += len(new)
            points.append(new.astype(np.float32))
            tapered.append(w.opening.radii_nm[side].astype(np.float32))
            calibres.append(np.full(len(new), radii_nm[w.nodes[last]], np.float32))
            grown.append(np.full(len(new), w.nodes[last]))
            cones = w.opening.cones[side].copy()
            cones[:, 9] = 2 * number + side
            flesh.append((cones, np.full(len(cones), w.nodes[last])))
            if not (w.stub and side == 0):
                rest = w.nodes[: before + 1] if side == 0 else w.nodes[after:]
                distance = np.abs((w.along_nm[: before + 1] if side == 0 else w.along_nm[after:]) - w.at_nm)
                factor[rest] *= 1 + (w.tapers[side] - 1) * np.clip(1 - distance / taper_nm, 0, 1)
        faces.append((ends[0], ends[1]))
        body = w.opening.body_cones.copy()
        body[:, 9] = number
        through.append((body, np.full(len(body), w.nodes[after])))
    old = np.asarray(edges, np.int64)
    old = old[keep[old].all(axis=1)]
    new = np.array(links, np.int64).reshape(-1, 2)
    kept = np.concatenate([keep, np.ones(count - n, np.bool_)])
    number_of = np.cumsum(kept) - 1
    all_tapered = np.concatenate(tapered).astype(np.float64)
    all_tapered[:n] *= factor
    joined, whole = Flesh.join(flesh), Flesh.join(through)
    return Opened(
        np.concatenate(points)[kept],
        all_tapered[kept].astype(np.float32),
        np.concatenate(calibres)[kept],
        number_of[np.concatenate([old, new])],
        np.concatenate([np.zeros(len(old), np.bool_), np.ones(len(new), np.bool_)]),
        number_of[np.array(faces, np.int64).reshape(-1, 2)],
        np.concatenate([np.arange(n), np.full(count - n, -1)])[kept],
        np.concatenate(grown)[kept],
        Flesh(joined.cones, number_of[joined.nodes]),
        Flesh(whole.cones, number_of[whole.nodes]),
    )
