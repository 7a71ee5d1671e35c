"""A control is a control: six small volumes whose errors no list of corrections has, or has at one point only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sites.candidates import CandidateConfig, find_candidates
from connectomebench.sites.labels import (
    GOES_ON,
    SECOND_BODY,
    LabelledSites,
    SiteConfig,
    endpoint_sites,
    merge_error_sites,
)
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sources.label_shapes import SkeletonConfig
from connectomebench.sources.surroundings import (
    CertaintyConfig,
    Neighbourhood,
    goes_on_outside,
    holds_clear_second_body,
    holds_second_body,
    volume_surroundings,
)
from connectomebench.sources.volumes.arrays import VolumeSpec
from connectomebench.sources.volumes.volume_source import VolumesConfig, VolumeSource

NM = 10.0
SHAPE = (200, 60, 60)
FIRST, CUT, LAST = 20, 100, 180  # a neurite along x, and where it is cut
RADII = CandidateConfig(radius_nm=200, merge_radius_nm=200, min_distance_nm=60, reach_nm=200)
SITES = SiteConfig(extent_nm=(500, 500), min_segment_voxels=50)
Labels = NDArray[np.uint32]


def neurite(width: int) -> tuple[Labels, Labels]:
    """Body 1 along x, which is segment 1; and a stranger that is right, so that there are controls in each volume."""
    bodies = np.zeros(SHAPE, np.uint32)
    bodies[FIRST:LAST, 10 : 10 + width, 10 : 10 + width] = 1
    bodies[FIRST:LAST, 44:54, 44:54] = 9
    return bodies.copy(), bodies


def cut_in_two() -> tuple[Labels, Labels]:
    segments, bodies = neurite(10)
    segments[CUT:][segments[CUT:] == 1] = 2
    return segments, bodies


def cut_with_a_gap() -> tuple[Labels, Labels]:
    segments, bodies = neurite(16)
    segments[CUT:][segments[CUT:] == 1] = 2
    segments[CUT - 6 : CUT + 6][segments[CUT - 6 : CUT + 6] != 9] = 0
    return segments, bodies


def half_without_a_segment() -> tuple[Labels, Labels]:
    segments, bodies = neurite(10)
    segments[CUT:][segments[CUT:] == 1] = 0
    return segments, bodies


def half_in_ten_slabs() -> tuple[Labels, Labels]:
    segments, bodies = neurite(10)
    for x in range(CUT, LAST):
        segments[x][segments[x] == 1] = 11 + (x - CUT) // 8
    return segments, bodies


def fused_by_a_bridge() -> tuple[Labels, Labels]:
    """Two neurites side by side, and 12 voxels between them."""
    segments, bodies = neurite(10)
    bodies[FIRST:LAST, 26:36, 10:20] = 2
    segments[bodies == 2] = 1
    segments[99:102, 20:26, 14:16] = 1
    return segments, bodies


def thin_and_fused_in_a_t() -> tuple[Labels, Labels]:
    """A neurite of 3 by 3 voxels, too thin to have a core, that ends on another one."""
    segments, bodies = neurite(10)
    bodies[99:102, 20:58, 14:17] = 2
    segments[bodies == 2] = 1
    return segments, bodies


def source(folder: Path, made: tuple[Labels, Labels]) -> VolumeSource:
    np.savez(folder / "a.npz", automatic=made[0], proofread=made[1])
    specs = {k: VolumeSpec("a.npz", k, "xyz", (NM, NM, NM), (0, 0, 0)) for k in ("automatic", "proofread")}
    config = VolumesConfig(
        "tubes",
        "1",
        **specs,
        corrections=CorrectionConfig(min_core_voxels=1000),
        skeleton=SkeletonConfig(dust_voxels=50),
        border_nm=0.0,
    )
    return VolumeSource(config, "fly", folder / "cache", folder)


def labelled(made: VolumeSource, *, merge_errors: bool) -> LabelledSites:
    corrections = made.corrections()
    sizes = corrections.overlaps.segment_sizes()
    skeletons = dict(made.skeletons([s for s in sorted(sizes) if sizes[s] >= SITES.min_segment_voxels]))
    candidates = find_candidates(skeletons.items(), RADII)
    label = merge_error_sites if merge_errors else endpoint_sites
    return label(made, corrections, candidates, skeletons, SITES, ControlConfig(pool_per_case=100), RADII)


@pytest.mark.parametrize(
    ("make", "yes"),
    [(cut_in_two, 2), (cut_with_a_gap, 0), (half_without_a_segment, 0), (half_in_ten_slabs, 0)],
)
def test_no_end_of_a_neurite_that_goes_on_is_a_control(
    make: Callable[[], tuple[Labels, Labels]], yes: int, tmp_path: Path
) -> None:
    found = labelled(source(tmp_path, make()), merge_errors=False)
    cases = [s for s in found.sites if s.answer == "yes"]
    controls = [s for s in found.sites if s.answer == "no"]
    assert len(cases) == yes
    # real ends are controls, those at the cut are not
    assert len(controls) >= 3
    assert all(s.segment_ids == (9,) or abs(s.location_nm[0] - CUT * NM) > 500 for s in controls)
    at_cut = [s for s in cases if abs(s.location_nm[0] - CUT * NM) <= 200]
    assert len(at_cut) == yes and (found.dropped[GOES_ON] > 0) == (yes == 0)


@pytest.mark.parametrize("make", [fused_by_a_bridge, thin_and_fused_in_a_t])
def test_no_branch_point_of_a_fusion_is_a_control(make: Callable[[], tuple[Labels, Labels]], tmp_path: Path) -> None:
    made = source(tmp_path, make())
    assert not made.corrections().splits, "no correction says so"
    found = labelled(made, merge_errors=True)
    controls = [s for s in found.sites if s.answer == "no"]
    assert not [s for s in controls if s.segment_ids == (1,) and abs(s.location_nm[0] - 1000) < 200]
    sound = labelled(source(tmp_path, neurite(10)), merge_errors=True)
    assert found.dropped[SECOND_BODY] > 0 == sound.dropped[SECOND_BODY]


def around(segments: Labels, bodies: Labels, radius: float, *, is_open: bool = True, **rules: int) -> Neighbourhood:
    middle = (np.array(segments.shape) - 1) / 2
    places = np.indices(segments.shape) - middle.reshape(3, 1, 1, 1)
    near = (places**2).sum(axis=0) <= radius**2
    sizes = {"erosion_vx": 2, "min_voxels": 50, "min_case_voxels": 100} | rules
    return Neighbourhood(segments, bodies, near, np.full((3, 2), is_open), **sizes)


def test_boundary_slop_is_no_continuation() -> None:
    """The segment is two voxels thinner all round than its body."""
    bodies, segments = np.zeros((2, 41, 41, 41), np.uint32)
    bodies[:, 12:29, 12:29], segments[:, 14:27, 14:27] = 7, 3
    assert not goes_on_outside(around(segments, bodies, 15), 3, [7])
    segments[:, :, 20:] = 0
    assert goes_on_outside(around(segments, bodies, 15), 3, [7])
    assert not goes_on_outside(around(segments, bodies, 15), 3, [8])
    # nor is a second body, of which the segment takes two voxels
    bodies[:, 12:29, 29:40], segments[:, 14:27, 14:31] = 5, 3
    assert not holds_second_body(around(segments, bodies, 15), 3)
    segments[:, 14:27, 14:38] = 3
    assert holds_second_body(around(segments, bodies, 15), 3)


def test_a_small_part_counts_where_it_goes_on_beyond_what_is_looked_at() -> None:
    bodies, segments = np.zeros((2, 41, 41, 41), np.uint32)
    bodies[20, 20, :] = 7
    segments[20, 20, :20] = 3
    assert goes_on_outside(around(segments, bodies, 15), 3, [7])
    assert not goes_on_outside(around(segments, bodies, 15, is_open=False), 3, [7])
    assert goes_on_outside(around(segments, bodies, 15, is_open=False, min_voxels=15), 3, [7])


def test_a_case_wants_more_of_the_second_body_than_spoils_a_control() -> None:
    bodies, segments = np.zeros((2, 41, 41, 41), np.uint32)
    bodies[:, 12:20, 12:29], segments[:, 12:29, 12:29] = 7, 3
    cores = {}
    for depth in range(5, 15):
        bodies[:, 20:29, 12:29] = 0
        bodies[14 : 14 + depth, 20:29, 12:29] = 5
        core = (depth - 4) * 5 * 13  # eroded twice from all sides
        place = around(segments, bodies, 15, min_voxels=200, min_case_voxels=400)
        cores[core] = holds_second_body(place, 3), holds_clear_second_body(place, 3)
    assert cores == {core: (core >= 200, core >= 400) for core in cores}
    # what lies in the body but not in the segment is no part of it
    segments[:, 26:] = 0
    place = around(segments, bodies, 15, min_voxels=200, min_case_voxels=max(cores))
    assert not holds_clear_second_body(place, 3)


def test_a_small_part_that_goes_on_beyond_what_is_looked_at_is_neither_case_nor_control() -> None:
    bodies, segments = np.zeros((2, 41, 41, 41), np.uint32)
    bodies[:, :24, 12:29], bodies[30:, 24:29, 12:19], segments[:, :29, 12:29] = 7, 5, 3
    place = around(segments, bodies, 22)
    assert holds_second_body(place, 3) and not holds_clear_second_body(place, 3)


def test_what_begins_beyond_the_radius_is_not_near() -> None:
    bodies, segments = np.zeros((2, 61, 41, 41), np.uint32)
    bodies[:, 15:26, 15:26], segments[:45, 15:26, 15:26] = 7, 3
    assert goes_on_outside(around(segments, bodies, 15), 3, [7])
    assert not goes_on_outside(around(segments, bodies, 14), 3, [7])


@pytest.mark.parametrize(("radius_nm", "expected"), [(700.0, False), (900.0, True), (2000.0, True)])
def test_large_radii_are_looked_at_on_fewer_voxels(radius_nm: float, expected: bool, tmp_path: Path) -> None:
    """At 2 µm every fourth voxel is read; the answer is that of all of them."""
    made = source(tmp_path, cut_in_two())
    place = np.array([[FIRST * NM, 150.0, 150.0]])
    found = volume_surroundings(
        made.automatic, made.proofread, {1: (1,)}, np.array([1], np.uint64), place, radius_nm, CertaintyConfig()
    )
    assert found.goes_on.tolist() == [expected] and found.second_body.tolist() == [False]
    other = made.surroundings(np.array([1], np.uint64), place, radius_nm, "second_body")
    assert other.goes_on.tolist() == [False]


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConnectomeBenchError, match="erosion_vx must be at least 0"):
        CertaintyConfig(erosion_vx=-1)
    with pytest.raises(ConnectomeBenchError, match="min_voxels must be at least 1"):
        CertaintyConfig(min_voxels=0)
