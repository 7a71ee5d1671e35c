"""Simulate errors in labels without truth: cut objects of a real segmentation, and fuse them where they touch.

The labels themselves count as the truth. What is real is the shape of the objects and the contacts between them; the
errors are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.volume import Volume
from connectomebench.sources.label_shapes import Extents, int_point
from connectomebench.sources.morphology.faces import LARGEST_OVERLAP_NM, FaceDraw, draw_face, face_row, tilted
from connectomebench.sources.volumes.simulated_rules import LabelErrorConfig

_BACKGROUND = 0
_REACH_NM = 700.0  # half the edge of the cube in which a face is placed
_APART_NM = 1500.0  # smallest distance of two faces of an object
_LARGEST_RADIUS_NM = 450.0


def simulate_label_errors(
    truth: Volume, extents: Extents, contact_rules: CorrectionConfig, rules: LabelErrorConfig
) -> NDArray[np.uint32]:
    """Cut and fuse objects of a volume.

    Parameters
    ----------
    truth
        Labels, 0 = background.
    extents
        Bounding box and size of each of its objects.
    contact_rules
        Rules for finding contacts.
    rules
        Number and size of errors.

    Returns
    -------
    uint32, shape of the volume
        The segmentation with errors, axes x, y, z. Its ids are random, so that they carry no information.

    Raises
    ------
    ConnectomeBenchError
        If no object is large enough to be cut.
    """
    import fastremap

    from connectomebench.corrections.contacts import find_contacts

    able = (extents.voxels >= rules.min_object_voxels) & (extents.voxels <= rules.max_object_voxels)
    if not able.any():
        raise ConnectomeBenchError(
            f"no object has between {rules.min_object_voxels} and {rules.max_object_voxels} voxels; change "
            "min_object_voxels or max_object_voxels of `simulated`"
        )
    rng = np.random.default_rng(rules.seed)
    # numbers 1, 2, ... in the order of the ids replace the ids
    numbers = {int(label): row + 1 for row, label in enumerate(extents.ids)} | {_BACKGROUND: _BACKGROUND}
    labels = fastremap.remap(truth.read((0, 0, 0), int_point(truth.shape)), numbers).astype(np.uint32)
    contacts = find_contacts(truth, truth, contact_rules)
    couples = np.searchsorted(extents.ids, contacts.segments)
    fusions = _choose_fusions(couples, able, rules, rng)
    spared = set(couples[fusions].ravel().tolist())  # an object both fused and cut is a tangle: it gives no sample
    count = len(extents.ids)
    for row in np.flatnonzero(able).tolist():
        if row not in spared:
            box = tuple(slice(int(a), int(b)) for a, b in zip(extents.lower[row], extents.upper[row], strict=True))
            count += _cut_object(labels[box], row + 1, count, np.asarray(truth.voxel_size_nm), rules, rng)
    for row in fusions.tolist():
        one, two = (int(i) + 1 for i in couples[row])
        _bridge(labels, one, two, truth, contacts.points_nm[row], rules.bridge_nm)
    names = np.concatenate([[0], 1 + rng.choice(max(1 << 24, 8 * count), count, replace=False)]).astype(np.uint32)
    names[couples[fusions, 1] + 1] = names[couples[fusions, 0] + 1]
    return names[labels]


def _choose_fusions(
    couples: NDArray[np.int64], able: NDArray[np.bool_], rules: LabelErrorConfig, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw contacts at which two objects are fused, no object twice; return rows of the contacts."""
    wanted = round(rules.fused_fraction * int(able.sum()) / 2)
    usable = np.flatnonzero(able[couples].all(axis=1))
    taken: set[int] = set()
    chosen = []
    for row in usable[rng.permutation(len(usable))].tolist():
        pair = couples[row].tolist()
        if len(chosen) < wanted and taken.isdisjoint(pair):
            chosen.append(row)
            taken.update(pair)
    return np.array(chosen, np.int64)


def _bridge(
    labels: NDArray[np.uint32], one: int, two: int, truth: Volume, place_nm: NDArray[np.floating], radius_nm: float
) -> None:
    """Fill the background around a contact with the first of the two objects, in place."""
    voxel = np.asarray(truth.voxel_size_nm)
    at = np.asarray(place_nm, np.float64) / voxel - np.asarray(truth.offset_vx)
    lower = np.maximum(np.floor(at - radius_nm / voxel), 0).astype(int)
    upper = np.minimum(np.ceil(at + radius_nm / voxel) + 1, labels.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(lower.tolist(), upper.tolist(), strict=True))
    axes = [(np.arange(a, b) + 0.5 - c) * v for a, b, c, v in zip(lower, upper, at, voxel, strict=True)]
    near = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= radius_nm**2
    labels[box][near & (labels[box] == _BACKGROUND)] = one


@dataclass(frozen=True)
class _Sheet:
    """Voxels of an object on one face that separates it. ``field`` is the distance to the face in ``box``, nm."""

    box: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]
    field: NDArray[np.float32]
    gap: bool


def _cut_object(
    crop: NDArray[np.uint32],
    own: int,
    count: int,
    voxel_nm: NDArray[np.float64],
    rules: LabelErrorConfig,
    rng: np.random.Generator,
) -> int:
    """Cut the object with number ``own``, in place; new fragments are numbered from ``count + 1``. Returns how many."""
    import cc3d

    mask = crop == own
    inside = np.argwhere(mask)
    wanted = round(len(inside) / rules.cut_voxels)
    sheets: list[_Sheet] = []
    centres: list[NDArray[np.float64]] = []
    for _ in range(3 * wanted):
        place, draw = inside[rng.integers(len(inside))], draw_face(rng, rules.max_gap_nm)
        apart = [float(np.linalg.norm((place - c) * voxel_nm)) for c in centres]
        if len(sheets) == wanted or min(apart, default=np.inf) < _APART_NM:
            continue
        sheet = _sheet(mask, place, voxel_nm, draw)
        if sheet is not None:
            sheets.append(sheet)
            centres.append(place.astype(np.float64))
    if not sheets:
        return 0
    open_mask = mask.copy()
    for sheet in sheets:
        open_mask[sheet.box][sheet.mask] = False
    pieces = np.asarray(cc3d.connected_components(open_mask, connectivity=6))
    sizes = np.bincount(pieces[mask])
    sizes[0] = 0
    joined = list(range(len(sizes)))  # union of the pieces that no valid face separates
    sheets_between: list[tuple[_Sheet, int, int]] = []
    for sheet in sheets:
        before, after = _neighbours(pieces, sheet, sizes)
        sheets_between.append((sheet, before, after))
        if not (before and after and before != after and min(sizes[before], sizes[after]) >= rules.min_fragment_voxels):
            for piece in np.unique(pieces[sheet.box][_grown(sheet.mask)]).tolist():
                if piece:
                    joined[_root(joined, piece)] = _root(joined, before or after)
    main = int(np.argmax(sizes))
    for piece in range(1, len(sizes)):
        if sizes[piece] < rules.min_fragment_voxels and _root(joined, piece) == piece:
            joined[piece] = _root(joined, main)  # parts that were never connected stay with the object
    roots = np.array([_root(joined, piece) for piece in range(len(sizes))])
    own_root = roots[main]
    new = [r for r in np.unique(roots[1:]).tolist() if r != own_root]
    number = np.full(len(sizes), own, np.uint32)
    for k, root in enumerate(new):
        number[roots == root] = count + 1 + k
    number[0] = own
    crop[mask] = number[pieces[mask]]
    for sheet, before, after in sheets_between:
        open_face = sheet.gap and number[before] != number[after]
        side = np.where(sheet.field < 0, number[before], number[after])
        crop[sheet.box][sheet.mask] = _BACKGROUND if open_face else side[sheet.mask]
    return len(new)


def _root(joined: list[int], piece: int) -> int:
    while joined[piece] != piece:
        piece = joined[piece]
    return piece


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask), np.bool_)


def _neighbours(pieces: NDArray[np.integer], sheet: _Sheet, sizes: NDArray[np.int64]) -> tuple[int, int]:
    """Return the largest pieces that touch a sheet from behind and from the front; 0 if there is none."""
    rim = _grown(sheet.mask) & ~sheet.mask
    found = []
    for behind in (True, False):
        touching = pieces[sheet.box][rim & ((sheet.field < 0) == behind)]
        touching = np.unique(touching[touching > 0])
        found.append(int(touching[np.argmax(sizes[touching])]) if len(touching) else 0)
    return found[0], found[1]


def _sheet(
    mask: NDArray[np.bool_], place: NDArray[np.int64], voxel_nm: NDArray[np.float64], draw: FaceDraw
) -> _Sheet | None:
    """Place a face through a point of an object; None if it is no neurite there, or the face is too large."""
    import cc3d

    from connectomebench.sources.morphology.tube_kernels import face_field

    reach = np.ceil(_REACH_NM / voxel_nm).astype(int)
    lower, upper = np.maximum(place - reach, 0), np.minimum(place + reach + 1, mask.shape)
    box = (slice(lower[0], upper[0]), slice(lower[1], upper[1]), slice(lower[2], upper[2]))
    at = tuple((place - lower).tolist())
    parts = np.asarray(cc3d.connected_components(mask[box], connectivity=6))
    local = parts == parts[at]
    points = (np.argwhere(local) + 0.5) * voxel_nm
    near = points[np.linalg.norm(points - (np.array(at) + 0.5) * voxel_nm, axis=1) < _REACH_NM]
    spread, axes = np.linalg.eigh(np.cov(near.T)) if len(near) > 50 else (np.ones(3), np.eye(3))
    radius = float(np.sqrt(2 * (spread[0] + spread[1])))
    if spread[2] < 1.5 * spread[1] or radius > _LARGEST_RADIUS_NM:
        return None
    overlap = min(LARGEST_OVERLAP_NM, radius * (2.2 + 1.6 * draw.tilt))
    angle = float(np.arctan2(overlap, radius)) if draw.along else 0.6 * draw.tilt
    normal, _ = tilted(axes[:, 2], angle, draw.turn)
    first = 0.5 * voxel_nm
    field = np.empty(local.shape, np.float32)
    face_field(first, voxel_nm, face_row((np.array(at) + 0.5) * voxel_nm, normal, draw), field)
    thick = max(draw.gap_nm / 2, 0.8 * float(np.max(np.abs(normal) * voxel_nm)))
    band = np.asarray(cc3d.connected_components(local & (np.abs(field) <= thick), connectivity=26))
    if band[at] == 0:
        return None
    sheet = band == band[at]
    faces = [sheet.take(end, axis) for axis in range(3) for end in (0, -1)]
    if any(face.any() for face in faces) and not _at_border(sheet, lower, upper, mask.shape):
        return None  # it extends beyond the cube: too large
    return _Sheet(box, sheet, field, draw.gap_nm > 0)


def _at_border(
    sheet: NDArray[np.bool_], lower: NDArray[np.int64], upper: NDArray[np.int64], shape: tuple[int, ...]
) -> bool:
    """Check whether a sheet leaves its cube only where the object itself ends."""
    inner = [
        sheet.take(end, axis).any()
        for axis in range(3)
        for end, ends in ((0, lower[axis] == 0), (-1, upper[axis] == shape[axis]))
        if not ends
    ]
    return not any(inner)
