"""Merges, splits, refusals, and a log that replays to the same state whatever was cut short."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_graphs import chain

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.edit_log import Edit, apply_edit, open_edit_log, read_edits, replay
from connectomebench.proofreading.find_supervoxels import find_supervoxels
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.sources.supervoxels import PieceConfig

VOXEL = np.array([10.0, 10.0, 20.0])


def test_a_merge_unites_and_a_split_cuts_where_it_is_cheapest():
    graph = SegmentationGraph(chain([1, 1, 1, 2], [9, 3, 9]))
    assert graph.ids() == [1, 2] and graph.voxels(1) == 300
    assert graph.merge(0, 3) == 3
    assert graph.objects.tolist() == [3] * 4 and 1 not in graph
    plan = graph.plan_split([0], [3], confidence=2.0)
    assert (plan.source_rows.tolist(), plan.sink_rows.tolist()) == ([0, 1], [2, 3])
    assert plan.cut_edges.tolist() == [[1, 2]] and plan.area == 3
    assert graph.split([0], [3], confidence=2.0) == (4, 5)
    assert graph.objects.tolist() == [4, 4, 5, 5]
    assert sorted(np.concatenate([graph.rows(i) for i in graph.ids()]).tolist()) == [0, 1, 2, 3]


def test_a_part_without_an_edge_goes_with_the_nearest_side():
    pieces = chain([1, 1, 1, 1, 1])
    graph = SegmentationGraph(replace(pieces, edges=pieces.edges[:3], capacities=pieces.capacities[:3]))
    graph.split([0], [3])
    assert graph.objects[4] == graph.objects[3]


def test_edits_that_may_not_be_are_refused():
    graph = SegmentationGraph(chain([1, 2, 3, 3], voxels=[50, 60, 10, 90]), trusted=[1, 3, 77])
    with pytest.raises(EditRefused, match="one object"):
        graph.merge(2, 3)
    graph.merge(0, 1, 0.9)  # 2 is not trusted
    with pytest.raises(EditRefused, match="trusted"):
        graph.merge(1, 2)
    with pytest.raises(EditRefused, match="both sides"):
        graph.split([], [1])
    with pytest.raises(EditRefused, match="several objects"):
        graph.split([0], [2])
    with pytest.raises(EditRefused, match="seed of both"):
        graph.split([0], [0])
    with pytest.raises(EditRefused, match="merge of at least"):
        graph.split([0], [1], 0.9)
    graph.split([0], [1], 0.95)
    with pytest.raises(EditRefused, match="split of at least"):
        graph.merge(0, 1, 0.95)
    graph.merge(0, 1, 0.96)


def test_trust_stays_with_the_largest_supervoxel_of_a_segment():
    graph = SegmentationGraph(chain([1, 1, 2], voxels=[10, 90, 50]), trusted=[1, 2])
    small, large = graph.split([0], [1])
    assert graph.trusted_in(small) == frozenset() and graph.trusted_in(large) == {"1"}
    with pytest.raises(EditRefused, match="trusted"):
        graph.merge(1, 2)
    graph.merge(0, 2)


def merge_of(graph: SegmentationGraph, a: int, b: int, confidence: float = 0.9) -> Edit:
    return Edit(
        f"{a:08x}{b:08x}", "merge", 1, (1.5, 0, 0), ((0.0, 0, 0),), ((3.0, 0, 0),), (a + 1,), (b + 1,),
        tuple(int(graph.objects[i]) for i in (a, b)), confidence, None, confidence, 0.25, "end",
        neuroglancer="https://x/#!{}",
    )  # fmt: skip


def made(graph: SegmentationGraph, edit: Edit) -> Edit:
    return replace(edit, after=apply_edit(graph, edit))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_log_replays_to_the_same_state(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.mktemp("log")
    pieces = chain(data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=8)))
    graph = SegmentationGraph(pieces)
    n = len(pieces.segments)
    with open_edit_log(folder) as log:
        for _ in range(data.draw(st.integers(1, 6))):
            a, b = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
            edit = merge_of(graph, a, b, data.draw(st.floats(0.5, 1)))
            if graph.objects[a] == graph.objects[b]:
                edit = replace(edit, operation="split")
            try:
                log.add(made(graph, edit))
            except EditRefused:
                continue
    again = SegmentationGraph(pieces)
    replay(again, read_edits(folder / "edits.jsonl"))
    assert (again.objects == graph.objects).all() and again.ids() == graph.ids()


def test_a_line_cut_short_is_dropped_and_a_damaged_one_is_named(tmp_path: Path):
    graph = SegmentationGraph(chain([1, 2, 3]))
    with open_edit_log(tmp_path) as log:
        for a, b in ((0, 1), (1, 2)):
            log.add(made(graph, merge_of(graph, a, b)))
        with pytest.raises(ConnectomeBenchError, match="another run"), open_edit_log(tmp_path):
            pass
    path = tmp_path / "edits.jsonl"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with open_edit_log(tmp_path) as log:
            assert len(log.edits) == whole[:end].count(b"\n")
        assert path.read_bytes() == whole[: whole[:end].rfind(b"\n") + 1]
    rounded = json.loads(whole.splitlines()[0])
    rounded["source_supervoxels"] = [float(i) for i in rounded["source_supervoxels"]]
    path.write_text(json.dumps(rounded) + "\n")
    with pytest.raises(ConnectomeBenchError, match="line 1: source_supervoxels are no whole numbers"):
        read_edits(path)
    path.write_bytes(whole[:40] + b"\n")
    with pytest.raises(ConnectomeBenchError, match="line 1 is no edit"), open_edit_log(tmp_path):
        pass


def test_a_log_of_other_data_is_refused():
    graph = SegmentationGraph(chain([1, 2, 3]))
    edit = made(graph, merge_of(graph, 0, 1))
    with pytest.raises(ConnectomeBenchError, match="data have changed"):
        replay(SegmentationGraph(chain([1, 2, 9])), [edit])
    with pytest.raises(ConnectomeBenchError, match="cannot be replayed"):
        replay(SegmentationGraph(chain([1, 1, 9])), [edit])


@pytest.mark.parametrize("with_given", [True, False])
def test_supervoxels_fill_their_segments_and_their_edges_are_contacts(with_given: bool):
    rng = np.random.default_rng(3)
    labels = np.zeros((20, 16, 12), np.uint64)
    labels[:10, 2:9], labels[10:, 2:9], labels[2:18, 10:14, 3:6] = 2**60, 7, 9
    given = np.kron(rng.integers(1, 5, (5, 4, 3)), np.ones((4, 4, 4), int)).astype(np.uint64) if with_given else None
    pieces, found = find_supervoxels(labels, given, None, np.array([3, 0, 0]), VOXEL, PieceConfig(spacing_vx=3), 50)
    assert ((pieces > 0) == (labels > 0)).all()
    for row in range(len(found.segments)):
        mask = pieces == row + 1
        assert set(labels[mask].tolist()) == {int(found.segments[row])} and ndimage.label(mask)[1] == 1
        assert mask.sum() == found.voxels[row]
        centre = (np.argwhere(mask).mean(axis=0) + np.array([3.5, 0.5, 0.5])) * VOXEL
        assert np.allclose(centre, found.points_nm[row], atol=1e-2)
        if given is not None:
            assert set(given[mask].tolist()) == {int(found.sources[row])}
    touching = set()
    for axis in range(3):
        a, b = (np.take(pieces, r, axis).ravel() for r in (range(pieces.shape[axis] - 1), range(1, pieces.shape[axis])))
        touching |= {(min(i, j), max(i, j)) for i, j in zip(a.tolist(), b.tolist(), strict=True) if i and j and i != j}
    assert {(i + 1, j + 1) for i, j in found.edges.tolist()} == touching
