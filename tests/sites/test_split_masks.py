from __future__ import annotations

import numpy as np
import pytest

from connectomebench.core.correction import SplitCorrection
from connectomebench.core.cut import CutConfig, CutGraph, ProposalConfig
from connectomebench.core.part_masks import MASK
from connectomebench.core.site import Part, Site
from connectomebench.cuts.min_cut import SINK_SIDE, SOURCE_SIDE, apply_cut
from connectomebench.cuts.right_splits import NO_PIECE, NOT_RIGHT, SMALL_SIDE, right_split
from connectomebench.sites.split_masks import BEYOND, NO_SPLIT, split_mask_sites

RULES = ProposalConfig(cuts=CutConfig(min_body_voxels=10, cutout_nm=1000), reach_nm=1000, min_side_fraction=0.1)
VIEW = 300.0
ERROR = SplitCorrection("split-1", 7, (1, 2), (500.0, 0.0, 0.0), 4.0)


def chain(voxels) -> CutGraph:
    """Pieces in a row along x, 100 nm apart, whose weakest contact lies far from where the bodies meet."""
    n = len(voxels)
    points = np.stack([np.arange(n) * 100.0, np.zeros(n), np.zeros(n)], axis=1).astype(np.float32)
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1).astype(np.int32)
    capacities = np.full(n - 1, 50, np.float32)
    capacities[0] = 1
    return CutGraph(points, edges, capacities, np.array([1, 2, 3], np.uint64), np.array(voxels, np.float64))


def test_every_piece_goes_to_the_body_that_holds_most_of_it():
    graph = chain([[100, 0, 0]] * 6 + [[1, 99, 0]] + [[0, 100, 0]] * 3)
    found = right_split(graph, ERROR, (1, 2), RULES, VIEW)
    assert not isinstance(found, str) and found.verdict.good and found.edit_id == "split-1"
    sides = apply_cut(graph, found.cut)
    assert sides.tolist() == [SOURCE_SIDE] * 6 + [SINK_SIDE] * 4
    # the larger side is the source, as for proposals
    assert found.side_voxels == (600, 400)
    swapped = right_split(graph, SplitCorrection("split-1", 7, (2, 1), ERROR.location_nm, 4.0), (1, 2), RULES, VIEW)
    assert not isinstance(swapped, str) and apply_cut(graph, swapped.cut).tolist() == sides.tolist()


def test_pieces_of_a_third_body_stay_where_they_cling():
    graph = chain([[100, 0, 0]] * 5 + [[0, 100, 0]] * 4 + [[0, 0, 30]])
    found = right_split(graph, ERROR, (1, 2, 3), RULES, VIEW)
    assert not isinstance(found, str)
    assert apply_cut(graph, found.cut)[-1] == (SOURCE_SIDE if found.side_voxels[0] == 430 else SINK_SIDE)


@pytest.mark.parametrize(
    ("voxels", "reason"),
    [
        ([[100, 0, 0]] * 6, NO_PIECE),
        ([[100, 0, 0]] * 20 + [[0, 50, 0]], SMALL_SIDE),
        ([[100, 0, 0]] * 5 + [[40, 60, 0]] * 5, NOT_RIGHT),
        # good by the rule in the whole cube, but in the view a seventh of one body is on the side of the other
        ([[100, 0, 0]] * 4 + [[91, 9, 0]] + [[0, 28, 0]] * 2 + [[0, 100, 0]] * 3, NOT_RIGHT),
    ],
)
def test_a_split_that_is_not_right_says_why(voxels, reason):
    assert right_split(chain(voxels), ERROR, (1, 2), RULES, VIEW) == reason


def error(number: int, place=(500.0, 0.0, 0.0), answer="yes", extent=600.0) -> Site:
    return Site(
        task="merge_error_identification",
        location_nm=place,
        extent_nm=extent,
        parts=(Part(7, "base"),),
        answer=answer,
        segment_ids=(7,),
        body_ids=(1, 2),
        origin="edit",
        edit_id=None if answer == "no" else f"split-{number}",
        covariates={"log_segment": 1.0},
    )


def test_sites_are_merge_errors_with_a_right_split_at_their_own_place():
    split = right_split(chain([[100, 0, 0]] * 5 + [[0, 100, 0]] * 5), ERROR, (1, 2), RULES, VIEW)
    assert not isinstance(split, str)
    places = [error(1, (550.0, 10.0, 0.0)), error(2), error(1, (750.0, 0.0, 0.0)), error(3, answer="no")]
    labelled = split_mask_sites(places, [split])
    [site] = labelled.sites
    assert (site.task, site.answer, site.location_nm) == ("split_mask_generation", MASK, (550.0, 10.0, 0.0))
    assert site.parts == (Part(7, "base"),) and site.cut is None and site.target_cut == split.cut
    assert labelled.dropped == {NO_SPLIT: 1, BEYOND: 1}
    # what is shown names the sample, and not the answer
    other = error(1, (550.0, 10.0, 0.0))
    without = Site(**{**vars(other), "task": site.task, "answer": MASK, "covariates": {}})
    assert site.sample_id("fly", "toy@1") == without.sample_id("fly", "toy@1")
    assert site.is_case and site.answer_class == ""
