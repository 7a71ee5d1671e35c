"""From a source to the labelled sites of all tasks of a build."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tqdm import tqdm

from connectomebench.build.config import BuildConfig
from connectomebench.core.correction import Skipped
from connectomebench.core.site import Site
from connectomebench.core.source import Source
from connectomebench.sites.candidates import coverage, find_candidates
from connectomebench.sites.labels import (
    LabelledSites,
    endpoint_sites,
    merge_action_sites,
    merge_error_sites,
    split_action_sites,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectedSites:
    """Labelled sites of all tasks, and what the manifest says of how they were found.

    Attributes
    ----------
    sites
        In the order of the tasks; cases first.
    dropped
        Task -> reason -> number.
    candidates
        Task -> recall and precision of the candidates against the corrections.
    corrections
        Counts of the corrections of the source.
    skipped
        Places that the source left out because their data cannot be had.
    edit_times
        ``edit_id`` -> when the correction was made, where that is known.
    """

    sites: tuple[Site, ...]
    dropped: dict[str, dict[str, int]]
    candidates: dict[str, dict[str, Any]]
    corrections: dict[str, int]
    skipped: tuple[Skipped, ...]
    edit_times: dict[str, datetime]

    def of(self, task: str) -> list[Site]:
        """Return the sites of one task."""
        return [site for site in self.sites if site.task == task]


def collect_sites(source: Source, config: BuildConfig) -> CollectedSites:
    """Apply the label rules of every task of the configuration.

    Parameters
    ----------
    source
        Corrections, contacts, skeletons and cuts come from here.
    config
        Rules and tasks.

    Returns
    -------
    Gathered
        The same for the same source and configuration.
    """
    _log.info("finding corrections")
    corrections = source.corrections()
    labelled: dict[str, LabelledSites] = {}
    measured: dict[str, dict[str, Any]] = {}
    sizes = corrections.overlaps.segment_sizes()
    large = sorted(s for s, size in sizes.items() if size >= config.sites.min_segment_voxels)
    skeletons = dict(tqdm(source.skeletons(large), "skeletons", total=len(large), unit="segment", delay=1))
    found = find_candidates(skeletons.items(), config.candidates)
    for task in config.tasks:
        _log.info("labelling %s", task)
        if task == "merge_action":
            labelled[task] = merge_action_sites(
                source, corrections, source.contacts(), skeletons, config.sites, config.controls
            )
        elif task == "split_action":
            largest = config.sites.extent_nm[1]
            proposals, missing = source.propose(config.proposals, largest)
            labelled[task] = split_action_sites(source, proposals, config.sites, config.controls)
            labelled[task].dropped.update(missing)
        else:
            kind = "branch" if task == "merge_error_identification" else "end"
            rules = config.candidates
            radius = rules.merge_radius_nm if kind == "branch" else rules.radius_nm
            measured[task] = coverage(found, corrections, kind, radius).as_dict() | {"radius_nm": radius}
            label = merge_error_sites if kind == "branch" else endpoint_sites
            labelled[task] = label(source, corrections, found, skeletons, config.sites, config.controls, rules)
    return CollectedSites(
        tuple(s for task in config.tasks for s in labelled[task].sites),
        {task: _sorted(labelled[task].dropped) for task in config.tasks},
        measured,
        dict(corrections.counts),
        corrections.skipped,
        corrections.times,
    )


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {reason: n for reason, n in sorted(counter.items()) if n}
