"""Find all touching pairs of segments, the candidates for controls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.volume import IntPoint, Volume


def find_contacts(
    automatic: Volume,
    proofread: Volume,
    rules: CorrectionConfig,
    *,
    block: IntPoint = (256, 256, 256),
    threads: int | None = None,
    progress: bool = False,
) -> Contacts:
    """Find all pairs of different segments that touch, one row per pair and contact patch.

    Contacts are found as for corrections: the same scan, bridging, grouping and choice of a point, but along the whole
    patch, since which stretch of it matters is known only where there is an error. Voxels without a segment, or without
    a body, are gaps and bridged up to ``rules.max_gap_vx``; where nothing is proofread there is therefore no contact.
    Patches below ``rules.min_contact_faces`` are left out.

    Parameters
    ----------
    automatic, proofread
        Label volumes of the same box: segments and bodies, integers, 0 = background.
    rules
        Only ``max_gap_vx``, ``min_contact_faces`` and ``patch_cell_vx`` matter here.
    block, threads, progress
        As for :func:`connectomebench.corrections.find.find_corrections`.

    Returns
    -------
    Contacts
        Sorted by pair, then by place.

    Raises
    ------
    ConnectomeBenchError
        Shapes, voxel sizes or offsets differ; labels are not integers, or negative; or no voxel has both a segment
        and a body.
    """
    from connectomebench.corrections.contact_patches import CellGrid, group_patches, points_nm

    grid = CellGrid(automatic.shape, rules.patch_cell_vx)
    patches = group_patches(*contact_cells(automatic, proofread, rules, block, threads, progress), grid)
    patches = patches.take(patches.areas >= rules.min_contact_faces)
    order = np.lexsort((*patches.points_vx.T[::-1], patches.pairs[:, 1], patches.pairs[:, 0]))
    patches = patches.take(order)
    places = points_nm(patches.points_vx, automatic.offset_vx, automatic.voxel_size_nm)
    return Contacts(patches.pairs.astype(np.uint64), places.astype(np.float32), patches.areas.astype(np.float32))


def interface_points(
    labels: Volume, pair: tuple[int, int], rules: CorrectionConfig, *, threads: int | None = None
) -> NDArray[np.float32]:
    """Find points all over the interface of two labels.

    Parameters
    ----------
    labels
        Label volume.
    pair
        Two labels.
    rules
        As for :func:`find_contacts`, but however small the interface is.
    threads
        As for :func:`find_contacts`.

    Returns
    -------
    float32, shape (n, 3), axes x, y, z in nm: one point of contact for each cell of ``rules.patch_cell_vx``; empty
    where the two do not touch.
    """
    from connectomebench.corrections.contact_patches import CellGrid, contact_points, points_nm

    grid = CellGrid(labels.shape, rules.patch_cell_vx)
    keys, values = contact_cells(labels, labels, rules, (256, 256, 256), threads, False)
    own = (keys[:, 0] == np.uint64(min(pair))) & (keys[:, 1] == np.uint64(max(pair)))
    points = contact_points(keys[own], values[own], grid)
    return points_nm(points, labels.offset_vx, labels.voxel_size_nm).astype(np.float32)


def contact_cells(
    automatic: Volume,
    proofread: Volume,
    rules: CorrectionConfig,
    block: IntPoint,
    threads: int | None,
    progress: bool,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Find contacts of all pairs of segments by cell.

    Parameters
    ----------
    automatic, proofread, rules, block, threads, progress
        As for :func:`find_contacts`.

    Returns
    -------
    keys, values
        See :func:`.contact_patches.group_patches`, for cells of ``rules.patch_cell_vx`` from index 0 of the volumes.
    """
    from connectomebench.corrections.block_walk import BlockWalk, LabelBlock, Scratch
    from connectomebench.corrections.contact_kernels import segment_codes
    from connectomebench.corrections.contact_patches import CellGrid
    from connectomebench.corrections.hash_tables import RowSum
    from connectomebench.corrections.steps import contact_rows

    walk = BlockWalk(automatic, proofread, block, threads, progress)
    grid = CellGrid(automatic.shape, rules.patch_cell_vx)

    scratch = Scratch()

    def scan(found: LabelBlock) -> tuple[NDArray[np.uint64], NDArray[np.int64], bool]:
        codes = scratch.array("codes", found.automatic.shape, np.int32)
        ids = segment_codes(found.automatic, found.proofread, codes)
        numbers = np.arange(len(ids), dtype=np.int64)
        # All segments count as parts of one body, number 0: any two that touch are a contact.
        keys, values = contact_rows(found, codes, numbers, np.zeros_like(numbers), rules.max_gap_vx, grid)
        pairs = np.sort(ids[keys[:, :2].astype(np.int64)], axis=1)
        return np.column_stack([pairs, keys[:, 2]]), values, bool((codes > 0).any())

    contacts = RowSum(3, 5, minimum_of_last=True)
    below = [rules.max_gap_vx + 1] * 3
    anything = False
    for keys, values, has_segment in walk.map(
        scan, walk.blocks, halo_below=below, halo_above=(0, 0, 0), title="contacts"
    ):
        contacts.add(keys, values)
        anything |= has_segment
    if not anything:
        raise ConnectomeBenchError(
            "no voxel has both a segment and a body; check that neither segmentation is empty and that both show the "
            "same place"
        )
    return contacts.rows()
