from __future__ import annotations

from pathlib import Path

import label_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_reference import MemoryVolume
from scipy import ndimage

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.corrections.find import find_corrections

FIB25 = Path(__file__).parents[3] / "shared" / "data" / "fib25_cube" / "fib25_cube.npz"


def blobs(rng: np.random.Generator, shape: tuple[int, int, int], ids: int, background: float) -> np.ndarray:
    """Random contiguous labels: smooth noise, the largest of `ids` channels wins; some background."""
    noise = ndimage.gaussian_filter(rng.standard_normal((ids, *shape)), (0, 1.5, 1.5, 1.5))
    labels = noise.argmax(axis=0).astype(np.uint32) + 1
    labels[ndimage.gaussian_filter(rng.random(shape), 0.7) < np.quantile(rng.random(1000), background) * 0.8] = 0
    return labels


@st.composite
def volume_pairs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.lists(st.integers(3, 13), min_size=3, max_size=3)))
    bodies = blobs(rng, shape, draw(st.integers(2, 4)), draw(st.sampled_from([0.0, 0.2])))
    segments = blobs(rng, shape, draw(st.integers(2, 5)), draw(st.sampled_from([0.0, 0.3])))
    return segments, bodies


rules_strategy = st.builds(
    CorrectionConfig,
    min_core_voxels=st.integers(1, 12),
    erosion_vx=st.sampled_from([0, 1, 2, (1, 0, 2), (2, 1, 0)]),
    max_gap_vx=st.integers(0, 3),
    min_contact_faces=st.integers(1, 6),
    patch_cell_vx=st.integers(1, 3),
    local_radius_vx=st.integers(0, 4),
    core_cell_vx=st.integers(1, 4),
    min_local_fraction=st.sampled_from([0.0, 0.5]),
    patch_fraction=st.sampled_from([0.0, 0.5, 1.0]),
)


@settings(max_examples=30, deadline=None)
@given(pair=volume_pairs(), rules=rules_strategy)
def test_agrees_with_a_plain_implementation(pair, rules):
    segments, bodies = pair
    if not ((segments > 0) & (bodies > 0)).any():
        return
    result = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), rules, block=(5, 7, 4), threads=1)
    found, table, real = reference.corrections(segments, bodies, rules)
    overlaps = result.overlaps
    got = zip(
        zip(overlaps.segments.tolist(), overlaps.bodies.tolist(), strict=True),
        zip(overlaps.voxels.tolist(), overlaps.core_voxels.tolist(), strict=True),
        strict=True,
    )
    assert dict(got) == table

    fused = {a for a, _ in real if sum(s == a for s, _ in real) > 1}
    assert set(result.fused) == fused
    merges = {(one[0], two[0], one[1], point, area) for kind, one, two, point, area in found if kind == "merge"}
    clean = {m for m in merges if m[0] not in fused and m[1] not in fused}
    splits = {(one[0], one[1], two[1], point, area) for kind, one, two, point, area in found if kind == "split"}

    def index(place):
        return tuple(int(c / 10 - 0.5) for c in place)

    assert {(*m.segments, m.body, index(m.location_nm), m.area) for m in result.merges} == clean
    assert {(s.segment, *s.bodies, index(s.location_nm), s.area) for s in result.splits} == splits
    assert result.counts["excluded_tangles"] == len(merges) - len(clean)
    assert {m[3] for m in merges - clean} <= {index(place) for place in result.unresolved_nm.tolist()}
    assert len({c.edit_id for c in (*result.merges, *result.splits)}) == len(clean) + len(splits)


@settings(max_examples=25, deadline=None)
@given(
    pair=volume_pairs(),
    rules=rules_strategy,
    block=st.tuples(*[st.integers(1, 9)] * 3),
    threads=st.integers(1, 3),
    order=st.sampled_from("CF"),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint64, np.int64]),
)
def test_same_result_in_blocks_on_threads_and_in_any_layout(pair, rules, block, threads, order, dtype):
    segments, bodies = pair
    if not ((segments > 0) & (bodies > 0)).any():
        return
    whole = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), rules, block=(64, 64, 64), threads=1)
    other = find_corrections(
        MemoryVolume(np.asarray(segments, dtype, order=order)),
        MemoryVolume(np.asarray(bodies.transpose(1, 0, 2), order="C").transpose(1, 0, 2)),
        rules,
        block=block,
        threads=threads,
    )
    assert_same(whole, other)


def assert_same(one, other):
    assert (one.merges, one.splits, one.counts) == (other.merges, other.splits, other.counts)
    assert (one.body_of, one.fused) == (other.body_of, other.fused)
    assert np.array_equal(one.unresolved_nm, other.unresolved_nm)
    for name in ("segments", "bodies", "voxels", "core_voxels"):
        assert np.array_equal(getattr(one.overlaps, name), getattr(other.overlaps, name))


def two_tubes(gap: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two bodies side by side (y < 10 and y >= 10), each cut into two segments at x = 30."""
    bodies = np.zeros((60, 20, 10), np.uint64)
    bodies[:, :10], bodies[:, 10:] = 7, 8
    segments = np.zeros_like(bodies)
    segments[: 30 - gap, :10], segments[30:, :10] = 1, 2
    segments[:30, 10:], segments[30:, 10:] = 3, 4
    return segments, bodies


SMALL = CorrectionConfig(min_core_voxels=100, erosion_vx=1, max_gap_vx=2, min_contact_faces=4, local_radius_vx=16)


def test_a_cut_neurite_is_a_merge_at_the_cut_in_world_coordinates():
    segments, bodies = two_tubes()
    where = {"voxel_size_nm": (4.0, 5.0, 6.0), "offset_vx": (1000, -20, 3)}
    result = find_corrections(MemoryVolume(segments, **where), MemoryVolume(bodies, **where), SMALL)
    assert [m.edit_id for m in result.merges] == ["merge-1-2-0", "merge-3-4-0"]
    first = result.merges[0]
    assert (first.segments, first.body, first.area) == ((1, 2), 7, 100.0)
    index = np.array(first.location_nm) / (4, 5, 6) - (1000, -20, 3) - 0.5
    assert index[0] == 29 and 3 <= index[1] <= 6 and 3 <= index[2] <= 6
    assert result.body_of == {1: 7, 2: 7, 3: 8, 4: 8}
    assert not result.splits and not result.fused and len(result.unresolved_nm) == 0


@pytest.mark.parametrize(("gap", "merges", "apart"), [(0, 2, 0), (2, 2, 0), (3, 1, 1)])
def test_background_between_parts_is_bridged_up_to_the_limit(gap, merges, apart):
    segments, bodies = two_tubes(gap)
    counts = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), SMALL).counts
    assert (counts["merges"], counts["not_localised_merges"]) == (merges, apart)


def test_a_gap_of_another_body_is_not_bridged():
    segments, bodies = two_tubes(gap=2)
    bodies[28:30, :10] = 9
    counts = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), SMALL).counts
    assert (counts["merges"], counts["not_localised_merges"]) == (1, 1)


def test_a_merge_into_a_fused_segment_is_a_tangle():
    segments, bodies = two_tubes()
    segments[segments == 3] = 1  # 1 now fuses bodies 7 and 8, each of which goes on in another segment
    result = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), SMALL)
    assert result.fused == {1: (7, 8)}
    assert [s.edit_id for s in result.splits] == ["split-1-7-8-0"]
    assert not result.merges
    assert result.counts["excluded_tangles"] == 2
    assert set(result.unresolved_nm[:, 0].tolist()) == {295.0}  # points all over the interface
    assert result.body_of == {2: 7, 4: 8}


def test_boundary_slop_is_not_an_error():
    segments, bodies = two_tubes()
    segments[:30, 10] = 1  # segment 1 spills one voxel into body 8 along its whole length
    result = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), SMALL)
    assert result.counts["merge_errors"] == 0
    assert result.body_of[1] == 7


def test_a_substantial_but_too_small_share_is_ambiguous_and_a_small_segment_goes_by_majority():
    segments, bodies = two_tubes()
    segments[:3, 10:18] = 1  # 3 * 7 * 10 core voxels of body 8 (its border to body 7 is eroded)
    segments[50:52, 2:4, 2:4] = 20
    segments[50:52, 9:11, 2:4] = 21
    result = find_corrections(
        MemoryVolume(segments), MemoryVolume(bodies), CorrectionConfig(300, 1, min_contact_faces=4)
    )
    assert result.counts["ambiguous_segments"] == 1
    assert 1 not in result.body_of and 21 not in result.body_of
    assert result.body_of[20] == 7


def test_the_place_of_a_merge_error_is_where_both_bodies_are_substantial_not_where_they_run_side_by_side():
    bodies = np.full((200, 24, 16), 8, np.uint32)
    bodies[:, :12] = 7
    segments = np.where(bodies == 7, 1, 2).astype(np.uint32)
    segments[:, 12] = 1  # slop along the whole length
    segments[150:175, 12:] = 1  # and here body 8 is really inside
    rules = CorrectionConfig(min_core_voxels=500, erosion_vx=2, local_radius_vx=16, min_contact_faces=4)
    split = find_corrections(MemoryVolume(segments), MemoryVolume(bodies), rules).splits[0]
    assert 140 <= split.location_nm[0] / 10 <= 185
    assert split.area < 100 * 16


def test_blocks_without_an_error_are_read_once():
    segments, bodies = two_tubes()
    segments[segments == 4] = 3
    segments, bodies = (
        np.pad(segments, ((0, 100), (0, 0), (0, 0)), mode="edge"),
        np.pad(bodies, ((0, 100), (0, 0), (0, 0)), mode="edge"),
    )
    segments[60:, :10], bodies[60:, :10] = 5, 50
    automatic = MemoryVolume(segments)
    find_corrections(automatic, MemoryVolume(bodies), SMALL, block=(20, 20, 10), threads=1)
    assert len(automatic.reads) == 8 + 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: MemoryVolume(v.array[:-1]), "differ in shape"),
        (lambda v: MemoryVolume(v.array, voxel_size_nm=(10, 10, 40)), "differ in voxel size"),
        (lambda v: MemoryVolume(v.array, offset_vx=(0, 1, 0)), "differ in offset"),
        (lambda v: MemoryVolume(np.zeros_like(v.array)), "automatic segmentation is empty"),
        (lambda v: MemoryVolume(v.array.astype(np.float32)), "float32, not integers"),
        (lambda v: MemoryVolume(-v.array.astype(np.int32)), "negative"),
    ],
)
def test_bad_input_gets_one_clear_line(change, message):
    segments, bodies = two_tubes()
    with pytest.raises(ConnectomeBenchError, match=message) as raised:
        find_corrections(change(MemoryVolume(segments)), MemoryVolume(bodies), SMALL)
    assert "\n" not in str(raised.value)


def test_volumes_without_a_common_voxel_and_an_empty_truth_are_refused():
    segments, bodies = two_tubes()
    with pytest.raises(ConnectomeBenchError, match="proofread segmentation is empty"):
        find_corrections(MemoryVolume(segments), MemoryVolume(np.zeros_like(bodies)), SMALL)
    left, right = segments.copy(), bodies.copy()
    left[:30], right[30:] = 0, 0
    with pytest.raises(ConnectomeBenchError, match="no voxel has both"):
        find_corrections(MemoryVolume(left), MemoryVolume(right), SMALL)


@pytest.mark.parametrize(
    "values",
    [{"min_core_voxels": 0}, {"erosion_vx": -1}, {"erosion_vx": (1, 2)}, {"patch_fraction": 1.5}, {"max_gap_vx": -1}],
)
def test_rules_out_of_range_are_refused(values):
    with pytest.raises(ConnectomeBenchError, match=next(iter(values))):
        CorrectionConfig(**values)


@pytest.fixture(scope="module")
def fib25():
    if not FIB25.exists():
        pytest.skip(f"real data not at hand: {FIB25.parent.name} is not in ../shared/data")
    with np.load(FIB25, allow_pickle=False) as arrays:
        return MemoryVolume(arrays["ffn"].transpose(2, 1, 0)), MemoryVolume(arrays["gt"].transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("min_core_voxels", "objects", "pairs", "fragments", "bodies"), [(1000, 15, 17, 68, 23), (200, 36, 59, 151, 38)]
)
def test_finds_exactly_what_is_really_wrong_in_fib25(fib25, min_core_voxels, objects, pairs, fragments, bodies):
    result = find_corrections(*fib25, CorrectionConfig(min_core_voxels=min_core_voxels))
    counts = result.counts
    assert (counts["merge_errors"], counts["merge_error_pairs"]) == (objects, pairs)
    assert (counts["extra_fragments"], counts["split_error_bodies"]) == (fragments, bodies)
    assert (counts["segments"], counts["bodies"]) == (254, 525)
    assert counts["merges"] == len(result.merges) > 0 and counts["splits"] == len(result.splits) > 0


def test_fib25_places_lie_on_their_interface(fib25):
    automatic, proofread = fib25
    result = find_corrections(automatic, proofread, CorrectionConfig())
    assert_same(result, find_corrections(automatic, proofread, CorrectionConfig(), block=(100, 256, 130), threads=2))
    reach = CorrectionConfig().max_gap_vx + 1
    for places, pairs in (
        (result.merges, [[(a, m.body) for a in m.segments] for m in result.merges]),
        (result.splits, [[(s.segment, g) for g in s.bodies] for s in result.splits]),
    ):
        for correction, parts in zip(places, pairs, strict=True):
            index = (np.array(correction.location_nm) / 10 - 0.5).round().astype(int)
            box = tuple(slice(max(0, i - reach), i + reach + 1) for i in index)
            near = {*zip(automatic.array[box].ravel().tolist(), proofread.array[box].ravel().tolist(), strict=True)}
            assert set(parts) <= near
