"""Collect the labelled sites of all tasks of a build from a source."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tqdm import tqdm

from connectomebench.build.config import BuildConfig
from connectomebench.core.correction import Corrections, GivenIds, Skipped
from connectomebench.core.errors import TaskLacking
from connectomebench.core.site import Site
from connectomebench.core.source import Source
from connectomebench.core.tasks import get_task
from connectomebench.sites.candidates import find_candidates, measure, path_mm
from connectomebench.sites.labels import LabelledSites
from connectomebench.sites.shared_places import keep_once
from connectomebench.sites.site_rules import SITE_RULES, SiteRequest
from connectomebench.sources.family import SegmentationFamily

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectedSites:
    """Labelled sites of all tasks, and what the manifest records about how they were found.

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
        Places that the source left out because their data are unavailable.
    edit_times
        ``edit_id`` -> time of the correction, where known.
    segmentations
        For a source with several segmentations: name -> counts of its ``corrections``, and its ``candidates``.
    given_ids
        What became of ids that the configuration names.
    warnings
        What seems wrong with the data, one line each.
    lacking
        Tasks that the source has no data for, with what it lacks.
    """

    sites: tuple[Site, ...]
    dropped: dict[str, dict[str, int]]
    candidates: dict[str, dict[str, Any]]
    corrections: dict[str, int]
    skipped: tuple[Skipped, ...]
    edit_times: dict[str, datetime]
    segmentations: dict[str, dict[str, Any]]
    given_ids: GivenIds
    warnings: tuple[str, ...] = ()
    lacking: tuple[TaskLacking, ...] = ()

    def of(self, task: str) -> list[Site]:
        """Return the sites of one task."""
        return [site for site in self.sites if site.task == task]


def collect_sites(source: Source | SegmentationFamily, config: BuildConfig) -> CollectedSites:
    """Apply the label rules of every configured task.

    Parameters
    ----------
    source
        Provides corrections, contacts, skeletons and cuts; a family does so member by member, and what
        several members share is kept once.
    config
        Rules and tasks.

    Returns
    -------
    CollectedSites
        The same for the same source and configuration.
    """
    if not isinstance(source, SegmentationFamily):
        found = _find(source, config)
        return _collected(config, found.labelled, found.measured, found.corrections, {}, found.lacking)
    members: dict[str, _Found] = {}
    for name in sorted(source.members):
        _log.info("segmentation %s", name)
        members[name] = _find(source.members[name], config)
    every = {name: found.corrections for name, found in members.items()}
    labelled = {
        task: keep_once({name: found.labelled[task] for name, found in members.items()}, every, source.same_place_nm)
        for task in config.tasks
    }
    measured = {
        task: _together([found.measured[task] for found in members.values()])
        for task in next(iter(members.values())).measured
    }
    counts = sum((Counter(own.counts) for own in every.values()), Counter())
    counts["bodies"] = next(iter(every.values())).counts["bodies"]  # all share one truth, so bodies count once
    segmentations = {
        name: {"corrections": dict(found.corrections.counts), "candidates": found.measured}
        for name, found in members.items()
    }
    doubts = tuple(f"{name}: {warning}" for name, own in every.items() for warning in own.warnings)
    together = replace(next(iter(every.values())), counts=dict(counts), warnings=doubts)
    # a task that one segmentation has no data for is made from the others
    lacking = [error for found in members.values() for error in found.lacking if not labelled[error.task].sites]
    once = tuple({error.task: error for error in reversed(lacking)}.values())
    return _collected(config, labelled, measured, together, segmentations, once)


@dataclass(frozen=True)
class _Found:
    """Sites of one segmentation, by task, with their counts."""

    labelled: dict[str, LabelledSites]
    measured: dict[str, dict[str, Any]]
    corrections: Corrections
    lacking: tuple[TaskLacking, ...]


def _find(source: Source, config: BuildConfig) -> _Found:
    """Label the sites of one segmentation."""
    _log.info("finding corrections")
    corrections = source.corrections()
    labelled: dict[str, LabelledSites] = {}
    measured: dict[str, dict[str, Any]] = {}
    lacking: list[TaskLacking] = []
    sizes = corrections.overlaps.segment_sizes()
    large = sorted(s for s, size in sizes.items() if size >= config.sites.min_segment_voxels)
    skeletons = dict(tqdm(source.skeletons(large), "skeletons", total=len(large), unit="segment", delay=1))
    rules = config.candidates
    interfaces = None
    if "interface" in rules.kinds and any("interface" in get_task(task).candidates for task in config.tasks):
        interfaces = source.supervoxel_interfaces(skeletons)
        if interfaces is None:
            _log.info("candidates of the kind interface are left out: the source has no supervoxels")
            rules = replace(rules, kinds=tuple(kind for kind in rules.kinds if kind != "interface"))
    found = find_candidates(skeletons.items(), rules, interfaces)
    request = SiteRequest(source, corrections, skeletons, found, config.sites, config.controls, rules, config.proposals)
    for task in config.tasks:
        _log.info("labelling %s", task)
        kinds = get_task(task).candidates
        if kinds:
            measured[task] = measure(found, corrections, kinds, rules, path_mm(skeletons.values()))
        try:
            labelled[task] = SITE_RULES[task](request)
        except TaskLacking as error:
            labelled[task] = LabelledSites([], Counter())
            lacking.append(error)
    return _Found(labelled, measured, corrections, tuple(lacking))


def _collected(
    config: BuildConfig,
    labelled: dict[str, LabelledSites],
    measured: dict[str, dict[str, Any]],
    corrections: Corrections,
    segmentations: dict[str, dict[str, Any]],
    lacking: tuple[TaskLacking, ...],
) -> CollectedSites:
    return CollectedSites(
        tuple(s for task in config.tasks for s in labelled[task].sites),
        {task: _sorted(labelled[task].dropped) for task in config.tasks},
        measured,
        dict(corrections.counts),
        corrections.skipped,
        corrections.times,
        segmentations,
        corrections.given_ids,
        corrections.warnings,
        lacking,
    )


def _together(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average recall and precision over segmentations, weighted by corrections and candidates."""
    whole = _means(measured)
    paths_mm = sum(m["path_mm"] for m in measured)
    kinds = {kind: _means([m["kinds"][kind] for m in measured]) for kind in measured[0]["kinds"]}
    for counts in (whole, *kinds.values()):
        counts["candidates_per_mm"] = counts["candidates"] / paths_mm if paths_mm else None
    return whole | {"radius_nm": measured[0]["radius_nm"], "path_mm": paths_mm, "kinds": kinds}


def _means(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def mean(value: str, of: str) -> float | None:
        total = sum(m[of] for m in measured)
        return sum((m[value] or 0.0) * m[of] for m in measured) / total if total else None

    return {
        "candidates": sum(m["candidates"] for m in measured),
        "corrections": sum(m["corrections"] for m in measured),
        "recall": mean("recall", "corrections"),
        "precision": mean("precision", "candidates"),
    }


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {reason: n for reason, n in sorted(counter.items()) if n}
