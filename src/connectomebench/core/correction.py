"""Corrections of a segmentation: merges, splits, the overlaps behind them, and contacts of segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Point


@dataclass(frozen=True)
class MergeCorrection:
    """Two segments that are parts of one body and meet at a place.

    ``patch_nm`` are points all over the interface, nm; distances to the correction are to the nearest of them.
    """

    edit_id: str
    segments: tuple[int, int]
    body: int
    location_nm: Point
    area: float
    patch_nm: tuple[Point, ...] = ()

    @property
    def points_nm(self) -> tuple[Point, ...]:
        """The place and the points of its interface (x, y, z), nm."""
        return (self.location_nm, *self.patch_nm)


@dataclass(frozen=True)
class SplitCorrection:
    """One segment that fuses two bodies, and the place where it does; ``patch_nm`` as for a merge."""

    edit_id: str
    segment: int
    bodies: tuple[int, int]
    location_nm: Point
    area: float
    patch_nm: tuple[Point, ...] = ()

    @property
    def segments(self) -> tuple[int]:
        """The segment, as for a merge."""
        return (self.segment,)

    @property
    def points_nm(self) -> tuple[Point, ...]:
        """The place and the points of its interface (x, y, z), nm."""
        return (self.location_nm, *self.patch_nm)


@dataclass(frozen=True)
class Skipped:
    """A location left out because its data are unavailable, and why."""

    name: str
    location_nm: Point
    reason: str


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of segments and bodies, one row per pair.

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
        """Count the voxels of each segment that lie in any body."""
        return _totals(self.segments, self.voxels)


def _totals(ids: NDArray[np.uint64], counts: NDArray[np.int64]) -> dict[int, int]:
    unique, inverse = np.unique(ids, return_inverse=True)
    sums = np.bincount(inverse, weights=counts, minlength=len(unique)).astype(np.int64)
    return dict(zip(unique.tolist(), sums.tolist(), strict=True))


@dataclass(frozen=True)
class TakenBackMerge:
    """A merge that a person made and that was taken back: two segments of two bodies that look like one.

    ``points_nm`` are the place and points all over the interface (x, y, z), nm.
    """

    edit_id: str
    segments: tuple[int, int]
    points_nm: tuple[Point, ...]


@dataclass(frozen=True)
class GivenIds:
    """Ids that a configuration names and that were not taken as they are.

    Attributes
    ----------
    followed
        Id as given -> the segment that it became, for ids that are out of date.
    left_out
        Id -> why it is left out.
    """

    followed: Mapping[int, int] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)


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
        float32, shape (k, 3): points all over the interfaces of corrections that were excluded (tangles, parts that
        only graze each other): places with an error that no correction mends.
    counts
        Corrections found, and left out by reason; stored in the manifest.
    complete
        Bodies whose truth is known everywhere; of any other body only that it is none of these. None: all bodies.
    skipped
        Locations whose data are unavailable.
    times
        ``edit_id`` -> time of the correction, UTC, where known.
    taken_back
        Merges that were taken back, sorted by operation; their pairs are the hardest controls.
    given_ids
        What became of ids that the configuration names.
    warnings
        What makes these corrections doubtful, one line each.
    """

    merges: tuple[MergeCorrection, ...]
    splits: tuple[SplitCorrection, ...]
    overlaps: Overlaps
    body_of: dict[int, int]
    fused: dict[int, tuple[int, ...]]
    unresolved_nm: NDArray[np.float32]
    counts: dict[str, int] = field(default_factory=dict)
    complete: frozenset[int] | None = None
    skipped: tuple[Skipped, ...] = ()
    times: dict[str, datetime] = field(default_factory=dict)
    taken_back: tuple[TakenBackMerge, ...] = ()
    given_ids: GivenIds = field(default_factory=GivenIds)
    warnings: tuple[str, ...] = ()

    def bodies_of(self) -> dict[int, tuple[int, ...]]:
        """Segment -> the bodies that it is known to hold."""
        return {segment: (body,) for segment, body in self.body_of.items()} | self.fused

    def is_complete(self, body: int) -> bool:
        """Return whether the truth of a body is known everywhere."""
        return self.complete is None or body in self.complete


@dataclass(frozen=True)
class CorrectionConfig:
    """Rules for what counts as an error, and how it is localised. All lengths are in voxels.

    The defaults for what is an error reproduce the counts published for the FIB-25 cube (flood-filling networks
    against the proofread truth).

    Attributes
    ----------
    min_core_voxels
        A segment is really part of a body where it holds at least this many voxels of the body's core.
    erosion_vx
        The core is the body eroded this many times by a cross of one voxel (city-block distance), or per axis x, y, z:
        an axis takes part in as many of the rounds as its number. Nothing is eroded at the border of the volume.
    ambiguous_fraction
        A segment that holds at least this fraction of ``min_core_voxels`` of a second body's core, but not all, is
        neither fused nor clean: it gets no body, and no control may be made from it.
    majority_share
        A segment that is really part of no body (too small) belongs to the body with this share of its voxels.
    max_gap_vx
        Background between two parts (of the automatic segmentation inside one body, of the proofread one inside one
        segment) up to this length along an axis is bridged, for segmentations that leave a gap between objects.
    min_contact_faces
        Smaller patches of contact are left out.
    patch_cell_vx
        Contacts are grouped on a grid of this edge: faces in touching cells are one contiguous patch.
    local_radius_vx
        What is "near" a contact: up to this distance along each axis, in whole cells of ``core_cell_vx``. Two
        corrections of one pair are further apart than this.
    core_cell_vx
        Grid on which core voxels near a contact are counted.
    min_local_fraction
        A pair is localised where both parts have at least this fraction of ``min_core_voxels`` near a contact;
        elsewhere parts may touch by boundary slop alone.
    patch_fraction
        Contacts are part of an error where the smaller part's core nearby is at least this fraction of the largest
        along the whole interface of the pair.

    Examples
    --------
    >>> from connectomebench import CorrectionConfig
    >>> CorrectionConfig(min_core_voxels=200).erosion
    (3, 3, 3)
    """

    min_core_voxels: int = 1000
    erosion_vx: int | tuple[int, int, int] = 3
    ambiguous_fraction: float = 0.2
    majority_share: float = 0.8
    max_gap_vx: int = 8
    min_contact_faces: int = 10
    patch_cell_vx: int = 4
    local_radius_vx: int = 32
    core_cell_vx: int = 16
    min_local_fraction: float = 0.1
    patch_fraction: float = 0.5

    def __post_init__(self) -> None:
        least = {"min_core_voxels": 1, "max_gap_vx": 0, "min_contact_faces": 1, "patch_cell_vx": 1, "core_cell_vx": 1}
        for name, smallest in {**least, "local_radius_vx": 0}.items():
            if getattr(self, name) < smallest:
                raise ConnectomeBenchError(f"{name} must be at least {smallest}, not {getattr(self, name)}")
        for name in ("ambiguous_fraction", "majority_share", "min_local_fraction", "patch_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConnectomeBenchError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if len(self.erosion) != 3 or min(self.erosion) < 0:
            raise ConnectomeBenchError(f"erosion_vx must be 0 or above, one number or three, not {self.erosion_vx}")

    @property
    def erosion(self) -> tuple[int, ...]:
        """Rounds of erosion along x, y, z."""
        return (self.erosion_vx,) * 3 if isinstance(self.erosion_vx, int) else tuple(self.erosion_vx)


@dataclass(frozen=True)
class Contacts:
    """Pairs of different segments that touch, one row per pair and contact patch.

    Attributes
    ----------
    segments
        uint64, shape (n, 2), smaller id first.
    points_nm
        float32, shape (n, 3): a point of the interface near its centre (x, y, z), nm.
    areas
        float32, shape (n,): size of the interface, in voxel faces (or its equivalent).
    """

    segments: NDArray[np.uint64]
    points_nm: NDArray[np.float32]
    areas: NDArray[np.float32]
