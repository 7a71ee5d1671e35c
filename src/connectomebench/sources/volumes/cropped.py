"""Use a part of a volume as a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.volume import FingerprintedVolume, IntPoint, Volume


@dataclass(frozen=True)
class CroppedVolume:
    """A box of a stored volume; see ``Volume``.

    Attributes
    ----------
    whole
        The stored volume.
    lower
        First voxel of the box, index along x, y, z.
    shape
        Voxels of the box.
    """

    whole: FingerprintedVolume
    lower: IntPoint
    shape: IntPoint

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Edge of a voxel along x, y, z, nm."""
        return self.whole.voxel_size_nm

    @property
    def offset_vx(self) -> IntPoint:
        """Absolute voxel coordinate of the first voxel."""
        x, y, z = (o + a for o, a in zip(self.whole.offset_vx, self.lower, strict=True))
        return x, y, z

    @property
    def fingerprint(self) -> str:
        """Hash of the content and the box."""
        return content_key("crop 1", self.whole.fingerprint, list(self.lower), list(self.shape))

    def read(self, lower: IntPoint, upper: IntPoint) -> NDArray[Any]:
        """Read voxels ``lower`` to ``upper`` (exclusive); axes x, y, z."""
        if any(not 0 <= a <= b <= n for a, b, n in zip(lower, upper, self.shape, strict=True)):
            raise IndexError(f"voxels {lower} to {upper} are outside the crop of shape {self.shape}")
        first, second = (tuple(a + c for a, c in zip(self.lower, corner, strict=True)) for corner in (lower, upper))
        return self.whole.read(first, second)  # type: ignore[arg-type]


def fit_image(image: FingerprintedVolume, labels: Volume) -> FingerprintedVolume:
    """Crop image data to the place of the labels.

    Parameters
    ----------
    image
        On the voxels of the labels or finer ones by whole factors.
    labels
        Labels of the same place.

    Returns
    -------
    Volume
        ``image`` itself where it ends where the labels do, up to less than a voxel of the labels.

    Raises
    ------
    ConnectomeBenchError
        If the voxels do not divide those of the labels, or the image data do not cover the labels.
    """
    label_nm, image_nm = np.asarray(labels.voxel_size_nm), np.asarray(image.voxel_size_nm)
    factor = np.rint(label_nm / image_nm)
    if (factor < 1).any() or not np.allclose(factor * image_nm, label_nm, rtol=1e-6):
        raise ConnectomeBenchError(
            f"image voxels {list(image.voxel_size_nm)} nm do not divide those of automatic "
            f"{list(labels.voxel_size_nm)} nm by whole numbers; choose a matching mip or check `voxel_size_nm`"
        )
    boxes = []
    for volume, nm in ((labels, label_nm), (image, image_nm)):
        lower = np.asarray(volume.offset_vx) * nm
        boxes.append((lower, lower + np.asarray(volume.shape) * nm))
    (label_low, label_high), (image_low, image_high) = boxes
    # less than a voxel is rounding of mips
    if (image_low - label_low >= label_nm).any() or (label_high - image_high >= label_nm).any():
        raise ConnectomeBenchError(
            f"image data do not cover automatic: they lie at {_xyz(image_low)} to {_xyz(image_high)} nm, the labels at "
            f"{_xyz(label_low)} to {_xyz(label_high)} nm (x, y, z); check shape, axes and `offset_vx`, or crop them"
        )
    first = np.maximum(np.rint((label_low - image_low) / image_nm).astype(int), 0)
    last = np.minimum(np.rint((label_high - image_low) / image_nm).astype(int), image.shape)
    if not first.any() and (last == image.shape).all():
        return image
    x, y, z = (int(v) for v in first)
    nx, ny, nz = (int(v) for v in last - first)
    return CroppedVolume(image, (x, y, z), (nx, ny, nz))


def _xyz(values: NDArray[np.floating]) -> str:
    return ", ".join(f"{v:g}" for v in values)
