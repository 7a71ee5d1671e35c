import numpy as np
import pytest

from connectomebench.core.correction import Corrections, MergeCorrection, Overlaps, SplitCorrection
from connectomebench.core.geometry import Skeleton
from connectomebench.sites.candidates import CandidateRules, coverage, find_candidates, nearest_correction


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
    found = find_candidates([(7, y_shape())], CandidateRules())
    assert found.segments.tolist() == [7, 7, 7, 7]
    assert found.of_kind("end").points_nm.tolist() == [[0, 0, 0], [4000, 2000, 0], [4000, -2000, 0]]
    assert found.of_kind("branch").points_nm.tolist() == [[2000, 0, 0]]


def test_near_branch_points_are_one_candidate():
    nodes = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [1, 1, 0], [2, 1, 0]], np.float32) * 100
    edges = np.array([[0, 1], [1, 2], [2, 3], [1, 4], [2, 5]], np.int32)
    radii = np.array([1, 1, 5, 1, 1, 1], np.float32)
    skeleton = Skeleton(nodes, edges, radii)
    near = find_candidates([(1, skeleton)], CandidateRules(min_distance_nm=150)).of_kind("branch")
    far = find_candidates([(1, skeleton)], CandidateRules(min_distance_nm=50)).of_kind("branch")
    assert near.points_nm.tolist() == [[200, 0, 0]]  # the thicker one
    assert len(far.segments) == 2


def test_small_skeletons_and_none_at_all():
    assert len(find_candidates([(1, y_shape())], CandidateRules(min_nodes=8)).segments) == 0
    assert find_candidates([], CandidateRules()).points_nm.shape == (0, 3)


def test_only_corrections_of_the_own_segment_count():
    found = find_candidates([(7, y_shape())], CandidateRules())
    merges = [MergeCorrection("a", (8, 9), 1, (0, 0, 0), 1), MergeCorrection("b", (7, 9), 1, (4000, 2100, 0), 1)]
    distances, index = nearest_correction(found.of_kind("end"), corrections(merges), "end")
    assert index.tolist() == [1, 1, 1]
    assert distances[1] == pytest.approx(100)
    assert distances[0] > 4000


def test_recall_and_precision():
    found = find_candidates([(7, y_shape())], CandidateRules())
    merges = [MergeCorrection("a", (7, 9), 1, (4000, 2100, 0), 1), MergeCorrection("b", (7, 5), 1, (2000, 900, 0), 1)]
    measured = coverage(found, corrections(merges), "end", 500).as_dict()
    assert measured == {"candidates": 3, "corrections": 2, "recall": 0.5, "precision": pytest.approx(1 / 3)}
    splits = [SplitCorrection("s", 7, (1, 2), (2000, 300, 0), 1)]
    assert coverage(found, corrections(splits=splits), "branch", 500).as_dict()["recall"] == 1
    assert coverage(found, corrections(), "branch", 500).as_dict()["recall"] is None
