"""The volumes of a place, opened once in every process that works on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.core.volume import FingerprintedVolume, voxel_box
from connectomebench.sources.volumes.affinities import Affinities, open_affinities
from connectomebench.sources.volumes.cropped import CroppedVolume
from connectomebench.sources.volumes.volume_source import VolumeSource


@dataclass(frozen=True)
class PlaceVolumes:
    """Volumes of the box to proofread.

    Attributes
    ----------
    config
        Rules of sites, candidates and cuts.
    source
        Over whole volumes; gives provenance and rules.
    box
        The box, nm.
    labels
        Segments in it.
    truth
        Bodies in it, or None.
    image
        Image data of it, or None.
    given
        Supervoxels of the configuration, or None.
    affinities
        Channels of the affinity map along x, y and z, or None. Only scores read them.
    """

    config: BuildConfig
    source: VolumeSource
    box: Box
    labels: FingerprintedVolume
    truth: FingerprintedVolume | None
    image: FingerprintedVolume | None
    given: FingerprintedVolume | None
    affinities: Affinities | None = None

    def blind_source(self) -> VolumeSource:
        """Return a source over the segments that has no access to any truth."""
        return self.source.over(self.labels, self.labels, self.image, self.labels)


class VolumeOpener(Protocol):
    """Opens the volumes of a place; small, can be pickled, and equal where it opens the same."""

    def open(self) -> PlaceVolumes:
        """Open them."""
        ...


@dataclass(frozen=True)
class ConfiguredVolumes:
    """Opens the volumes of a configuration.

    Attributes
    ----------
    config, base, cache, segmentation, box_nm
        See :func:`connectomebench.proofreading.place.open_place`.
    """

    config: BuildConfig
    base: Path
    cache: Path
    segmentation: str | None = None
    box_nm: tuple[float, float, float, float, float, float] | None = None

    def open(self) -> PlaceVolumes:
        """Open them; see :func:`connectomebench.proofreading.place.open_place` for errors."""
        volumes = self.config.source.volumes
        if volumes is None:
            raise ConnectomeBenchError(
                "only segmentation volumes can be proofread: the configuration needs source.volumes"
            )
        if isinstance(volumes.automatic, dict):
            known = ", ".join(volumes.automatic)
            if self.segmentation not in volumes.automatic:
                raise ConnectomeBenchError(f"name the segmentation to proofread with --segmentation: one of {known}")
            volumes = replace(volumes, automatic=volumes.automatic[self.segmentation])
        elif self.segmentation is not None:
            raise ConnectomeBenchError("the configuration has one segmentation; leave --segmentation out")
        source = VolumeSource(volumes, self.config.species, self.cache, self.base, truth_needed=False)
        has_truth = volumes.proofread is not None or volumes.simulated is not None
        automatic = source.automatic
        lower, upper = (0, 0, 0), automatic.shape
        if self.box_nm is not None:
            lower, upper = voxel_box(automatic, Box(self.box_nm[:3], self.box_nm[3:]))
            if any(a >= b for a, b in zip(lower, upper, strict=True)):
                bounds = source.info.bounds_nm
                raise ConnectomeBenchError(
                    f"the box {list(self.box_nm)} holds no voxel of the volume, which spans {list(bounds.lower_nm)} to "
                    f"{list(bounds.upper_nm)} nm"
                )
        voxel = np.asarray(automatic.voxel_size_nm)
        low_nm = ((np.asarray(automatic.offset_vx) + lower) * voxel).tolist()
        high_nm = ((np.asarray(automatic.offset_vx) + upper) * voxel).tolist()
        box = Box((low_nm[0], low_nm[1], low_nm[2]), (high_nm[0], high_nm[1], high_nm[2]))

        def cropped(volume: FingerprintedVolume) -> FingerprintedVolume:
            first, last = voxel_box(volume, box)
            x, y, z = (b - a for a, b in zip(first, last, strict=True))
            if first == (0, 0, 0) and (x, y, z) == tuple(volume.shape):
                return volume
            return CroppedVolume(volume, first, (x, y, z))

        affinities = None
        if volumes.affinity is not None:
            x, y, z = open_affinities(volumes.affinity, automatic, self.base)
            affinities = (cropped(x), cropped(y), cropped(z))
        return PlaceVolumes(
            self.config,
            source,
            box,
            cropped(automatic),
            cropped(source.proofread) if has_truth else None,
            source.image and cropped(source.image),
            source.supervoxels and cropped(source.supervoxels),
            affinities,
        )


_open: list[tuple[VolumeOpener, PlaceVolumes]] = []
_opening = threading.Lock()


def open_here(opener: VolumeOpener) -> PlaceVolumes:
    """Open the volumes in this process, or return the open ones. Only the last are kept: volumes are large."""
    with _opening:
        if not _open or _open[0][0] != opener:
            _open[:] = [(opener, opener.open())]
        return _open[0][1]
