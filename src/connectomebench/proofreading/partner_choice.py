"""Ask about all partners of an end at once: which one continues it, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectomebench.core.site import Part, Site
from connectomebench.core.tasks import MESH_VIEWS, NONE, get_task
from connectomebench.proofreading.proposals import Proposal, site_key
from connectomebench.proofreading.task_models import CHOICE_TASK
from connectomebench.sites.choices import MOST, SEEN, in_order


@dataclass(frozen=True)
class PartnerChoice:
    """A question about the partners of one end.

    Attributes
    ----------
    site
        Of ``merge_action_multiple_choice``; its answer is unknown.
    rows
        Letter -> row of the proposal that merges this candidate.
    """

    site: Site
    rows: dict[str, int]


def partner_choices(proposals: Sequence[Proposal]) -> list[PartnerChoice]:
    """Ask one question about each end, with the rules by which datasets of the task are built.

    Parameters
    ----------
    proposals
        Merges.

    Returns
    -------
    list of PartnerChoice
        In the order of the ends. An end's candidates are the partners that touch nearest to it, up to four, where the
        view shows it; proposals with other partners are in no question.
    """
    by_end: dict[str, list[int]] = {}
    for row, proposal in enumerate(proposals):
        by_end.setdefault(proposal.candidate.key, []).append(row)
    choices = []
    for rows in by_end.values():
        end = proposals[rows[0]].candidate.site
        away = {row: np.subtract(proposals[row].site.location_nm, end.location_nm) for row in rows}
        partner_row: dict[int, int] = {}
        for row in sorted(rows, key=lambda row: (float(np.linalg.norm(away[row])), row)):
            if np.abs(away[row]).max() <= SEEN * end.extent_nm:
                partner_row.setdefault(_partner(proposals[row]), row)
        nearest = list(partner_row)[:MOST]
        if nearest:
            shown = in_order(nearest, end.segment_ids[0], end.location_nm, 0)
            letters = get_task(CHOICE_TASK).labels
            choices.append(
                PartnerChoice(
                    _question(end, shown), {letters[k]: partner_row[partner] for k, partner in enumerate(shown)}
                )
            )
    return choices


def _partner(proposal: Proposal) -> int:
    own = proposal.candidate.site.segment_ids[0]
    first, second = proposal.site.segment_ids
    return second if first == own else first


def _question(end: Site, shown: Sequence[int]) -> Site:
    base = end.segment_ids[0]
    parts = (Part(base, "base"), *(Part(one, "candidate") for one in shown))
    ids = (base, *shown)
    return replace(end, task=CHOICE_TASK, parts=parts, answer=NONE, segment_ids=ids, choices=tuple(shown))


def letters_of(site: Site) -> tuple[str, ...]:
    """Return the letters of the candidates of a question, in order."""
    return get_task(CHOICE_TASK).labels[: len(site.choices)]


def candidate_key(site: Site, letter: str) -> str:
    """Name what is shown of one candidate of a question."""
    return f"{site_key(site)}-{letter}"


def candidate_pictures(site: Site, letter: str, images: Mapping[str, bytes]) -> tuple[Site, dict[str, bytes]]:
    """Take the pictures of one candidate as those of a merge of two objects.

    Parameters
    ----------
    site
        The question.
    letter
        Of the candidate.
    images
        View -> PNG.

    Returns
    -------
    Site, dict
        What the pictures show, and each by the name of its view alone.
    """
    number = letters_of(site).index(letter)
    pair = (site.segment_ids[0], site.choices[number])
    alone = replace(
        site,
        task="merge_action",
        parts=(site.parts[0], site.parts[1 + number]),
        answer="no",
        segment_ids=pair,
        choices=(),
    )
    return alone, {view: images[f"{letter}_{view}"] for view in MESH_VIEWS}
