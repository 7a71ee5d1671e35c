import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.sites.matched_controls import ControlRules, assign_controls, match_rendered, standardise


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(0, 30), st.integers(1, 3), st.integers(0, 5))
def test_no_control_is_used_twice(n_cases, n_controls, per_case, seed):
    rng = np.random.default_rng(seed)
    pairs = assign_controls(rng.normal(size=(n_cases, 2)), rng.normal(size=(n_controls, 2)), per_case)
    used = [k for _, k in pairs]
    assert len(set(used)) == len(used)
    assert len(pairs) == (min(n_cases * per_case, n_controls) if n_cases else 0)
    assert all(sum(c == case for c, _ in pairs) <= per_case for case in range(n_cases))


def test_more_cases_than_a_block_are_matched_too():
    x = np.arange(35.0)[:, None]
    pairs = assign_controls(x, np.arange(70.0)[:, None], 2, block=10)
    assert len(pairs) == 70 and len({k for _, k in pairs}) == 70


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
    pairs, dropped = match_rendered(features, is_case, groups, ControlRules(caliper=0.3))
    assert len(pairs) + dropped == 200 and len({row for pair in pairs for row in pair}) == 2 * len(pairs)
    assert all(is_case[c] and not is_case[k] for c, k in pairs)
    kept = np.asarray(pairs).ravel()
    gap = size[kept][is_case[kept]].mean() - size[kept][~is_case[kept]].mean()
    assert abs(gap) < 0.2 < 0.8 < size[is_case].mean() - size[~is_case].mean()


def test_without_cases_or_controls_nothing_is_kept():
    names = np.array(["a", "b", "c"])
    assert match_rendered(np.zeros((3, 2)), np.zeros(3, bool), names, ControlRules()) == ([], 0)
