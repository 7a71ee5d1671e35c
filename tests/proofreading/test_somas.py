"""Somas are found by the ball that fits inside, and never joined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_graphs import chain
from toy_segmentation import write_toy

from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.trusted import TrustedConfig
from connectomebench.proofreading.place import open_place
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.somas import find_somas, sample_step


def balls(*where: tuple[tuple[int, int, int], int]) -> np.ndarray:
    """Draw balls (centre, radius) as supervoxels 1, 2, ... in 60³ points, the first over the next."""
    grid = np.stack(np.indices((60, 60, 60)), axis=-1)
    made = np.zeros((60, 60, 60), np.int64)
    for number, (centre, radius) in reversed(list(enumerate(where, 1))):
        made[((grid - centre) ** 2).sum(axis=-1) <= radius**2] = number
    return made


def test_the_radius_decides_and_one_object_may_hold_two_somas():
    samples = balls(((15, 15, 15), 12), ((45, 45, 45), 10), ((45, 15, 15), 5))
    objects = np.array([7, 7, 8], np.uint64)
    found = find_somas(samples, objects, (10, 10, 10), 80)
    assert set(found) == {0, 1} and found[0] == pytest.approx(125, abs=15)
    assert set(find_somas(samples, objects, (10, 10, 10), 40)) == {0, 1, 2}
    assert find_somas(samples, objects, (10, 10, 10), 200) == {}
    # a soma cut by a face of the data is one, and an object without any border has no radius
    assert set(find_somas(balls(((0, 30, 30), 12)), np.array([1], np.uint64), (10, 10, 10), 100)) == {0}
    assert find_somas(np.ones((9, 9, 9), np.int64), np.array([1], np.uint64), (10, 10, 10), 5) == {}
    assert sample_step(800, (10, 20, 400)) == (10, 5, 1)


def test_two_objects_with_somas_are_never_joined_and_a_split_parts_them():
    graph = SegmentationGraph(chain([1, 1, 2, 3]), anchors={0: "soma a", 1: "soma b", 3: "soma c"})
    assert graph.trusted_in(1) == {"soma a", "soma b"}
    made = graph.merge(1, 2)
    assert graph.trusted_in(made) == {"soma a", "soma b"}
    with pytest.raises(EditRefused, match="trusted"):
        graph.merge(2, 3)
    first, second = graph.split([0], [1])
    assert graph.trusted_in(first) == {"soma a"} and graph.trusted_in(second) == {"soma b"}
    with pytest.raises(EditRefused, match="trusted"):
        graph.merge(0, 3)


def test_points_of_the_configuration_are_taken_and_a_point_in_nothing_is_one_line(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    inside = (305.0, 105.0, 205.0)
    here = replace(config, trusted=TrustedConfig(somas_nm=(inside, (0.0, 0.0, 0.0))))
    place = open_place(here, tmp_path, tmp_path / "cache")
    assert list(place.anchors.values()) == ["soma at 305, 105, 205 nm"]
    assert place.supervoxels.segments[next(iter(place.anchors))] == 1
    nothing = replace(config, trusted=TrustedConfig(somas_nm=((305.0, 5.0, 205.0),)))
    with pytest.raises(ConnectomeBenchError, match="there is no object at 305, 5, 205 nm"):
        open_place(nothing, tmp_path, tmp_path / "cache")
    assert config.fingerprint() == here.fingerprint() and "trusted" not in here.as_dict()
    with pytest.raises(ConnectomeBenchError, match="soma_radius_nm is -1"):
        TrustedConfig(soma_radius_nm=-1)


def test_a_soma_is_found_in_a_volume(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    # the neurites of the toy are some 45 nm thick: a ball of 30 nm fits inside all, one of 100 nm in none
    thin = open_place(replace(config, trusted=TrustedConfig(soma_radius_nm=30)), tmp_path, tmp_path / "cache")
    assert {int(thin.supervoxels.segments[row]) for row in thin.anchors} == {1, 2, 3, 4, 5}
    thick = open_place(replace(config, trusted=TrustedConfig(soma_radius_nm=100)), tmp_path, tmp_path / "cache")
    assert thick.anchors == {}
