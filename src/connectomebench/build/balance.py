"""Choose among the rendered sites of a task, so that its answers are balanced as the task says.

Done twice: before the partition sites are chosen that a trivial model cannot tell apart by their answers, and after it
the answers are balanced within each partition and segmentation. :attr:`connectomebench.core.tasks.Task.balance` says
how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from connectomebench.build.batch_files import RenderSummary
from connectomebench.core.errors import TaskLacking
from connectomebench.core.files import content_key
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Site
from connectomebench.core.tasks import NONE, SHAPE_VIEWS, YES_NO, Balance, get_task
from connectomebench.partition.assign import PartitionResult
from connectomebench.rendering.silhouette_features import unbroken
from connectomebench.sites.matched_controls import ControlConfig, match_rendered

NONE_SHARE = 0.2
"""Share of the rows of a choice among candidates with the answer none."""
MOST_TO_SECOND = 4
"""Rows of the most frequent answer for each of the second most frequent one, where answers are balanced as classes."""
_SPARE = 2.0  # as many sites without a right candidate as are wanted take part in the partition, which drops some

Entry = tuple[int, Site, RenderSummary]
"""Position in the pool, site, and summary of its images."""


@dataclass(frozen=True)
class MatchedSites:
    """Sites of one task that a trivial model cannot tell apart by their answers.

    Attributes
    ----------
    sites
        The chosen ones.
    index
        Their positions in the pool.
    partners
        For each the position in ``sites`` of its partner, a case or control like it; None where there is none.
    dropped
        Why others were left out.
    """

    sites: list[Site]
    index: list[int]
    partners: list[int | None]
    dropped: Counter[str]


@dataclass(frozen=True)
class KeptSite:
    """A row of the final dataset; ``index`` is its position in the pool."""

    site: Site
    partition: str
    group: str
    index: int


def match_sites(task: str, entries: Sequence[Entry], rules: ControlConfig) -> MatchedSites:
    """Choose sites of a task that look alike to a trivial model whatever their answer.

    Parameters
    ----------
    task
        Name of the task.
    entries
        All of its rendered sites.
    rules
        Caliper and seed.

    Raises
    ------
    TaskLacking
        If no site is left.
    """
    dropped = Counter(summary.problem for _, _, summary in entries if summary.problem is not None)
    visible = [entry for entry in entries if entry[2].problem is None]
    return _MATCH[get_task(task).balance](task, visible, rules, dropped)


def _match_pairs(task: str, visible: list[Entry], rules: ControlConfig, dropped: Counter[str]) -> MatchedSites:
    """Pair cases with controls that a trivial model cannot distinguish from them."""
    pairs = _pairs(task, visible, rules, dropped)
    chosen = [visible[row] for pair in pairs for row in pair]
    # rows of a pair are neighbours: an even offset is the case
    return MatchedSites(
        [s for _, s, _ in chosen], [i for i, _, _ in chosen], [i ^ 1 for i in range(len(chosen))], dropped
    )


def _match_none(task: str, visible: list[Entry], rules: ControlConfig, dropped: Counter[str]) -> MatchedSites:
    """Choose all sites with a right candidate, and about a fifth without, at random among those alike to one with."""
    cases = [entry for entry in visible if entry[1].is_case]
    pairs = _pairs(task, visible, rules, Counter())
    wanted = max(1, round(_SPARE * _nones_for(len(cases))))
    order = _order([visible[none][1] for _, none in pairs], rules.seed)
    nones = sorted(pairs[k][1] for k in order[:wanted])
    dropped["none right, and unlike those with a right candidate"] += len(visible) - len(cases) - len(pairs)
    dropped["answer none more often than wanted"] += len(pairs) - len(nones)
    return _unpaired([*cases, *(visible[none] for none in nones)], dropped)


def _match_all(task: str, visible: list[Entry], rules: ControlConfig, dropped: Counter[str]) -> MatchedSites:
    """Choose all sites."""
    if not visible:
        raise TaskLacking(task, "no site that can be drawn; use more data or loosen the label rules")
    return _unpaired(visible, dropped)


def _unpaired(chosen: Sequence[Entry], dropped: Counter[str]) -> MatchedSites:
    return MatchedSites([s for _, s, _ in chosen], [i for i, _, _ in chosen], [None] * len(chosen), dropped)


def _pairs(task: str, visible: Sequence[Entry], rules: ControlConfig, dropped: Counter[str]) -> list[tuple[int, int]]:
    """Return pairs of a case and a control, rows of ``visible``."""
    features = np.asarray([summary.features for _, _, summary in visible])
    views = sum(view in SHAPE_VIEWS for view in get_task(task).views)
    pairs, apart = match_rendered(
        features,
        np.asarray([site.is_case for _, site, _ in visible], np.bool_),
        np.asarray([f"{site.segmentation}/{site.segment_ids[0]}" for _, site, _ in visible]),
        rules,
        np.asarray([_stratum(site) for _, site, _ in visible]),
        np.asarray([site.hard_negative for _, site, _ in visible], np.bool_),
        # a part that another hides in the middle shows as two: mere counting would tell crossings from ends
        unbroken(features, views) if len(visible) else None,
    )
    dropped["pair too different to a trivial model"] += 2 * apart
    dropped["case or control without a partner"] += len(visible) - 2 * (len(pairs) + apart)
    if not pairs:
        raise TaskLacking(
            task,
            "no pair of a case and a comparable control; use more data, a larger controls.caliper or "
            "controls.pool_per_case",
        )
    return pairs


def _stratum(site: Site) -> str:
    """Pairs are made within a segmentation, and have equally many candidates to choose from."""
    return (site.segmentation or "") + (f"/{len(site.choices)}" if site.choices else "")


def _nones_for(with_right: int) -> float:
    """Return how many sites without a right candidate go with some with one."""
    return with_right * NONE_SHARE / (1 - NONE_SHARE)


def _order(sites: Sequence[Site], seed: int) -> list[int]:
    """Shuffle sites by a hash of what they show, whatever order they come in."""
    keys = [content_key(str(seed), s.segmentation or "", repr((s.segment_ids, s.location_nm, s.cut))) for s in sites]
    return sorted(range(len(sites)), key=keys.__getitem__)


_MATCH: dict[Balance, Callable[[str, list[Entry], ControlConfig, Counter[str]], MatchedSites]] = {
    "pairs": _match_pairs,
    "none_share": _match_none,
    "classes": _match_all,
    "free": _match_all,
}


def balance_sites(
    sites: Sequence[Site], divided: PartitionResult, matched: Iterable[MatchedSites], seed: int
) -> list[KeptSite]:
    """Balance the answers of each task in every partition and segmentation.

    Parameters
    ----------
    sites
        All of ``matched``, in order.
    divided
        Their partitions.
    matched
        Those of each task; what is left out is counted there.
    seed
        Of the choice.

    Returns
    -------
    list of KeptSite
        Task by task, partition by partition.
    """
    rng = np.random.default_rng(seed)
    kept: list[KeptSite] = []
    start = 0
    for own in matched:
        positions = range(start, start + len(own.sites))
        segmentations = sorted({site.segmentation or "" for site in own.sites})
        for partition, segmentation in product(PARTITIONS, segmentations):
            # a set, whose order decides which site gets which lot: datasets depend on it
            here = {
                i
                for i in positions
                if divided.partitions[i] == partition and (sites[i].segmentation or "") == segmentation
            }
            lots = {i - start: rng.random() for i in here}
            untrained = get_task(own.sites[0].task).untrained if partition == PARTITIONS[0] else ()
            left_out = [i for i in lots if own.sites[i].answer in untrained]
            own.dropped["answer that is left out of training"] += len(left_out)
            for i in left_out:
                del lots[i]
            chosen = _BALANCE[get_task(own.sites[0].task).balance](own, lots)
            own.dropped["one answer more often in a partition"] += len(lots) - len(chosen)
            kept += [KeptSite(own.sites[i], partition, divided.groups[start + i] or "", own.index[i]) for i in chosen]
        start = positions.stop
    return kept


Lots = Mapping[int, float]
"""Position in :class:`MatchedSites` -> a number drawn by lot, of the sites of one partition and segmentation."""


def _balance_pairs(own: MatchedSites, lots: Lots) -> list[int]:
    """Choose as many of each answer: hard negatives first, then rows with their partner."""
    order = sorted(lots, key=lambda i: (not own.sites[i].hard_negative, own.partners[i] not in lots, lots[i]))
    return _as_often(own, order, YES_NO)


def _balance_none(own: MatchedSites, lots: Lots) -> list[int]:
    """Choose the share of none, and of the others no more than it allows."""
    order = sorted(lots, key=lots.__getitem__)
    nones = [i for i in order if own.sites[i].answer == NONE]
    others = [i for i in order if own.sites[i].answer != NONE]
    nones = nones[: max(1, round(_nones_for(len(others))))]
    most = round((len(nones) + 0.5) * (1 - NONE_SHARE) / NONE_SHARE)
    return sorted(nones + others[:most])


def _balance_classes(own: MatchedSites, lots: Lots) -> list[int]:
    """Choose all but of the most frequent answer, which may be ``MOST_TO_SECOND`` times as frequent as the second."""
    order = sorted(lots, key=lots.__getitem__)
    counts = sorted(Counter(own.sites[i].answer for i in order).values())
    most = MOST_TO_SECOND * counts[-2] if len(counts) > 1 else len(order)
    taken: Counter[str] = Counter()
    chosen = []
    for i in order:
        answer = own.sites[i].answer
        if taken[answer] < most:
            taken[answer] += 1
            chosen.append(i)
    return sorted(chosen)


def _balance_all(own: MatchedSites, lots: Lots) -> list[int]:
    return sorted(lots)


def _as_often(own: MatchedSites, order: Sequence[int], answers: Sequence[str]) -> list[int]:
    """Choose, in order, as many sites of each answer; ascending."""
    sides = [[i for i in order if own.sites[i].answer == answer] for answer in answers]
    n = min((len(side) for side in sides), default=0)
    return sorted(i for side in sides for i in side[:n])


_BALANCE: dict[Balance, Callable[[MatchedSites, Lots], list[int]]] = {
    "pairs": _balance_pairs,
    "none_share": _balance_none,
    "classes": _balance_classes,
    "free": _balance_all,
}
