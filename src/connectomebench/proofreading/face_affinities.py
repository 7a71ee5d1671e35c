"""Mean affinity of touching segments over the faces that they share, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from connectomebench.core.files import ArrayCache, content_key
from connectomebench.core.volume import IntPoint, Volume
from connectomebench.corrections.hash_tables import RowSum, add_row, new_table, used_rows
from connectomebench.execution.runner import Runner
from connectomebench.proofreading.blocks import Block
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.place_volumes import VolumeOpener, open_here

_WHOLE = 1 << 30  # affinity 1 of floats: sums of whole numbers do not depend on the order of blocks
_WHOLE_UINT8 = 255


@dataclass(frozen=True)
class PairAffinities:
    """Touching pairs of segments with their mean affinity.

    Attributes
    ----------
    pairs
        uint64, shape (n, 2): the smaller id first; ascending.
    faces
        int64, shape (n,): faces of voxels that they share.
    means
        float64, shape (n,): mean affinity over these, 0 to 1.
    """

    pairs: NDArray[np.uint64]
    faces: NDArray[np.int64]
    means: NDArray[np.float64]

    def of(self, pairs: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return the mean affinity of pairs (uint64, shape (m, 2), the smaller id first); NaN for no shared face."""
        found = np.full(len(pairs), np.nan)
        if len(self.pairs):
            ids = np.unique(np.concatenate([self.pairs, pairs]))
            known, asked = (np.searchsorted(ids, own) @ np.array([len(ids), 1]) for own in (self.pairs, pairs))
            at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            there = known[at] == asked
            found[there] = self.means[at[there]]
        return found


@dataclass(frozen=True)
class AffinityJob:
    """A block whose affinities are summed."""

    opener: VolumeOpener
    block: Block


def sum_block(job: AffinityJob) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sum the affinities of a block; see :func:`sum_faces`."""
    held = open_here(job.opener)
    assert held.affinities is not None, "there is no affinity map"
    return sum_faces(held.labels, held.affinities, job.block.lower, job.block.upper)


def sum_faces(
    labels: Volume, affinities: Sequence[Volume], lower: IntPoint, upper: IntPoint
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sum affinities over the faces between segments, for each pair.

    A face belongs to the block that holds the later one of its voxels, where its affinity is stored.

    Parameters
    ----------
    labels
        Segments, 0 for background.
    affinities
        Along x, y, z: of a voxel with the one before it along that axis; see
        :func:`connectomebench.sources.volumes.affinities.open_affinities`.
    lower, upper
        The block, voxels along x, y, z, upper exclusive.

    Returns
    -------
    keys
        uint64, shape (n, 2): smaller and larger id, in no particular order; a pair may come once for each axis.
    values
        int64, shape (n, 2): shared faces, and the sum of their affinities in 2^-30, or in 1/255 where they are uint8.
    """
    x, y, z = (max(a - 1, 0) for a in lower)
    segments = labels.read((x, y, z), upper)
    shape = np.subtract(upper, lower)
    start = np.subtract(lower, (x, y, z))  # of the block in what was read: 1, or 0 where the volume begins
    keys, values = [], []
    for axis, volume in enumerate(affinities):
        affinity = volume.read(lower, upper)
        first = start.copy()
        first[axis] = 1
        later = segments[_box(first, start + shape)]
        first[axis] = 0
        stop = start + shape
        stop[axis] -= 1
        earlier = segments[_box(first, stop)]
        skipped = np.zeros(3, np.int64)
        skipped[axis] = 1 - start[axis]
        affinity = affinity[_box(skipped, shape)]
        order = np.argsort([-abs(n) for n in segments.strides], kind="stable")
        times = 1 if affinity.dtype == np.uint8 else _WHOLE
        # the last axis is the one along which memory lies
        table = _face_table(earlier.transpose(order), later.transpose(order), affinity.transpose(order), times)
        pairs, sums = used_rows(*table)
        keys.append(pairs)
        values.append(sums)
    return np.concatenate(keys), np.concatenate(values)


def _box(lower: NDArray[np.int64], upper: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(lower.tolist(), upper.tolist(), strict=True))


@njit(nogil=True, cache=True)
def _face_table(earlier, later, affinity, times):
    """Count the faces between two layers of voxels and sum their affinities; a table of pairs of segments."""
    keys, values = new_table(1024, 2)
    rows = 0
    for i in range(later.shape[0]):
        for j in range(later.shape[1]):
            for k in range(later.shape[2]):
                a, b = np.uint64(earlier[i, j, k]), np.uint64(later[i, j, k])
                if a != b and a != 0 and b != 0:
                    amount = np.int64(np.rint(np.float64(affinity[i, j, k]) * times))
                    keys, values, rows = add_row(keys, values, rows, min(a, b), max(a, b), (1, amount))
    return keys, values


def join_sums(found: Sequence[tuple[NDArray[np.uint64], NDArray[np.int64]]], dtype: np.dtype[Any]) -> PairAffinities:
    """Make means of the sums of all blocks (see :func:`sum_faces`); ``dtype`` is that of the affinities as read."""
    summed = RowSum(2, 2)
    for keys, values in found:
        summed.add(keys, values)
    pairs, values = summed.rows()
    whole = _WHOLE_UINT8 if dtype == np.uint8 else _WHOLE
    return PairAffinities(pairs, values[:, 0], values[:, 1] / (values[:, 0] * float(whole)))


def pair_affinities(place: Place, runner: Runner) -> PairAffinities | None:
    """Compute the mean affinity of all touching segments of a place, or read it from the cache.

    Nothing of the truth is read.

    Parameters
    ----------
    place
        Its segments before any edit are taken.
    runner
        Runs the work on blocks.

    Returns
    -------
    PairAffinities or None
        None where the source has no affinity map.

    Raises
    ------
    ConnectomeBenchError
        If the map holds NaN, or numbers that are no affinities.
    """
    held = open_here(place.spec.opener)
    if held.affinities is None:
        return None
    cache = ArrayCache(place.spec.cache)
    key = content_key("face affinities 1", held.labels.fingerprint, [one.fingerprint for one in held.affinities])
    stored = cache.get(key)
    if stored is None:
        grid = place.spec.grid
        jobs = [AffinityJob(place.spec.opener, grid.block(i)) for i in range(len(grid))]
        dtype = held.affinities[0].read((0, 0, 0), (1, 1, 1)).dtype
        made = join_sums([found for _, found in runner.run(sum_block, jobs, "affinities")], dtype)
        stored = {"pairs": made.pairs, "faces": made.faces, "means": made.means}
        cache.put(key, **stored)
    return PairAffinities(**stored)
