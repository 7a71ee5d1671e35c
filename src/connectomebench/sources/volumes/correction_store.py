"""Convert corrections, contacts and extents to plain arrays for an ArrayCache (npz, never pickled) and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, Corrections, MergeCorrection, Overlaps, SplitCorrection
from connectomebench.core.site import Point, as_point

Arrays = dict[str, NDArray[Any]]


def pack_corrections(corrections: Corrections) -> Arrays:
    """Convert corrections to named arrays (ids uint64, texts unicode); the inverse of :func:`unpack_corrections`."""
    merges, splits = corrections.merges, corrections.splits
    fused = sorted(corrections.fused.items())
    return {
        "merge_ids": _texts([m.edit_id for m in merges]),
        "merge_segments": np.array([m.segments for m in merges], np.uint64).reshape(-1, 2),
        "merge_bodies": np.array([m.body for m in merges], np.uint64),
        "merge_nm": np.array([m.location_nm for m in merges], np.float64).reshape(-1, 3),
        "merge_area": np.array([m.area for m in merges], np.float64),
        "merge_patch_nm": np.array([p for m in merges for p in m.patch_nm], np.float64).reshape(-1, 3),
        "merge_patch_sizes": np.array([len(m.patch_nm) for m in merges], np.int64),
        "split_ids": _texts([s.edit_id for s in splits]),
        "split_segments": np.array([s.segment for s in splits], np.uint64),
        "split_bodies": np.array([s.bodies for s in splits], np.uint64).reshape(-1, 2),
        "split_nm": np.array([s.location_nm for s in splits], np.float64).reshape(-1, 3),
        "split_area": np.array([s.area for s in splits], np.float64),
        "split_patch_nm": np.array([p for s in splits for p in s.patch_nm], np.float64).reshape(-1, 3),
        "split_patch_sizes": np.array([len(s.patch_nm) for s in splits], np.int64),
        "overlap_segments": corrections.overlaps.segments,
        "overlap_bodies": corrections.overlaps.bodies,
        "overlap_voxels": corrections.overlaps.voxels,
        "overlap_core_voxels": corrections.overlaps.core_voxels,
        "body_of": np.array(sorted(corrections.body_of.items()), np.uint64).reshape(-1, 2),
        "fused": np.array([(s, b) for s, bodies in fused for b in bodies], np.uint64).reshape(-1, 2),
        "unresolved_nm": corrections.unresolved_nm,
        "counts": np.array(json.dumps(corrections.counts)),
        "warnings": np.array(json.dumps(corrections.warnings)),
    }


def unpack_corrections(arrays: Arrays) -> Corrections:
    """Restore corrections from the arrays of :func:`pack_corrections`."""
    merges = zip(
        arrays["merge_ids"].tolist(),
        arrays["merge_segments"].tolist(),
        arrays["merge_bodies"].tolist(),
        arrays["merge_nm"].tolist(),
        arrays["merge_area"].tolist(),
        _patches(arrays, "merge"),
        strict=True,
    )
    splits = zip(
        arrays["split_ids"].tolist(),
        arrays["split_segments"].tolist(),
        arrays["split_bodies"].tolist(),
        arrays["split_nm"].tolist(),
        arrays["split_area"].tolist(),
        _patches(arrays, "split"),
        strict=True,
    )
    fused: dict[int, tuple[int, ...]] = {}
    for segment, body in arrays["fused"].tolist():
        fused[segment] = (*fused.get(segment, ()), body)
    return Corrections(
        merges=tuple(MergeCorrection(i, (s[0], s[1]), b, as_point(p), a, q) for i, s, b, p, a, q in merges),
        splits=tuple(SplitCorrection(i, s, (b[0], b[1]), as_point(p), a, q) for i, s, b, p, a, q in splits),
        overlaps=Overlaps(
            arrays["overlap_segments"],
            arrays["overlap_bodies"],
            arrays["overlap_voxels"],
            arrays["overlap_core_voxels"],
        ),
        body_of=dict(arrays["body_of"].tolist()),
        fused=fused,
        unresolved_nm=arrays["unresolved_nm"],
        counts=json.loads(str(arrays["counts"])),
        warnings=tuple(json.loads(str(arrays["warnings"]))),
    )


def _patches(arrays: Arrays, kind: str) -> list[tuple[Point, ...]]:
    sizes = arrays[f"{kind}_patch_sizes"]
    parts = np.split(arrays[f"{kind}_patch_nm"], np.cumsum(sizes)[:-1]) if len(sizes) else []
    return [tuple(as_point(p) for p in part.tolist()) for part in parts]


def pack_contacts(contacts: Contacts) -> Arrays:
    """Convert contacts to named arrays."""
    return {"segments": contacts.segments, "points_nm": contacts.points_nm, "areas": contacts.areas}


def unpack_contacts(arrays: Arrays) -> Contacts:
    """Restore contacts from the arrays of :func:`pack_contacts`."""
    return Contacts(arrays["segments"], arrays["points_nm"], arrays["areas"])


def _texts(values: list[str]) -> NDArray[np.str_]:
    return np.array(values, dtype=str if values else "U1")
