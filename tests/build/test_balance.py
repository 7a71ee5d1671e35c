"""Answers are balanced as the task says: pairs, a fifth of none, a class that is not too frequent, or as they come."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from connectomebench.build.balance import MOST_TO_SECOND, NONE_SHARE, Entry, MatchedSites, balance_sites, match_sites
from connectomebench.build.batch_files import RenderSummary
from connectomebench.core.errors import TaskLacking
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Part, Site
from connectomebench.partition.assign import PartitionResult
from connectomebench.rendering.colour_features import NAMES
from connectomebench.rendering.silhouette_features import SILHOUETTE_NAMES
from connectomebench.sites.matched_controls import ControlConfig

RULES = ControlConfig(caliper=5.0)
_NUMBERS = 3 * (len(NAMES) + len(SILHOUETTE_NAMES))


def entry(i: int, task: str, answer: str, choices: int = 0, value: float | None = None) -> Entry:
    parts = tuple(Part(10 * i + k, "base" if k == 0 else "candidate") for k in range(1 + choices))
    ids = tuple(part.segment_id for part in parts)
    site = Site(task, (float(i), 0.0, 0.0), 10.0, parts, answer, ids, ids, "simulated", choices=ids[1:])
    rng = np.random.default_rng(i)
    numbers = [*rng.normal(size=3), rng.normal() if value is None else value]
    return i, site, RenderSummary(np.append(numbers, np.zeros(_NUMBERS - len(numbers))), 1)


def divided(matched: MatchedSites, seed: int = 0) -> PartitionResult:
    names = np.random.default_rng(seed).choice(np.array(["", *PARTITIONS]), len(matched.sites), p=(0.1, 0.5, 0.2, 0.2))
    partitions = tuple(str(name) or None for name in names)
    groups = tuple(name and f"g{i}" for i, name in enumerate(partitions))
    return PartitionResult(partitions, partitions, groups, {}, {}, 1, 1, 0)


def choices(n_right: int, n_none: int, count: int = 4) -> list[Entry]:
    right = [entry(i, "merge_action_multiple_choice", "abcd"[i % count], count) for i in range(n_right)]
    return right + [entry(n_right + i, "merge_action_multiple_choice", "none", count) for i in range(n_none)]


def test_a_fifth_of_the_choices_has_no_right_candidate() -> None:
    matched = match_sites("merge_action_multiple_choice", choices(200, 400), RULES)
    kept = balance_sites(matched.sites, result := divided(matched), [matched], 0)
    for partition in PARTITIONS:
        answers = Counter(row.site.answer for row in kept if row.partition == partition)
        assert abs(answers["none"] / answers.total() - NONE_SHARE) < 0.03, answers
    # counted again from what went in and came out
    assert len(kept) + matched.dropped["one answer more often in a partition"] == sum(
        p is not None for p in result.partitions
    )
    assert all(matched.sites[matched.index.index(row.index)] == row.site for row in kept)


def test_sites_are_matched_with_sites_of_as_many_candidates() -> None:
    """All without a right one have two candidates, so those with four have no like."""
    entries = choices(40, 0) + [(100 + i, replace(s, task=s.task), f) for i, s, f in choices(0, 60, 2)]
    with pytest.raises(TaskLacking, match="no pair"):
        match_sites("merge_action_multiple_choice", entries, RULES)


def test_where_few_have_no_right_candidate_the_share_holds() -> None:
    matched = MatchedSites([], [], [], Counter())
    for i, site, _ in choices(50, 2):
        matched.sites.append(site)
        matched.index.append(i)
        matched.partners.append(None)
    everywhere = replace(divided(matched), partitions=("train",) * 52, groups=("g",) * 52)
    answers = Counter(row.site.answer for row in balance_sites(matched.sites, everywhere, [matched], 0))
    assert answers["none"] == 2 and answers.total() == 12


@pytest.mark.parametrize(
    ("task", "answers"), [("segment_classification", "aaaaaaaabc"), ("endpoint_localization", "xyzxyzxyzx")]
)
def test_no_class_is_too_frequent_and_places_are_all_kept(task: str, answers: str) -> None:
    matched = match_sites(task, [entry(i, task, answer) for i, answer in enumerate(answers)], RULES)
    assert len(matched.sites) == 10
    everywhere = replace(divided(matched), partitions=("train",) * 10, groups=("g",) * 10)
    kept = Counter(row.site.answer for row in balance_sites(matched.sites, everywhere, [matched], 0))
    assert kept == ({"a": MOST_TO_SECOND, "b": 1, "c": 1} if task == "segment_classification" else Counter(answers))
    with pytest.raises(TaskLacking, match="can be drawn"):
        match_sites(task, [(0, entry(0, task, "a")[1], RenderSummary(np.zeros(0), 0, "nothing to see"))], RULES)


def test_some_answers_stay_out_of_training() -> None:
    task = "segment_classification"
    matched = match_sites(task, [entry(i, task, "acefg"[i % 5]) for i in range(60)], RULES)
    partitions = tuple(PARTITIONS[(i // 5) % 3] for i in range(60))
    everywhere = replace(divided(matched), partitions=partitions, groups=("g",) * 60)
    kept = balance_sites(matched.sites, everywhere, [matched], 0)
    answers = {p: Counter(row.site.answer for row in kept if row.partition == p) for p in PARTITIONS}
    assert answers["train"] == {"a": 4, "c": 4}
    assert answers["validation"] == answers["test"] == dict.fromkeys("acefg", 4)
    assert matched.dropped["answer that is left out of training"] == 12
    assert matched.dropped["one answer more often in a partition"] == 0


def test_pairs_without_their_partner_make_way() -> None:
    entries = [entry(i, "merge_action", "yes" if i < 30 else "no", value=i % 30) for i in range(60)]
    matched = match_sites("merge_action", entries, RULES)
    assert all(matched.partners[p] == i for i, p in enumerate(matched.partners) if p is not None)
    assert all(
        {matched.sites[i].answer, matched.sites[i ^ 1].answer} == {"yes", "no"} for i in range(len(matched.sites))
    )
    kept = balance_sites(matched.sites, divided(matched, 3), [matched], 0)
    for partition in PARTITIONS:
        answers = Counter(row.site.answer for row in kept if row.partition == partition)
        assert answers["yes"] == answers["no"] > 0


def test_a_partition_with_one_answer_keeps_no_pair() -> None:
    entries = [entry(i, "merge_action", "yes" if i < 5 else "no") for i in range(10)]
    matched = match_sites("merge_action", entries, RULES)
    partitions = tuple("train" if s.answer == "yes" else "test" for s in matched.sites)
    result = replace(divided(matched), partitions=partitions, groups=("g",) * len(partitions))
    assert not balance_sites(matched.sites, result, [matched], 0)
