"""Label sites from corrections, contacts and candidates.

Each rule gives cases (answer yes) and a pool of controls (answer no) that are comparable in size and distance; places
with uncertain truth are left out and counted. Locations never come from the truth: a contact, an end or a
branch point of the automatic segmentation, or the place of the proposed cut.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import Contacts, Corrections
from connectomebench.core.cut import ProposedCut
from connectomebench.core.geometry import Skeleton
from connectomebench.core.site import Origin, Part, Point, Site, as_point
from connectomebench.core.source import Question, Source
from connectomebench.core.tasks import MERGE_ERROR_KINDS
from connectomebench.core.tasks import CandidateKind as Kind
from connectomebench.sites.candidates import CandidateConfig, Candidates, nearest_correction, one_a_place
from connectomebench.sites.matched_controls import ControlConfig, assign_controls, standardise
from connectomebench.sites.view_content import index_skeleton, view_content
from connectomebench.sites.view_nodes import NodeConfig

_ALREADY_A_PLACE = "second candidate at the same correction"
GOES_ON = "no correction is near, but the body goes on outside the segment"
FRINGE = "a correction is near, but the core of no second body is in the view"
SMALL_SECOND_BODY = "a correction is near, but the core of the second body is small in the view"
SECOND_BODY = "no correction is near, but a second body lies in the segment"


@dataclass(frozen=True)
class SiteConfig:
    """View extents and the segments that take part.

    Attributes
    ----------
    extent_nm
        Smallest and largest edge of a view; each place gets a value between them, so that zoom is no cue. Equal
        values fix it. 5000 to 8000 on whole brains.
    min_segment_voxels
        Smaller segments are left out.
    merge_match_nm
        A contact of two segments is the place of their correction if it lies within this distance of it.
    nodes
        Numbered nodes of the tasks whose answer is a place, and how far their views are shifted.
    """

    extent_nm: tuple[float, float] = (5000.0, 8000.0)
    min_segment_voxels: int = 1000
    merge_match_nm: float = 2000.0
    nodes: NodeConfig = field(default_factory=NodeConfig)


@dataclass(frozen=True)
class LabelledSites:
    """Sites of one task, cases first, and counts of what was left out."""

    sites: list[Site]
    dropped: Counter[str]


def view_extent_nm(location_nm: Point, rules: SiteConfig) -> float:
    """Return the edge of the view at a place, nm: between the two extents, from a hash of the place alone."""
    low, high = rules.extent_nm
    digest = hashlib.sha256(repr([round(c, 1) for c in location_nm]).encode()).digest()
    return round(low + (high - low) * int.from_bytes(digest[:4], "big") / 2**32, 1)


def origin_of(source: Source, case: bool) -> Origin:
    """Return where a site comes from: simulated errors, a real correction, or a real control."""
    if source.info.simulated_errors:
        return "simulated"
    return "edit" if case else "control"


def _pool(cases: list[Site], controls: list[Site], rules: ControlConfig, dropped: Counter[str]) -> list[Site]:
    """Keep at most ``max_cases`` cases, those with the best controls, and the controls nearest in covariates."""
    if not cases or not controls:
        return cases + controls
    x = standardise(np.asarray([list(s.covariates.values()) for s in cases + controls]))
    own, other = x[: len(cases)], x[len(cases) :]
    if rules.max_cases and len(cases) > rules.max_cases:
        best = np.full(len(cases), np.inf)
        for case, control in assign_controls(own, other, 1):
            best[case] = np.linalg.norm(own[case] - other[control])
        chosen = np.sort(np.argsort(best, kind="stable")[: rules.max_cases])
        dropped["cases beyond max_cases"] += len(cases) - len(chosen)
        cases, own = [cases[i] for i in chosen], own[chosen]
    first = np.asarray([s.hard_negative for s in controls], np.bool_)
    kept = sorted({k for _, k in assign_controls(own, other, rules.pool_per_case, first=first)})
    dropped["controls not comparable to a case"] += len(controls) - len(kept)
    return cases + [controls[k] for k in kept]


def merge_action_sites(
    source: Source,
    corrections: Corrections,
    contacts: Contacts,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
    task: str = "merge_action",
) -> LabelledSites:
    """Label touching pairs of segments: yes = both belong to one body.

    Both kinds of pair come from the same contacts. A pair is left out where a segment is fused (a tangle), has no
    sure body, is small, or where it belongs to one body but no localised correction lies at this contact. Pairs that a
    person merged and that were taken apart again are hard negatives, at the contact next to that merge.
    """
    sizes, body_of = corrections.overlaps.segment_sizes(), corrections.body_of
    merges: dict[tuple[int, int], list[tuple[KDTree, str]]] = {}
    for merge in corrections.merges:
        merges.setdefault(_pair(*merge.segments), []).append((KDTree(merge.points_nm), merge.edit_id))
    # why a correction has no case: the reason given for the contacts of its pair
    left_out = dict.fromkeys(merges, "no contact")
    dropped: Counter[str] = Counter()
    yes: dict[str, tuple[float, Site]] = {}
    no: dict[tuple[int, int], Site] = {}
    hard: dict[tuple[int, int], tuple[float, Site]] = {}
    taken_back: dict[tuple[int, int], list[KDTree]] = {}
    for merge in corrections.taken_back:
        taken_back.setdefault(_pair(*merge.segments), []).append(KDTree(merge.points_nm))
    indexed = cache(lambda segment: index_skeleton(skeletons.get(segment)))
    order = np.lexsort((contacts.points_nm[:, 2], contacts.points_nm[:, 0], -contacts.areas))
    for row in order.tolist():
        pair = _pair(*contacts.segments[row].tolist())
        reason = _unsuitable(pair, corrections, sizes, rules)
        if reason is not None:
            dropped[reason] += 1
            if pair in left_out:
                left_out[pair] = reason
            continue
        place = as_point(contacts.points_nm[row])
        base, candidate = sorted(pair, key=lambda s: (-sizes[s], s))
        extent = view_extent_nm(place, rules)
        covariates = {
            "log_base": float(np.log(sizes[base])),
            "log_candidate": float(np.log(sizes[candidate])),
            "log_area": float(np.log1p(contacts.areas[row])),
        }
        for role, segment in (("base", base), ("candidate", candidate)):
            covariates |= view_content(indexed(segment), place, extent, role)
        same = body_of[base] == body_of[candidate]
        distance, edit_id = 0.0, None
        if same:
            near = sorted((float(patch.query(place)[0]), e) for patch, e in merges.get(pair, []))
            if not near or near[0][0] > rules.merge_match_nm:
                dropped["contact of one body without a localised correction"] += 1
                if pair in left_out:
                    left_out[pair] = "all contacts are further away than merge_match_nm, or nearer to another one"
                continue
            left_out[pair] = "all contacts are further away than merge_match_nm, or nearer to another one"
            distance, edit_id = near[0]
        site = Site(
            task=task,
            location_nm=place,
            extent_nm=extent,
            parts=(Part(base, "base"), Part(candidate, "candidate")),
            answer="yes" if same else "no",
            segment_ids=(base, candidate),
            body_ids=(body_of[base], body_of[candidate]),
            origin=origin_of(source, same),
            edit_id=edit_id,
            covariates=covariates,
        )
        if edit_id is None:
            # one control per pair: its largest contact comes first, but for the one next to a merge that was taken back
            no.setdefault(pair, site)
            away = min((float(patch.query(place)[0]) for patch in taken_back.get(pair, [])), default=np.inf)
            if away <= rules.merge_match_nm and (pair not in hard or away < hard[pair][0]):
                hard[pair] = away, replace(site, hard_negative=True)
        elif edit_id not in yes or distance < yes[edit_id][0]:
            yes[edit_id] = (distance, site)
    for merge in corrections.merges:
        if merge.edit_id not in yes:
            dropped[f"corrections without a case: {left_out[_pair(*merge.segments)]}"] += 1
    cases = [site for _, (_, site) in sorted(yes.items())]
    others = [site for pair, site in no.items() if pair not in hard]
    return LabelledSites(_pool(cases, [*(site for _, site in hard.values()), *others], controls, dropped), dropped)


def _unsuitable(
    pair: tuple[int, int], corrections: Corrections, sizes: Mapping[int, int], rules: SiteConfig
) -> str | None:
    """Return why a pair of segments is left out; None if it is suitable."""
    body_of = corrections.body_of
    if any(s in corrections.fused for s in pair):
        return "segment is itself a merge error"
    if any(s not in body_of for s in pair):
        return "segment without a sure body"
    if not any(corrections.is_complete(body_of[s]) for s in pair):
        return "neither segment is proofread"
    if min(sizes[s] for s in pair) < rules.min_segment_voxels:
        return "segment too small"
    return None


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def endpoint_sites(
    source: Source,
    corrections: Corrections,
    candidates: Candidates,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
    radii: CandidateConfig,
    task: str = "endpoint_error_identification_with_em",
) -> LabelledSites:
    """Label ends of segments: yes = the interface of a merge of this segment lies within ``radius_nm``.

    An end is left out at the border of the data, on a fused segment, and where no correction is near although the
    body continues outside the segment (the correction was excluded, not localised, or not between two segments).
    """
    return _candidate_sites(
        source, corrections, candidates.of_kind("end"), skeletons, task, radii.radius_nm, rules, controls
    )


def merge_error_sites(
    source: Source,
    corrections: Corrections,
    candidates: Candidates,
    skeletons: Mapping[int, Skeleton],
    rules: SiteConfig,
    controls: ControlConfig,
    radii: CandidateConfig,
) -> LabelledSites:
    """Label places where a segment may fuse two bodies: yes = it does within ``merge_radius_nm``.

    Candidates are those of all kinds for merge errors, one per place. Controls are places of sound segments, and of
    fused segments far from the fusion; none has the cores of two bodies of the segment within the radius. A case has
    them within half of the smallest view.
    """
    kinds: list[Kind] = [kind for kind in MERGE_ERROR_KINDS if kind in radii.kinds]
    places = one_a_place(candidates, kinds, radii.min_distance_nm)
    task = "merge_error_identification"
    return _candidate_sites(source, corrections, places, skeletons, task, radii.merge_radius_nm, rules, controls)


def _candidate_sites(
    source: Source,
    corrections: Corrections,
    candidates: Candidates,
    skeletons: Mapping[int, Skeleton],
    task: str,
    radius_nm: float,
    rules: SiteConfig,
    controls: ControlConfig,
) -> LabelledSites:
    """Label candidates by their distance to the nearest correction of their own segment."""
    wants_fused = task == "merge_error_identification"
    distances, index = nearest_correction(candidates, corrections, "branch" if wants_fused else "end")
    known = corrections.splits if wants_fused else corrections.merges
    case = distances <= radius_nm
    reasons = _left_out(source, corrections, candidates, case, radius_nm, rules, wants_fused)
    dropped: Counter[str] = Counter(reason for reason in reasons if reason is not None)
    sizes = corrections.overlaps.segment_sizes()
    yes: dict[str, tuple[float, Site]] = {}
    no: list[Site] = []
    indexed = cache(lambda segment: index_skeleton(skeletons.get(segment)))
    for i, segment in enumerate(candidates.segments.tolist()):
        if reasons[i] is not None:
            continue
        place = as_point(candidates.points_nm[i])
        edit_id = known[index[i]].edit_id if case[i] else None
        extent = view_extent_nm(place, rules)
        site = Site(
            task=task,
            location_nm=place,
            extent_nm=extent,
            parts=(Part(segment, "base"),),
            answer="yes" if case[i] else "no",
            segment_ids=(segment,),
            body_ids=_bodies(corrections, segment),
            origin=origin_of(source, bool(case[i])),
            edit_id=edit_id,
            covariates={
                "log_segment": float(np.log(sizes[segment])),
                "log_radius": float(np.log1p(candidates.radii_nm[i])),
            }
            | {f"is_{kind}": float(candidates.kinds[i] == kind) for kind in MERGE_ERROR_KINDS if wants_fused}
            | view_content(indexed(segment), place, extent, "base"),
        )
        if edit_id is None:
            no.append(site)
            continue
        # one case per segment and correction: the nearest candidate
        key = f"{edit_id}/{segment}"
        if key in yes:
            dropped[_ALREADY_A_PLACE] += 1
        if key not in yes or distances[i] < yes[key][0]:
            yes[key] = (float(distances[i]), site)
    cases = [site for _, (_, site) in sorted(yes.items())]
    return LabelledSites(_pool(cases, no, controls, dropped), dropped)


def _bodies(corrections: Corrections, segment: int) -> tuple[int, ...]:
    return tuple(corrections.fused.get(segment) or (corrections.body_of[segment],))


def _left_out(
    source: Source,
    corrections: Corrections,
    candidates: Candidates,
    case: NDArray[np.bool_],
    radius_nm: float,
    rules: SiteConfig,
    wants_fused: bool,
) -> list[str | None]:
    """Return why each candidate gets no label; None if it gets one.

    Controls are checked against the truth itself: nearby corrections of other segments do not matter, and those of
    the control's own segment may be missing from the list. So are cases of merge errors: the second body must be there.
    """
    sizes = corrections.overlaps.segment_sizes()
    border = source.at_border(candidates.segments, candidates.points_nm)
    reasons: list[str | None] = [None] * len(case)
    for i, segment in enumerate(candidates.segments.tolist()):
        if border[i]:
            reasons[i] = "at the border of the data"
        elif segment not in corrections.body_of and not (wants_fused and segment in corrections.fused):
            reasons[i] = "segment fused or without a sure body"
        elif sizes.get(segment, 0) < rules.min_segment_voxels:
            reasons[i] = "segment too small"
        elif not case[i] and not all(corrections.is_complete(body) for body in _bodies(corrections, segment)):
            reasons[i] = "segment is not proofread"
    asked = np.flatnonzero(~case & np.array([reason is None for reason in reasons], np.bool_))
    question: Question = "second_body" if wants_fused else "goes_on"
    around = source.surroundings(candidates.segments[asked], candidates.points_nm[asked], radius_nm, question)
    wrong, reason = (around.second_body, SECOND_BODY) if wants_fused else (around.goes_on, GOES_ON)
    for i in asked[wrong].tolist():
        reasons[i] = reason
    if wants_fused:
        # an interface may be the fringe of a body whose core lies beyond the view: nobody sees two neurons there
        asked = np.flatnonzero(case & np.array([reason is None for reason in reasons], np.bool_))
        reach_nm = max(radius_nm, rules.extent_nm[0] / 2)

        def in_view(rows: NDArray[np.int64], question: Question) -> NDArray[np.bool_]:
            segments, points = candidates.segments[rows], candidates.points_nm[rows]
            return source.surroundings(segments, points, reach_nm, question).second_body

        unclear = asked[~in_view(asked, "clear_second_body")]
        for i, small in zip(unclear.tolist(), in_view(unclear, "second_body").tolist(), strict=True):
            reasons[i] = SMALL_SECOND_BODY if small else FRINGE
    return reasons


def split_action_sites(
    source: Source,
    proposals: Sequence[ProposedCut],
    rules: SiteConfig,
    controls: ControlConfig,
    task: str = "split_action",
) -> LabelledSites:
    """Label proposed cuts of fused segments: yes = the cut is good by the rule of :mod:`connectomebench.cuts`.

    Bodies that are fused at two near places are two errors, and one cut may be proposed for both: it is asked about
    once, and not at all where the rule calls it good in the cutout of one error and bad in that of the other.
    """
    dropped: Counter[str] = Counter()
    yes: list[Site] = []
    no: list[Site] = []
    verdicts: dict[tuple[int, Point], set[bool]] = {}
    for proposal in proposals:
        verdicts.setdefault((proposal.segment, proposal.place_nm), set()).add(proposal.verdict.good)
    asked: set[tuple[int, Point]] = set()
    for proposal in proposals:
        place = proposal.place_nm
        key = (proposal.segment, place)
        if len(verdicts[key]) > 1:
            dropped["the same cut is good at one error and bad at another"] += 1
            continue
        if key in asked:
            dropped["the same cut is asked about at another error"] += 1
            continue
        asked.add(key)
        site = Site(
            task=task,
            location_nm=place,
            extent_nm=view_extent_nm(place, rules),
            parts=(Part(proposal.segment, "source"), Part(proposal.segment, "sink")),
            answer="yes" if proposal.verdict.good else "no",
            segment_ids=(proposal.segment,),
            body_ids=proposal.bodies,
            origin=origin_of(source, proposal.verdict.good),
            edit_id=proposal.edit_id if proposal.verdict.good else None,
            cut=proposal.cut,
            covariates={
                "log_larger": float(np.log1p(max(proposal.side_voxels))),
                "log_smaller": float(np.log1p(min(proposal.side_voxels))),
                "log_cost": float(np.log1p(proposal.cost)),
            },
        )
        (yes if proposal.verdict.good else no).append(site)
    return LabelledSites(_pool(yes, no, controls, dropped), dropped)
