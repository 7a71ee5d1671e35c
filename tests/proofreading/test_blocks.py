"""Blocks: each voxel in one of them, and the same edits in blocks, in one piece, here and on a Dask cluster."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_models import toy_models
from toy_segmentation import OFFSET, VOXEL, arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.execution.open_runner import open_runner
from connectomebench.proofreading.block_candidates import densest
from connectomebench.proofreading.blocks import BlockGrid, make_grid
from connectomebench.proofreading.edit_log import Edit, read_edits
from connectomebench.proofreading.finder import BlockFinder
from connectomebench.proofreading.place import open_place
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.sites.candidates import Candidates

SIZES = st.integers(1, 40)


@given(st.tuples(SIZES, SIZES, SIZES), st.tuples(SIZES, SIZES, SIZES), st.integers(0, 9), st.integers(1, 4))
def test_each_voxel_lies_in_one_block(shape: tuple, edge: tuple, halo: int, step: int):
    grid = BlockGrid(shape, edge, (halo, 0, halo), (step, step, step))
    counted = np.zeros(shape, np.int64)
    for index in range(len(grid)):
        block = grid.block(index)
        counted[tuple(slice(a, b) for a, b in zip(block.lower, block.upper, strict=True))] += 1
        assert all(
            o <= a and o % step == 0 and a - o < halo + step
            for o, a in zip(block.outer_lower, block.lower, strict=True)
        )
        assert grid.touching(block.lower, block.upper) == [index]
    assert (counted == 1).all() and grid.touching((0, 0, 0), shape) == list(range(len(grid)))


def test_neighbours_of_blocks():
    grid = BlockGrid((30, 30, 10), (10, 10, 10))
    assert grid.around(np.array([0])) == [0, 1, 3, 4] and grid.around(np.array([4])) == list(range(9))
    assert grid.around(np.zeros(0, np.int64)) == []


def test_a_small_volume_is_one_piece_and_a_bad_edge_is_one_line():
    voxel = (10.0, 10.0, 10.0)
    assert len(make_grid((250, 250, 250), voxel, None, 500, (1, 1, 1))) == 1
    assert make_grid((600, 600, 600), voxel, None, 500, (1, 1, 1)).edge == (256, 256, 256)
    with pytest.raises(ConnectomeBenchError, match="--block-vx is 100; it must be a multiple of 64"):
        make_grid((600, 600, 600), voxel, 100, 500, (1, 1, 1))
    with pytest.raises(ConnectomeBenchError, match=r"smaller than their halo .* give --block-vx 128 or more"):
        make_grid((600, 600, 600), voxel, 64, 1000, (1, 1, 1))


def what_is_done(edits: list[Edit]) -> list[list[object]]:
    """Say what edits do without the numbers of supervoxels, which depend on the blocks."""
    voxels = lambda points: [np.round(p, 3).tolist() for p in points]  # noqa: E731
    return sorted(
        [edit.operation, edit.location_nm, voxels(edit.source_points_nm), voxels(edit.sink_points_nm)]
        if edit.operation == "merge"
        else [edit.operation, len(edit.before)]
        for edit in edits
    )


def parts(folder: Path) -> set[frozenset[int]]:
    """Return the objects of a run as sets of voxels."""
    from cloudvolume import CloudVolume

    written = np.asarray(CloudVolume(f"precomputed://file://{folder}/segmentation", progress=False)[:])[..., 0]
    flat = written.ravel()
    order = np.argsort(flat, kind="stable")
    ids, starts = np.unique(flat[order], return_index=True)
    return {frozenset(own.tolist()) for one, own in zip(ids, np.split(order, starts[1:]), strict=True) if one}


def test_blocks_give_the_edits_of_one_piece_here_and_on_a_cluster(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    options = ProofreadConfig(ablation=False)
    runs = {
        "piece": options,
        "blocks": replace(options, block_vx=64),
        "cluster": replace(options, block_vx=64, scheduler="local:2"),
    }
    for name, own in runs.items():
        proofread(config, toy_models(), tmp_path / name, tmp_path, own, lambda line: None)
    done = {name: read_edits(tmp_path / name / "edits.jsonl") for name in runs}
    assert len(done["piece"]) == 3 and what_is_done(done["piece"]) == what_is_done(done["blocks"])
    assert json.loads((tmp_path / "blocks/scores.json").read_text())["blocks"]["number"] == 2
    assert parts(tmp_path / "piece") == parts(tmp_path / "blocks")
    for name in ("edits.jsonl", "queue.jsonl", "mapping.parquet", "overlaps.parquet", "states.parquet", "scores.json"):
        assert (tmp_path / "blocks" / name).read_bytes() == (tmp_path / "cluster" / name).read_bytes(), name


def test_supervoxels_of_blocks_are_those_of_the_volume_cut_at_the_faces(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    piece = open_place(config, tmp_path, tmp_path / "cache")
    with open_runner("none", 2) as runner:
        blocks = open_place(config, tmp_path, tmp_path / "cache", block_vx=64, runner=runner)
    made = arrays()
    read = {}
    for name, place in (("piece", piece), ("blocks", blocks)):
        pieces = place.pieces.read((0, 0, 0), place.shape)
        assert ((pieces > 0) == (made["automatic"] > 0)).all()
        known = place.supervoxels
        assert (known.segments[pieces[pieces > 0] - 1] == made["automatic"][pieces > 0]).all()
        assert (np.bincount(pieces[pieces > 0] - 1) == known.voxels).all()
        box = (50, 3, 2), (90, 60, 30)
        here = tuple(slice(a, b) for a, b in zip(*box, strict=True))
        assert (place.pieces.read(*box) == pieces[here]).all()
        at = np.argwhere(pieces > 0)[::97]
        assert (place.pieces.at(at) == pieces[tuple(at.T)]).all()
        read[name] = pieces
    # a supervoxel of one piece is a whole number of those of the blocks
    pairs = np.unique(np.stack([read["piece"].ravel(), read["blocks"].ravel()], axis=1), axis=0)
    assert len(pairs) == len(np.unique(read["blocks"])) > len(np.unique(read["piece"]))
    # edges between the same supervoxels cost the same, once parts are put together again
    whole_of = dict(zip(pairs[:, 1].tolist(), pairs[:, 0].tolist(), strict=True))
    summed: dict[tuple[int, int], float] = {}
    for (a, b), cost in zip(blocks.supervoxels.edges.tolist(), blocks.supervoxels.capacities.tolist(), strict=True):
        pair = tuple(sorted((whole_of[a + 1], whole_of[b + 1])))
        if pair[0] != pair[1]:
            summed[pair[0], pair[1]] = summed.get((pair[0], pair[1]), 0.0) + cost
    single = {
        (a + 1, b + 1): cost
        for (a, b), cost in zip(piece.supervoxels.edges.tolist(), piece.supervoxels.capacities.tolist(), strict=True)
    }
    # the brightness of a block is relative to its own median, which is that of the volume here
    assert summed.keys() == single.keys() and all(summed[k] == pytest.approx(single[k]) for k in single)
    assert blocks.offset_vx == tuple(OFFSET)


def test_the_most_pronounced_candidates_of_a_cube_stay():
    points = np.array([[10, 0, 0], [20, 0, 0], [30, 0, 0], [1010, 0, 0]], np.float32)
    found = Candidates(
        np.ones(4, np.uint64),
        points,
        np.array([5, 9, 7, 1], np.float32),
        np.full(4, "end"),
        np.array([1, 1, 2, 1], np.float32),
    )
    assert densest(found, 1).tolist() == [2, 3] and densest(found, 2).tolist() == [1, 2, 3]
    assert densest(found, 9).tolist() == [0, 1, 2, 3]


def test_contacts_look_the_same_in_blocks_and_inside_a_body_they_show_no_membrane(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    found = {}
    for block in (None, 64):
        place = open_place(config, tmp_path, tmp_path / "cache", block_vx=block)
        graph = SegmentationGraph(place.supervoxels)
        merges = BlockFinder(place).find(graph, "endpoint_error_identification", ("merge",), None, Counter()).merges
        found[block] = sorted(
            (m.site.segment_ids, m.site.location_nm, m.candidate.site.segment_ids, m.contact, m.cues) for m in merges
        )
    assert found[None] == found[64] and len(found[None]) >= 4
    for segments, _, _, faces, (membrane, deviation, share, *_) in found[None]:
        # neurite 5 runs along the pieces 1, 2 and 3 of another: between them lies background
        assert (membrane > 0.1) == (5 in segments) and 0 <= deviation < 0.1
        assert faces > 0 and 0 < share <= 1


def test_a_job_names_the_large_objects_of_its_block_with_halo_and_no_others(tmp_path: Path):
    place = open_place(load_config(write_toy(tmp_path), truth_needed=False), tmp_path, tmp_path / "cache", block_vx=64)
    graph = SegmentationGraph(place.supervoxels)
    finder, grid = BlockFinder(place), place.spec.grid
    large = np.array(graph.ids()[::2], np.uint64)
    whole = place.objects(graph.objects)
    for block, near in finder._near(graph, large, range(len(grid))):
        own = grid.block(block)
        outer = whole[tuple(slice(a, b) for a, b in zip(own.outer_lower, own.outer_upper, strict=True))]
        touched = grid.touching(own.outer_lower, own.outer_upper)
        held = {int(one) for i in touched for one in graph.objects[slice(*place.pieces.starts[i : i + 2])]}
        assert set(near.tolist()) == held & set(large.tolist())
        assert set(np.intersect1d(outer, large).tolist()) <= set(near.tolist())
        assert (np.diff(near.astype(np.int64)) > 0).all()


def test_cuts_of_the_first_objects_are_searched_and_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = open_place(load_config(write_toy(tmp_path), truth_needed=False), tmp_path, tmp_path / "cache")
    graph, finder = SegmentationGraph(place.supervoxels), BlockFinder(place)
    asked = ("endpoint_error_identification", ("split",), None)
    found = finder.find(graph, *asked, Counter())
    first, again = Counter(), Counter()
    cuts = finder.cuts(found, found.spots, graph, first)
    assert any(cuts) and len(cuts) == len(found.spots)
    monkeypatch.setattr("connectomebench.proofreading.finder.make_split", None)
    assert finder.cuts(finder.find(graph, *asked, Counter()), found.spots, graph, again) == cuts
    assert first == again


def test_every_two_objects_that_touch_are_candidates_where_they_touch_most(tmp_path: Path):
    config = load_config(write_toy(tmp_path), truth_needed=False)
    labels = arrays()["automatic"]
    faces: Counter[tuple[int, ...]] = Counter()
    for axis in range(3):
        first, second = (np.moveaxis(labels, axis, 0)[side] for side in (slice(None, -1), slice(1, None)))
        touching = (first > 0) & (second > 0) & (first != second)
        faces.update(
            tuple(sorted(pair)) for pair in zip(first[touching].tolist(), second[touching].tolist(), strict=True)
        )
    found = {}
    for block in (None, 64):
        place = open_place(config, tmp_path, tmp_path / "cache", block_vx=block)
        graph = SegmentationGraph(place.supervoxels)
        of_object = {int(place.supervoxels.segments[graph.rows(one)[0]]): one for one in graph.ids()}
        merges = (
            BlockFinder(place, contacts=True)
            .find(graph, "endpoint_error_identification", ("merge",), None, Counter())
            .merges
        )
        found[block] = [one for one in merges if one.candidate.kind == "contact"]
        pairs = {tuple(sorted(one.site.segment_ids)) for one in found[block]}
        assert {tuple(sorted(of_object[label] for label in pair)) for pair in faces} <= pairs
        assert len(pairs) == len(found[block])
        for one in found[block]:
            at = np.floor(np.array(one.site.location_nm) / VOXEL - OFFSET).astype(int)
            near = labels[tuple(slice(max(c - 8, 0), c + 9) for c in at.tolist())]  # contacts bridge gaps
            assert {of_object[label] for label in np.unique(near[near > 0]).tolist()} >= set(one.site.segment_ids)
            assert one.candidate.site.location_nm == one.site.location_nm and one.contact >= 20
    assert sorted(one.site.segment_ids for one in found[None]) == sorted(one.site.segment_ids for one in found[64])
    few = BlockFinder(place, max_density=1, contacts=True)
    dropped: Counter[str] = Counter()
    some = few.find(graph, "endpoint_error_identification", ("merge",), None, dropped).merges
    kept = [one for one in some if one.candidate.kind == "contact"]
    assert 0 < len(kept) < len(found[64]) and dropped["contacts beyond 1 a µm³"] == len(found[64]) - len(kept)
    assert max(one.contact for one in kept) == max(one.contact for one in found[64])


def test_contacts_of_given_supervoxels_are_places_of_merge_errors_in_blocks_too(tmp_path: Path):
    overrides = {"candidates.kinds": ["end", "interface"], "candidates.min_side_voxels": 1000}
    spots = {}
    for supervoxels in (True, False):
        config = load_config(write_toy(tmp_path, supervoxels=supervoxels), dict(overrides), truth_needed=False)
        for block in (None, 64):
            place = open_place(config, tmp_path, tmp_path / "cache", block_vx=block)
            graph = SegmentationGraph(place.supervoxels)
            found = BlockFinder(place).find(graph, "endpoint_error_identification", ("split",), None, Counter())
            spots[supervoxels, block] = sorted((s.site.segment_ids, s.site.location_nm) for s in found.spots)
    assert spots[True, None] == spots[True, 64]
    # the bridge between the bodies that segment 4 fuses lies at x 60, y 48
    near = [at for (segment,), at in spots[True, None] if np.linalg.norm(np.subtract(at, (905, 485, 205))) < 120]
    assert near
    assert not spots[False, None] and not spots[False, 64], "pieces that are made from shapes are no evidence"
