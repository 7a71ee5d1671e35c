"""Which contacts of supervoxels may fuse two neurites, from what is seen of a segment without the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces

# a face between supervoxels holds them together the more, the brighter it is: see `brightness_exponent` of PieceConfig
_BRIGHTNESS_EXPONENT = 4.0
# where a segment is much thinner than this, a mistake of a voxel or two may have joined it, nm
_THIN_NM = 50.0


def joining_contacts(interfaces: SupervoxelInterfaces, min_side_voxels: int) -> NDArray[np.int64]:
    """Find the contacts that join two large parts of a segment.

    The supervoxels of each segment are put together again in the order of their contacts, the strongest first (faces
    times brightness, as an agglomeration by affinities would). Most contacts join a small piece to the rest, or two
    supervoxels that are connected already; those that are left are where two neurites may have become one.

    Parameters
    ----------
    interfaces
        Of any segments.
    min_side_voxels
        What both parts hold at least when they are joined, voxels.

    Returns
    -------
    int64, ascending
        Rows of ``interfaces``: of each pair of supervoxels that joins two such parts, the deepest contact.
    """
    from connectomebench.sites.candidate_kernels import joined_sizes

    n = len(interfaces.segments)
    ends = [np.column_stack([interfaces.segments, interfaces.supervoxels[:, side]]) for side in (0, 1)]
    parts, of_ends = np.unique(np.concatenate(ends), axis=0, return_inverse=True)
    first, second = of_ends.ravel()[:n], of_ends.ravel()[n:]
    voxels = np.zeros(len(parts), np.int64)
    for side, own in ((0, first), (1, second)):
        np.maximum.at(voxels, own, interfaces.voxels[:, side])
    bright = np.clip(np.nan_to_num(interfaces.brightness.astype(np.float64), nan=1.0), 0.0, 1.0)
    pairs, of_pair = np.unique(np.column_stack([first, second]), axis=0, return_inverse=True)
    of_pair = of_pair.ravel()
    strength = np.bincount(of_pair, interfaces.areas * bright**_BRIGHTNESS_EXPONENT, minlength=len(pairs))
    order = np.argsort(-strength, kind="stable")
    sizes = np.zeros(len(pairs), np.int64)
    sizes[order] = joined_sizes(pairs[order, 0], pairs[order, 1], voxels)
    deepest = np.lexsort((np.arange(n), -interfaces.depths_nm, of_pair))
    row_of_pair = deepest[np.unique(of_pair[deepest], return_index=True)[1]]
    return np.sort(row_of_pair[sizes >= min_side_voxels])


def interface_signs(interfaces: SupervoxelInterfaces) -> dict[str, NDArray[np.float64]]:
    """Measure what speaks against each contact.

    Returns
    -------
    dict
        Name -> float64, shape (n,), 0 (nothing) to 1. ``dark``: share of the brightness that is missing at the contact
        (a membrane, low affinity); 0 without image data. ``waist``: share of the smaller calibre that is missing
        there. ``thin``: how thin the segment is there, whatever its calibre. ``step``: share of the larger calibre that
        the smaller one lacks.
    """
    small, large = (f(interfaces.calibres_nm.astype(np.float64), axis=1) for f in (np.min, np.max))
    depth = interfaces.depths_nm.astype(np.float64)
    signs = {
        "dark": 1 - np.nan_to_num(interfaces.brightness.astype(np.float64), nan=1.0),
        "waist": 1 - depth / np.maximum(small, 1e-9),
        "thin": _THIN_NM / (_THIN_NM + depth),
        "step": 1 - small / np.maximum(large, 1e-9),
    }
    return {name: np.clip(sign, 0.0, 1.0) for name, sign in signs.items()}


def interface_scores(interfaces: SupervoxelInterfaces) -> NDArray[np.float64]:
    """Rank contacts by how far they are a waist, or dark, and thin; float64, shape (n,), 0 to 1.

    A change of calibre is no part of it: on the fly's medulla it finds no more merge errors than as many nodes of the
    skeletons drawn at random, since twigs leave thick neurites everywhere (``benchmarks/recount_candidates.py``).
    """
    signs = interface_signs(interfaces)
    return (1 - (1 - signs["waist"]) * (1 - signs["dark"])) * signs["thin"]
