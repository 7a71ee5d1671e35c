"""Source `volumes`: an automatic and a proofread segmentation of the same place, with image data.

Corrections are the set difference of the two. Costly results are cached on disk: meshes and skeletons by the content of
the voxels they come from, corrections and contacts by the fingerprints of the volumes.
"""

from __future__ import annotations

import copy
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, CorrectionConfig, Corrections
from connectomebench.core.cut import CutGraph
from connectomebench.core.errors import ConnectomeBenchError, TaskLacking
from connectomebench.core.files import ArrayCache, content_key
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh, Skeleton
from connectomebench.core.site import Cut, Point, Site, as_point
from connectomebench.core.source import EMSlice, Question, Source, SourceInfo, Surroundings
from connectomebench.core.species import own_terms
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.core.volume import FingerprintedVolume, IntPoint, Volume, voxel_box
from connectomebench.core.whole_segment import WholeSegments
from connectomebench.sources.family import SegmentationFamily
from connectomebench.sources.label_shapes import (
    Extents,
    MeshConfig,
    SkeletonConfig,
    find_extents,
    int_point,
    read_mask,
    skeletonize,
)
from connectomebench.sources.part_meshes import SidesVolume, paint_side, stored_meshes
from connectomebench.sources.slice_sampling import cut_pages, cut_slices
from connectomebench.sources.supervoxels import (
    EMPTY_GRAPH,
    PieceConfig,
    Pieces,
    piece_graph,
    pieces_of_balls,
    pieces_of_supervoxels,
    values_of_pieces,
)
from connectomebench.sources.surroundings import CertaintyConfig, volume_surroundings
from connectomebench.sources.volumes.arrays import ArrayVolume, StoredVolume, VolumeSpec, open_volume
from connectomebench.sources.volumes.correction_store import (
    pack_contacts,
    pack_corrections,
    unpack_contacts,
    unpack_corrections,
)
from connectomebench.sources.volumes.cropped import fit_image
from connectomebench.sources.volumes.simulated_rules import LabelErrorConfig

if TYPE_CHECKING:
    from connectomebench.core.cut import ProposalConfig, ProposedCut

_log = logging.getLogger(__name__)

_ONE_TRUTH = (
    "volumes needs exactly one of `proofread` (the truth) and `simulated` (how errors are simulated in labels without "
    "truth)"
)


@dataclass(frozen=True)
class VolumesConfig:
    """An automatic and a proofread segmentation of the same place.

    Attributes
    ----------
    name, version
        Name and version of the data, stored with every sample. A hash of data and rules is appended to the version.
    automatic
        The segmentation to correct, or several named ones of the same place (names of letters, digits, ``.-_``).
    proofread
        The truth. If None, errors are simulated: see ``simulated``. Only `connectomebench proofread` needs neither.
    simulated
        Rules of simulated errors in ``automatic``, which then counts as the truth; only without ``proofread``.
    image
        Image data (uint8), on the same voxels or finer ones by whole factors; cropped to the labels; None if there are
        none.
    supervoxels
        An over-segmentation, on whose pieces cuts are computed; None makes pieces from the shape of the segment.
    affinity
        An affinity map on the voxels of the labels: floats from 0 to 1, or uint8 from 0 to 255. One channel an axis, in
        the order of x, y and z in ``axes`` (x, y, z if precomputed), says how much a voxel belongs with the one before
        it along that axis. Only `connectomebench proofread` reads it, to compare with: no model sees it.
    license, citation
        Licence and citation of the data. Where they are left out, those of a species that the configuration declares;
        else the card says that they were not stated.
    corrections, mesh, skeleton, pieces, certainty
        Rules of each step.
    border_nm
        Places nearer than this to a face of the volume lie at the border, nm.
    same_place_nm
        With several segmentations: places of the same bodies no further apart than this are one correction, nm. Rows
        that people rated are compared with corrections of the same segments within it.
    """

    name: str
    version: str
    automatic: VolumeSpec | dict[str, VolumeSpec]
    proofread: VolumeSpec | None = None
    simulated: LabelErrorConfig | None = None
    image: VolumeSpec | None = None
    supervoxels: VolumeSpec | None = None
    affinity: VolumeSpec | None = None
    license: str | None = None
    citation: str | None = None
    corrections: CorrectionConfig = field(default_factory=CorrectionConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    skeleton: SkeletonConfig = field(default_factory=SkeletonConfig)
    pieces: PieceConfig = field(default_factory=PieceConfig)
    certainty: CertaintyConfig = field(default_factory=CertaintyConfig)
    border_nm: float = 1000.0
    same_place_nm: float = 1000.0

    def __post_init__(self) -> None:
        """Reject a configuration with two truths, or an undefined name."""
        if self.proofread is not None and self.simulated is not None:
            raise ConnectomeBenchError(_ONE_TRUTH)
        if not isinstance(self.automatic, dict):
            return
        if self.simulated is not None:
            raise ConnectomeBenchError("automatic: errors are simulated in one segmentation, not in several")
        if not self.automatic:
            raise ConnectomeBenchError("automatic: name at least one segmentation")
        for name in self.automatic:
            if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
                raise ConnectomeBenchError(
                    f"automatic: {name!r} cannot name a segmentation; use letters, digits and any of . - _"
                )


class VolumeSource:
    """Implement :class:`connectomebench.core.source.Source` over volumes.

    Parameters
    ----------
    config
        Locations of the volumes, and the rules.
    species
        Species config the samples belong to.
    cache
        Cache folder for meshes, skeletons, corrections and contacts.
    base
        Base folder for relative paths; the working directory by default.
    like
        A source over another segmentation of the same configuration, whose shared volumes are reused.
    truth_needed
        False to open a configuration without truth, whose segmentation then stands in for it: no errors are found.

    Raises
    ------
    ConnectomeBenchError
        If a volume cannot be opened, the volumes do not lie at the same place, or there are several segmentations
        (:func:`open_volumes` opens these).
    """

    automatic: FingerprintedVolume
    proofread: FingerprintedVolume
    image: FingerprintedVolume | None
    supervoxels: FingerprintedVolume | None

    def __init__(
        self,
        config: VolumesConfig,
        species: str,
        cache: Path,
        base: Path | None = None,
        like: VolumeSource | None = None,
        truth_needed: bool = True,
    ) -> None:
        if isinstance(config.automatic, dict):
            raise ConnectomeBenchError("automatic: one segmentation is needed here, not several")
        self.config = config
        self._cache = ArrayCache(cache)
        labels = open_volume(config.automatic, kind="labels", base=base, name="automatic")
        if like is not None:
            self.automatic = labels
            self.proofread, self.image, self.supervoxels = like.proofread, like.image, like.supervoxels
        else:
            if config.simulated is not None:
                self.automatic, self.proofread = self._with_errors(labels, config.simulated), labels
            else:
                if config.proofread is None and truth_needed:
                    raise ConnectomeBenchError(_ONE_TRUTH)
                self.automatic = self.proofread = labels
                if config.proofread is not None:
                    self.proofread = open_volume(config.proofread, kind="labels", base=base, name="proofread")
            image = config.image and open_volume(config.image, kind="image", base=base, name="image")
            self.image = image and fit_image(image, self.automatic)
            self.supervoxels = config.supervoxels and open_volume(
                config.supervoxels, kind="labels", base=base, name="supervoxels"
            )
        check_equal("automatic", self.automatic, "proofread", self.proofread)
        if self.supervoxels is not None:
            check_equal("automatic", self.automatic, "supervoxels", self.supervoxels)
        if self.image is not None and like is not None:
            fit_image(self.image, self.automatic)
        self._voxel = np.asarray(self.automatic.voxel_size_nm, np.float64)
        self._offset = np.asarray(self.automatic.offset_vx, np.int64)
        self._info = self._make_info(species)
        self._pieces = lru_cache(maxsize=8)(self._make_pieces)
        self._extents: Extents | None = None

    def _with_errors(self, truth: StoredVolume, rules: LabelErrorConfig) -> ArrayVolume:
        """Simulate the segmentation with errors, or read it from the cache."""
        from connectomebench.sources.volumes.simulated_labels import simulate_label_errors

        key = content_key("simulated labels 1", truth.fingerprint, asdict(self.config.corrections), asdict(rules))
        stored = self._cache.get(key)
        if stored is None:
            extents = find_extents(truth)
            stored = {"labels": simulate_label_errors(truth, extents, self.config.corrections, rules)}
            self._cache.put(key, **stored)
        place = (truth.shape, truth.voxel_size_nm, truth.offset_vx)
        return ArrayVolume(stored["labels"], (0, 1, 2), *place, "labels", key, "automatic")

    def _make_info(self, species: str) -> SourceInfo:
        c = self.config
        rules = [asdict(r) for r in (c.corrections, c.mesh, c.skeleton, c.pieces, c.certainty)]
        lower = self._offset * self._voxel
        upper = (self._offset + self.automatic.shape) * self._voxel
        return SourceInfo(
            name=self.config.name,
            version=f"{self.config.version}+{content_key(self._fingerprints(), rules, self.config.border_nm)[:12]}",
            species=species,
            bounds_nm=Box(as_point(lower), as_point(upper)),
            simulated_errors=self.config.simulated is not None,
            simulated_em=False,
            voxel_nm3=float(self._voxel.prod()),
            license=self.config.license or own_terms(species)[0],
            citation=self.config.citation or own_terms(species)[1],
        )

    def _fingerprints(self) -> list[str | None]:
        volumes = (self.automatic, self.proofread, self.image, self.supervoxels)
        return [v.fingerprint if v is not None else None for v in volumes]

    def over(
        self,
        automatic: FingerprintedVolume,
        proofread: FingerprintedVolume,
        image: FingerprintedVolume | None,
        supervoxels: FingerprintedVolume,
    ) -> VolumeSource:
        """Return a source with the same rules and cache over other volumes.

        Parameters
        ----------
        automatic, proofread, supervoxels
            Label volumes of one shape and place. Where ``proofread`` is ``automatic`` itself, the source has no access
            to any truth.
        image
            Image data of the same place, or None.
        """
        other = copy.copy(self)
        other.automatic, other.proofread, other.image, other.supervoxels = automatic, proofread, image, supervoxels
        other._voxel = np.asarray(automatic.voxel_size_nm, np.float64)
        other._offset = np.asarray(automatic.offset_vx, np.int64)
        other._info = other._make_info(self._info.species)
        other._pieces = lru_cache(maxsize=8)(other._make_pieces)
        other._extents = None
        return other

    @property
    def info(self) -> SourceInfo:
        """Return provenance and scale."""
        return self._info

    def corrections(self) -> Corrections:
        """Find the ground-truth merges and splits, or read them from the cache."""
        from connectomebench.corrections.find import find_corrections

        pair = [self.automatic.fingerprint, self.proofread.fingerprint]
        key = content_key("corrections 3", pair, self.config.version, asdict(self.config.corrections))
        stored = self._cache.get(key)
        if stored is not None:
            found = unpack_corrections(stored)
            for warning in found.warnings:
                _log.warning("warning: %s", warning)
            return found
        found = find_corrections(self.automatic, self.proofread, self.config.corrections, progress=True)
        self._cache.put(key, **pack_corrections(found))
        return found

    def contacts(self) -> Contacts:
        """Find the touching pairs of segments, or read them from the cache."""
        from connectomebench.corrections.contacts import find_contacts

        pair = [self.automatic.fingerprint, self.proofread.fingerprint]
        key = content_key("contacts 2", pair, self.config.version, asdict(self.config.corrections))
        stored = self._cache.get(key)
        if stored is None:
            stored = pack_contacts(
                find_contacts(self.automatic, self.proofread, self.config.corrections, progress=True)
            )
            self._cache.put(key, **stored)
        return unpack_contacts(stored)

    def extents(self) -> Extents:
        """Return bounding box and size of every segment of the automatic segmentation."""
        if self._extents is None:
            key = content_key("extents 2", self.automatic.fingerprint, self.config.version)
            stored = self._cache.get(key)
            if stored is None:
                stored = asdict(find_extents(self.automatic))
                self._cache.put(key, **stored)
            self._extents = Extents(**stored)
        return self._extents

    def skeletons(self, segment_ids: Iterable[int]) -> Iterator[tuple[int, Skeleton]]:
        """Yield the skeleton of each segment; those without a part of ``dust_voxels`` are left out."""
        from tqdm import tqdm

        for segment in tqdm(list(segment_ids), desc="skeletons", unit="segment", leave=False, delay=1):
            skeleton = self._skeleton(int(segment))
            if skeleton is not None:
                yield int(segment), skeleton

    def _skeleton(self, segment: int) -> Skeleton | None:
        box = self.extents().box(segment)
        if box is None:
            raise ConnectomeBenchError(f"segment {segment} is not in the automatic segmentation")
        rules = self.config.skeleton
        # add a layer of background around the object, else kimimaro treats the faces of the crop as its inside
        lower = int_point(np.maximum(np.subtract(box[0], rules.downsample), 0))
        upper = int_point(np.minimum(np.add(box[1], rules.downsample), self.automatic.shape))
        mask = read_mask(self.automatic, segment, lower, upper, rules.downsample)
        place = (self._offset + lower).tolist()
        key = content_key("skeleton 1", np.packbits(mask), mask.shape, place, self._voxel.tolist(), asdict(rules))
        stored = self._cache.get(key)
        if stored is None:
            made = skeletonize(mask, place, self._voxel.tolist(), rules)
            none = Skeleton(np.zeros((0, 3), np.float32), np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
            stored = asdict(made or none)
            self._cache.put(key, **stored)
        return Skeleton(**stored) if len(stored["nodes_nm"]) else None

    def at_border(self, segment_ids: NDArray[np.uint64], points_nm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Check which places (shape (n, 3), nm) lie within ``border_nm`` of a face of the volume, or outside it."""
        bounds, border = self._info.bounds_nm, self.config.border_nm
        inner = Box(
            as_point(np.asarray(bounds.lower_nm) + border),
            as_point(np.asarray(bounds.upper_nm) - border),
        )
        return ~inner.contains(np.asarray(points_nm))

    def surroundings(
        self,
        segment_ids: NDArray[np.uint64],
        points_nm: NDArray[np.floating],
        radius_nm: float,
        question: Question = "both",
    ) -> Surroundings:
        """Check for bodies that continue or are fused near places; see :mod:`connectomebench.sources.surroundings`."""
        return volume_surroundings(
            self.automatic,
            self.proofread,
            self.corrections().bodies_of(),
            segment_ids,
            points_nm,
            radius_nm,
            self.config.certainty,
            question,
        )

    def supervoxel_interfaces(self, segment_ids: Iterable[int]) -> SupervoxelInterfaces | None:
        """Find the contacts between supervoxels inside segments, or read them from the cache; None without any."""
        from connectomebench.sources.supervoxel_interfaces import find_interfaces

        if self.supervoxels is None:
            return None
        asked = np.fromiter(segment_ids, np.uint64)
        asked.sort()
        rules = self.config.corrections
        volumes = [self.automatic, self.supervoxels, self.image]
        read_gray = None if self.image is None else self._gray_on_labels
        key = content_key(
            "supervoxel interfaces 2",
            [v and v.fingerprint for v in volumes],
            [self.config.version, rules.patch_cell_vx, rules.min_contact_faces],
            asked,
        )
        stored = self._cache.get(key)
        if stored is None:
            stored = asdict(find_interfaces(self.automatic, self.supervoxels, read_gray, asked, rules, progress=True))
            self._cache.put(key, **stored)
        return SupervoxelInterfaces(**stored)

    def cut_graph(self, segment_id: int, center_nm: Point, cutout_nm: float) -> CutGraph:
        """Break the segment inside a cube into pieces; see :mod:`connectomebench.sources.supervoxels`."""
        return self._pieces(int(segment_id), as_point(center_nm), float(cutout_nm)).graph

    def pieces(self, segment_id: int, center_nm: Point, cutout_nm: float) -> Pieces:
        """Return the pieces behind :meth:`cut_graph`, with their label array."""
        return self._pieces(int(segment_id), as_point(center_nm), float(cutout_nm))

    def gray(self) -> NDArray[np.uint8] | None:
        """Return the image data at the centres of all label voxels, axes x, y, z; None if there are none."""
        return self.gray_in((0, 0, 0), self.automatic.shape)

    def gray_in(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint8] | None:
        """Return the same for label voxels ``lower`` to ``upper`` (exclusive)."""
        return None if self.image is None else self._gray_on_labels(lower, upper)

    def cut_sides(self, segment_id: int, cut: Cut) -> tuple[CutGraph, NDArray[np.int8]] | str:
        """Cut a segment by the minimum cut between seeds."""
        from connectomebench.cuts.seeded_cuts import minimum_cut_sides

        return minimum_cut_sides(self, segment_id, cut)

    def whole_segments(self) -> WholeSegments:
        """Raise :class:`TaskLacking`: label volumes do not say which segments hold a cell body."""
        raise TaskLacking(
            "segment_classification",
            "label volumes have no table of nuclei and cell types; use the source `cave`, or `morphology` with somas",
        )

    def propose(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Propose right and wrong cuts at every merge error."""
        from connectomebench.cuts.proposals import propose_cuts

        return propose_cuts(self, self.corrections(), rules, largest_view_nm)

    def right_splits(self, rules: ProposalConfig, largest_view_nm: float) -> tuple[list[ProposedCut], Counter[str]]:
        """Split every merge error by the proofread segmentation."""
        from connectomebench.cuts.right_splits import right_splits

        return right_splits(self, self.corrections(), rules, largest_view_nm)

    def _make_pieces(self, segment: int, center_nm: Point, cutout_nm: float) -> Pieces:
        lower, upper = voxel_box(self.automatic, Box.around(center_nm, cutout_nm))
        mask = read_mask(self.automatic, segment, lower, upper, (1, 1, 1))
        if not mask.any():
            return Pieces(np.zeros((0, 0, 0), np.uint32), lower, EMPTY_GRAPH)
        spans = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
        mask = mask[tuple(slice(s[0], s[-1] + 1) for s in spans)]
        lower = int_point(np.add(lower, [s[0] for s in spans]))
        upper = int_point(np.add(lower, mask.shape))
        rules, voxel = self.config.pieces, self._voxel.tolist()
        parts_of = None
        if self.supervoxels is None:
            labels = pieces_of_balls(mask, voxel, rules.spacing_vx)
        else:
            cells = self.supervoxels.read(lower, upper)
            labels = pieces_of_supervoxels(mask, cells)
            parts_of = values_of_pieces(labels, cells)
        weighted = self.image is not None and rules.brightness_exponent != 0
        gray = self._gray_on_labels(lower, upper) if weighted else None
        if self.proofread is self.automatic:  # without truth, the segment is its own body
            bodies = np.broadcast_to(np.uint64(segment), labels.shape)
        else:
            bodies = self.proofread.read(lower, upper)
        place = (self._offset + lower).tolist()
        return Pieces(labels, lower, piece_graph(labels, bodies, gray, place, voxel, rules), parts_of)

    def _gray_on_labels(self, lower: IntPoint, upper: IntPoint) -> NDArray[np.uint8]:
        """Read the image data at the centres of label voxels."""
        assert self.image is not None
        index = []
        for axis in range(3):
            centres = (self._offset[axis] + np.arange(lower[axis], upper[axis]) + 0.5) * self._voxel[axis]
            voxels = np.floor(centres / self.image.voxel_size_nm[axis]).astype(int) - self.image.offset_vx[axis]
            index.append(np.clip(voxels, 0, self.image.shape[axis] - 1))
        start = int_point([i[0] for i in index])
        block = self.image.read(start, int_point([i[-1] + 1 for i in index]))
        return block[np.ix_(*(i - i[0] for i in index))]

    def meshes(self, site: Site) -> list[Mesh]:
        """Mesh each part of the site inside the cube shown.

        Where the volume itself ends inside the view, an object ends in a flat cap. Where the cube shown ends,
        the surface continues beyond it and is open.
        """
        from connectomebench.cuts.min_cut import apply_cut

        shown = Box.around(site.location_nm, site.extent_nm)
        lower, upper = voxel_box(self.automatic, shown, self.config.mesh.margin_vx)
        if any(a >= b for a, b in zip(lower, upper, strict=True)):
            return [EMPTY_MESH] * len(site.parts)
        labels = np.zeros(np.subtract(upper, lower), np.uint8, order="F")
        block = None
        for number, part in enumerate(site.parts, 1):
            if part.role in ("source", "sink"):
                assert site.cut is not None, "a part with role source or sink needs a cut"
                pieces = self._pieces(part.segment_id, as_point(site.cut.center_nm), float(site.cut.cutout_nm))
                side = 1 if part.role == "source" else -1
                paint_side(labels, lower, pieces, apply_cut(pieces.graph, site.cut), side, number)
            else:
                block = self.automatic.read(lower, upper) if block is None else block
                labels[block == block.dtype.type(part.segment_id)] = number
        ends = np.stack([np.equal(lower, 0), np.equal(upper, self.automatic.shape)], axis=1)
        place, voxel = (self._offset + lower).tolist(), self._voxel.tolist()
        return stored_meshes(self._cache, labels, len(site.parts), place, voxel, ends, self.config.mesh)

    def em_slices(self, site: Site, pixels: int) -> dict[str, EMSlice] | None:
        """Cut the slices xy, xz and yz through the site; None if there are no image data."""
        if self.image is None:
            return None
        sides = self._sides(site)
        return cut_slices(self.image, self.automatic, site.location_nm, site.extent_nm, pixels, sides)

    def em_pages(self, site: Site, pixels: int, offsets_nm: Sequence[float]) -> dict[str, list[EMSlice]] | None:
        """Cut parallel slices in the planes xy, xz and yz round the site; None if there are no image data."""
        if self.image is None:
            return None
        sides = self._sides(site)
        return cut_pages(self.image, self.automatic, site.location_nm, site.extent_nm, pixels, offsets_nm, sides)

    def _sides(self, site: Site) -> SidesVolume | None:
        """Return the sides of the cut that a site proposes, as :meth:`meshes` shows them; None without one."""
        from connectomebench.cuts.min_cut import apply_cut

        if site.cut is None:
            return None
        segment = site.parts[0].segment_id
        pieces = self._pieces(segment, as_point(site.cut.center_nm), float(site.cut.cutout_nm))
        return SidesVolume(self.automatic, pieces, apply_cut(pieces.graph, site.cut))


def open_volumes(
    config: VolumesConfig, species: str, cache: Path, base: Path | None = None
) -> VolumeSource | SegmentationFamily:
    """Open one segmentation, or a family of several; see :class:`VolumeSource` for the parameters and errors."""
    if not isinstance(config.automatic, dict):
        return VolumeSource(config, species, cache, base)
    members: dict[str, Source] = {}
    first = None
    for name, spec in config.automatic.items():
        own = replace(config, name=f"{config.name}/{name}", automatic=spec)
        members[name] = first = VolumeSource(own, species, cache, base, like=first)
    return SegmentationFamily(config.name, config.version, members, config.same_place_nm)


def check_equal(name: str, volume: Volume, other_name: str, other: Volume) -> None:
    """Check that two volumes cover the same voxels.

    Raises
    ------
    ConnectomeBenchError
        If shapes, voxel sizes or offsets differ.
    """
    for what in ("shape", "voxel_size_nm", "offset_vx"):
        mine, theirs = getattr(volume, what), getattr(other, what)
        if not np.allclose(mine, theirs, rtol=1e-6, atol=1e-6):
            remedy = "both must cover the same voxels: crop one"
            if sorted(mine) == sorted(theirs):
                remedy = "the numbers are the same in another order: check `axes` of both"
            raise ConnectomeBenchError(
                f"{name} and {other_name} differ in {what} (x, y, z): {list(mine)} and {list(theirs)}; {remedy}"
            )
