"""The place to proofread: its volumes, whole or a box of them, and sources over the current state of its objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Box
from connectomebench.core.volume import IntPoint, voxel_box
from connectomebench.proofreading.find_supervoxels import find_supervoxels
from connectomebench.proofreading.segmentation_graph import Supervoxels
from connectomebench.sources.volumes.arrays import ArrayVolume, StoredVolume
from connectomebench.sources.volumes.cropped import CroppedVolume
from connectomebench.sources.volumes.volume_source import VolumeSource


@dataclass(frozen=True)
class Place:
    """Everything that does not change while a segmentation is proofread.

    Attributes
    ----------
    config
        Rules of sites, candidates and cuts.
    source
        Source over the volumes of the configuration. Only scores may ask it for truth.
    box
        The box that is proofread, nm.
    labels
        Segments in it, uint64, axes x, y, z.
    truth
        Bodies in it, uint64, same shape; None where there are none.
    image
        Image data of the box, or None.
    pieces
        Supervoxel of each voxel, uint32, same shape.
    supervoxels
        The same as a graph.
    fingerprint
        Hash of all of that.
    """

    config: BuildConfig
    source: VolumeSource
    box: Box
    labels: NDArray[np.uint64]
    truth: NDArray[np.uint64] | None
    image: StoredVolume | None
    pieces: NDArray[np.uint32]
    supervoxels: Supervoxels
    fingerprint: str

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Edge of a label voxel along x, y, z, nm."""
        return self.source.automatic.voxel_size_nm

    @property
    def offset_vx(self) -> IntPoint:
        """Absolute coordinate of the first voxel of ``labels``."""
        x, y, z = (round(low / v) for low, v in zip(self.box.lower_nm, self.voxel_size_nm, strict=True))
        return x, y, z

    def volume(self, array: NDArray[np.uint64], name: str) -> ArrayVolume:
        """Wrap labels of the box as a volume."""
        x, y, z = array.shape
        key = content_key(array, list(self.offset_vx), list(self.voxel_size_nm))
        return ArrayVolume(array, (0, 1, 2), (x, y, z), self.voxel_size_nm, self.offset_vx, "labels", key, name)

    def objects(self, of_rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the object of each voxel, from that of each supervoxel (uint64, shape (n,)); axes x, y, z."""
        return np.concatenate([np.zeros(1, np.uint64), of_rows])[self.pieces]

    def blind(self, of_rows: NDArray[np.uint64]) -> VolumeSource:
        """Return a source over the current objects that has no access to any truth."""
        volume = self.volume(self.objects(of_rows), "current objects")
        pieces = self.volume(self.pieces.astype(np.uint64), "supervoxels")
        return self.source.over(volume, volume, self.image, pieces)

    def against_truth(self, of_rows: NDArray[np.uint64]) -> VolumeSource:
        """Return a source over the current objects with the truth, for scores alone."""
        assert self.truth is not None, "there is no truth"
        volume, truth = self.volume(self.objects(of_rows), "current objects"), self.volume(self.truth, "truth")
        return self.source.over(volume, truth, self.image, volume)

    def over_truth(self) -> VolumeSource:
        """Return a source whose segments are the bodies of the truth, for their skeletons."""
        assert self.truth is not None, "there is no truth"
        truth = self.volume(self.truth, "truth")
        return self.source.over(truth, truth, self.image, truth)


def open_place(
    config: BuildConfig,
    base: Path,
    cache: Path,
    segmentation: str | None = None,
    box_nm: tuple[float, float, float, float, float, float] | None = None,
) -> Place:
    """Open the volumes of a configuration and break the segmentation into supervoxels, all in memory.

    Parameters
    ----------
    config
        A configuration with the source `volumes`.
    base
        Base folder for its relative paths.
    cache
        Cache folder for meshes, skeletons and contacts.
    segmentation
        Which one, where the configuration names several.
    box_nm
        Lower x, y, z and upper x, y, z of the box to proofread, nm; None takes the whole volume.

    Raises
    ------
    ConnectomeBenchError
        If the source has no volumes, the segmentation is not named or unknown, the box is empty, or a volume cannot be
        opened.
    """
    volumes = config.source.volumes
    if volumes is None:
        raise ConnectomeBenchError("only segmentation volumes can be proofread: the configuration needs source.volumes")
    if isinstance(volumes.automatic, dict):
        known = ", ".join(volumes.automatic)
        if segmentation not in volumes.automatic:
            raise ConnectomeBenchError(f"name the segmentation to proofread with --segmentation: one of {known}")
        volumes = replace(volumes, automatic=volumes.automatic[segmentation])
    elif segmentation is not None:
        raise ConnectomeBenchError("the configuration has one segmentation; leave --segmentation out")
    source = VolumeSource(volumes, config.species, cache, base, truth_needed=False)
    has_truth = volumes.proofread is not None or volumes.simulated is not None
    automatic = source.automatic
    lower, upper = (0, 0, 0), automatic.shape
    if box_nm is not None:
        wanted = Box(box_nm[:3], box_nm[3:])
        lower, upper = voxel_box(automatic, wanted)
        if any(a >= b for a, b in zip(lower, upper, strict=True)):
            bounds = source.info.bounds_nm
            raise ConnectomeBenchError(
                f"the box {list(box_nm)} holds no voxel of the volume, which spans {list(bounds.lower_nm)} to "
                f"{list(bounds.upper_nm)} nm"
            )
    voxel = np.asarray(automatic.voxel_size_nm)
    offset = np.add(automatic.offset_vx, lower).astype(np.int64)
    size = np.subtract(upper, lower)
    low_nm, high_nm = (offset * voxel).tolist(), ((offset + size) * voxel).tolist()
    box = Box((low_nm[0], low_nm[1], low_nm[2]), (high_nm[0], high_nm[1], high_nm[2]))
    labels = np.ascontiguousarray(automatic.read(lower, upper).astype(np.uint64))
    if not labels.any():
        raise ConnectomeBenchError("the segmentation is all background there; check the volume or choose another --box")
    truth = np.ascontiguousarray(source.proofread.read(lower, upper).astype(np.uint64)) if has_truth else None
    image = None if source.image is None else _cropped(source.image, box)
    given = None if source.supervoxels is None else source.supervoxels.read(lower, upper)
    whole = ArrayVolume(
        labels, (0, 1, 2), labels.shape, automatic.voxel_size_nm, tuple(offset.tolist()), "labels", "", "labels"
    )
    gray = None
    if volumes.pieces.brightness_exponent != 0:
        gray = source.over(whole, whole, image, whole).gray()
    pieces, supervoxels = find_supervoxels(
        labels, given, gray, offset, voxel, volumes.pieces, config.sites.min_segment_voxels
    )
    key = content_key(pieces, labels, truth if truth is not None else 0, list(box.lower_nm), source.info.version)
    return Place(config, source, box, labels, truth, image, pieces, supervoxels, key)


def _cropped(volume: StoredVolume | CroppedVolume, box: Box) -> ArrayVolume:
    """Read a box of image data into memory."""
    lower, upper = voxel_box(volume, box)
    x, y, z = (int(a + b) for a, b in zip(volume.offset_vx, lower, strict=True))
    array = np.ascontiguousarray(volume.read(lower, upper))
    key = content_key(volume.fingerprint, list(lower), list(upper))
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return ArrayVolume(array, (0, 1, 2), shape, volume.voxel_size_nm, (x, y, z), "image", key, "image")
