from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError, TaskLacking
from connectomebench.core.geometry import Box
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Part, SecondPlace, Site
from connectomebench.partition import overlaps, search
from connectomebench.partition.assign import (
    BOTH_HALVES,
    OVER_SIZE,
    SHARED_BODY,
    SHARED_PLACE,
    SHARED_SEGMENT,
    TIED,
    PartitionConfig,
    check_divisible,
    partition_sites,
)
from connectomebench.partition.earlier_rows import EarlierRow
from connectomebench.partition.kernel import resolve
from connectomebench.partition.overlaps import overlapping_views

EDGE = 1000.0
BOUNDS = Box((0.0, 0.0, 0.0), (EDGE, EDGE, EDGE))
RULES = PartitionConfig(cube_nm=200.0)
TASKS = ("merge_action", "merge_error_identification")
FEW_STEPS = 300  # for what is true of any assignment, however long it was looked for


def make_site(location, extent, segments, bodies, answer="yes", task="merge_action") -> Site:
    parts = tuple(Part(int(s), "base") for s in segments)
    x, y, z = (float(c) for c in location)
    return Site(task, (x, y, z), float(extent), parts, answer, tuple(segments), tuple(bodies), "edit")


def random_sites(seed: int, n: int, n_segments: int, extent: float, tasks=TASKS) -> list[Site]:
    """Segments are drawn unevenly, so that a few run through everything, as in a small volume."""
    rng = np.random.default_rng(seed)
    sites = []
    for i in range(n):
        segments = [s + 2**63 for s in np.unique((n_segments * rng.random(2) ** 2).astype(int)).tolist()]
        bodies = sorted({s // 3 for s in segments})
        location, size = rng.uniform(0, EDGE, 3), extent * rng.uniform(0.7, 1.3)
        sites.append(make_site(location, size, segments, bodies, ("no", "yes")[i // 2 % 2], tasks[i % len(tasks)]))
    return sites


def check_leak_proof(sites, result, group_by="segment"):
    kept = [(s, p) for s, p in zip(sites, result.partitions, strict=True) if p is not None]
    for (a, p), (b, q) in itertools.combinations(kept, 2):
        if p == q:
            continue
        assert not set(a.segment_ids) & set(b.segment_ids)
        if group_by == "body":
            assert not set(a.body_ids) & set(b.body_ids)
        gap = max(abs(u - v) for u, v in zip(a.location_nm, b.location_nm, strict=True))
        assert gap >= (a.extent_nm + b.extent_nm) / 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(4, 60),
    n_segments=st.integers(5, 200),
    extent=st.floats(1, 300),
    group_by=st.sampled_from(["segment", "body"]),
)
def test_nothing_is_on_two_sides_and_every_site_is_accounted_for(seed, n, n_segments, extent, group_by):
    sites = random_sites(seed, n, n_segments, extent)
    rules = PartitionConfig(cube_nm=250.0, group_by=group_by, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_MOST_STEPS", FEW_STEPS)
        try:
            result = partition_sites(sites, rules, BOUNDS)
        except ConnectomeBenchError as error:
            assert "cube_nm" in str(error)
            return
    check_leak_proof(sites, result, group_by)
    assert len(result.partitions) == len(result.reasons) == len(result.groups) == n
    for partition, reason, group in zip(result.partitions, result.reasons, result.groups, strict=True):
        assert (partition is None) == (reason is not None) == (group is None)
    for task in TASKS:
        kept = sum(sum(c.values()) for c in result.counts[task].values())
        assert kept + sum(result.dropped[task].values()) == sum(s.task == task for s in sites)
        assert all(count > 0 for p in PARTITIONS for count in result.counts[task][p].values())
    tally = Counter((s.task, p, s.answer) for s, p in zip(sites, result.partitions, strict=True) if p)
    assert tally == {(t, p, a): k for t, c in result.counts.items() for p, d in c.items() for a, k in d.items()}


def test_no_site_is_dropped_without_need():
    sites = random_sites(3, 80, 150, 120.0)
    result = partition_sites(sites, RULES, BOUNDS)
    index = [tuple(int(c // RULES.cube_nm) for c in s.location_nm) for s in sites]
    side = {i: p for i, p in zip(index, result.partitions, strict=True) if p}
    kept = [(s, p) for s, p in zip(sites, result.partitions, strict=True) if p is not None]
    checked = 0
    for site, cube, reason in zip(sites, index, result.reasons, strict=True):
        if reason is None or cube not in side:
            continue
        others = [s for s, p in kept if p != side[cube]]
        shares = any(set(site.segment_ids) & set(s.segment_ids) for s in others)
        near = any(
            max(abs(u - v) for u, v in zip(site.location_nm, s.location_nm, strict=True))
            < (site.extent_nm + s.extent_nm) / 2
            for s in others
        )
        assert reason == (SHARED_SEGMENT if shares else SHARED_PLACE)
        assert shares or near
        checked += 1
    assert checked > 5


def test_a_cube_goes_to_one_partition_for_all_tasks():
    sites = random_sites(1, 300, 3000, 5.0)
    result = partition_sites(sites, RULES, BOUNDS)
    sides: dict[tuple[int, ...], set[str]] = {}
    for site, partition in zip(sites, result.partitions, strict=True):
        if partition is not None:
            sides.setdefault(tuple(int(c // RULES.cube_nm) for c in site.location_nm), set()).add(partition)
    assert {len(s) for s in sides.values()} == {1}
    assert set.union(*sides.values()) == set(PARTITIONS)


def test_same_sites_and_seed_give_the_same_result():
    sites = random_sites(5, 90, 200, 80.0)
    first = partition_sites(sites, RULES, BOUNDS)
    assert partition_sites(sites, RULES, BOUNDS) == first
    other = partition_sites(sites, PartitionConfig(cube_nm=200.0, seed=1), BOUNDS)
    assert other.partitions != first.partitions


def test_without_conflicts_nothing_is_lost_and_the_fractions_are_met():
    rng = np.random.default_rng(0)
    sites = [make_site(rng.uniform(0, EDGE, 3), 0.001, [i], [i], ("no", "yes")[i % 2]) for i in range(1000)]
    result = partition_sites(sites, PartitionConfig(cube_nm=100.0, max_test=10**6), BOUNDS)
    assert None not in result.partitions
    sizes = Counter(result.partitions)
    assert abs(sizes["test"] - 200) < 30
    assert abs(sizes["validation"] - 100) < 20


def test_published_sizes_are_never_exceeded_and_nearly_reached():
    rng = np.random.default_rng(0)
    sites = [make_site(rng.uniform(0, EDGE, 3), 0.001, [i], [i], ("no", "yes")[i % 2]) for i in range(1500)]
    result = partition_sites(sites, PartitionConfig(cube_nm=250.0, max_validation=32, max_test=64), BOUNDS)
    sizes = {p: sum(c.values()) for p, c in result.counts["merge_action"].items()}
    assert 28 <= sizes["validation"] <= 32 and 56 <= sizes["test"] <= 64
    assert result.dropped["merge_action"][OVER_SIZE] == 1500 - sum(sizes.values())


def resolve_one_id(part, holders, pairs=()):
    """Sites of one class in given partitions; the holders show one common segment, the pairs one common place."""
    part = np.array(part, np.int64)
    counts = np.bincount(part, minlength=3).astype(float)[None]
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    owners = np.array(holders, np.int64)
    ids, classes = np.zeros(len(owners), np.int64), np.zeros(len(part), np.int64)
    kept = resolve(part, classes, counts, np.full((1, 3), np.inf), ids, owners, 1, left, right)[1]
    return np.flatnonzero(~kept).tolist()


PART = [0] * 14 + [1] * 2 + [2] * 4


@pytest.mark.parametrize(
    ("holders", "dropped"),
    [
        ([0, 1, 2, 3, 4, 16], [16]),  # five of train against one of test: the one goes
        ([0, 16, 17, 18], [0]),
        ([0, 16], [0]),  # one against one: train loses
        ([16, 17, *range(8), 14], [14, 16, 17]),
        ([3, 4, 5], []),
    ],
)
def test_the_cheaper_side_of_a_shared_segment_is_dropped(holders, dropped):
    assert resolve_one_id(PART, holders) == dropped


@pytest.mark.parametrize(
    ("pairs", "dropped"),
    [
        ([(0, 16), (1, 16), (2, 16)], [16]),
        ([(0, 16), (0, 17), (0, 18)], [0]),
        ([(0, 16)], [0]),
        ([(0, 1), (16, 17)], []),
        ([(0, 16), (1, 16), (1, 17), (1, 18)], [0, 1]),
    ],
)
def test_the_cheaper_side_of_an_overlap_is_dropped(pairs, dropped):
    assert resolve_one_id(PART, [], pairs) == dropped


def test_bodies_across_partitions_are_counted_or_kept_apart():
    rng = np.random.default_rng(2)
    sites = [
        make_site(rng.uniform(0, EDGE, 3), 1.0, [100 + i], [i % 20], ("no", "yes")[i // 20 % 2]) for i in range(200)
    ]
    shared = partition_sites(sites, PartitionConfig(cube_nm=100.0), BOUNDS)
    assert shared.bodies == 20 and shared.bodies_shared > 10
    assert shared.summary()["bodies_shared"] == shared.bodies_shared
    apart = partition_sites(sites, PartitionConfig(cube_nm=100.0, group_by="body"), BOUNDS)
    assert apart.bodies_shared == 0
    assert set(apart.dropped["merge_action"]) <= {SHARED_BODY, SHARED_PLACE}
    check_leak_proof(sites, apart, "body")


def test_all_samples_of_one_correction_are_one_group_even_where_groups_are_broken_up():
    """Both ends of a cut are shown on segments of their own, here on two sides of the face of a cube."""
    rng = np.random.default_rng(3)
    pairs = [rng.uniform(10, EDGE - 10, 3) for _ in range(60)]
    sites = [
        replace(make_site(place + offset, 1.0, [1000 + 2 * i + side], [i]), edit_id=f"merge-{i}")
        for i, place in enumerate(pairs)
        for side, offset in enumerate(([-4, 0, 0], [4, 0, 0]))
    ]
    controls = [make_site(rng.uniform(0, EDGE, 3), 1.0, [5000 + i], [100 + i], "no") for i in range(120)]
    # a segment that runs through a third of them: its group is too large and broken up by cube
    through = [
        replace(site, segment_ids=(*site.segment_ids, 1 + int(3 * site.location_nm[0] / EDGE))) for site in sites
    ]
    for own in (sites, through):
        result = partition_sites([*own, *controls], PartitionConfig(cube_nm=200.0), BOUNDS)
        together = 0
        for i in range(0, len(own), 2):
            if result.partitions[i] is not None and result.partitions[i] == result.partitions[i + 1]:
                assert result.groups[i] == result.groups[i + 1]
                together += 1
        assert together > 10


def test_groups_hold_what_shares_a_segment():
    sites = random_sites(8, 400, 4000, 2.0, tasks=("merge_action",))
    result = partition_sites(sites, RULES, BOUNDS)
    kept = [i for i, p in enumerate(result.partitions) if p is not None]
    linked = 0
    for i, j in itertools.combinations(kept, 2):
        if set(sites[i].segment_ids) & set(sites[j].segment_ids):
            assert result.groups[i] == result.groups[j]
            linked += 1
    assert linked > 5
    assert len({result.groups[i] for i in kept}) > 100


def test_a_group_that_runs_through_everything_is_broken_up_by_cube():
    rng = np.random.default_rng(0)
    region = {"low": 7, "middle": 8, "high": 9}
    sites = []
    for k, name in enumerate(region):
        for i in range(40):
            location = (rng.uniform(350 * k, 350 * k + 150), *rng.uniform(0, EDGE, 2))
            sites.append(make_site(location, 0.5, [region[name], 100 * k + i + 100], [1], ("no", "yes")[i % 2]))
    result = partition_sites(sites, PartitionConfig(cube_nm=500.0, test_fraction=0.3), BOUNDS)
    names = {g for g in result.groups if g is not None}
    assert len(names) > 4
    for i, j in itertools.combinations(range(len(sites)), 2):
        if result.groups[i] is not None and result.groups[i] == result.groups[j]:
            same = [
                int(a // 500) == int(b // 500) for a, b in zip(*(sites[k].location_nm for k in (i, j)), strict=True)
            ]
            assert all(same) and result.partitions[i] == result.partitions[j]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    extent=st.floats(0.1, 500),
    edge=st.sampled_from([50.0, 200.0, 500.0, EDGE]),
    at_once=st.sampled_from([0, 10**6]),
)
def test_overlapping_views_across_cubes_are_all_found(seed, n, extent, edge, at_once):
    rng = np.random.default_rng(seed)
    location, extents = rng.uniform(0, EDGE, (n, 3)), extent * rng.uniform(0.1, 1, n)
    cube = np.unique(location // edge, axis=0, return_inverse=True)[1].ravel()
    expected = [
        [i, j]
        for i, j in itertools.combinations(range(n), 2)
        if np.abs(location[i] - location[j]).max() < (extents[i] + extents[j]) / 2 and cube[i] != cube[j]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "_AT_ONCE", at_once)
        assert overlapping_views(location, extents, cube).tolist() == expected


def test_too_many_overlaps_are_told_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(overlaps, "_AT_ONCE", 0)
    monkeypatch.setattr(overlaps, "MAX_PAIRS", 1000)
    rng = np.random.default_rng(0)
    location = rng.uniform(0, EDGE, (400, 3))
    cube = np.unique(location // 100, axis=0, return_inverse=True)[1].ravel()
    with pytest.raises(ConnectomeBenchError, match="more than 1000 pairs of views overlap across cubes"):
        overlapping_views(location, np.full(400, 400.0), cube)


def test_what_cannot_be_divided_is_told():
    with pytest.raises(ConnectomeBenchError, match="no site"):
        partition_sites([], RULES, BOUNDS)
    sites = random_sites(0, 60, 600, 1.0)
    with pytest.raises(ConnectomeBenchError, match=r"1 cubes of 5000 nm hold sites\); use a smaller cube_nm"):
        partition_sites(sites, PartitionConfig(cube_nm=5000.0), BOUNDS)
    with pytest.raises(ConnectomeBenchError, match="all sites have the answer 'yes'"):
        partition_sites([s for s in sites if s.answer == "yes"], RULES, BOUNDS)


@pytest.mark.parametrize(
    "values",
    [
        {"cube_nm": 0},
        {"test_fraction": 0},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        {"max_test": 0},
        {"group_by": "soma"},
        {"test_half": "x"},
    ],
)
def test_rules_that_make_no_sense_are_refused(values):
    with pytest.raises(ConnectomeBenchError, match=next(iter(values))):
        PartitionConfig(**values)


def family_sites(seed: int, n: int) -> list[Site]:
    """Sites of two segmentations that number their segments alike."""
    sites = random_sites(seed, n, 5 * n, 30.0)
    return [dataclasses.replace(site, segmentation="ab"[i % 2]) for i, site in enumerate(sites)]


@pytest.mark.parametrize("half", ["+x", "-x", "+z", "-y"])
def test_the_held_out_half_is_test_and_nothing_else_is(half):
    sites = family_sites(4, 300)
    # a cube runs across the middle
    rules = PartitionConfig(cube_nm=300.0, test_fraction=0.5, test_half=half)
    result = partition_sites(sites, rules, BOUNDS)
    axis, beyond = "xyz".index(half[1]), half[0] == "+"
    sides = Counter()
    for site, partition in zip(sites, result.partitions, strict=True):
        if partition is not None:
            assert (partition == "test") == ((site.location_nm[axis] >= EDGE / 2) == beyond)
            sides[partition] += 1
    assert set(sides) == set(PARTITIONS)
    kept = [(s, p) for s, p in zip(sites, result.partitions, strict=True) if p is not None]
    for (a, p), (b, q) in itertools.combinations(kept, 2):
        if p != q:
            gap = max(abs(u - v) for u, v in zip(a.location_nm, b.location_nm, strict=True))
            assert gap >= (a.extent_nm + b.extent_nm) / 2


def test_ids_of_two_segmentations_are_not_the_same_segment():
    rng = np.random.default_rng(0)
    # all sites of a segmentation have a segment of their own; the other one uses the same numbers
    sites = [
        dataclasses.replace(
            make_site(rng.uniform(0, EDGE, 3), 0.001, [i // 2], [i], ("no", "yes")[i // 2 % 2]),
            segmentation="ab"[i % 2],
        )
        for i in range(400)
    ]
    result = partition_sites(sites, PartitionConfig(cube_nm=100.0, max_test=10**6), BOUNDS)
    assert None not in result.partitions
    assert len(set(result.groups)) == 400


def test_groups_of_several_segmentations_hold_what_shares_a_body():
    sites = family_sites(9, 300)
    result = partition_sites(sites, PartitionConfig(cube_nm=250.0), BOUNDS)
    kept = [i for i, p in enumerate(result.partitions) if p is not None]
    sizes = Counter((sites[i].task, result.partitions[i]) for i in kept)
    in_group = Counter((sites[i].task, result.partitions[i], result.groups[i]) for i in kept)
    linked = 0
    for i, j in itertools.combinations(kept, 2):
        same_set = (sites[i].task, result.partitions[i]) == (sites[j].task, result.partitions[j])
        if same_set and min(sites[i].body_ids) == min(sites[j].body_ids):
            assert result.groups[i] == result.groups[j]
            linked += 1
    assert linked > 20
    assert max(n / sizes[task, p] for (task, p, _), n in in_group.items() if p == "train") < 0.5


@pytest.mark.parametrize("group_by", ["segment", "body"])
@pytest.mark.parametrize("seed", range(3))
def test_a_task_that_is_added_keeps_clear_of_the_rows_of_another(seed, group_by, monkeypatch):
    monkeypatch.setattr(search, "_MOST_STEPS", FEW_STEPS)
    sites = random_sites(seed, 200, 3000, 30.0, tasks=("merge_action",))
    rules = PartitionConfig(cube_nm=200.0, group_by=group_by, seed=seed)
    first = partition_sites(sites, rules, BOUNDS)
    rows = [
        EarlierRow(s.places, s.segment_keys, s.body_ids, p)
        for s, p in zip(sites, first.partitions, strict=True)
        if p is not None
    ]
    added = random_sites(seed + 100, 200, 3000, 30.0, tasks=("split_action",))
    result = partition_sites(added, rules, BOUNDS, rows)
    assert TIED in result.reasons
    check_leak_proof([*sites, *added], replace(result, partitions=first.partitions + result.partitions), group_by)
    assert sum(p is not None for p in result.partitions) > 100


@pytest.mark.parametrize(
    ("half", "cubes", "enough"), [(None, 2, False), (None, 3, True), ("+x", 3, False), ("+x", 5, True)]
)
def test_a_pool_in_too_few_cubes_is_known_before_it_is_drawn(half, cubes, enough):
    """Cubes lie in a row from the left; with a half for test the right one has to have some of them."""
    rules = PartitionConfig(cube_nm=EDGE / 7, test_half=half)
    places = [((i + 0.9) * EDGE / 7, 10, 10) for i in range(cubes)]
    sites = [make_site(p, 1.0, [i], [i], a) for i, p in enumerate(places) for a in ("yes", "no")]
    if enough:
        check_divisible(sites, rules, BOUNDS)
        return
    with pytest.raises(TaskLacking, match=f"lie in {cubes} cubes"):
        check_divisible(sites, rules, BOUNDS)


def test_a_second_place_is_a_place_as_the_first() -> None:
    """Counted again pair by pair, with and without rows that are written."""
    rng = np.random.default_rng(0)
    sites = []
    for i in range(60):
        x, y, z = (float(c) for c in rng.uniform(0, EDGE, 3))
        second = SecondPlace(2 * i + 1, (x, y, z), 160.0, (0.0, 0.0, 1.0))
        site = make_site(rng.uniform(0, EDGE, 3), 160, [2 * i, 2 * i + 1], [i], ("no", "yes")[i % 2])
        sites.append(replace(site, second=second))
    result = partition_sites(sites, RULES, BOUNDS)

    def overlap(a: Site, b: Site) -> bool:
        return any(
            max(abs(u - v) for u, v in zip(p, q, strict=True)) < (d + e) / 2
            for (p, d), (q, e) in itertools.product(a.places, b.places)
        )

    kept = [(s, p) for s, p in zip(sites, result.partitions, strict=True) if p is not None]
    assert len({p for _, p in kept}) == 3
    assert not any(p != q and overlap(a, b) for (a, p), (b, q) in itertools.combinations(kept, 2))
    # without the second places more are kept, so that they do part sites
    assert len(kept) < sum(
        p is not None for p in partition_sites([replace(s, second=None) for s in sites], RULES, BOUNDS).partitions
    )
    written = EarlierRow(sites[0].places[1:], (), (), "train")
    added = partition_sites(sites, RULES, BOUNDS, [written])
    assert added.partitions[0] in ("train", None)


def test_both_places_lie_in_the_half_of_their_partition() -> None:
    rng = np.random.default_rng(0)
    sites = []
    for i in range(200):
        first = rng.uniform(100, EDGE - 100, 3)
        x, y, z = (float(c) for c in first + rng.uniform(-100, 100, 3))
        site = make_site(first, 20, [2 * i, 2 * i + 1], [i], ("no", "yes")[i % 2])
        sites.append(replace(site, second=SecondPlace(2 * i + 1, (x, y, z), 20.0, (0.0, 0.0, 1.0))))
    result = partition_sites(sites, replace(RULES, cube_nm=100.0, test_half="+x", test_fraction=0.5), BOUNDS)
    for site, part, reason in zip(sites, result.partitions, result.reasons, strict=True):
        sides = {location_nm[0] >= EDGE / 2 for location_nm, _ in site.places}
        assert part is None or sides == {part == "test"}
        assert reason != BOTH_HALVES or len(sides) == 2
    assert BOTH_HALVES in result.reasons and sum(p is not None for p in result.partitions) > 100


@pytest.mark.parametrize(
    ("task", "answers"), [("merge_action_multiple_choice", ("a", "b", "none")), ("split_proposal", ("1", "2"))]
)
def test_answers_of_any_kind_are_divided(task: str, answers: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    sites = [make_site(rng.uniform(0, EDGE, 3), 10, [i], [i], answers[i % len(answers)], task) for i in range(90)]
    result = partition_sites(sites, RULES, BOUNDS)
    named = answers if task != "split_proposal" else ("any",)
    assert all(result.counts[task][p][a] > 0 for p in PARTITIONS for a in named)
    kept = Counter((p, s.answer) for s, p in zip(sites, result.partitions, strict=True) if p)
    assert sum(kept.values()) == sum(n for own in result.counts[task].values() for n in own.values())


def test_a_choice_needs_one_with_and_one_without_a_right_candidate() -> None:
    rng = np.random.default_rng(2)
    task = "merge_action_multiple_choice"
    sites = [make_site(rng.uniform(0, EDGE, 3), 10, [i], [i], "abcd"[i % 4], task) for i in range(40)]
    with pytest.raises(TaskLacking, match="all sites have the answer 'choice'; another one is needed"):
        partition_sites(sites, RULES, BOUNDS)
    # a rare class of cells need not be everywhere
    rare = [
        make_site(s.location_nm, 10, [i], [i], "d" if i == 0 else "ac"[i % 2], "segment_classification")
        for i, s in enumerate(sites)
    ]
    assert sum(n["d"] for n in partition_sites(rare, RULES, BOUNDS).counts["segment_classification"].values()) == 1


def test_whole_segments_are_kept_apart_by_segment_alone() -> None:
    """Views of whole segments are as wide as the volume: places do not count, segments do."""
    sites = [
        replace(site, task="segment_classification", answer="ac"[i % 2], extent_nm=1e6)
        for i, site in enumerate(random_sites(3, 120, 400, 10.0, TASKS[:1]))
    ]
    found = partition_sites(sites, RULES, BOUNDS)
    kept = [(s, p) for s, p in zip(sites, found.partitions, strict=True) if p is not None]
    assert {p for _, p in kept} == {"train", "validation", "test"} and len(kept) > 60
    sides: dict[int, set[str]] = {}
    for site, partition in kept:
        for segment in site.segment_ids:
            sides.setdefault(segment, set()).add(partition)
    assert all(len(where) == 1 for where in sides.values())
    assert SHARED_PLACE not in found.reasons
