"""Directions of a pair: rotations, even, from the place alone, and turned by the stated angles."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.paired_frames import TURN_DEGREES, first_frame, second_frame, shares_of

COORDINATE = st.floats(-1e6, 1e6)
PLACE = st.tuples(COORDINATE, COORDINATE, COORDINATE)


@given(PLACE, PLACE)
def test_frames_are_rotations_turned_by_the_stated_angle(one, two) -> None:
    first = first_frame(one)
    second = second_frame(first, two)
    for frame in (first, second):
        assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(frame) > 0
    angle = np.degrees(np.arccos(np.clip((np.trace(second @ first.T) - 1) / 2, -1, 1)))
    assert TURN_DEGREES[0] - 1e-3 <= angle <= TURN_DEGREES[1] + 1e-3
    assert np.array_equal(second, second_frame(first_frame(one), two))


def test_directions_are_spread_evenly() -> None:
    frames = np.array([first_frame((float(i), 0.0, 0.0)) for i in range(2000)])
    # the mean of evenly spread unit vectors is 0 with a deviation of 1 / sqrt(3 n) along each axis
    assert np.abs(frames.mean(axis=0)).max() < 5 / np.sqrt(3 * 2000)
    heights = np.sort(frames[:, 2, 2])
    # the height of an even direction is uniform between -1 and 1
    assert np.abs(heights - np.linspace(-1, 1, 2000)).max() < 0.08


def test_shares_do_not_tell_rounding_apart() -> None:
    assert shares_of((-0.0, 1.04, 2.0), 3) == shares_of((0.0, 1.0, 2.0), 3)
    assert shares_of((0.0, 1.0, 2.0), 2) != shares_of((0.0, 1.2, 2.0), 2)
    assert all(0 <= s < 1 for s in shares_of((3.0, 1.0, 4.0), 16))
