from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.correction import Corrections, MergeCorrection, Overlaps, SplitCorrection
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Skeleton
from connectomebench.core.supervoxel_interfaces import SupervoxelInterfaces
from connectomebench.sites import candidates
from connectomebench.sites.candidates import (
    MERGE_ERROR_KINDS,
    SPLIT_ERROR_KINDS,
    CandidateConfig,
    Candidates,
    coverage,
    find_candidates,
    measure,
    nearest_correction,
    one_a_place,
    path_mm,
)
from connectomebench.sites.interface_scores import joining_contacts


def y_shape(scale: float = 1000.0) -> Skeleton:
    """A stem of 3 nodes with two arms: ends at nodes 0, 4 and 6, a branch point at node 2."""
    nodes = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 1, 0], [4, 2, 0], [3, -1, 0], [4, -2, 0]], np.float32)
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [2, 5], [5, 6]], np.int32)
    return Skeleton(nodes * scale, edges, np.full(7, 50, np.float32))


def corrections(merges=(), splits=()) -> Corrections:
    nothing = np.zeros(0, np.uint64)
    counts = np.zeros(0, np.int64)
    return Corrections(
        tuple(merges), tuple(splits), Overlaps(nothing, nothing, counts, counts), {}, {}, np.zeros((0, 3), np.float32)
    )


def test_ends_and_branch_points():
    found = find_candidates([(7, y_shape())], CandidateConfig())
    assert found.segments.tolist() == [7, 7, 7, 7]
    assert found.of_kind("end").points_nm.tolist() == [[0, 0, 0], [4000, 2000, 0], [4000, -2000, 0]]
    assert found.of_kind("branch").points_nm.tolist() == [[2000, 0, 0]]


def test_near_branch_points_are_one_candidate():
    nodes = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [1, 1, 0], [2, 1, 0]], np.float32) * 100
    edges = np.array([[0, 1], [1, 2], [2, 3], [1, 4], [2, 5]], np.int32)
    radii = np.array([1, 1, 5, 1, 1, 1], np.float32)
    skeleton = Skeleton(nodes, edges, radii)
    near = find_candidates([(1, skeleton)], CandidateConfig(min_distance_nm=150)).of_kind("branch")
    far = find_candidates([(1, skeleton)], CandidateConfig(min_distance_nm=50)).of_kind("branch")
    assert near.points_nm.tolist() == [[200, 0, 0]]  # the thicker one
    assert len(far.segments) == 2


def test_small_skeletons_and_none_at_all():
    assert len(find_candidates([(1, y_shape())], CandidateConfig(min_nodes=8)).segments) == 0
    assert find_candidates([], CandidateConfig()).points_nm.shape == (0, 3)


def test_only_corrections_of_the_own_segment_count():
    found = find_candidates([(7, y_shape())], CandidateConfig())
    merges = [MergeCorrection("a", (8, 9), 1, (0, 0, 0), 1), MergeCorrection("b", (7, 9), 1, (4000, 2100, 0), 1)]
    distances, index = nearest_correction(found.of_kind("end"), corrections(merges), "end")
    assert index.tolist() == [1, 1, 1]
    assert distances[1] == pytest.approx(100)
    assert distances[0] > 4000


def test_recall_and_precision():
    found = find_candidates([(7, y_shape())], CandidateConfig())
    merges = [MergeCorrection("a", (7, 9), 1, (4000, 2100, 0), 1), MergeCorrection("b", (7, 5), 1, (2000, 900, 0), 1)]
    ends, branches = found.of_kind("end"), found.of_kind("branch")
    measured = coverage(ends, corrections(merges), "end", 500, path_mm=0.01).as_dict()
    assert measured == {
        "candidates": 3,
        "corrections": 2,
        "recall": 0.5,
        "precision": pytest.approx(1 / 3),
        "candidates_per_mm": pytest.approx(300),
    }
    splits = [SplitCorrection("s", 7, (1, 2), (2000, 300, 0), 1)]
    assert coverage(branches, corrections(splits=splits), "branch", 500, 0.01).as_dict()["recall"] == 1
    assert coverage(branches, corrections(), "branch", 500, 0.01).as_dict()["recall"] is None


def chain(x_nm, radii, y=0.0) -> Skeleton:
    nodes = np.array([[x, y, 0] for x in x_nm], np.float32)
    edges = np.column_stack([np.arange(len(x_nm) - 1), np.arange(1, len(x_nm))]).astype(np.int32)
    return Skeleton(nodes, edges, np.asarray(radii, np.float32))


def test_a_waist_is_thin_between_two_thick_sides():
    rules = CandidateConfig(kinds=("waist",), reach_nm=300, min_constriction=0.3, min_distance_nm=50)
    x = np.arange(9) * 100.0
    found = find_candidates([(1, chain(x, [100, 100, 100, 100, 40, 100, 100, 100, 100]))], rules)
    assert found.points_nm[:, 0].tolist() == [400] and found.scores.tolist() == [pytest.approx(0.6)]
    # thin on one side only is a taper; what is thick beyond the reach does not count; nor does a shallow waist
    assert not len(find_candidates([(1, chain(x, [100, 100, 100, 100, 40, 40, 40, 40, 40]))], rules).segments)
    assert not len(find_candidates([(1, chain(x, [100, 40, 40, 40, 40, 40, 40, 40, 100]))], rules).segments)
    assert not len(find_candidates([(1, chain(x, [100, 100, 100, 100, 71, 100, 100, 100, 100]))], rules).segments)


def hairpin(gap_nm: float) -> Skeleton:
    """Two arms of 2 µm side by side, joined at x = 0."""
    x = np.arange(21) * 100.0
    nodes = np.concatenate([[[v, 0, 0] for v in x[::-1]], [[v, gap_nm, 0] for v in x]]).astype(np.float32)
    edges = np.column_stack([np.arange(41), np.arange(1, 42)]).astype(np.int32)
    return Skeleton(nodes, edges, np.full(42, 50, np.float32))


@pytest.mark.parametrize(("gap_nm", "expected"), [(150, True), (170, True), (190, False)])
def test_parallel_branches_touch_though_the_way_between_them_is_long(gap_nm, expected):
    rules = CandidateConfig(kinds=("parallel",), parallel_gap_nm=80, min_detour=3, min_distance_nm=1)
    found = find_candidates([(1, hairpin(gap_nm))], rules)
    assert bool(len(found.segments)) is expected
    if expected:
        # not near the bend, where the way is short
        least = (3 * gap_nm - gap_nm) / 2
        assert found.points_nm[:, 0].min() >= least - 100 and found.points_nm[:, 0].max() == 2000
    straight = chain(np.arange(41) * 100.0, np.full(41, 50))
    assert not len(find_candidates([(1, straight)], rules).segments)


def test_of_all_kinds_one_a_place_is_kept_the_first_kind_first():
    found = find_candidates([(7, y_shape())], CandidateConfig(kinds=("end", "branch")))
    near = one_a_place(found, ("branch", "end"), 3000)
    assert near.kinds.tolist() == ["branch"]
    assert len(one_a_place(found, ("branch", "end"), 500).segments) == 4
    assert one_a_place(found, ("end",), 500).kinds.tolist() == ["end"] * 3
    assert not len(one_a_place(found, (), 500).segments)


def test_distances_are_to_the_whole_interface():
    found = find_candidates([(7, y_shape())], CandidateConfig())
    merge = MergeCorrection("a", (7, 9), 1, (9000, 0, 0), 1, patch_nm=((7000, 0, 0), (4000, 2300, 0)))
    distances, index = nearest_correction(found.of_kind("end"), corrections([merge]), "end")
    assert distances.min() == pytest.approx(300) and set(index.tolist()) == {0}
    assert coverage(found.of_kind("end"), corrections([merge]), "end", 300.1, 1.0).found == 1


def test_the_manifest_says_what_each_kind_costs():
    skeletons = {7: y_shape(), 8: chain(np.arange(9) * 100.0, [100, 100, 100, 100, 40, 100, 100, 100, 100])}
    rules = CandidateConfig(merge_radius_nm=500, reach_nm=300, min_distance_nm=50)
    splits = [SplitCorrection("s", 7, (1, 2), (2000, 300, 0), 1), SplitCorrection("t", 8, (1, 2), (400, 0, 0), 1)]
    found = find_candidates(skeletons.items(), rules)
    length = path_mm(skeletons.values())
    assert length == pytest.approx((2000 + 4 * 1000 * 2**0.5 + 800) / 1e6)
    measured = measure(found, corrections(splits=splits), MERGE_ERROR_KINDS, rules, length)
    assert measured["recall"] == 1 and measured["candidates"] == 2 and measured["precision"] == 1
    recalls = {kind: m["recall"] for kind, m in measured["kinds"].items()}
    assert recalls == {"branch": 0.5, "waist": 0.5, "parallel": 0, "interface": 0}
    (point,) = measured["kinds"]["waist"]["curve"]
    assert point["min_score"] == pytest.approx(0.6) and point["candidates_per_mm"] == pytest.approx(1 / length)
    assert measure(found, corrections(splits=splits), SPLIT_ERROR_KINDS, rules, length)["corrections"] == 0


def contacts(segment: int, x_nm, brightness, depths=50.0, calibres=(100.0, 100.0), voxels=1000) -> SupervoxelInterfaces:
    """Contacts of the supervoxels 1 and 2, 2 and 3, ... along x."""
    n = len(x_nm)
    return SupervoxelInterfaces(
        np.full(n, segment, np.uint64),
        np.column_stack([np.arange(1, n + 1), np.arange(2, n + 2)]).astype(np.uint64),
        np.array([[x, 0, 0] for x in x_nm], np.float32),
        np.full(n, 20),
        np.full(n, depths, np.float32),
        np.tile(np.float32(calibres), (n, 1)),
        np.full((n, 2), voxels),
        np.asarray(brightness, np.float32),
    )


def test_contacts_of_supervoxels_are_ranked_and_thinned():
    rules = CandidateConfig(kinds=("interface",), min_interface=0.26, min_distance_nm=300)
    skeletons = [(7, y_shape()), (8, y_shape())]
    found = find_candidates(skeletons, rules, contacts(7, [0, 200, 1000, 3000], [0.7, 0.5, 0.6, 0.99]))
    assert found.segments.tolist() == [7, 7] and set(found.kinds.tolist()) == {"interface"}
    # the darker of two near ones, and none that is nearly as bright as its supervoxels
    assert found.points_nm[:, 0].tolist() == [200, 1000]
    assert found.scores.tolist() == pytest.approx([(1 - 0.5 * 0.5) * 0.5, (1 - 0.5 * 0.6) * 0.5])
    assert found.radii_nm.tolist() == [50, 50]
    thin = contacts(7, [0], [np.nan], depths=20.0)
    assert find_candidates(skeletons, rules, thin).scores.tolist() == pytest.approx([0.8 * 50 / 70]), "shape alone"
    assert not len(find_candidates(skeletons, rules).segments)
    assert not len(find_candidates(skeletons, rules, contacts(9, [0], [0.1])).segments), "no skeleton, no candidate"
    with_branch = find_candidates(skeletons, CandidateConfig(), contacts(7, [2000], [0.5]))
    assert with_branch.of_kind("interface").segments.tolist() == [7]
    assert one_a_place(with_branch, MERGE_ERROR_KINDS, 300).kinds.tolist() == ["branch", "branch"]


def test_a_contact_that_joins_a_small_piece_to_the_rest_is_none():
    """Brighter contacts join first, so that the darkest has three supervoxels on one side."""
    row = contacts(7, [0, 100, 200, 300], [0.9, 0.5, 0.8, 0.85], voxels=200)
    assert joining_contacts(row, 1).tolist() == [0, 1, 2, 3]
    assert joining_contacts(row, 201).tolist() == [1]
    assert joining_contacts(row, 400).tolist() == [1] and not len(joining_contacts(row, 401))
    # each segment by itself; and where all is bright, many faces are what holds together
    other = replace(contacts(8, [0, 100, 200, 300], [np.nan] * 4, voxels=200), areas=np.array([40, 10, 30, 20]))
    both = SupervoxelInterfaces(
        *(np.concatenate([getattr(one, name) for one in (row, other)]) for name in row.__dataclass_fields__)
    )
    assert joining_contacts(both, 400).tolist() == [1, 5]
    # in a ring the contact that closes it joins nothing
    ring = replace(row, supervoxels=np.array([[1, 2], [2, 3], [3, 4], [1, 4]], np.uint64))
    assert joining_contacts(ring, 1).tolist() == [0, 2, 3]


@pytest.mark.parametrize(("most", "expected"), [(None, 5), (400.0, 3), (1.0, 1)])
def test_a_limit_keeps_the_most_pronounced_of_each_kind(most, expected):
    """The skeleton is 7.66 um long; ends are not limited."""
    rules = CandidateConfig(min_distance_nm=100, max_per_mm=most)
    dark = [0.5, 0.1, 0.6, 0.2, 0.7]
    found = find_candidates([(7, y_shape())], rules, contacts(7, [0, 500, 1000, 1500, 3000], dark))
    assert len(found.of_kind("end").segments) == 3
    kept = found.of_kind("interface")
    assert sorted(kept.scores.tolist()) == pytest.approx([(1 - 0.5 * b) / 2 for b in sorted(dark)[:expected][::-1]])


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_detour", 0.5), ("min_constriction", 1.0), ("reach_nm", 0), ("min_interface", 1.5), ("max_per_mm", 0)],
)
def test_rules_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ConnectomeBenchError, match=name):
        CandidateConfig(**{name: value})


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), radius=st.integers(1, 6))
def test_coverage_is_that_of_comparing_all(seed, radius):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 12))
    some = Candidates(
        rng.integers(1, 4, n).astype(np.uint64),
        rng.integers(0, 9, (n, 3)).astype(np.float32),
        np.ones(n, np.float32),
        np.full(n, "end"),
        np.ones(n, np.float32),
    )
    merges = []
    for i in range(int(rng.integers(0, 6))):
        a, b = rng.choice(5, 2, replace=False).tolist()
        x, y, z = (float(c) for c in rng.integers(0, 9, 3))
        merges.append(MergeCorrection(str(i), (a, b), 1, (x, y, z), 1))
    near = [
        [np.linalg.norm(p - m.points_nm[0]) <= radius for m in merges if int(s) in m.segments]
        for p, s in zip(some.points_nm.astype(float), some.segments, strict=True)
    ]
    found = sum(
        any(
            int(s) in m.segments and np.linalg.norm(p - m.points_nm[0]) <= radius
            for p, s in zip(some.points_nm.astype(float), some.segments, strict=True)
        )
        for m in merges
    )
    measured = coverage(some, corrections(merges), "end", radius, 1.0)
    assert (measured.found, measured.right) == (found, sum(map(any, near)))


def test_coverage_makes_one_tree_a_segment(monkeypatch):
    made = []
    real = candidates.KDTree
    monkeypatch.setattr(candidates, "KDTree", lambda points: made.append(len(points)) or real(points))
    found = find_candidates([(7, y_shape())], CandidateConfig()).of_kind("end")
    merges = [MergeCorrection(str(i), (7, 9), 1, (4000.0 + i, 2100, 0), 1) for i in range(50)]
    assert coverage(found, corrections(merges), "end", 500, 1.0).found == 50
    assert len(made) == 2  # candidates of the segment, and the interfaces of its corrections
