"""The volume that the replayed server serves, and level-2 meshes of it: what tests of surveys compare with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from graph_truth import Truth
from numpy.typing import NDArray
from replay_volumes import CHUNK, OFFSET, supervoxels

from connectomebench.core.geometry import Mesh

VOXEL_NM = 10.0
VOXEL = (VOXEL_NM, VOXEL_NM, VOXEL_NM)
GRID_NM = 6  # of draco: chunks of 64 voxels of 10 nm get 7 bits and bins of 6 nm


@dataclass(frozen=True)
class Ground:
    """The volume of supervoxels, and their segments at any time, from the tables of the fixture alone.

    Attributes
    ----------
    truth
        Tables of the fixture.
    supervoxels
        uint64, axes x, y, z.
    rows
        int64, the same shape: row of the supervoxel in the tables.
    """

    truth: Truth
    supervoxels: NDArray[np.uint64] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)

    @property
    def final(self) -> NDArray[np.uint64]:
        """Final root of each supervoxel of the tables."""
        return self.truth.table["final_root"]

    def segments(self, when: datetime) -> NDArray[np.uint64]:
        """Root of each supervoxel of the tables at a time."""
        return self.truth.roots_at(when.timestamp())

    def lookup(self, supervoxels: NDArray[np.uint64], when: datetime) -> NDArray[np.uint64]:
        """Root of any supervoxels at a time, 0 for those the tables do not have."""
        known = self.truth.table["supervoxel_id"]
        at = np.minimum(np.searchsorted(known, supervoxels), len(known) - 1)
        return np.where(known[at] == supervoxels, self.segments(when)[at], np.uint64(0))

    def crop(self, center_nm: Iterable[float], edge_nm: float) -> tuple[slice, slice, slice]:
        """Voxels that touch a cube."""
        middle = np.asarray(list(center_nm))
        low, high = ((middle + sign * edge_nm / 2) / VOXEL_NM - OFFSET for sign in (-1, 1))
        low, high = np.floor(low).astype(int).clip(0), np.minimum(np.ceil(high).astype(int), self.rows.shape)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return x, y, z

    def centres_nm(self, mask: NDArray[np.bool_], corner: Iterable[int] = (0, 0, 0)) -> NDArray[np.float64]:
        """Centres of the voxels of a mask whose first voxel is ``corner``; shape (n, 3), nm."""
        return (np.argwhere(mask) + list(corner) + np.asarray(OFFSET) + 0.5) * np.float64(VOXEL_NM)


def read_ground(truth: Truth, recording: Path | None = None) -> Ground:
    """Take the volume of supervoxels, made or recorded."""
    volume = supervoxels(recording)
    rows = np.searchsorted(truth.table["supervoxel_id"], volume)
    assert (truth.table["supervoxel_id"][rows] == volume).all()
    return Ground(truth, volume, rows)


def mesh_files(
    ground: Ground,
    segments: NDArray[np.uint64],
    nodes: NDArray[np.uint64],
    wanted: set[int],
    center_nm: Iterable[float],
) -> dict[str, bytes]:
    """Files of the level-2 nodes of some segments in the chunks around a place, meshed as the server does.

    Each node is meshed with one more voxel of its segment on the far sides of its chunk.

    Parameters
    ----------
    ground
        The volume.
    segments, nodes
        Root and level-2 node of each supervoxel of the tables, at one time.
    wanted
        Segments.
    center_nm
        The place; chunks within 300 nm of it are meshed.
    """
    from zmesh import Mesher  # pyright: ignore[reportAttributeAccessIssue]

    files = {"info": b'{"@type": "neuroglancer_legacy_mesh"}'}
    around = ground.crop(center_nm, 600)
    for index in np.ndindex(4, 4, 4):
        low = np.multiply(index, CHUNK)
        if any(a + CHUNK <= s.start or a >= s.stop for a, s in zip(low, around, strict=True)):
            continue
        here = tuple(slice(a, a + CHUNK + 1) for a in low)
        roots, owners = segments[ground.rows[here]], nodes[ground.rows[here]]
        core = tuple(slice(None, CHUNK) for _ in range(3))
        for segment in wanted:
            for node in np.unique(owners[core][roots[core] == np.uint64(segment)]).tolist():
                mask = roots == np.uint64(segment)
                mesher = Mesher(VOXEL)
                mesher.mesh(np.asfortranarray(mask.astype(np.uint32)), close=False)
                if not mesher.ids():
                    continue
                made = mesher.get(1, reduction_factor=0, max_error=0)
                vertices = (made.vertices + (low + OFFSET) * VOXEL_NM).astype(np.float32)
                name = f"{node}:0:" + "_".join(f"{c * CHUNK}-{(c + 1) * CHUNK}" for c in index)
                files[name] = _draco(Mesh(vertices, made.faces.astype(np.int32)), low)
    return files


def _draco(mesh: Mesh, low: NDArray[np.int64]) -> bytes:
    import DracoPy

    start = (low + OFFSET) * VOXEL_NM
    return DracoPy.encode(
        mesh.vertices_nm,
        mesh.faces.astype(np.uint32),
        quantization_bits=7,
        compression_level=1,
        quantization_range=127 * GRID_NM,
        quantization_origin=start - start % GRID_NM,
        create_metadata=True,
    )
