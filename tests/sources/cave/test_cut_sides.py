"""Cuts: those that were made, as the graph shows them afterwards, and previews, as the server recorded them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
from cave_ground import OFFSET, VOXEL_NM, Ground
from graph_truth import FIXTURE
from numpy.typing import NDArray
from replay_server import ReplayServer
from scipy.spatial import KDTree

from connectomebench.build.render_worker import render_site_or_reason
from connectomebench.core.cut import CutConfig, ProposalConfig
from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.part_masks import MASK, STAYS, TAKEN, TARGET_PREFIX, read_mask
from connectomebench.core.site import Cut, Part, Point, Site
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.views import ViewConfig
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.cut_sides import ServerCuts, sides_or_fail
from connectomebench.sources.cave.history import JudgedOperation, Operation
from connectomebench.sources.cave.multicut_proposals import propose, right_splits

EDGE = 900.0
STANDING = (2, 15, 20, 23, 25, 28, 30, 35)
RULES = ProposalConfig(reach_nm=EDGE, cuts=CutConfig(cutout_nm=800, min_body_voxels=500), wrong_tries=2)


@pytest.fixture(scope="module")
def splits(archive: Archive) -> dict[int, JudgedOperation]:
    return {j.operation.operation_id: j for j in archive.history.judged if j.operation.kind == "split"}


def as_made(edit: Operation) -> Cut:
    return Cut(edit.sources_nm, edit.sinks_nm, edit.place_nm, EDGE)


@dataclass(frozen=True)
class Recorded:
    """A preview that the server gave: seeds with their points, and the supervoxels of both sides."""

    segment: int
    seeds: tuple[list[int], list[int]]
    points: tuple[tuple[Point, ...], tuple[Point, ...]]
    sides: tuple[NDArray[np.uint64], NDArray[np.uint64]]


@pytest.fixture(scope="module")
def previews(ground: Ground, archive: Archive) -> list[Recorded]:
    """Legal ones between seeds of one final segment."""
    found = []
    for line in gzip.decompress((FIXTURE / "exchanges.jsonl.gz").read_bytes()).splitlines():
        told = json.loads(line)
        if not told["path"].endswith("split_preview") or told["status"] != 200:
            continue
        asked, answer = (json.loads(told[part]["text"]) for part in ("body", "answer"))
        both = [asked["sources"], asked["sinks"]]
        ids = np.asarray([seed[0] for side in both for seed in side], np.uint64)
        segments = np.unique(ground.lookup(ids, archive.spec.until))
        parts = [np.asarray(part, np.uint64) for part in answer["supervoxel_connected_components"]]
        if len(segments) != 1 or not segments[0] or answer["illegal_split"] or len(parts) != 2:
            continue
        seeds = [[int(seed[0]) for seed in side] for side in both]
        first, second = (p for own in seeds for p in parts if np.isin(np.asarray(own, np.uint64), p).all())
        points = [tuple((float(x), float(y), float(z)) for _, x, y, z in side) for side in both]
        found.append(Recorded(int(segments[0]), (seeds[0], seeds[1]), (points[0], points[1]), (first, second)))
    return found


@pytest.mark.parametrize("number", [2, 28, 38])
def test_pieces_are_the_parts_of_the_supervoxels_of_the_segment(
    number: int, archive: Archive, cutting: ServerCuts, splits: dict[int, JudgedOperation], ground: Ground
) -> None:
    edit = splits[number].operation
    segment = edit.roots_before[0]
    pieces, supervoxels = cutting.pieces(segment, edit.place_nm, EDGE)
    box = ground.crop(edit.place_nm, EDGE)
    rows = ground.rows[box]
    mask = ground.segments(edit.before)[rows] == np.uint64(segment)
    assert pieces.labels.astype(bool).sum() == mask.sum() > 0
    assert pieces.graph.voxels.sum() == mask.sum()
    # voxel by voxel: the piece's supervoxel, inside the segment and nowhere else
    low = np.asarray(pieces.lower) - [s.start for s in box]
    here = tuple(slice(int(a), int(a) + n) for a, n in zip(low, pieces.labels.shape, strict=True))
    inside = np.zeros_like(mask)
    inside[here] = pieces.labels > 0
    np.testing.assert_array_equal(inside, mask)
    own = ground.supervoxels[box][here][pieces.labels > 0]
    np.testing.assert_array_equal(supervoxels[pieces.labels[pieces.labels > 0] - 1], own)
    # bodies of each piece
    bodies = ground.lookup(supervoxels, archive.spec.until)
    sizes = np.bincount(pieces.labels.ravel(), minlength=len(supervoxels) + 1)[1:]
    expected = np.where(pieces.graph.bodies == bodies[:, None], sizes[:, None], 0)
    np.testing.assert_array_equal(pieces.graph.voxels, expected)


@pytest.mark.parametrize("number", [28])
def test_pieces_are_connected_and_edges_are_contacts(
    number: int, cutting: ServerCuts, splits: dict[int, JudgedOperation]
) -> None:
    from scipy import ndimage

    edit = splits[number].operation
    pieces, supervoxels = cutting.pieces(edit.roots_before[0], edit.place_nm, EDGE)
    labels = pieces.labels.astype(np.int64)
    boxes = ndimage.find_objects(labels)
    assert len(boxes) == len(supervoxels)
    for piece, box in enumerate(boxes, 1):
        assert box is not None
        _, parts = cast("tuple[object, int]", ndimage.label(labels[box] == piece))
        assert parts == 1
    touching = set()
    for axis in range(3):
        a = np.take(labels, range(labels.shape[axis] - 1), axis)
        b = np.take(labels, range(1, labels.shape[axis]), axis)
        across = (a != b) & (a > 0) & (b > 0)
        touching |= {
            (min(i, j) - 1, max(i, j) - 1) for i, j in zip(a[across].tolist(), b[across].tolist(), strict=True)
        }
    assert {tuple(edge) for edge in pieces.graph.edges.tolist()} == touching


def test_a_segment_that_is_not_there_has_no_pieces(cutting: ServerCuts, splits: dict[int, JudgedOperation]) -> None:
    far = splits[20].operation.place_nm
    x, y, z = (np.asarray(OFFSET) + 5) * VOXEL_NM
    pieces, supervoxels = cutting.pieces(splits[38].operation.roots_before[0], (x, y, z), 60.0)
    assert not pieces.labels.size and not len(supervoxels) and not len(pieces.graph.points_nm)
    assert len(cutting.pieces(splits[20].operation.roots_before[0], far, 60.0)[1])


@pytest.mark.parametrize("number", (*STANDING, 38))
def test_sides_of_a_cut_that_was_made_are_the_segments_right_after_it(
    number: int, cutting: ServerCuts, splits: dict[int, JudgedOperation], ground: Ground
) -> None:
    edit = splits[number].operation
    segment = edit.roots_before[0]
    _, supervoxels = cutting.pieces(segment, edit.place_nm, EDGE)
    sides = cutting.sides(segment, as_made(edit))
    assert not isinstance(sides, str) and sides.dtype == np.int8
    after = ground.lookup(supervoxels, edit.after)
    assert set(after.tolist()) <= set(edit.roots_after)
    source, sink = (set(ground.lookup(np.asarray(s, np.uint64), edit.after)) for s in (edit.sources, edit.sinks))
    assert not source & sink
    expected = [1 if root in source else -1 if root in sink else 0 for root in after]
    assert sides.tolist() == expected
    assert {1, -1} <= set(expected)


@pytest.mark.parametrize("number", STANDING)
def test_swapped_seeds_swap_the_sides(number: int, cutting: ServerCuts, splits: dict[int, JudgedOperation]) -> None:
    edit = splits[number].operation
    segment, cut = edit.roots_before[0], as_made(edit)
    sides = cutting.sides(segment, cut)
    swapped = cutting.sides(segment, replace(cut, sources_nm=cut.sinks_nm, sinks_nm=cut.sources_nm))
    assert not isinstance(sides, str) and not isinstance(swapped, str)
    np.testing.assert_array_equal(swapped, -sides)


@pytest.mark.parametrize("number", STANDING[:3])
def test_slices_show_the_segments_right_after_a_cut(
    number: int, cave_source: CaveSource, splits: dict[int, JudgedOperation], ground: Ground
) -> None:
    edit = splits[number].operation
    segment = edit.roots_before[0]
    # a pixel is a voxel, and the middle of the picture is the corner of one
    x, y, z = (round(c / VOXEL_NM) * VOXEL_NM for c in edit.place_nm)
    parts = (Part(segment, "source"), Part(segment, "sink"))
    site = Site("split_action_with_em", (x, y, z), 320.0, parts, "no", (segment,), (), "edit", cut=as_made(edit))
    slices = cave_source.em_slices(site, 32)
    assert slices is not None
    low = (np.asarray([x, y, z]) / VOXEL_NM - OFFSET - 16).astype(int)
    rows = ground.rows[tuple(slice(a, a + 32) for a in low)]
    before, after = ground.segments(edit.before)[rows], ground.segments(edit.after)[rows]
    source, sink = (ground.lookup(np.asarray(s, np.uint64), edit.after) for s in (edit.sources, edit.sinks))
    expected = np.where(np.isin(after, source), 1, np.where(np.isin(after, sink), 2, 0)) * (before == segment)
    for view, plane in (("em_xy", expected[:, :, 16]), ("em_xz", expected[:, 16]), ("em_yz", expected[16])):
        np.testing.assert_array_equal(slices[view].sides, plane.T)
    assert {1, 2} <= set(np.unique(expected).tolist())
    whole = cave_source.em_slices(replace(site, cut=None), 32)
    assert whole is not None and all(one.sides is None for one in whole.values())


def test_sides_of_a_final_segment_are_those_of_the_recorded_preview(
    cutting: ServerCuts, previews: list[Recorded], site_server: ReplayServer
) -> None:
    """A seed point stands for the piece nearest to it; only previews whose seeds are found again can be asked for."""
    compared = 0
    for told in previews:
        center = np.mean([p for side in told.points for p in side], axis=0)
        x, y, z = (float(c) for c in center)
        edge = 2 * max(float(np.abs(np.asarray(side) - center).max()) for side in told.points) + 200
        cut = Cut(*told.points, (x, y, z), edge)
        pieces, supervoxels = cutting.pieces(told.segment, cut.center_nm, edge)
        tree = KDTree(pieces.graph.points_nm)
        if any(
            supervoxels[tree.query(np.asarray(p))[1]].tolist() != s
            for p, s in zip(told.points, told.seeds, strict=True)
        ):
            continue
        sides = cutting.sides(told.segment, cut)
        assert not isinstance(sides, str)
        for sign, members in zip((1, -1), told.sides, strict=True):
            np.testing.assert_array_equal(sides == sign, np.isin(supervoxels, members))
        asked = site_server.endpoints["graph/split_preview"]
        again = cutting.sides(told.segment, cut)
        assert not isinstance(again, str) and np.array_equal(again, sides)
        assert site_server.endpoints["graph/split_preview"] == asked  # the answer is kept
        compared += 1
    assert compared >= 5


def test_a_cut_that_the_server_does_not_make_has_a_reason(
    cutting: ServerCuts, splits: dict[int, JudgedOperation]
) -> None:
    edit = splits[2]
    body, place = edit.bodies[0], edit.operation.place_nm
    points = cutting.pieces(body, place, EDGE)[0].graph.points_nm

    def at(row: int) -> tuple[Point, ...]:
        x, y, z = (float(c) for c in points[row])
        return ((x, y, z),)

    refused = Cut(at(0), at(len(points) - 1), place, EDGE)
    assert cutting.sides(body, refused) == "the server makes no cut between these seeds"
    with pytest.raises(SiteUnavailable, match="makes no cut"):
        sides_or_fail(cutting, body, refused)
    assert cutting.sides(body, Cut(at(0), at(0), place, EDGE)) == "seeds of both sides in one supervoxel"


def test_a_cut_of_the_past_is_not_taken_for_one_of_another_segment(
    cutting: ServerCuts, splits: dict[int, JudgedOperation]
) -> None:
    """The seeds of an executed split, in what became of one of its sides."""
    edit = splits[30]
    assert isinstance(cutting.sides(edit.bodies[0], as_made(edit.operation)), str)


def test_standing_splits_are_good_and_the_one_taken_back_is_wrong(
    archive: Archive, cutting: ServerCuts, splits: dict[int, JudgedOperation]
) -> None:
    """Good by the published rule: hardly anything of a body is on the other body's side. All eight cut cleanly here."""
    proposals, dropped = propose(archive, cutting, RULES, 450.0)
    made = {p.edit_id: p for p in proposals if p.edit_id in {j.operation.edit_id for j in splits.values()}}
    good = {name for name, p in made.items() if p.verdict.good}
    assert good == {f"operation-{n}" for n in STANDING}
    wrong = made["operation-38"]
    assert not wrong.verdict.good and len(wrong.bodies) == 1 and wrong.verdict.worst_ratio == 0
    # the server previews none of the other cuts
    assert set(dropped) == {"no plausible wrong cut"} and dropped.total() == len(splits)
    for name, p in made.items():
        edit = next(j.operation for j in splits.values() if j.operation.edit_id == name)
        assert p.segment in edit.roots_before
        assert {p.cut.sources_nm, p.cut.sinks_nm} == {edit.sources_nm, edit.sinks_nm}
        assert p.side_voxels[0] >= p.side_voxels[1]
        sides = cutting.sides(p.segment, p.cut)
        size = cutting.pieces(p.segment, p.cut.center_nm, p.cut.cutout_nm)[0].graph.voxels.sum(axis=1)
        assert p.side_voxels == tuple(float(size[np.equal(sides, sign)].sum()) for sign in (1, -1))
    again, missing = propose(archive, ServerCuts(archive), RULES, 450.0)
    assert again == proposals and missing == dropped


def test_a_cut_is_not_proposed_where_the_view_would_leave_the_cube(archive: Archive, cutting: ServerCuts) -> None:
    proposals, dropped = propose(archive, cutting, RULES, EDGE)
    assert proposals == [] and dropped["the cut runs too far from the error"] == 9


def test_right_splits_are_those_that_stand_and_their_sides_mask_the_segment(
    archive: Archive, cutting: ServerCuts, cave_source: CaveSource
) -> None:
    found, dropped = right_splits(archive, cutting, RULES, 450.0)
    assert [split.edit_id for split in found] == [f"operation-{n}" for n in STANDING]
    assert dropped == {"the split that was made is not right by the rule": 1}
    # the merged segment, drawn a little beside the split, with a level-2 mesh of the server
    split = next(split for split in found if split.edit_id == "operation-15")
    x, y, z = split.place_nm
    place = (x + 30, y - 20, z + 10)
    base = (Part(split.segment, "base"),)
    task = "split_mask_generation"
    site = Site(task, place, 450.0, base, MASK, (split.segment,), split.bodies, "edit", split.edit_id)
    drawn = render_site_or_reason(
        replace(site, target_cut=split.cut), cave_source, CpuEngine(1), ViewConfig(image_px=64, engine="cpu")
    )
    assert drawn.summary.problem is None
    masks = {view: read_mask(drawn.images[TARGET_PREFIX + view]) for view in MESH_VIEWS}
    counts = [sum(int((mask == value).sum()) for mask in masks.values()) for value in (TAKEN, STAYS)]
    assert 0 < counts[0] < counts[1]
