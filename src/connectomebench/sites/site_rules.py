"""Which rule finds and labels the sites of each task: a task that stands here can be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from connectomebench.core.correction import Contacts, Corrections
from connectomebench.core.cut import ProposalConfig, ProposedCut
from connectomebench.core.geometry import Skeleton
from connectomebench.core.source import Source
from connectomebench.sites.candidates import CandidateConfig, Candidates
from connectomebench.sites.choices import choice_sites
from connectomebench.sites.labels import (
    LabelledSites,
    SiteConfig,
    endpoint_sites,
    merge_action_sites,
    merge_error_sites,
    split_action_sites,
)
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.place_sites import localization_sites, proposal_sites
from connectomebench.sites.segment_classes import classification_sites
from connectomebench.sites.segment_identity import identity_sites
from connectomebench.sites.split_masks import TASK as SPLIT_MASKS
from connectomebench.sites.split_masks import split_mask_sites


@dataclass(frozen=True)
class SiteRequest:
    """What the rules find sites in, for one segmentation. What is slow to come by is fetched once, when it is needed.

    Attributes
    ----------
    source
        The segmentation and its truth.
    corrections
        Its corrections.
    skeletons
        Segment id -> skeleton, of the segments that are large enough.
    candidates
        Candidate places on these skeletons.
    sites, controls, radii, proposals
        Rules of the build.
    """

    source: Source
    corrections: Corrections
    skeletons: Mapping[int, Skeleton]
    candidates: Candidates
    sites: SiteConfig
    controls: ControlConfig
    radii: CandidateConfig
    proposals: ProposalConfig

    @cached_property
    def contacts(self) -> Contacts:
        """Touching pairs of segments."""
        return self.source.contacts()

    @cached_property
    def proposed_cuts(self) -> tuple[list[ProposedCut], Mapping[str, int]]:
        """Proposed cuts with their verdicts, and why others are missing."""
        return self.source.propose(self.proposals, self.sites.extent_nm[1])

    @cached_property
    def merge_errors(self) -> LabelledSites:
        """Places that may be merge errors, labelled; three tasks are made from them."""
        return merge_error_sites(*_at_candidates(self))


def _merges(task: str) -> SiteRule:
    def labelled(request: SiteRequest) -> LabelledSites:
        rules = (request.sites, request.controls)
        return merge_action_sites(
            request.source, request.corrections, request.contacts, request.skeletons, *rules, task
        )

    return labelled


def _choices(request: SiteRequest) -> LabelledSites:
    return choice_sites(
        request.source,
        request.corrections,
        request.contacts,
        request.candidates,
        request.skeletons,
        request.sites,
        request.controls,
    )


def _cuts(task: str) -> SiteRule:
    def labelled(request: SiteRequest) -> LabelledSites:
        proposals, missing = request.proposed_cuts
        found = split_action_sites(request.source, proposals, request.sites, request.controls, task)
        found.dropped.update(missing)
        return found

    return labelled


def _endpoints(task: str) -> SiteRule:
    def labelled(request: SiteRequest) -> LabelledSites:
        return endpoint_sites(*_at_candidates(request), task)

    return labelled


def _merge_errors(task: str) -> SiteRule:
    def labelled(request: SiteRequest) -> LabelledSites:
        found = request.merge_errors
        return LabelledSites([replace(site, task=task) for site in found.sites], found.dropped.copy())

    return labelled


def _localizations(request: SiteRequest) -> LabelledSites:
    return localization_sites(
        request.source,
        request.corrections,
        request.candidates,
        request.skeletons,
        request.sites,
        request.controls,
        request.radii.radius_nm,
    )


def _split_proposals(request: SiteRequest) -> LabelledSites:
    proposals, _ = request.proposed_cuts
    rules = (request.sites, request.controls, request.proposals)
    return proposal_sites(request.source, request.corrections, proposals, request.skeletons, *rules)


def _split_masks(request: SiteRequest) -> LabelledSites:
    splits, missing = request.source.right_splits(request.proposals, request.sites.extent_nm[1])
    labelled = split_mask_sites(request.merge_errors.sites, splits)
    labelled.dropped.update(missing)
    return labelled


def _at_candidates(
    request: SiteRequest,
) -> tuple[Source, Corrections, Candidates, Mapping[int, Skeleton], SiteConfig, ControlConfig, CandidateConfig]:
    return (
        request.source,
        request.corrections,
        request.candidates,
        request.skeletons,
        request.sites,
        request.controls,
        request.radii,
    )


def _segment_identity(request: SiteRequest) -> LabelledSites:
    return identity_sites(
        request.source, request.corrections, request.skeletons, request.sites, request.controls, request.radii
    )


def _segment_classification(request: SiteRequest) -> LabelledSites:
    return classification_sites(request.source, request.sites)


SiteRule = Callable[[SiteRequest], LabelledSites]

SITE_RULES: dict[str, SiteRule] = {
    "merge_action": _merges("merge_action"),
    "merge_action_with_em": _merges("merge_action_with_em"),
    "merge_action_multiple_choice": _choices,
    "endpoint_error_identification": _endpoints("endpoint_error_identification"),
    "endpoint_error_identification_with_em": _endpoints("endpoint_error_identification_with_em"),
    "endpoint_localization": _localizations,
    "merge_error_identification": _merge_errors("merge_error_identification"),
    "merge_error_identification_with_em": _merge_errors("merge_error_identification_with_em"),
    "split_action": _cuts("split_action"),
    "split_action_with_em": _cuts("split_action_with_em"),
    "split_proposal": _split_proposals,
    SPLIT_MASKS: _split_masks,
    "segment_identity": _segment_identity,
    "segment_classification": _segment_classification,
}
"""Task -> rule."""
