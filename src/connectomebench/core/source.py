"""The source protocol, the interface between input data and every later step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, Corrections
from connectomebench.core.cut import CutGraph
from connectomebench.core.geometry import Box, Mesh, Skeleton
from connectomebench.core.site import Cut, Point, Site
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.whole_segment import WholeSegments

if TYPE_CHECKING:
    from connectomebench.core.cut import ProposalConfig, ProposedCut


@dataclass(frozen=True)
class SourceInfo:
    """Provenance and scale of a source.

    Attributes
    ----------
    name, version
        Stored in the columns `source` and `source_version`; ``version`` changes when the data change.
    species
        Species config the samples belong to.
    bounds_nm
        The box that holds all data.
    simulated_errors, simulated_em
        What is not real; cards and reports say so.
    voxel_nm3
        Volume of the voxel in which sizes are counted, nm³.
    license, citation
        Of the data.
    segmentations
        Of a source with several segmentations of one volume: name -> the same of each; else empty.
    """

    name: str
    version: str
    species: str
    bounds_nm: Box
    simulated_errors: bool
    simulated_em: bool
    voxel_nm3: float
    license: str
    citation: str
    segmentations: Mapping[str, SourceInfo] = field(default_factory=dict)

    def of(self, site: Site) -> SourceInfo:
        """Return what holds for a site: that of its segmentation where there are several."""
        return self if site.segmentation is None else self.segmentations[site.segmentation]

    def sample_id(self, site: Site) -> str:
        """Name a site of this source; see :meth:`connectomebench.core.site.Site.sample_id`."""
        own = self.of(site)
        return site.sample_id(own.species, f"{own.name}@{own.version}")


Question = Literal["goes_on", "second_body", "clear_second_body", "both"]


@dataclass(frozen=True)
class Surroundings:
    """What the truth says round some places of segments, one row a place.

    Attributes
    ----------
    goes_on
        bool, shape (n,): the core of a body of the segment goes on outside the segment within the radius, whatever id
        it has there, or none.
    second_body
        bool, shape (n,): the cores of two bodies or more lie within the radius inside the segment. Where the question
        was ``clear_second_body``, so much of each that nobody can take it for slop: what is no control need not be a
        case.
    """

    goes_on: NDArray[np.bool_]
    second_body: NDArray[np.bool_]


@dataclass(frozen=True)
class EMSlice:
    """A square slice of image data through a site.

    Attributes
    ----------
    gray
        uint8, shape (rows, columns).
    segments
        uint64, shape (rows, columns): segment id of each pixel, 0 = none.
    inside
        bool, shape (rows, columns): False where there is no data (outside the volume).
    sides
        uint8, shape (rows, columns): side of the cut that the site proposes, 1 source, 2 sink, 0 neither; None where
        it proposes none.
    """

    gray: NDArray[np.uint8]
    segments: NDArray[np.uint64]
    inside: NDArray[np.bool_]
    sides: NDArray[np.uint8] | None = None


class SiteSource(Protocol):
    """What is needed to draw sites."""

    @property
    def info(self) -> SourceInfo:
        """Provenance and scale."""
        ...

    def meshes(self, site: Site) -> list[Mesh]:
        """Mesh of each part of the site, in the order of ``site.parts``, covering at least the cube shown.

        A part with role ``source`` or ``sink`` is one side of ``site.cut``, by ``cuts.apply_cut`` on
        ``cut_graph(segment, site.cut.center_nm, site.cut.cutout_nm)`` or by the source's own multicut; pieces that
        the cut does not reach (outside its cutout, or not connected to a seed) belong to neither side.

        Raises :class:`connectomebench.core.errors.SiteUnavailable` where the data of the place are unavailable.
        """
        ...

    def em_slices(self, site: Site, pixels: int) -> dict[str, EMSlice] | None:
        """Slices xy, xz, yz through the site (keys ``em_xy`` ...), square of edge ``site.extent_nm``; None without EM.

        Rows run along the second named axis and columns along the first (``em_xz``: columns x, rows z). The sides of
        ``site.cut`` are those of :meth:`meshes`.
        """
        ...

    def em_pages(self, site: Site, pixels: int, offsets_nm: Sequence[float]) -> dict[str, list[EMSlice]] | None:
        """Parallel slices in the planes of :meth:`em_slices`, by plane and offset; None without EM.

        Offsets, nm, run along the axis that a plane is seen along, from the place of the site. Each slice is that of
        :meth:`em_slices` through its place, and costs less.
        """
        ...


class Source(SiteSource, Protocol):
    """A segmentation and its proofread ground truth."""

    def corrections(self) -> Corrections:
        """Return ground-truth merges and splits, with the body of each segment."""
        ...

    def contacts(self) -> Contacts:
        """Return touching pairs of segments, for controls."""
        ...

    def skeletons(self, segment_ids: Iterable[int]) -> Iterator[tuple[int, Skeleton]]:
        """Yield the skeleton of each segment, as it is before the correction. Segments without one are left out."""
        ...

    def at_border(self, segment_ids: NDArray[np.uint64], points_nm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which places lie where what is known of their segment stops, so that an end there says nothing.

        ``segment_ids`` has shape (n,) and ``points_nm`` shape (n, 3), nm; the segment of each is the one whose skeleton
        the place comes from.
        """
        ...

    def surroundings(
        self,
        segment_ids: NDArray[np.uint64],
        points_nm: NDArray[np.floating],
        radius_nm: float,
        question: Question = "both",
    ) -> Surroundings:
        """Look round places of segments in the truth itself: no control may be where a body goes on or is fused.

        ``segment_ids`` has shape (n,), ``points_nm`` shape (n, 3), nm. Corrections that were not localised, parts too
        small to count and those without a segment are seen here, though no correction lists them. What ``question``
        does not ask is False everywhere.
        """
        ...

    def supervoxel_interfaces(self, segment_ids: Iterable[int]) -> SupervoxelInterfaces | None:
        """Return the contacts between supervoxels inside some segments; None where there are no supervoxels."""
        ...

    def cut_graph(self, segment_id: int, center_nm: Point, cutout_nm: float) -> CutGraph:
        """Break the segment inside a cube of edge ``cutout_nm`` into pieces."""
        ...

    def cut_sides(self, segment_id: int, cut: Cut) -> tuple[CutGraph, NDArray[np.int8]] | str:
        """Cut a segment between seeds, as a proofreader's tool would: by minimum cut, or the server's own multicut.

        Returns the pieces of ``cut_graph(segment_id, cut.center_nm, cut.cutout_nm)`` and the side of each (int8, shape
        (n_pieces,): +1 source, -1 sink, 0 neither), or the reason why there is no such cut.
        """
        ...

    def whole_segments(self) -> WholeSegments:
        """Return whole segments with what is known of the cells in them.

        Raises
        ------
        TaskLacking
            If the source knows nothing of cell bodies.
        """
        ...

    def propose(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Propose right and wrong cuts at merge errors, each with the verdict of the rule.

        Also returns why proposals are missing, by reason. ``largest_view_nm`` is the edge of the largest view, nm.
        """
        ...

    def right_splits(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Split merge errors as the truth has it, for answers; at most one of each, all good by the rule.

        Parameters and second value as for :meth:`propose`.
        """
        ...
