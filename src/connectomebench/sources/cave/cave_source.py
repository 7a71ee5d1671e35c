"""The source `cave`: segments, truth, meshes and image data of a dataset on a CAVE server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, Corrections
from connectomebench.core.cut import CutGraph
from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Box, Mesh, Skeleton
from connectomebench.core.site import Cut, Point, Site, as_point
from connectomebench.core.source import EMSlice, Question, SourceInfo, Surroundings
from connectomebench.core.species import NOT_STATED_CITATION, NOT_STATED_LICENSE, get_species
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.tasks import get_task
from connectomebench.core.whole_segment import WholeSegments
from connectomebench.sources.cave.archive import Archive, answers_needed, final_state
from connectomebench.sources.cave.cave_config import CaveConfig
from connectomebench.sources.cave.cloud_volumes import CloudLayer, RootLayer
from connectomebench.sources.cave.cut_sides import ServerCuts, sides_or_fail
from connectomebench.sources.cave.jobs import JobSpec, open_layer
from connectomebench.sources.cave.meshes import require_meshes
from connectomebench.sources.cave.whole_segments import find_whole_segments, whole_mesh
from connectomebench.sources.part_meshes import SidesVolume
from connectomebench.sources.surroundings import (
    CertaintyConfig,
    goes_on_outside,
    holds_second_body,
    read_neighbourhood,
)

if TYPE_CHECKING:
    from connectomebench.core.cut import ProposalConfig, ProposedCut
    from connectomebench.execution.runner import Runner


class CaveSource:
    """Implements :class:`connectomebench.core.source.Source` over a CAVE server.

    Segments are those that proofreaders saw just before each edit; bodies are the roots of the final state. Facts
    about a segment (size, skeleton, whether it is fused) hold inside the cube of the survey of its edit.

    Parameters
    ----------
    config
        The dataset.
    species
        Species config the samples belong to.
    cache
        Folder that all processes of the build share.
    base
        Folder that relative paths of the configuration start from.
    runner
        Reads histories and surveys, in groups.

    Raises
    ------
    ConnectomeBenchError
        If the server cannot be reached, refuses the token, does not state what is needed, or has no meshes or image
        data where these are configured.
    """

    def __init__(self, config: CaveConfig, species: str, cache: Path, base: Path, runner: Runner) -> None:
        self.config = config
        spec = JobSpec(config, species, cache, final_state(config, species, cache))
        self._context = spec.open()
        self._context.connection.graph.voxel_nm()
        # what a later step needs is opened now: surveys take hours
        if config.meshes == "level2":
            require_meshes(self._context.supervoxels.cloud)
        with answers_needed("the volumes of the dataset"):
            _ = self._image, self._outlined
        self.archive = Archive(spec, base, runner)
        self._info = self._make_info(spec)

    def _make_info(self, spec: JobSpec) -> SourceInfo:
        layer, connection = self._context.supervoxels, self._context.connection
        voxel, offset = np.asarray(layer.voxel_size_nm), np.asarray(layer.offset_vx)
        c, known = self.config, get_species(spec.species)
        # another datastack, graph or server holds other data, which have a licence and authors of their own
        own = c.graph_table is None and connection.name == known.datastack and c.server in (None, known.server)
        rules = [asdict(r) for r in (c.roots, c.survey, c.mesh, c.skeleton)]
        until = spec.until.isoformat()
        key = content_key(layer.fingerprint, rules, c.meshes, connection.image, until)
        return SourceInfo(
            name=connection.name,
            version=f"{until}+{key[:12]}",
            species=spec.species,
            bounds_nm=Box(as_point(offset * voxel), as_point((offset + layer.shape) * voxel)),
            simulated_errors=False,
            simulated_em=False,
            voxel_nm3=float(voxel.prod()),
            license=c.license or (known.license if own else NOT_STATED_LICENSE),
            citation=c.citation or (known.citation if own else NOT_STATED_CITATION),
        )

    @property
    def info(self) -> SourceInfo:
        """Provenance and scale."""
        return self._info

    def corrections(self) -> Corrections:
        """Return corrections from the edit history and the surveys; see :mod:`connectomebench.sources.cave.history`."""
        return self.archive.corrections

    def contacts(self) -> Contacts:
        """Return contacts of edited segments with each other and with neighbours, just before the edit."""
        found = [s.contacts for s in self.archive.survey_index.light()]
        if not found:
            return Contacts(np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
        return Contacts(
            np.concatenate([c.segments for c in found]),
            np.concatenate([c.points_nm for c in found]),
            np.concatenate([c.areas for c in found]),
        )

    def skeletons(self, segment_ids: Iterable[int]) -> Iterator[tuple[int, Skeleton]]:
        """Yield the skeleton of each segment inside the cube of its survey; those without one are left out."""
        for segment in segment_ids:
            survey = self.archive.survey_index.of_segment(int(segment))
            if survey is not None and int(segment) in survey.skeletons:
                yield int(segment), survey.skeletons[int(segment)]

    def at_border(self, segment_ids: NDArray[np.uint64], points_nm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which places lie near a face of the volume, or too far out for a view in the cube of their skeleton.

        Cubes of other edits do not matter, however near they are: a segment's skeleton ends where its own cube does.
        """
        points = np.asarray(points_nm, np.float64).reshape(-1, 3)
        rules, bounds, index = self.config.survey, self._info.bounds_nm, self.archive.survey_index
        to_end = np.minimum(points - bounds.lower_nm, np.asarray(bounds.upper_nm) - points).min(axis=1, initial=np.inf)
        found = to_end <= rules.border_nm
        for row, segment in enumerate(np.asarray(segment_ids).tolist()):
            center = index.center_of(segment)
            found[row] |= center is None or bool(np.abs(points[row] - center).max() > rules.inner_nm / 2)
        return found

    def surroundings(
        self,
        segment_ids: NDArray[np.uint64],
        points_nm: NDArray[np.floating],
        radius_nm: float,
        question: Question = "both",
    ) -> Surroundings:
        """Compare supervoxels round places: the segment they were in when it is looked at, and their final root.

        There is no boundary slop: both states are sets of the same supervoxels. Where the data of a place cannot be
        had, both answers are yes, so that no control is made there.
        """
        rules = CertaintyConfig(erosion_vx=0, min_voxels=self.config.survey.certain_voxels)
        bodies_of = self.archive.corrections.bodies_of()
        goes_on, second = np.zeros((2, len(segment_ids)), np.bool_)
        for row, segment in enumerate(np.asarray(segment_ids).tolist()):
            place = as_point(points_nm[row])
            supervoxels = self._context.supervoxels
            try:
                before, final = (RootLayer(supervoxels, roots) for roots in self.archive.states(segment, place))
                around = read_neighbourhood(before, final, place, radius_nm, rules)
            except SiteUnavailable:
                goes_on[row], second[row] = question in ("goes_on", "both"), question != "goes_on"
                continue
            if question in ("goes_on", "both"):
                goes_on[row] = goes_on_outside(around, segment, bodies_of.get(segment, ()))
            if question != "goes_on":
                second[row] = holds_second_body(around, segment)
        return Surroundings(goes_on, second)

    @cached_property
    def _cutting(self) -> ServerCuts:
        return ServerCuts(self.archive)

    def supervoxel_interfaces(self, segment_ids: Iterable[int]) -> SupervoxelInterfaces | None:
        """Return None: supervoxels are read round places of edits alone, not throughout segments."""
        return None

    def cut_graph(self, segment_id: int, center_nm: Point, cutout_nm: float) -> CutGraph:
        """Break the segment inside a cube into the connected parts of its supervoxels."""
        return self._cutting.pieces(int(segment_id), as_point(center_nm), cutout_nm)[0].graph

    def cut_sides(self, segment_id: int, cut: Cut) -> tuple[CutGraph, NDArray[np.int8]] | str:
        """Cut a segment by the server's multicut: as a person made it, or a preview for other seeds.

        The server gives no preview of a segment that edits have replaced: of those it is the minimum cut between
        supervoxels.
        """
        from connectomebench.cuts.seeded_cuts import minimum_cut_sides

        sides = self._cutting.sides(int(segment_id), cut)
        if not isinstance(sides, str):
            return self.cut_graph(segment_id, cut.center_nm, cut.cutout_nm), sides
        return minimum_cut_sides(self, segment_id, cut) if int(segment_id) in self._replaced else sides

    @cached_property
    def _replaced(self) -> frozenset[int]:
        """Segments that edits have replaced."""
        return frozenset(root for j in self.archive.history.judged for root in j.operation.roots_before)

    def propose(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Propose the cuts that proofreaders made, and wrong ones that the server's multicut gives for other seeds."""
        from connectomebench.sources.cave.multicut_proposals import propose

        return propose(self.archive, self._cutting, rules, largest_view_nm)

    def right_splits(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Return the splits that proofreaders made, where the rule calls them good."""
        from connectomebench.sources.cave.multicut_proposals import right_splits

        return right_splits(self.archive, self._cutting, rules, largest_view_nm)

    def whole_segments(self) -> WholeSegments:
        """Return whole segments by the tables of the dataset; see :mod:`.whole_segments`."""
        return find_whole_segments(self.archive)

    def meshes(self, site: Site) -> list[Mesh]:
        """Mesh each part of the site inside the cube shown: from the server's level-2 meshes, or from its labels."""
        from connectomebench.sources.cave.site_meshes import level2_parts, voxel_parts

        if get_task(site.task).whole:
            return [whole_mesh(part.segment_id, self.archive) for part in site.parts]
        if self.config.meshes == "level2":
            return level2_parts(site, self.archive, self._cutting)
        return voxel_parts(site, self.archive, self._cutting, self.config.mesh)

    @cached_property
    def _image(self) -> CloudLayer | None:
        path = self._context.connection.image
        return None if path is None else self._layer(path, "image")

    @cached_property
    def _outlined(self) -> CloudLayer:
        return self._layer(self._context.connection.segmentation, "labels")

    def _layer(self, path: str, kind: Literal["labels", "image"]) -> CloudLayer:
        context, c = self._context, self.config
        return open_layer(context.connection, path, kind, c.survey.image_voxel_nm, context.blobs, c.requests)

    def em_slices(self, site: Site, pixels: int) -> dict[str, EMSlice] | None:
        """Cut the slices xy, xz and yz through the site; None where the dataset has no image data."""
        from connectomebench.sources.slice_sampling import cut_slices

        if self._image is None:
            return None
        place = (site.location_nm, site.extent_nm, pixels)
        return cut_slices(self._image, self._roots(site), *place, self._sides(site))

    def em_pages(self, site: Site, pixels: int, offsets_nm: Sequence[float]) -> dict[str, list[EMSlice]] | None:
        """Cut parallel slices in the planes xy, xz and yz round the site; None where the dataset has no image data.

        All show segments at the time at which the site is looked at.
        """
        from connectomebench.sources.slice_sampling import cut_pages

        if self._image is None:
            return None
        place = (site.location_nm, site.extent_nm, pixels)
        return cut_pages(self._image, self._roots(site), *place, offsets_nm, self._sides(site))

    def _sides(self, site: Site) -> SidesVolume | None:
        """Return the sides of the cut that a site proposes, as :meth:`meshes` shows them; None without one."""
        if site.cut is None:
            return None
        segment = site.parts[0].segment_id
        pieces, _ = self._cutting.pieces(segment, site.cut.center_nm, site.cut.cutout_nm)
        sides = sides_or_fail(self._cutting, segment, site.cut)
        return SidesVolume(self._context.supervoxels, pieces, sides)

    def _roots(self, site: Site) -> RootLayer:
        """Return the segments at the time at which a site is looked at."""
        base, *others = site.segment_ids
        return RootLayer(self._outlined, self.archive.lookup(base, site.location_nm, others))
