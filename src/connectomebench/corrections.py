"""Ground-truth merges and splits from the difference of an automatic and a proofread segmentation.

A body in several segments is a split error, corrected by a merge. A segment over several bodies is a merge error,
corrected by a split.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectomebench.sites import Point


@dataclass(frozen=True)
class MergeCorrection:
    """Two segments that are parts of one body and meet at a place."""

    edit_id: str
    segments: tuple[int, int]
    body: int
    location_nm: Point
    area: float


@dataclass(frozen=True)
class SplitCorrection:
    """One segment that fuses two bodies, and the place where it does."""

    edit_id: str
    segment: int
    bodies: tuple[int, int]
    location_nm: Point
    area: float


@dataclass(frozen=True)
class Overlaps:
    """How segments and bodies overlap, one row a pair.

    Attributes
    ----------
    segments, bodies
        uint64, shape (n,), sorted by segment then body; 0 (background) is left out.
    voxels
        int64, shape (n,): all voxels of the pair.
    core_voxels
        int64, shape (n,): those inside the eroded body, where boundary slop does not count.
    """

    segments: NDArray[np.uint64]
    bodies: NDArray[np.uint64]
    voxels: NDArray[np.int64]
    core_voxels: NDArray[np.int64]

    def segment_sizes(self) -> dict[int, int]:
        """Total voxels of each segment that lie in some body."""
        return _totals(self.segments, self.voxels)

    def body_sizes(self) -> dict[int, int]:
        """Total voxels of each body that lie in some segment."""
        return _totals(self.bodies, self.voxels)


def _totals(ids: NDArray[np.uint64], counts: NDArray[np.int64]) -> dict[int, int]:
    unique, inverse = np.unique(ids, return_inverse=True)
    sums = np.bincount(inverse, weights=counts, minlength=len(unique)).astype(np.int64)
    return dict(zip(unique.tolist(), sums.tolist(), strict=True))


@dataclass(frozen=True)
class Corrections:
    """All corrections of a segmentation.

    Attributes
    ----------
    merges, splits
        Localised corrections, sorted by ``edit_id``.
    overlaps
        The table they come from.
    body_of
        Segment id -> its body, for segments that belong to exactly one body by the rules (no merge error).
    fused
        Segment id -> its bodies, for segments over several bodies.
    unresolved_nm
        float32, shape (k, 3): places of corrections that were excluded (tangles); no control may lie near them.
    counts
        What was found and what was left out, and why; goes to the manifest.
    """

    merges: tuple[MergeCorrection, ...]
    splits: tuple[SplitCorrection, ...]
    overlaps: Overlaps
    body_of: dict[int, int]
    fused: dict[int, tuple[int, ...]]
    unresolved_nm: NDArray[np.float32]
    counts: dict[str, int] = field(default_factory=dict)
