"""Label choices among candidates: which segment near an end of another one continues it, if any.

Places are ends of segments and candidates the nearest segments there, so that neither comes from the truth. The truth
says which candidate is right; rows where several are, or where one may be, are left out. Of some rows the right
candidate is withheld, so that a near one is not right because it is near.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import Contacts, Corrections
from connectomebench.core.geometry import Skeleton
from connectomebench.core.site import Part, Point, Site
from connectomebench.core.source import Source
from connectomebench.core.tasks import NONE, get_task
from connectomebench.sites.candidates import Candidates
from connectomebench.sites.labels import LabelledSites, SiteConfig, _pool, view_extent_nm
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.view_content import SkeletonIndex, index_skeleton, view_content

TASK = "merge_action_multiple_choice"
MOST = 4
"""Largest number of candidates."""
WITHHELD_SHARE = 0.15
"""Share of the ends with a right candidate where it is withheld."""
SEVERAL = "several candidates belong to the body"
UNSURE = "a candidate may belong to the body"
UNLOCALISED = "a candidate belongs to the body without a localised correction"
NO_CANDIDATE = "no segment of sufficient size is near"
SEEN = 0.45
"""Share of the edge of the view, from its centre, where a contact is not cut off by the frame."""
_SAME_PATCH_NM = 20.0  # two segments whose contacts lie nearer than this are one, at two times of its history


def choice_sites(
    source: Source,
    corrections: Corrections,
    contacts: Contacts,
    candidates: Candidates,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
) -> LabelledSites:
    """Label ends of segments with the letter of the candidate that continues them, or none.

    Candidates are up to four segments of sufficient size: those in contact with the base segment, nearest to the end
    first, then, where the truth of all segments is known, others in the view. Their order is that of a hash.

    Parameters
    ----------
    source
        Tells which ends lie at the border of the data.
    corrections
        The truth.
    contacts
        Touching pairs of segments.
    candidates
        Candidate places; the ends among them are used.
    skeletons
        Segment id -> skeleton, of segments of sufficient size.
    rules
        Views, sizes, and how far a contact may lie from its correction.
    controls
        Most sites with a right candidate; its seed orders the candidates.

    Returns
    -------
    LabelledSites
        Sites with a right candidate first, one a segment and correction: that whose end is nearest to the contact.
    """
    ends = candidates.of_kind("end")
    border = source.at_border(ends.segments, ends.points_nm)
    scene = _Scene(corrections, contacts, skeletons, rules)
    dropped: Counter[str] = Counter()
    cases: dict[tuple[int, str], tuple[float, _Found]] = {}
    others: list[_Found] = []
    for i, base in enumerate(ends.segments.tolist()):
        reason = "at the border of the data" if border[i] else scene.unsuitable(base)
        if reason is not None:
            dropped[reason] += 1
            continue
        x, y, z = (float(c) for c in ends.points_nm[i])
        found = scene.look(base, (x, y, z), float(ends.radii_nm[i]))
        verdict = scene.judge(found, found.nearest[:MOST])
        if isinstance(verdict, str):
            dropped[verdict] += 1
        elif verdict is None:
            others.append(replace(found, shown=found.nearest[:MOST]))
        else:
            right, edit_id = verdict
            case = replace(found, shown=found.nearest[:MOST], right=right, edit_id=edit_id)
            key = base, edit_id
            if key in cases:
                dropped["second end at the same correction"] += 1
            if key not in cases or found.distances_nm[right] < cases[key][0]:
                cases[key] = found.distances_nm[right], case
    yes, no = [], [scene.site(one, source, controls.seed) for one in others]
    for (base, edit_id), (_, case) in sorted(cases.items()):
        kept = case
        if _lot(controls.seed, "withheld", base, edit_id) < WITHHELD_SHARE:
            rest = tuple(s for s in case.nearest if s != case.right)[:MOST]
            if rest and scene.judge(case, rest) is None:
                kept = replace(case, shown=rest, right=None, edit_id=None)
        (no if kept.right is None else yes).append(scene.site(kept, source, controls.seed))
    return LabelledSites(_some(yes, no, controls, dropped), dropped)


def _some(yes: list[Site], no: list[Site], controls: ControlConfig, dropped: Counter[str]) -> list[Site]:
    """Keep at most ``max_cases`` sites with a right candidate, and half as many without, each like one of them.

    Which ones are kept, and which have a like, is decided by lot, so that those without are like all of them. Half as
    many are about twice what the dataset keeps.
    """
    yes = sorted(yes, key=lambda site: _digest(controls.seed, site.segment_ids, site.location_nm))
    most = controls.max_cases or len(yes)
    dropped["cases beyond max_cases"] += max(0, len(yes) - most)
    kept = yes[:most]
    wanted = max(1, round(len(kept) / 2))
    alike = _pool(kept[:wanted], no, replace(controls, pool_per_case=1, max_cases=0), dropped)
    return [*kept, *(site for site in alike if not site.is_case)]


@dataclass(frozen=True)
class _Found:
    """An end of a segment with the segments near it.

    ``nearest`` holds them in order, and ``distances_nm`` how far from the end each touches or comes nearest. ``shown``
    are the candidates, ``right`` is the right one, and ``edit_id`` the correction that joins it to the base.
    """

    base: int
    place_nm: Point
    radius_nm: float
    extent_nm: float
    nearest: tuple[int, ...]
    distances_nm: Mapping[int, float]
    shown: tuple[int, ...] = ()
    right: int | None = None
    edit_id: str | None = None


@dataclass(frozen=True)
class _Scene:
    """Segments with their contacts, and the truth about them."""

    corrections: Corrections
    contacts: Contacts
    skeletons: Mapping[int, Skeleton]
    rules: SiteConfig

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Segment -> voxels."""
        return self.corrections.overlaps.segment_sizes()

    @cached_property
    def touching(self) -> dict[int, NDArray[np.int64]]:
        """Segment -> rows of its contacts with segments of sufficient size."""
        pairs = self.contacts.segments
        least = self.rules.min_segment_voxels
        large = np.array([s for s, size in self.sizes.items() if size >= least], np.uint64)
        rows = np.flatnonzero(np.isin(pairs, large).all(axis=1))
        owners = np.append(pairs[rows, 0], pairs[rows, 1])
        both = np.append(rows, rows)
        order = np.argsort(owners, kind="stable")
        unique, starts = np.unique(owners[order], return_index=True)
        return dict(zip(unique.tolist(), np.split(both[order], starts[1:]), strict=False))

    @cached_property
    def nodes(self) -> tuple[KDTree, NDArray[np.uint64]]:
        """All nodes of skeletons, and the segment of each."""
        points = [skeleton.nodes_nm for skeleton in self.skeletons.values()]
        owners = np.repeat(np.array(list(self.skeletons), np.uint64), [len(p) for p in points])
        return KDTree(np.concatenate(points)), owners

    @cached_property
    def merges(self) -> dict[frozenset[int], list[tuple[KDTree, str]]]:
        """Pair of segments -> interfaces of its corrections."""
        found: dict[frozenset[int], list[tuple[KDTree, str]]] = {}
        for merge in self.corrections.merges:
            found.setdefault(frozenset(merge.segments), []).append((KDTree(merge.points_nm), merge.edit_id))
        return found

    @cached_property
    def holds(self) -> set[tuple[int, int]]:
        """Pairs of a segment and a body that it holds a voxel of."""
        overlaps = self.corrections.overlaps
        return set(zip(overlaps.segments.tolist(), overlaps.bodies.tolist(), strict=True))

    @cached_property
    def bodies(self) -> dict[int, tuple[int, ...]]:
        """Segment -> the bodies that it is known to hold."""
        return self.corrections.bodies_of()

    @cached_property
    def indexed(self) -> Callable[[int], SkeletonIndex | None]:
        """Index of the skeleton of a segment, made once."""
        return cache(lambda segment: index_skeleton(self.skeletons.get(segment)))

    def unsuitable(self, base: int) -> str | None:
        """Return why no question is asked about a segment."""
        body = self.corrections.body_of.get(base)
        if body is None:
            return "segment fused or without a sure body"
        if self.sizes.get(base, 0) < self.rules.min_segment_voxels:
            return "segment too small"
        return None if self.corrections.is_complete(body) else "segment is not proofread"

    def look(self, base: int, place_nm: Point, radius_nm: float) -> _Found:
        """Find the segments near an end, those in contact with the base first."""
        extent = view_extent_nm(place_nm, self.rules)
        distances = self._in_contact(base, place_nm, extent)
        nearest = sorted(distances, key=lambda s: (distances[s], s))
        # where only some bodies are proofread, segments are known round their corrections alone, each at its own time
        if len(nearest) <= MOST and self.corrections.complete is None:
            around = self._around(base, place_nm, extent)
            nearest += sorted(around.keys() - distances.keys(), key=lambda s: (around[s], s))
            distances = around | distances
        return _Found(base, place_nm, radius_nm, extent, tuple(nearest), distances)

    def _in_contact(self, base: int, place_nm: Point, extent_nm: float) -> dict[int, float]:
        rows = self.touching.get(base)
        if rows is None:
            return {}
        points = self.contacts.points_nm[rows].astype(np.float64)
        away = points - place_nm
        rows_seen = np.flatnonzero(np.abs(away).max(axis=1) <= SEEN * extent_nm)
        far = np.linalg.norm(away, axis=1)
        found: dict[int, float] = {}
        taken: list[NDArray[np.float64]] = []
        for k in rows_seen[np.argsort(far[rows_seen], kind="stable")].tolist():
            one, two = self.contacts.segments[rows[k]].tolist()
            other = two if one == base else one
            if other in found:
                continue
            if any(np.linalg.norm(points[k] - patch) < _SAME_PATCH_NM for patch in taken):
                continue
            found[other] = float(far[k])
            taken.append(points[k])
        return found

    def _around(self, base: int, place_nm: Point, extent_nm: float) -> dict[int, float]:
        tree, owners = self.nodes
        rows = np.asarray(sorted(tree.query_ball_point(place_nm, SEEN * extent_nm, p=np.inf)), np.int64)
        far = np.linalg.norm(np.asarray(tree.data)[rows] - place_nm, axis=1)
        found: dict[int, float] = {}
        for segment, distance in zip(owners[rows].tolist(), far.tolist(), strict=True):
            if segment != base:
                found[segment] = min(distance, found.get(segment, np.inf))
        return found

    def judge(self, found: _Found, shown: Sequence[int]) -> tuple[int, str] | str | None:
        """Return the right candidate and its correction, None if none is right, or why that cannot be said."""
        if not shown:
            return NO_CANDIDATE
        body = self.corrections.body_of[found.base]
        right = [s for s in shown if self.corrections.body_of.get(s) == body]
        if len(right) > 1:
            return SEVERAL
        if any(s not in right and (s, body) in self.holds and s not in self.corrections.body_of for s in shown):
            return UNSURE
        if not right:
            return None
        half = found.extent_nm / 2
        near = [
            (float(tree.query(found.place_nm)[0]), edit_id)
            for tree, edit_id in self.merges.get(frozenset((found.base, right[0])), [])
            if tree.query(found.place_nm, p=np.inf)[0] <= half
        ]
        return (right[0], min(near)[1]) if near else UNLOCALISED

    def site(self, found: _Found, source: Source, seed: int) -> Site:
        """Make the site: candidates in the order of a hash, so that no letter is likelier than another."""
        place, base = found.place_nm, found.base
        shown = in_order(found.shown, base, place, seed)
        answer = NONE if found.right is None else get_task(TASK).labels[shown.index(found.right)]
        origin = "simulated" if source.info.simulated_errors else "control" if found.right is None else "edit"
        ids = (base, *shown)
        contents = [view_content(self.indexed(s), place, found.extent_nm, "candidates") for s in shown]
        near_nm = sorted(found.distances_nm[s] for s in shown)
        covariates = {
            "log_base": float(np.log(self.sizes[base])),
            "log_radius": float(np.log1p(found.radius_nm)),
            "candidates": float(len(shown)),
            "log_nearest": float(np.log1p(near_nm[0])),
            "log_candidates": float(np.mean([np.log1p(self.sizes.get(s, 0)) for s in shown])),
            **view_content(self.indexed(base), place, found.extent_nm, "base"),
            **{name: float(np.mean([content[name] for content in contents])) for name in contents[0]},
        }
        bodies = tuple(dict.fromkeys(body for s in ids for body in self.bodies.get(s, ())))
        return Site(
            task=TASK,
            location_nm=place,
            extent_nm=found.extent_nm,
            parts=(Part(base, "base"), *(Part(s, "candidate") for s in shown)),
            answer=answer,
            segment_ids=ids,
            body_ids=bodies,
            origin=origin,
            edit_id=found.edit_id,
            covariates=covariates,
            choices=tuple(shown),
        )


def in_order(shown: Sequence[int], base: int, place_nm: Point, seed: int) -> list[int]:
    """Order candidates by a hash, so that no letter is likelier than another.

    Parameters
    ----------
    shown
        The candidates.
    base, place_nm, seed
        Segment and end that they continue, and the seed; others give another order.

    Examples
    --------
    >>> in_order([7, 8, 9], 1, (0.0, 0.0, 0.0), 0) == in_order([9, 7, 8], 1, (0.0, 0.0, 0.0), 0)
    True
    """
    return sorted(shown, key=lambda one: _digest(seed, base, place_nm, one))


def _digest(*values: object) -> bytes:
    return hashlib.sha256("/".join(map(repr, values)).encode()).digest()


def _lot(*values: object) -> float:
    return int.from_bytes(_digest(*values)[:4], "big") / 2**32
