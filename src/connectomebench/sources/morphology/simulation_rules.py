"""Rules of the source of proofread neurons with simulated errors; light to import."""

from __future__ import annotations

from dataclasses import dataclass

from connectomebench.core.errors import ConnectomeBenchError


@dataclass(frozen=True)
class SimulationConfig:
    """Parameters of the simulated errors, and the scale at which neurons are drawn.

    Attributes
    ----------
    seed
        Seed of every random draw.
    step_nm
        Distance of skeleton nodes, nm.
    min_radius_nm
        Smallest radius of a neurite, nm; radii below it are raised.
    clearance_nm
        Distance left between the surfaces of different neurons, nm (two membranes and the space between them).
    cut_spacing_nm
        Mean cable between cuts and so mean length of a fragment, nm.
    min_fragment_nm, max_fragment_nm
        No cut leaves less cable than the first; fragments above the second are cut further where possible, nm.
    max_cut_gap_nm
        Gap between the surfaces of the two ends of a cut, nm: uniform between 0 and this.
    meeting_fraction
        Largest share of the natural ends that are made to meet another neuron, end to end or end to side.
    fused_fraction
        Share of the fragments that are fused with one of another neuron (each with one at most).
    fusion_gap_nm
        Largest distance between the surfaces of fragments that are fused, nm.
    fusion_spacing_nm
        Smallest distance between two fusions, nm.
    contact_gap_nm
        Segments whose surfaces are nearer than this touch, nm.
    border_radius_quantile
        Natural ends thicker than this quantile of all natural ends are where the data stop rather than the neuron.
    voxel_nm
        Edge of the nominal voxel in which sizes are counted, nm.
    em_voxel_nm
        Edge of the voxel of the simulated image data (its grain), nm.
    """

    seed: int = 0
    step_nm: float = 150.0
    min_radius_nm: float = 40.0
    clearance_nm: float = 40.0
    cut_spacing_nm: float = 12_000.0
    min_fragment_nm: float = 2_500.0
    max_fragment_nm: float = 80_000.0
    max_cut_gap_nm: float = 80.0
    meeting_fraction: float = 0.4
    fused_fraction: float = 0.3
    fusion_gap_nm: float = 60.0
    fusion_spacing_nm: float = 2_000.0
    contact_gap_nm: float = 100.0
    border_radius_quantile: float = 0.98
    voxel_nm: float = 8.0
    em_voxel_nm: float = 8.0

    def __post_init__(self) -> None:
        """Reject contradictory rules."""
        if self.max_cut_gap_nm > self.contact_gap_nm:
            raise ConnectomeBenchError(
                f"max_cut_gap_nm {self.max_cut_gap_nm:g} is above contact_gap_nm {self.contact_gap_nm:g}, "
                "so that the two sides of a cut would not touch; lower the first or raise the second"
            )
        if self.cut_spacing_nm < 2 * self.min_fragment_nm:
            raise ConnectomeBenchError(
                f"cut_spacing_nm {self.cut_spacing_nm:g} must be at least twice min_fragment_nm "
                f"{self.min_fragment_nm:g}; raise the first or lower the second"
            )
        if not 0 <= self.fused_fraction <= 1:
            raise ConnectomeBenchError(f"fused_fraction is {self.fused_fraction:g}; it must lie between 0 and 1")
        if not 0 <= self.meeting_fraction <= 1:
            raise ConnectomeBenchError(f"meeting_fraction is {self.meeting_fraction:g}; it must lie between 0 and 1")
        for name in ("step_nm", "min_radius_nm", "min_fragment_nm", "voxel_nm", "em_voxel_nm"):
            if getattr(self, name) <= 0:
                raise ConnectomeBenchError(f"{name} is {getattr(self, name):g}; it must be above 0")
