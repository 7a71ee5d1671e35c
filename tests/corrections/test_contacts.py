from __future__ import annotations

import label_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_reference import MemoryVolume
from test_find_corrections import volume_pairs

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.corrections.contacts import find_contacts


@settings(max_examples=40, deadline=None)
@given(
    pair=volume_pairs(),
    gap=st.integers(0, 3),
    cell=st.integers(1, 4),
    smallest=st.integers(1, 5),
    block=st.tuples(*[st.integers(2, 14)] * 3),
    threads=st.integers(1, 2),
    order=st.sampled_from("CF"),
)
def test_agrees_with_a_plain_implementation(pair, gap, cell, smallest, block, threads, order):
    segments, bodies = pair
    if not ((segments > 0) & (bodies > 0)).any():
        return
    segments = segments.astype(np.uint64, order=order) * np.uint64(2**40 + 1)  # ids beyond 32 bits stay whole
    rules = CorrectionConfig(max_gap_vx=gap, patch_cell_vx=cell, min_contact_faces=smallest)
    contacts = find_contacts(MemoryVolume(segments), MemoryVolume(bodies), rules, block=block, threads=threads)
    expected = sorted(
        (*ids, *((np.array(point) + 0.5) * 10).tolist(), area)
        for ids, faces in reference.segment_faces(segments, bodies, gap).items()
        for area, point, _ in reference.patches(faces, cell)
        if area >= smallest
    )
    got = zip(contacts.segments.tolist(), contacts.points_nm.tolist(), contacts.areas.tolist(), strict=True)
    assert [(*ids, *point, area) for ids, point, area in got] == expected
    assert contacts.segments.dtype == np.uint64


def test_there_is_no_contact_where_nothing_is_proofread():
    segments = np.ones((30, 10, 10), np.uint32)
    segments[:, 5:] = 2
    bodies = np.zeros_like(segments)
    bodies[:10] = 1
    contacts = find_contacts(MemoryVolume(segments), MemoryVolume(bodies), CorrectionConfig())
    assert contacts.segments.tolist() == [[1, 2]]
    assert contacts.areas.tolist() == [100]
    with pytest.raises(ConnectomeBenchError, match="no voxel has both"):
        find_contacts(MemoryVolume(segments), MemoryVolume(np.zeros_like(bodies)), CorrectionConfig())


def test_two_places_of_contact_are_two_rows():
    segments = np.zeros((60, 8, 8), np.uint32)
    segments[:, :4] = 1
    segments[:20, 4:], segments[40:, 4:] = 2, 2
    contacts = find_contacts(MemoryVolume(segments), MemoryVolume(np.ones_like(segments)), CorrectionConfig())
    assert contacts.segments.tolist() == [[1, 2], [1, 2]]
    assert contacts.areas.tolist() == [160, 160]
    assert sorted(round(x) for x in contacts.points_nm[:, 0]) == pytest.approx([100, 500], abs=20)
