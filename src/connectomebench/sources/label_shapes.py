"""Compute bounding boxes, meshes and skeletons (kimimaro) of labels in world coordinates.

The centre of voxel ``i`` lies at ``(offset + i + 0.5) * voxel_size``. kimimaro puts nodes at ``i * voxel_size``, so
half a voxel is added.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import EMPTY_MESH, Mesh, Skeleton
from connectomebench.core.volume import IntPoint, Volume
from connectomebench.sources.label_surfaces import find_net, label_surface, relax, settle_owners

_BLOCK_VOXELS = 1 << 26  # voxels read at once


@dataclass(frozen=True)
class MeshConfig:
    """Parameters of the surfaces made from labels.

    Attributes
    ----------
    margin_vx
        Voxels read beyond the cube shown, so that a surface continues where the cube ends.
    smoothing
        Steps of averaging, which move a surface by half a voxel at most; 0 leaves the steps of voxels visible, 30
        flattens steps that are up to some 10 voxels long.
    dust_voxels
        Smaller connected parts are not drawn, or drawn as the part that they touch; see
        :func:`connectomebench.sources.label_surfaces.settle_owners`. 1 keeps all.
    """

    margin_vx: int = 6
    smoothing: int = 30
    dust_voxels: int = 50


@dataclass(frozen=True)
class SkeletonConfig:
    """Parameters of TEASAR (Sato et al. 2000) as in kimimaro: branches start where they leave balls around other paths.

    Attributes
    ----------
    scale, const_nm
        Radius of the ball: ``scale`` times the distance to the boundary, plus ``const_nm`` (nm). Smaller values follow
        smaller bumps. ``const_nm`` is 10 voxels (geometric mean of their edges) where not given.
    pdrf_scale, pdrf_exponent
        How strongly paths are drawn to the middle.
    soma_detection_nm, soma_acceptance_nm
        Objects thicker than the first are tested for a soma, and those thicker than the second have one, nm.
    dust_voxels
        Connected parts with fewer voxels get no skeleton.
    downsample
        Voxels along x, y, z that are merged first (a voxel is kept if at least half is filled). A factor of
        2 makes skeletons some ten times faster.
    """

    scale: float = 3.0
    const_nm: float | None = None
    pdrf_scale: float = 100_000.0
    pdrf_exponent: int = 4
    soma_detection_nm: float = 750.0
    soma_acceptance_nm: float = 3500.0
    dust_voxels: int = 200
    downsample: IntPoint = (1, 1, 1)


@dataclass(frozen=True)
class Extents:
    """Bounding box and size of each label, one row per label, sorted by id, without 0.

    Attributes
    ----------
    ids
        uint64, shape (n,).
    lower, upper
        int64, shape (n, 3): bounding box in voxels of the volume, upper exclusive; axes x, y, z.
    voxels
        int64, shape (n,).
    """

    ids: NDArray[np.uint64]
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    voxels: NDArray[np.int64]

    def box(self, label: int) -> tuple[IntPoint, IntPoint] | None:
        """Return the bounding box of a label, or None if there is no such label."""
        row = int(np.searchsorted(self.ids, np.uint64(label)))
        if row == len(self.ids) or int(self.ids[row]) != label:
            return None
        return int_point(self.lower[row]), int_point(self.upper[row])


def int_point(values: Sequence[Any] | NDArray[Any]) -> IntPoint:
    """Convert to three Python integers."""
    x, y, z = (int(v) for v in values)
    return x, y, z


def find_extents(volume: Volume, block_vx: int = 256) -> Extents:
    """Find the bounding box and size of every label, block by block.

    Parameters
    ----------
    volume
        Labels.
    block_vx
        Edge of the blocks read, voxels.
    """
    import cc3d
    import fastremap

    ids: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    boxes = [np.zeros((0, 3, 2), np.int64)]
    counts = [np.zeros(0, np.int64)]
    for start in itertools.product(*(range(0, n, block_vx) for n in volume.shape)):
        lower = int_point(start)
        upper = int_point([min(a + block_vx, n) for a, n in zip(lower, volume.shape, strict=True)])
        # ids may be 64-bit: renumber them, since the statistics are a table by id
        block, names = fastremap.renumber(volume.read(lower, upper), preserve_zero=True)
        found: Any = cc3d.statistics(block, no_slice_conversion=True)
        pairs = sorted((new, old) for old, new in names.items() if old)
        rows = np.array([new for new, _ in pairs], np.int64)
        ids.append(np.array([old for _, old in pairs], np.uint64))
        box = np.asarray(found["bounding_boxes"]).astype(np.int64)[rows].reshape(-1, 3, 2)  # both bounds inclusive
        boxes.append(box + np.array(lower)[None, :, None] + [0, 1])
        counts.append(np.asarray(found["voxel_counts"]).astype(np.int64)[rows])
    unique, inverse = np.unique(np.concatenate(ids), return_inverse=True)
    box = np.concatenate(boxes)
    low = np.full((len(unique), 3), np.iinfo(np.int64).max)
    high, voxels = np.zeros((len(unique), 3), np.int64), np.zeros(len(unique), np.int64)
    np.minimum.at(low, inverse, box[:, :, 0])
    np.maximum.at(high, inverse, box[:, :, 1])
    np.add.at(voxels, inverse, np.concatenate(counts))
    return Extents(unique, low, high, voxels)


def read_mask(volume: Volume, label: int, lower: IntPoint, upper: IntPoint, factor: IntPoint) -> NDArray[np.bool_]:
    """Read the mask of a label downsampled by ``factor``; only the result is held in memory as a whole.

    Parameters
    ----------
    volume
        Labels.
    label
        The id.
    lower, upper
        Voxels of the volume, upper exclusive.
    factor
        Voxels along x, y, z that become one: filled where at least half of them are.

    Returns
    -------
    NDArray[np.bool_]
        Shape ``ceil((upper - lower) / factor)``, axes x, y, z.
    """
    size = np.subtract(upper, lower)
    step = max(1, _BLOCK_VOXELS // max(int(size[0] * size[1]), 1) // factor[2]) * factor[2]  # whole groups of voxels
    if 0 < size[2] <= step:  # in the order of the labels: another one would cost five times as much as the comparison
        return _half_filled(volume.read(lower, upper), label, factor)
    mask = np.zeros(-(-size // np.asarray(factor)), np.bool_, order="F")
    for z in range(0, int(size[2]), step):
        end = min(z + step, int(size[2]))
        block = volume.read((lower[0], lower[1], lower[2] + z), (upper[0], upper[1], lower[2] + end))
        mask[:, :, z // factor[2] : -(-end // factor[2])] = _half_filled(block, label, factor)
    return mask


def _half_filled(labels: NDArray[Any], label: int, factor: IntPoint) -> NDArray[np.bool_]:
    """Tell which groups of voxels are filled by a label for at least a half."""
    if factor == (1, 1, 1):
        return labels == labels.dtype.type(label)
    from connectomebench.sources.label_kernels import count_label

    shape = [-(-n // f) for n, f in zip(labels.shape, factor, strict=True)]
    # the axis that is contiguous in memory comes last
    order = sorted(range(3), key=lambda axis: -abs(labels.strides[axis]))
    counts = np.zeros([shape[axis] for axis in order], np.uint16)
    count_label(labels.transpose(order), labels.dtype.type(label), tuple(factor[axis] for axis in order), counts)
    counts = counts.transpose(np.argsort(order))
    sizes: NDArray[Any] = np.ones((1, 1, 1), np.int64)
    for axis, (n, f) in enumerate(zip(labels.shape, factor, strict=True)):
        lengths = np.minimum(f, n - f * np.arange(shape[axis]))
        sizes = sizes * lengths.reshape([-1 if a == axis else 1 for a in range(3)])
    return (counts > 0) & (2 * counts.astype(np.int32) >= sizes)


def skeletonize(
    mask: NDArray[np.bool_], lower_vx: Sequence[int], voxel_nm: Sequence[float], rules: SkeletonConfig
) -> Skeleton | None:
    """Skeletonize one object with TEASAR (kimimaro).

    Parameters
    ----------
    mask
        The object, with a layer of background around it except where the data end; axes x, y, z, downsampled by
        ``rules.downsample``.
    lower_vx
        Absolute voxel coordinate of the mask's first voxel, in full voxels.
    voxel_nm
        Edge of a full voxel along x, y, z, nm.
    rules
        Parameters.

    Returns
    -------
    Skeleton or None
        None if the object has no part of ``dust_voxels``. Nodes are voxel centres in world coordinates.
    """
    import kimimaro

    factor = np.asarray(rules.downsample)
    step = np.asarray(voxel_nm, np.float64) * factor
    const = 10 * float(np.prod(voxel_nm)) ** (1 / 3) if rules.const_nm is None else rules.const_nm
    parameters = {
        "scale": rules.scale,
        "const": const,
        "pdrf_scale": rules.pdrf_scale,
        "pdrf_exponent": rules.pdrf_exponent,
        "soma_detection_threshold": rules.soma_detection_nm,
        "soma_acceptance_threshold": rules.soma_acceptance_nm,
        "soma_invalidation_const": 300,
        "soma_invalidation_scale": 2,
    }
    made = kimimaro.skeletonize(
        np.asfortranarray(mask).view(np.uint8),
        teasar_params=parameters,
        anisotropy=tuple(step.tolist()),
        # kimimaro also drops parts of exactly the threshold
        dust_threshold=max(0, rules.dust_voxels // int(factor.prod()) - 1),
        # the crop ends where the object does: its faces are no borders between chunks that need matching ends
        fix_borders=False,
        progress=False,
        parallel=1,
    )
    if 1 not in made or len(made[1].vertices) == 0:
        return None
    skeleton = made[1]
    origin = np.asarray(lower_vx, np.float64) * voxel_nm
    nodes = origin + np.asarray(skeleton.vertices, np.float64) + step / 2
    radii = np.asarray(skeleton.radii if hasattr(skeleton, "radii") else skeleton.radius)
    return Skeleton(nodes.astype(np.float32), skeleton.edges.astype(np.int32), radii.astype(np.float32))


def mesh_labels(
    labels: NDArray[np.uint8],
    count: int,
    lower_vx: Sequence[int],
    voxel_nm: Sequence[float],
    ends: NDArray[np.bool_],
    rules: MeshConfig,
) -> list[Mesh]:
    """Mesh labels 1 to ``count`` of a crop smoothly and jointly, so that none covers its neighbour.

    See :mod:`connectomebench.sources.label_surfaces`.

    Parameters
    ----------
    labels
        uint8, axes x, y, z; Fortran order is not copied.
    count
        Number of labels.
    lower_vx
        Absolute voxel coordinate of the crop's first voxel.
    voxel_nm
        Edge of a voxel along x, y, z, nm.
    ends
        bool, shape (3, 2): faces of the crop (axis; lower, upper) where the data end. There an object is closed with a
        flat cap, since it really is cut there; at the other faces it stays open, since it continues.
    rules
        Smoothing.

    Returns
    -------
    list of Mesh
        One per label, empty if the label is absent.
    """
    voxel = np.asarray(voxel_nm, np.float64)
    owners = settle_owners(labels, rules.dust_voxels)
    net = find_net(np.asfortranarray(np.pad(owners, ends.astype(int))))
    points = relax(net, rules.smoothing)
    origin = (np.asarray(lower_vx, np.float64) - ends[:, 0]) * voxel
    meshes = []
    for label in range(1, count + 1):
        vertices, faces = label_surface(net, points, label, voxel)
        meshes.append(Mesh((vertices + origin).astype(np.float32), faces) if len(faces) else EMPTY_MESH)
    return meshes
