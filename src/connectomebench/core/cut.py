"""Types of cuts: a segment as a graph of pieces, the rule for a good cut, and proposed cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Box
from connectomebench.core.site import Cut, Point


@dataclass(frozen=True)
class CutGraph:
    """A segment inside a cutout as a graph of small pieces (supervoxels or skeleton nodes).

    Attributes
    ----------
    points_nm
        float32, shape (n, 3): centre of each piece, nm.
    edges
        int32, shape (m, 2): touching pieces.
    capacities
        float32, shape (m,): cost of cutting an edge (contact area, or cross-section).
    bodies
        uint64, shape (b,): the proofread bodies present.
    voxels
        float64, shape (n, b): voxels of each piece that belong to each body, inside the cutout.
    voxels_within
        Counts the same inside a box: float64, shape (n, b). None where pieces are points (skeleton nodes), each of
        which is inside or outside as a whole.
    """

    points_nm: NDArray[np.float32]
    edges: NDArray[np.int32]
    capacities: NDArray[np.float32]
    bodies: NDArray[np.uint64]
    voxels: NDArray[np.float64]
    voxels_within: Callable[[Box], NDArray[np.float64]] | None = field(default=None, compare=False)

    def voxels_inside(self, box: Box) -> NDArray[np.float64]:
        """Voxels of each piece that belong to each body inside a box; float64, shape (n, b)."""
        if self.voxels_within is not None:
            return self.voxels_within(box)
        return np.where(box.contains(self.points_nm)[:, None], self.voxels, 0.0)


@dataclass(frozen=True)
class CutConfig:
    """Rule for a good cut.

    Attributes
    ----------
    k
        Required ratio of good to bad.
    min_body_voxels
        A body counts when it has more voxels than this in the cutout (t in the published rule).
    cutout_nm
        Edge of the cube in which sides are compared (e), nm.
    """

    k: float = 20.0
    min_body_voxels: int = 1000
    cutout_nm: float = 5000.0


@dataclass(frozen=True)
class Verdict:
    """Result of the rule for a cut.

    Attributes
    ----------
    good
        True where the cut is right for every relevant body.
    relevant
        Number of bodies with more than ``min_body_voxels`` in the cutout.
    worst_ratio
        Smallest good / bad over the relevant bodies; infinite where nothing is bad, 0 where nothing is good.
    """

    good: bool
    relevant: int
    worst_ratio: float


@dataclass(frozen=True)
class ProposalConfig:
    """Settings for proposing cuts.

    Attributes
    ----------
    cuts
        Rule for a good cut.
    reach_nm
        Edge of the cube round the merge error in which the segment is broken into pieces and cut; larger than the
        largest view, so that a view never shows where the pieces stop.
    seeds_per_side
        Seed points given for each side.
    min_side_fraction
        Each side must hold at least this share of the segment in the cutout, so that both can be seen.
    wrong_tries
        Random seed pairs tried at each merge error.
    wrong_kept
        Wrong cuts kept at each merge error, the cheapest first: these are what a minimum cut would really propose.
    seed
        Of the random draws.
    """

    cuts: CutConfig = field(default_factory=CutConfig)
    reach_nm: float = 16000.0
    seeds_per_side: int = 2
    min_side_fraction: float = 0.02
    wrong_tries: int = 24
    wrong_kept: int = 3
    seed: int = 0


@dataclass(frozen=True)
class ProposedCut:
    """A proposed cut, its location and the verdict of the rule.

    Attributes
    ----------
    edit_id
        The split correction where it was proposed.
    cut
        Seeds; the source side is always the larger one.
    place_nm
        Where the cut runs (nm).
    verdict
        Result of the rule.
    side_voxels
        Voxels of the two sides inside the cutout.
    cost
        Summed capacity of the cut edges.
    segment, bodies
        What is cut, and the bodies it holds.
    """

    edit_id: str
    cut: Cut
    place_nm: Point
    verdict: Verdict
    side_voxels: tuple[float, float]
    cost: float
    segment: int
    bodies: tuple[int, ...]
