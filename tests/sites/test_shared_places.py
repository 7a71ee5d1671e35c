from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.sites.shared_places import Place, unlike


def places(seed: int, n: int) -> list[Place]:
    rng = np.random.default_rng(seed)
    return [
        Place("abc"[rng.integers(3)], f"edit-{i}", (int(rng.integers(3)), 9), tuple(rng.uniform(0, 100, 3).tolist()))
        for i in range(n)
    ]


def same(a: Place, b: Place, distance: float) -> bool:
    near = np.linalg.norm(np.subtract(a.place_nm, b.place_nm)) <= distance
    return bool(near) and set(a.bodies) == set(b.bodies) and a.segmentation != b.segmentation


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), distance=st.floats(1, 80))
def test_no_two_segmentations_keep_the_same_and_nothing_is_lost_without_need(seed, n, distance):
    every = places(seed, n)
    chosen = unlike(every, distance)
    kept = [place for place, yes in zip(every, chosen, strict=True) if yes]
    assert not any(same(a, b, distance) for a, b in itertools.combinations(kept, 2))
    for place, yes in zip(every, chosen, strict=True):
        assert yes or any(same(place, other, distance) for other in kept)
    order = np.random.default_rng(seed).permutation(n)
    assert np.array_equal(unlike([every[i] for i in order], distance), chosen[order])


def test_one_segmentation_may_have_several_at_a_place_and_order_of_bodies_says_nothing():
    alone = [Place("a", str(i), (1, 2), (0.0, 0.0, float(i))) for i in range(3)]
    assert unlike(alone, 10.0).all()
    two = [Place("a", "x", (1, 2), (0.0, 0.0, 0.0)), Place("b", "y", (2, 1), (0.0, 0.0, 1.0))]
    assert unlike(two, 10.0).sum() == 1
    assert unlike([two[0], Place("b", "y", (1, 3), (0.0, 0.0, 1.0))], 10.0).all()
