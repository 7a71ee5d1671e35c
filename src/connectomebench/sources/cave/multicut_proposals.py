"""Propose cuts: those of proofreaders, and wrong ones of the server's multicut for other seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.core.cut import CutGraph, ProposalConfig, ProposedCut
from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.site import Cut
from connectomebench.cuts.proposals import CutPlace, evaluate_cut, wrong_cuts
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cut_sides import ServerCuts
from connectomebench.sources.cave.history import JudgedOperation


def propose(
    archive: Archive, cutting: ServerCuts, rules: ProposalConfig, largest_view_nm: float
) -> tuple[list[ProposedCut], Counter[str]]:
    """Propose cuts at every split that proofreaders made.

    The proofreader's cut is proposed as made and judged by the rule, by which a cut that was reversed later is wrong.
    Wrong cuts come from previews between random seeds in what the larger side became, if the server still knows it.

    Parameters
    ----------
    archive, cutting
        The dataset.
    rules
        k, t and e, number of tries. ``reach_nm`` is at most the cube of the survey.
    largest_view_nm
        Edge of the largest view, nm.

    Returns
    -------
    proposals
        In the order of the edits.
    dropped
        Reason -> number of missing proposals.
    """
    proposals: list[ProposedCut] = []
    dropped: Counter[str] = Counter()
    splits = [j for j in archive.history.judged if j.operation.kind == "split"]
    complete = archive.corrections.complete or frozenset()
    for judged in tqdm(splits, "propose cuts", unit="split", delay=1):
        if not complete.intersection(judged.bodies):
            dropped["split of a segment that is not proofread"] += 1
            continue
        try:
            made = _as_made(judged, archive, cutting, rules, largest_view_nm)
            wrong = _wrong(judged, cutting, rules, largest_view_nm)
        except SiteUnavailable:
            dropped["the data of the place cannot be read"] += 1
            continue
        if isinstance(made, str):
            dropped[made] += 1
        else:
            proposals.append(made)
        if not wrong:
            dropped["no plausible wrong cut"] += 1
        proposals += wrong
    return proposals, dropped


def right_splits(
    archive: Archive, cutting: ServerCuts, rules: ProposalConfig, largest_view_nm: float
) -> tuple[list[ProposedCut], Counter[str]]:
    """Return the splits that proofreaders made and the rule calls good.

    Parameters
    ----------
    archive, cutting, rules, largest_view_nm
        As for :func:`propose`; no wrong cut is asked for.

    Returns
    -------
    splits, dropped
        In the order of the edits, and why others are missing.
    """
    splits: list[ProposedCut] = []
    dropped: Counter[str] = Counter()
    complete = archive.corrections.complete or frozenset()
    for judged in archive.history.judged:
        if judged.operation.kind != "split":
            continue
        if not complete.intersection(judged.bodies):
            dropped["split of a segment that is not proofread"] += 1
            continue
        try:
            made = _as_made(judged, archive, cutting, rules, largest_view_nm)
        except SiteUnavailable:
            dropped["the data of the place cannot be read"] += 1
            continue
        if isinstance(made, str):
            dropped[made] += 1
        elif made.verdict.good:
            splits.append(made)
        else:
            dropped["the split that was made is not right by the rule"] += 1
    return splits, dropped


def _cut_place(
    judged: JudgedOperation, segment: int, bodies: tuple[int, ...], cutting: ServerCuts, reach_nm: float
) -> CutPlace:
    def part(_: CutGraph, cut: Cut) -> NDArray[np.int8] | str:
        return cutting.sides(segment, cut)

    operation = judged.operation
    graph = cutting.pieces(segment, operation.place_nm, reach_nm)[0].graph
    return CutPlace(operation.edit_id, segment, bodies, operation.place_nm, reach_nm, graph, part)


def _as_made(
    judged: JudgedOperation, archive: Archive, cutting: ServerCuts, rules: ProposalConfig, largest_view_nm: float
) -> ProposedCut | str:
    operation = judged.operation
    survey = archive.survey_index.of_operation(operation.operation_id)
    if survey is None:
        return "the place was not surveyed"
    segment = survey.sides[0]
    place = _cut_place(judged, segment, tuple(dict.fromkeys(judged.bodies)), cutting, rules.reach_nm)
    cut = Cut(operation.sources_nm, operation.sinks_nm, place.location_nm, place.reach_nm)
    return evaluate_cut(place, cut, rules, largest_view_nm)


def _wrong(
    judged: JudgedOperation, cutting: ServerCuts, rules: ProposalConfig, largest_view_nm: float
) -> list[ProposedCut]:
    """Propose wrong cuts of the final segment that fills most of the cube."""
    places = [_cut_place(judged, body, (body,), cutting, rules.reach_nm) for body in dict.fromkeys(judged.bodies)]
    largest = max(places, key=lambda place: place.graph.voxels.sum())
    return wrong_cuts(largest, rules, largest_view_nm)
