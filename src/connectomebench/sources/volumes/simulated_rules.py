"""Rules of simulated errors in labels without truth; light to import."""

from __future__ import annotations

from dataclasses import dataclass

from connectomebench.core.errors import ConnectomeBenchError


@dataclass(frozen=True)
class LabelErrorConfig:
    """Parameters of simulated errors in labels.

    Attributes
    ----------
    seed
        Seed of every random draw.
    min_object_voxels
        Smaller objects are left unchanged.
    max_object_voxels
        Larger objects (cell bodies, glia) are not cut.
    cut_voxels
        Mean size of the fragments that objects are cut into, voxels.
    min_fragment_voxels
        Smallest fragment that a cut may leave.
    max_gap_nm
        Largest gap between the two sides of a cut, nm; half of the cuts have none.
    fused_fraction
        Share of the objects of at least ``min_object_voxels`` that are fused with another (each with one at most).
    bridge_nm
        Radius within which the background between two fused objects is filled, nm.
    """

    seed: int = 0
    min_object_voxels: int = 20_000
    max_object_voxels: int = 3_000_000
    cut_voxels: int = 60_000
    min_fragment_voxels: int = 8_000
    max_gap_nm: float = 80.0
    fused_fraction: float = 0.25
    bridge_nm: float = 120.0

    def __post_init__(self) -> None:
        """Reject contradictory rules."""
        if not 0 <= self.fused_fraction <= 1:
            raise ConnectomeBenchError(f"fused_fraction is {self.fused_fraction:g}; it must lie between 0 and 1")
        if not 0 < 2 * self.min_fragment_voxels <= self.min_object_voxels <= self.max_object_voxels:
            raise ConnectomeBenchError(
                "the smallest object that is cut must hold two of the smallest fragments: raise min_object_voxels "
                f"({self.min_object_voxels}) or lower min_fragment_voxels ({self.min_fragment_voxels})"
            )
