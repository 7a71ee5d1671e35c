"""Keep places shared by several segmentations of one volume once.

Two segmentations often break a neuron at the same place, or fuse the same two: one correction, whose rows in both
would be copies of each other. The same holds for controls at one place.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.correction import Corrections
from connectomebench.core.site import Point, Site
from connectomebench.sites.labels import LabelledSites

SHARED_CORRECTION = "the same correction is asked in another segmentation"
SHARED_CONTROL = "the same place is a control in another segmentation"


@dataclass(frozen=True)
class Place:
    """A correction or site of a segmentation, reduced to bodies and place.

    Attributes
    ----------
    segmentation
        Its name.
    name
        Unique within the segmentation.
    bodies
        Bodies it concerns.
    place_nm
        Position (x, y, z), nm.
    """

    segmentation: str
    name: str
    bodies: tuple[int, ...]
    place_nm: Point


def unlike(places: Sequence[Place], same_place_nm: float) -> NDArray[np.bool_]:
    """Choose places such that no two of different segmentations are the same.

    Two places are the same if they concern the same bodies and lie at most ``same_place_nm`` apart. Those with the
    fewest duplicates are chosen first, which keeps many; ties are broken by a hash, which favours no segmentation.

    Parameters
    ----------
    places
        In any order; the choice does not depend on it.
    same_place_nm
        Largest distance of places that are the same, nm.

    Returns
    -------
    ndarray
        bool, shape (len(places),). Each place not chosen is the same as a chosen one of another segmentation.
    """
    alike: list[list[int]] = [[] for _ in places]
    by_bodies: dict[tuple[int, ...], list[int]] = {}
    for i, place in enumerate(places):
        by_bodies.setdefault(tuple(sorted(set(place.bodies))), []).append(i)
    for members in by_bodies.values():
        tree = KDTree([places[i].place_nm for i in members])
        for a, b in tree.query_pairs(same_place_nm):
            one, two = members[a], members[b]
            if places[one].segmentation != places[two].segmentation:
                alike[one].append(two)
                alike[two].append(one)
    chosen = np.zeros(len(places), np.bool_)
    for i in sorted(range(len(places)), key=lambda i: (len(alike[i]), _digest(places[i]))):
        chosen[i] = not chosen[alike[i]].any()
    return chosen


def _digest(place: Place) -> bytes:
    return hashlib.sha256(f"{place.segmentation}/{place.name}".encode()).digest()


def keep_once(
    labelled: Mapping[str, LabelledSites], corrections: Mapping[str, Corrections], same_place_nm: float
) -> LabelledSites:
    """Combine the sites of one task over all segmentations, keeping shared ones once.

    All sites of one correction come from one segmentation (both ends of a cut, for example). Sites without a correction
    are the same where their bodies are and their places lie close.

    Parameters
    ----------
    labelled
        Segmentation -> its sites.
    corrections
        Segmentation -> its corrections.
    same_place_nm
        See :func:`unlike`.

    Returns
    -------
    LabelledSites
        Cases first; each site names its segmentation.
    """
    dropped: Counter[str] = Counter()
    cases: list[Site] = []
    controls: list[Site] = []
    for name, own in labelled.items():
        dropped.update(own.dropped)
        for site in own.sites:
            (controls if site.edit_id is None else cases).append(replace(site, segmentation=name))
    known = {name: _places(own) for name, own in corrections.items()}
    asked: dict[tuple[str, str], Place] = {}
    for site in cases:
        name, edit = site.segmentation or "", site.edit_id or ""
        asked.setdefault((name, edit), Place(name, edit, *known[name][edit]))
    chosen = unlike(list(asked.values()), same_place_nm)
    once = {key for key, kept in zip(asked, chosen.tolist(), strict=True) if kept}
    kept_cases = [site for site in cases if (site.segmentation or "", site.edit_id or "") in once]
    dropped[SHARED_CORRECTION] += len(cases) - len(kept_cases)
    own_controls = [
        Place(
            site.segmentation or "",
            repr((site.segment_ids, site.location_nm, site.cut)),
            site.body_ids,
            site.location_nm,
        )
        for site in controls
    ]
    kept_controls = [s for s, kept in zip(controls, unlike(own_controls, same_place_nm).tolist(), strict=True) if kept]
    dropped[SHARED_CONTROL] += len(controls) - len(kept_controls)
    return LabelledSites(kept_cases + kept_controls, dropped)


def _places(corrections: Corrections) -> dict[str, tuple[tuple[int, ...], Point]]:
    """Return bodies and place of every correction."""
    return {merge.edit_id: ((merge.body,), merge.location_nm) for merge in corrections.merges} | {
        split.edit_id: (tuple(split.bodies), split.location_nm) for split in corrections.splits
    }
