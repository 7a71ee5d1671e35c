import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.sites import matched_controls as controls
from connectomebench.sites.matched_controls import ControlConfig, assign_controls, match_rendered, standardise


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(0, 30), st.integers(1, 3), st.integers(0, 5))
def test_no_control_is_used_twice(n_cases, n_controls, per_case, seed):
    rng = np.random.default_rng(seed)
    pairs = assign_controls(rng.normal(size=(n_cases, 2)), rng.normal(size=(n_controls, 2)), per_case)
    used = [k for _, k in pairs]
    assert len(set(used)) == len(used)
    assert len(pairs) == (min(n_cases * per_case, n_controls) if n_cases else 0)
    assert all(sum(c == case for c, _ in pairs) <= per_case for case in range(n_cases))


def largest_by_brute_force(own, other, caliper) -> tuple[int, list[list[tuple[int, int]]]]:
    """All ways to pair, and how many pairs the largest has."""
    ways: list[list[tuple[int, int]]] = [[]]
    for case in range(len(own)):
        ways += [
            [*way, (case, k)]
            for way in ways
            for k in range(len(other))
            if abs(own[case] - other[k]) <= caliper and all(k != used for _, used in way)
        ]
    most = max(len(way) for way in ways)
    return most, [way for way in ways if len(way) == most]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6), st.booleans())
def test_as_many_pairs_as_the_caliper_allows_and_the_nearest_of_these(n_cases, n_controls, seed, thinned):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n_cases, 2)), rng.normal(size=(n_controls, 2))
    own, other = rng.normal(size=n_cases), rng.normal(size=n_controls)
    with pytest.MonkeyPatch.context() as patch:
        if thinned:
            patch.setattr(controls, "_ALL_PAIRS", 0)
        pairs = assign_controls(x, y, 1, scores=(own, other), caliper=0.5, neighbours=1 if thinned else 64)
    most, ways = largest_by_brute_force(own, other, 0.5)
    assert len(pairs) == most
    assert all(abs(own[c] - other[k]) <= 0.5 for c, k in pairs)
    if not thinned:
        total = [sum(np.linalg.norm(x[c] - y[k]) for c, k in way) for way in (pairs, *ways)]
        assert total[0] == pytest.approx(min(total))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_preferred_controls_come_first_and_cost_no_pair(n_cases, n_controls, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n_cases, 2)), rng.normal(size=(n_controls, 2))
    own, other = rng.normal(size=n_cases), rng.normal(size=n_controls)
    first = rng.random(n_controls) < 0.5
    pairs = assign_controls(x, y, 1, scores=(own, other), caliper=0.5, first=first)
    most, ways = largest_by_brute_force(own, other, 0.5)
    assert len(pairs) == most
    preferred = [sum(first[k] for _, k in way) for way in (pairs, *ways)]
    assert preferred[0] == max(preferred)
    total = [sum(np.linalg.norm(x[c] - y[k]) for c, k in way) for way in (pairs, *ways)]
    assert total[0] == pytest.approx(min(t for t, n in zip(total, preferred, strict=True) if n == max(preferred)))


def test_a_preferred_control_may_be_further_away():
    x, y = np.zeros((2, 1)), np.asarray([[0.1], [3.0], [0.2]])
    own, other = np.zeros(2), np.asarray([0.1, 1.5, 0.2])
    first = np.asarray([False, True, False])
    assert {k for _, k in assign_controls(x, y, 1, scores=(own, other), caliper=0.5, first=first)} == {0, 2}
    wide = assign_controls(x, y, 1, scores=(own, other), caliper=0.5, first=first, first_caliper=2.0)
    assert {k for _, k in wide} == {0, 1}


def test_large_problems_are_matched_too():
    """3,000 cases and 6,000 controls, most pairs of which are not weighed: all get their neighbour."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3))
    y = np.concatenate([x + 0.001, rng.normal(size=(3000, 3))])
    pairs = assign_controls(x, y, 1, scores=(x[:, 0], y[:, 0]), caliper=0.1, neighbours=8)
    assert np.mean([c == k for c, k in pairs]) > 0.99 and len(pairs) == 3000


def test_nearest_first_would_lose_pairs_that_the_caliper_allows():
    """The control that both want goes to the one that has no other."""
    own, other = np.array([0.0, 0.4]), np.array([0.35, 0.8])
    pairs = assign_controls(np.zeros((2, 1)), np.array([[0.0], [5.0]]), 1, scores=(own, other), caliper=0.41)
    assert pairs == [(0, 0), (1, 1)]


def test_each_case_gets_its_like():
    cases = np.array([[0.0], [5.0]])
    assert assign_controls(cases, np.array([[5.1], [9.0], [0.1]]), 1) == [(0, 2), (1, 0)]


def test_standardise_bounds_outliers():
    x = standardise(np.array([[0.0], [1.0], [2.0], [3.0], [1e9]]))
    assert abs(x).max() <= 4 and x[2] == 0


def test_matching_removes_what_a_trivial_feature_tells():
    """Cases are larger on average; after matching their sizes no longer differ, and as many cases as controls stay."""
    rng = np.random.default_rng(0)
    is_case = np.arange(800) < 200
    size = rng.normal(loc=np.where(is_case, 1.0, 0.0))
    features = np.column_stack([size, rng.normal(size=800)])
    groups = np.arange(800).astype(str)
    pairs, dropped = match_rendered(features, is_case, groups, ControlConfig(caliper=0.3))
    assert len(pairs) + dropped == 200 and len({row for pair in pairs for row in pair}) == 2 * len(pairs)
    assert all(is_case[c] and not is_case[k] for c, k in pairs)
    kept = np.asarray(pairs).ravel()
    gap = size[kept][is_case[kept]].mean() - size[kept][~is_case[kept]].mean()
    assert abs(gap) < 0.25 < 0.8 < size[is_case].mean() - size[~is_case].mean()


def test_pairs_agree_where_they_can_and_are_no_fewer_for_it():
    """Of 30 cases 6 have the mark, and of 90 controls half; what else differs must not keep pairs apart."""
    rng = np.random.default_rng(1)
    is_case = np.arange(120) < 30
    mark = np.where(is_case, np.arange(120) % 5 == 0, np.arange(120) % 2 == 0)
    features, groups = rng.normal(size=(120, 6)), np.arange(120).astype(str)
    rules = ControlConfig(caliper=100.0)
    pairs, _ = match_rendered(features, is_case, groups, rules, agree=mark[:, None])
    assert len(pairs) == 30 and all(mark[c] == mark[k] for c, k in pairs)
    without, _ = match_rendered(features, is_case, groups, rules)
    assert sum(mark[k] for _, k in without) > 10 > sum(mark[k] for _, k in pairs)
    # no control has it: the cases keep their partners
    lonely, _ = match_rendered(features, is_case, groups, rules, agree=(mark & is_case)[:, None])
    assert len(lonely) == 30


def test_without_cases_or_controls_nothing_is_kept():
    names = np.array(["a", "b", "c"])
    assert match_rendered(np.zeros((3, 2)), np.zeros(3, bool), names, ControlConfig()) == ([], 0)


@pytest.mark.parametrize(("n", "m"), [(40, 30_000), (30_000, 40)])
def test_few_of_one_side_and_very_many_of_the_other(n, m):
    """As many candidates as the few and the many need, not 64 for each of the many."""
    rng = np.random.default_rng(0)
    cases, others = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    a, _ = controls._allowed_pairs(cases, others, np.zeros(n), np.zeros(m), np.full(m, np.inf), 64)
    assert len(a) <= 2 * 64 * min(n, m) + 2 * max(n, m)
    pairs = assign_controls(cases, others, 1)
    assert len(pairs) == min(n, m) == len({c for c, _ in pairs}) == len({o for _, o in pairs})
    if n < m:  # each has its nearest, or one that is hardly farther
        nearest = np.array([np.linalg.norm(others - case, axis=1).min() for case in cases])
        taken = np.array([np.linalg.norm(others[o] - cases[c]) for c, o in pairs])
        assert (taken >= nearest - 1e-12).all() and taken.sum() < 1.2 * nearest.sum() + 1e-9


def test_the_propensity_of_many_rows_is_learnt_from_a_part_of_them(monkeypatch):
    rng = np.random.default_rng(0)
    is_case = np.arange(600) % 2 == 0
    features = rng.normal(size=(600, 3)) + 2.0 * is_case[:, None]
    groups = np.array([str(i // 4) for i in range(600)])
    whole = controls._propensity_logit(features, is_case, groups, 0)
    monkeypatch.setattr(controls, "_TREE_ROWS", 200)
    part = controls._propensity_logit(features, is_case, groups, 0)
    assert not np.array_equal(whole, part)
    for logit in (whole, part):
        assert (logit[is_case].mean() - logit[~is_case].mean()) > 1.5
    assert np.corrcoef(whole, part)[0, 1] > 0.95


def test_a_fold_may_hold_all_cases():
    """All cases are one group: the forest that judges them has seen controls alone, and another has seen both."""
    is_case = np.arange(40) < 10
    features = np.random.default_rng(0).normal(size=(40, 2))
    groups = np.where(is_case, "cases", np.arange(40).astype(str))
    logit = controls._propensity_logit(features, is_case, groups, 0)
    assert np.isfinite(logit).all() and len(set(logit[is_case])) == 1
