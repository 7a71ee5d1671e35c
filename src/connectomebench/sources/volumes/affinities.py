"""Open an affinity map: how much neighbouring voxels belong together, one channel an axis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from connectomebench.core.files import content_key
from connectomebench.core.volume import FingerprintedVolume, Volume
from connectomebench.sources.volumes.arrays import ArrayVolume, VolumeSpec, open_volume
from connectomebench.sources.volumes.volume_source import check_equal

Affinities = tuple[FingerprintedVolume, FingerprintedVolume, FingerprintedVolume]


def open_affinities(spec: VolumeSpec, labels: Volume, base: Path | None = None) -> Affinities:
    """Open the channels of an affinity map for block-wise reading.

    Parameters
    ----------
    spec
        Its location and placement. Channels are stored in the order in which ``axes`` names x, y and z: those of
        ``czyx`` are z, y, x. A precomputed volume has them in the order x, y, z.
    labels
        The segmentation, on whose voxels it must lie.
    base
        Base folder for relative paths; the working directory by default.

    Returns
    -------
    tuple of Volume
        Along x, y and z: the affinity between a voxel and the one before it along that axis. float32 or float64 from 0
        to 1, or uint8 from 0 to 255. What is read is checked: NaN and numbers beyond 0 to 1 raise an error.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be opened, has another number of channels or another type, or does not lie where the labels do.
    """
    stored = open_volume(spec, kind="affinity", base=base, name="affinity")
    check_equal("automatic", labels, "affinity", stored)
    axes = spec.axes.lower() if isinstance(stored, ArrayVolume) and spec.axes is not None else "xyz"
    spatial = [letter for letter in axes if letter in "xyz"]
    x, y, z = (
        replace(stored, channel=number, fingerprint=content_key("channel 1", stored.fingerprint, number))
        for number in map(spatial.index, "xyz")
    )
    return x, y, z
