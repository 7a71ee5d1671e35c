"""Contacts between the supervoxels of one segment: where an agglomeration may have joined two neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SupervoxelInterfaces:
    """Contiguous patches of contact between two supervoxels inside one segment, one row each.

    Attributes
    ----------
    segments
        uint64, shape (n,), ascending: the segment that holds both.
    supervoxels
        uint64, shape (n, 2), the smaller id first.
    points_nm
        float32, shape (n, 3), axes x, y, z, nm: the place on the contact that lies deepest inside the segment.
    areas
        int64, shape (n,): voxel faces.
    depths_nm
        float32, shape (n,): distance of that place from the surface of the segment, nm.
    calibres_nm
        float32, shape (n, 2): the largest such distance in each of the two supervoxels round the place, nm.
    voxels
        int64, shape (n, 2): voxels of each of the two supervoxels round the place.
    brightness
        float32, shape (n,): mean image value at the contact, divided by that of the two supervoxels round the place;
        NaN without image data.
    """

    segments: NDArray[np.uint64]
    supervoxels: NDArray[np.uint64]
    points_nm: NDArray[np.float32]
    areas: NDArray[np.int64]
    depths_nm: NDArray[np.float32]
    calibres_nm: NDArray[np.float32]
    voxels: NDArray[np.int64]
    brightness: NDArray[np.float32]

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_] | slice) -> SupervoxelInterfaces:
        """Select the interfaces at these rows."""
        return SupervoxelInterfaces(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def by_segment(self) -> Iterator[tuple[int, SupervoxelInterfaces]]:
        """Yield each segment with its own interfaces, in ascending order."""
        unique, starts = np.unique(self.segments, return_index=True)
        stops = np.append(starts, len(self.segments))[1:]
        for segment, start, stop in zip(unique.tolist(), starts, stops, strict=True):
            yield segment, self.take(slice(int(start), int(stop)))
