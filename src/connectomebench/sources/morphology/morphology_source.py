"""Source of proofread neurons with simulated errors, for data published without an edit history.

Neurons are real; the automatic segmentation is simulated (see :mod:`simulated_errors`), and so is the image data (see
:mod:`simulated_em`). The embedded default are five neurons of the fly hemibrain (see :mod:`hemibrain_neurons`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, Corrections
from connectomebench.core.cut import CutGraph
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Box, Mesh, Skeleton
from connectomebench.core.site import Cut, Point, Site, as_point
from connectomebench.core.source import EMSlice, Question, SourceInfo, Surroundings
from connectomebench.core.species import get_species
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.tasks import get_task
from connectomebench.core.whole_segment import WholeSegments
from connectomebench.sources.morphology import hemibrain_neurons
from connectomebench.sources.morphology.reconstruction import (
    Reconstruction,
    SegmentIndex,
    find_corrections,
    look_around,
)
from connectomebench.sources.morphology.segment_tubes import body_tubes, part_tubes, segment_tubes
from connectomebench.sources.morphology.simulation_cache import simulate_once
from connectomebench.sources.morphology.simulation_rules import SimulationConfig
from connectomebench.sources.morphology.swc import read_swc_folder
from connectomebench.sources.morphology.tubes import meshes_apart, tube_mesh
from connectomebench.sources.morphology.whole_tubes import find_somas, find_whole_segments, frusta_mesh

if TYPE_CHECKING:
    from connectomebench.core.cut import ProposalConfig, ProposedCut

__all__ = ["MorphologySource", "SimulationConfig"]

_SOMA_NM = 1500.0  # only a soma is that thick; ends inside it do not count
_BORDER_NM = 500.0
_MARGIN = 1.06  # meshes reach beyond the cube shown by this factor
_EM_AXES = {"em_xy": (0, 1), "em_xz": (0, 2), "em_yz": (1, 2)}  # columns, rows


class MorphologySource:
    """Randomly cut and fused proofread neurons; implements :class:`connectomebench.core.source.Source`.

    Parameters
    ----------
    rules
        Rules of the simulated errors.
    species
        Species config of the samples.
    path
        Folder of SWC files, one neuron each; None for the embedded hemibrain neurons.
    unit_nm
        Length of the files' unit in nm; required with ``path``.
    license, citation
        Licence and citation of the neurons in ``path``.
    cache
        Folder in which the simulated segmentation is kept, so that it is simulated once; None simulates it each time.

    Raises
    ------
    ConnectomeBenchError
        If the neurons cannot be read, ``unit_nm`` is missing or not positive, the species is unknown, or ``cache``
        cannot be written.
    """

    def __init__(
        self,
        rules: SimulationConfig,
        species: str = "fly",
        path: Path | str | None = None,
        unit_nm: float | None = None,
        license: str = "other",
        citation: str = "",
        cache: Path | None = None,
    ) -> None:
        get_species(species)
        if path is None:
            name, folder, unit_nm = "hemibrain-neurons", hemibrain_neurons.hemibrain_folder(), hemibrain_neurons.UNIT_NM
            license, citation = hemibrain_neurons.LICENSE, hemibrain_neurons.CITATION
        else:
            name, folder = Path(path).resolve().name, Path(path)
            if unit_nm is None or not unit_nm > 0:
                raise ConnectomeBenchError(
                    "SWC files do not tell their unit: give `unit_nm`, for example 8 for voxels of 8 nm or 1000 for µm"
                )
        self.rules = rules
        neurons = read_swc_folder(folder, float(unit_nm))
        rec, self._contacts = simulate_once(neurons, rules, cache)
        self.reconstruction: Reconstruction = rec
        reach = float(rec.radii_nm.max()) + 1000.0
        low, high = rec.nodes_nm.min(axis=0) - reach, rec.nodes_nm.max(axis=0) + reach
        self._info = SourceInfo(
            name,
            content_key([[n.body, n.digest] for n in neurons], float(unit_nm), asdict(rules))[:12],
            species,
            Box(as_point(low), as_point(high)),
            simulated_errors=True,
            simulated_em=True,
            voxel_nm3=rules.voxel_nm**3,
            license=license,
            citation=citation,
        )
        self._index = SegmentIndex(rec)
        self._volumes_nm3 = rec.volumes_nm3()
        self._segment_tubes, self._body_tubes = segment_tubes(rec, self._index), body_tubes(rec)
        self._corrections = find_corrections(rec, self._contacts, rules.voxel_nm)
        self._somas = find_somas(rec, neurons)
        unknown = sum(neuron.interpolated_radii for neuron in neurons)
        if unknown:
            self._corrections.counts["points whose radius was unknown and is interpolated"] = unknown
        stops = np.concatenate([rec.border_nodes, np.flatnonzero(rec.radii_nm > _SOMA_NM)])
        self._stops, self._border_reach_nm = stops, np.maximum(1.2 * rec.radii_nm[stops], _BORDER_NM)

    @property
    def info(self) -> SourceInfo:
        """Return provenance and scale."""
        return self._info

    def corrections(self) -> Corrections:
        """Return merges at cuts and splits at fusions; see :func:`reconstruction.find_corrections`."""
        return self._corrections

    def contacts(self) -> Contacts:
        """Return touching pairs of segments, of one body and of two; see :func:`reconstruction.find_contacts`."""
        return self._contacts

    def skeletons(self, segment_ids: Iterable[int]) -> Iterator[tuple[int, Skeleton]]:
        """Yield the skeleton of each segment before correction; unknown ids are skipped."""
        for segment_id in segment_ids:
            row = self._index.row(int(segment_id))
            if row is not None:
                yield int(segment_id), self._index.skeleton(row)

    def at_border(self, segment_ids: NDArray[np.uint64], points_nm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Check which places lie where the data of their segment stop: thick or torn natural ends, and in somas.

        Thick ends are those above ``border_radius_quantile``; torn ones face a detached piece of the same neuron.
        """
        points = np.asarray(points_nm, np.float64).reshape(-1, 3)
        segments, rec = np.asarray(segment_ids, np.uint64), self.reconstruction
        near = np.zeros(len(points), np.bool_)
        for node, reach in zip(self._stops, self._border_reach_nm, strict=True):
            own = segments == rec.segments[node]
            near[own] |= np.sum((points[own] - rec.nodes_nm[node]) ** 2, axis=1) < reach**2
        return near

    def surroundings(
        self,
        segment_ids: NDArray[np.uint64],
        points_nm: NDArray[np.floating],
        radius_nm: float,
        question: Question = "both",
    ) -> Surroundings:
        """Check the skeletons of the neurons around places; see :func:`reconstruction.look_around`."""
        found = look_around(self.reconstruction, segment_ids, points_nm, radius_nm)
        asked = question in ("goes_on", "both"), question != "goes_on"
        return Surroundings(found.goes_on & asked[0], found.second_body & asked[1])

    def supervoxel_interfaces(self, segment_ids: Iterable[int]) -> SupervoxelInterfaces | None:
        """Return None: neurons without voxels have no supervoxels."""
        return None

    def cut_graph(self, segment_id: int, center_nm: Point, cutout_nm: float) -> CutGraph:
        """Break the segment inside a cube of edge ``cutout_nm`` into skeleton nodes.

        Capacities are cross-sections (voxel faces) at the thinner end of each edge; voxels come from cable volume.
        """
        return self._graph(segment_id, center_nm, cutout_nm)[0]

    def cut_sides(self, segment_id: int, cut: Cut) -> tuple[CutGraph, NDArray[np.int8]] | str:
        """Cut a segment by the minimum cut between seeds."""
        from connectomebench.cuts.seeded_cuts import minimum_cut_sides

        return minimum_cut_sides(self, segment_id, cut)

    def whole_segments(self) -> WholeSegments:
        """Return every segment with its somas; see :func:`whole_tubes.find_whole_segments`."""
        bodies_of = self._corrections.bodies_of()
        return find_whole_segments(self.reconstruction, self._index, self._segment_tubes, self._somas, bodies_of)

    def propose(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Propose right and wrong cuts at every fusion."""
        from connectomebench.cuts.proposals import propose_cuts

        return propose_cuts(self, self._corrections, rules, largest_view_nm)

    def right_splits(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Split every fusion into its neurons."""
        from connectomebench.cuts.right_splits import right_splits

        return right_splits(self, self._corrections, rules, largest_view_nm)

    def _graph(self, segment_id: int, center_nm: Point, cutout_nm: float) -> tuple[CutGraph, NDArray[np.int64]]:
        box = Box.around(center_nm, cutout_nm)
        return self._index.cut_graph(self._row(segment_id), box, self.rules.voxel_nm, self._volumes_nm3)

    def _row(self, segment_id: int) -> int:
        row = self._index.row(int(segment_id))
        if row is None:
            raise ConnectomeBenchError(f"no segment {segment_id} in {self._info.name}; ids change with the rules")
        return row

    def meshes(self, site: Site) -> list[Mesh]:
        """Mesh each part of the site, covering the cube shown and a margin, closed where the margin ends.

        Sides of a cut come from :func:`connectomebench.cuts.min_cut.apply_cut`; nodes that it does not reach are
        omitted.

        Raises
        ------
        ConnectomeBenchError
            If a segment does not exist, or a part is a side of a cut and the site has no cut.
        """
        if get_task(site.task).whole:
            tubes = self._segment_tubes
            return [frusta_mesh(tubes.tubes.cones[tubes.of(self._row(part.segment_id))]) for part in site.parts]
        box = Box.around(site.location_nm, site.extent_nm * _MARGIN)
        voxel_nm = float(np.clip(site.extent_nm / 110, 20.0, 44.0))
        tubes, meshes = self._segment_tubes.tubes, []
        sides: dict[int, dict[str, Mesh]] = {}
        for part in site.parts:
            if part.role in ("source", "sink"):
                if part.segment_id not in sides:
                    # neurites thicker than a cut is wide may reach across it
                    both = meshes_apart(self._sides(site, part.segment_id), box, voxel_nm)
                    sides[part.segment_id] = dict(zip(("source", "sink"), both, strict=True))
                meshes.append(sides[part.segment_id][part.role])
            else:
                own = tubes.within(box, self._segment_tubes.of(self._row(part.segment_id)))
                meshes.append(tube_mesh(tubes.cones[own], box, voxel_nm))
        return meshes

    def _sides(self, site: Site, segment_id: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the tubes of the source and the sink side of the cut, separated at faces like those of errors."""
        from connectomebench.cuts.min_cut import apply_cut

        if site.cut is None:
            raise ConnectomeBenchError("a part is one side of a cut, but the site proposes no cut; set `cut`")
        graph, nodes = self._graph(segment_id, site.cut.center_nm, site.cut.cutout_nm)
        sides = apply_cut(graph, site.cut)
        own = self._segment_tubes.of(self._row(segment_id))
        return part_tubes(self._segment_tubes, own, graph, nodes, sides, self.reconstruction.radii_nm[nodes])

    def em_slices(self, site: Site, pixels: int) -> dict[str, EMSlice] | None:
        """Draw simulated slices xy, xz, yz through the site; see :mod:`simulated_em`. Data are never missing."""
        pages = self.em_pages(site, pixels, [0.0])
        return {name: slices[0] for name, slices in pages.items()}

    def em_pages(self, site: Site, pixels: int, offsets_nm: Sequence[float]) -> dict[str, list[EMSlice]]:
        """Draw simulated parallel slices in the planes xy, xz and yz round the site."""
        from connectomebench.sources.morphology.simulated_em import em_slice, label_slice
        from connectomebench.sources.morphology.tube_kernels import SEEN_NM

        half = max([site.extent_nm / 2, *(abs(offset) for offset in offsets_nm)])
        box = Box.around(site.location_nm, 2 * (half + SEEN_NM))
        bodies, segments = self._body_tubes.within(box), self._segment_tubes.tubes.within(box)
        own = self._body_tubes.cones[bodies], self._body_tubes.owners[bodies]
        parts = self._segment_tubes.tubes.cones[segments], self._segment_tubes.tubes.owners[segments]
        both = None if site.cut is None else self._sides(site, site.parts[0].segment_id)
        cut = None if both is None else (np.concatenate(both), np.repeat([1, 2], [len(side) for side in both]))

        def page(axes: tuple[int, int], offset_nm: float) -> EMSlice:
            place = list(site.location_nm)
            place[3 - sum(axes)] += offset_nm
            center = (place[0], place[1], place[2])
            gray, label = em_slice(own, parts, center, site.extent_nm, axes, pixels, self.rules.em_voxel_nm)
            ids = np.where(label >= 0, self._index.ids[label], np.uint64(0))
            sides = None
            if cut is not None:
                sides = label_slice(cut, center, site.extent_nm, axes, pixels).clip(min=0).astype(np.uint8)
            return EMSlice(gray, ids, np.ones(gray.shape, np.bool_), sides)

        return {name: [page(axes, offset) for offset in offsets_nm] for name, axes in _EM_AXES.items()}
