"""Rows of tasks that were built before: a task that is added keeps clear of them, and they stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Point, Site


@dataclass(frozen=True)
class EarlierRow:
    """A row that is already written, as far as leaks between partitions go.

    Attributes
    ----------
    places
        Centre (x, y, z) and edge of each cube that it shows, nm; see :attr:`connectomebench.core.site.Site.places`.
    segments
        (segmentation, segment) of each segment shown; see :attr:`connectomebench.core.site.Site.segment_keys`.
    bodies
        Proofread bodies of these segments.
    partition
        Where it is: ``train``, ``validation`` or ``test``.
    """

    places: tuple[tuple[Point, float], ...]
    segments: tuple[tuple[str, int], ...]
    bodies: tuple[int, ...]
    partition: str


def tied_to(sites: Sequence[Site], rows: Sequence[EarlierRow], group_by: str) -> NDArray[np.bool_]:
    """Find the partitions whose rows share a segment (or body) with a site or overlap its view.

    Parameters
    ----------
    sites
        Sites of tasks that are added.
    rows
        What is written.
    group_by
        ``segment`` or ``body``; see :class:`connectomebench.partition.assign.PartitionConfig`.

    Returns
    -------
    bool, shape (n, 3)
        Columns in the order of ``PARTITIONS``. A site with two of them cannot be in any partition without a leak.
    """
    from scipy.spatial import KDTree

    tied = np.zeros((len(sites), len(PARTITIONS)), np.bool_)
    places = [(i, *place) for i, site in enumerate(sites) for place in site.places]
    places_nm = np.array([location for _, location, _ in places], np.float64).reshape(-1, 3)
    for column, partition in enumerate(PARTITIONS):
        here = [row for row in rows if row.partition == partition]
        if not here or not len(sites):
            continue
        shown = {id_ for row in here for id_ in _ids(row.segments, row.bodies, group_by)}
        tied[:, column] = [not shown.isdisjoint(_ids(s.segment_keys, s.body_ids, group_by)) for s in sites]
        placed = [place for row in here for place in row.places]
        if not placed or not places:
            continue
        tree = KDTree(np.array([location for location, _ in placed], np.float64))
        extents_nm = np.array([extent for _, extent in placed], np.float64)
        reach_nm = (extents_nm.max() + np.array([extent for _, _, extent in places])) / 2
        found = tree.query_ball_point(places_nm, reach_nm, p=np.inf)
        for (i, location_nm, extent_nm), near in zip(places, found, strict=True):
            gap_nm = np.abs(np.asarray(tree.data)[near] - location_nm).max(axis=1, initial=0)
            tied[i, column] |= bool((gap_nm < (extents_nm[near] + extent_nm) / 2).any())
    return tied


def _ids(segments: Iterable[tuple[str, int]], bodies: Iterable[int], group_by: str) -> set[object]:
    return {*segments, *bodies} if group_by == "body" else {*segments}
