"""Masks of the two parts of a segment: which part the surface seen at every pixel belongs to.

The segment is drawn whole, as in its picture, so that depth, edges and samples are the same to the bit. Each of its
faces belongs to the part whose own surface is nearest; a pixel belongs to the part of the face seen there. Where the
cube shown cuts the segment open, it belongs to the part that is cut, whose own surface is the first behind the cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.geometry import Mesh
from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.clip import ViewMesh, clip_mesh
from connectomebench.rendering.rasterizer import available_threads, rasterize_owners

# A face farther than this from the surfaces of both parts belongs to neither: in median edges of the segment's faces,
# and at least in shares of half the view. Surfaces of a part and of the whole differ by smoothing alone.
_NEAR_EDGES = 4.0
_NEAR_SHARE = 0.02

MIN_TAKEN_SHARE = 0.02
"""Least share of the visible segment that each part must cover, over all views."""
MAX_UNREACHED_SHARE = 0.1
"""Largest share of the visible segment that may belong to neither part."""


@dataclass(frozen=True)
class PartMasks:
    """The masks of a segment that is split in two.

    Attributes
    ----------
    views
        View -> uint8, shape (pixels, pixels), of :data:`~connectomebench.core.part_masks.NOTHING` (background, and
        pieces that belong to neither part), ``STAYS`` and ``TAKEN``.
    taken
        Which of the two parts is taken away, 0 or 1.
    shares
        Shares of the visible segment that the part taken away, the part that stays, and neither cover.
    """

    views: dict[str, NDArray[np.uint8]]
    taken: int
    shares: tuple[float, float, float]

    @property
    def problem(self) -> str | None:
        """Why these masks make no question; None if they do."""
        if self.shares[2] > MAX_UNREACHED_SHARE:
            return "the split leaves much of the visible segment on neither side"
        if self.shares[0] < MIN_TAKEN_SHARE:
            return "one part of the split is hardly to be seen"
        return None


def part_masks(
    segment: Mesh, parts: tuple[Mesh, Mesh], center_nm: Point, extent_nm: float, pixels: int, threads: int = 0
) -> PartMasks:
    """Compute the masks of the two parts of a segment.

    The part that covers fewer pixels of all views together is the one taken away (the second, where they are equal):
    of the two it is the one that a person who sees the pictures alone would name.

    Parameters
    ----------
    segment
        The whole segment, as it is drawn; nm.
    parts
        Its two parts; nm.
    center_nm, extent_nm, pixels
        Of the views, as for :meth:`connectomebench.rendering.engines.Engine.render`.
    threads
        0 for all cores of the process; the result does not depend on it.
    """
    threads = threads or available_threads()
    whole = clip_mesh(segment, center_nm, extent_nm)
    own = [clip_mesh(part, center_nm, extent_nm) for part in parts]
    seen, open_here = rasterize_owners(whole, face_owners(whole, own), pixels, threads)
    behind, open_part = rasterize_owners(*_joined(own), pixels, threads)
    seen = np.where(open_here & open_part, behind, seen)
    counts = np.bincount(seen.ravel(), minlength=4)[1:4]
    taken = 0 if counts[0] < counts[1] else 1
    values = np.array([NOTHING, STAYS, STAYS, NOTHING], np.uint8)
    values[taken + 1] = TAKEN
    shares = counts / max(int(counts.sum()), 1)
    views: dict[str, NDArray[np.uint8]] = dict(zip(MESH_VIEWS, values[seen], strict=True))
    return PartMasks(views, taken, (float(shares[taken]), float(shares[1 - taken]), float(shares[2])))


def _joined(meshes: Sequence[ViewMesh]) -> tuple[ViewMesh, NDArray[np.uint8]]:
    """Join meshes of one cube, and return the number of the mesh of each face."""
    first_point = np.cumsum([0, *(len(m.points) for m in meshes[:-1])])
    first_face = np.cumsum([0, *(len(m.faces) for m in meshes)])
    cells = [m.cells[:-1] + np.int32(n) for m, n in zip(meshes, first_face[:-1], strict=True)]
    joined = ViewMesh(
        np.concatenate([m.points for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.faces + np.int32(n) for m, n in zip(meshes, first_point, strict=True)]),
        np.concatenate([*cells, first_face[-1:]]),
    )
    return joined, np.repeat(np.arange(len(meshes), dtype=np.uint8), np.diff(first_face))


def face_owners(whole: ViewMesh, parts: Sequence[ViewMesh]) -> NDArray[np.uint8]:
    """Return the nearest of some parts for every face of a mesh.

    Parameters
    ----------
    whole, parts
        In the coordinates of one cube.

    Returns
    -------
    uint8, shape (faces,)
        Index of the part, or the number of parts for a face that is near none.
    """
    if not len(whole.faces):
        return np.zeros(0, np.uint8)
    corners = whole.points[whole.faces]
    middles = corners.mean(axis=1)
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    reach = max(_NEAR_EDGES * float(np.median(edges)), _NEAR_SHARE)
    distances = np.full((len(parts) + 1, len(middles)), np.inf)
    for i, part in enumerate(parts):
        if len(part.faces):
            surface = np.concatenate([part.points, part.points[part.faces].mean(axis=1)])
            distances[i] = KDTree(surface).query(middles, distance_upper_bound=reach)[0]
    distances[-1] = reach
    return distances.argmin(axis=0).astype(np.uint8)
